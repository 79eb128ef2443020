package netconf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ruleProtocol is in each of our rules: ip rule shows "proto 115". It tells them from those of others, wg-quick(8)'s above all.
const ruleProtocol = 's'

// Rule is a rule of policy routing (ip-rule(8)).
type Rule struct {
	IPv6     bool
	Priority int
	Not      bool // for packets that do not have the mark
	Mark     uint32
	From     netip.Prefix `json:",omitzero"` // for packets with such a source; the zero Prefix: any
	Table    uint32
	Suppress int // routes in the table whose prefix has this many bits or fewer do not count; -1: all count
}

func (r *Rule) String() string {
	text := "rule"
	if r.IPv6 {
		text = "IPv6 rule"
	}
	text += fmt.Sprintf(" %d:", r.Priority)
	if r.Not {
		text += " not"
	}
	if r.From.IsValid() {
		text += fmt.Sprintf(" from %s", r.From)
	}
	if r.Mark != 0 || !r.From.IsValid() {
		text += fmt.Sprintf(" fwmark 0x%x", r.Mark)
	}
	text += " lookup "
	if r.Table == unix.RT_TABLE_MAIN {
		text += "main"
	} else {
		text += fmt.Sprint(r.Table)
	}
	if r.Suppress >= 0 {
		text += fmt.Sprintf(" suppress_prefixlength %d", r.Suppress)
	}
	return text
}

func (r *Rule) Look(h *Handle) (done bool, err error) {
	there, err := h.rules(r.IPv6)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return true, nil // no packet of that family needs it
	}
	if err != nil {
		return false, err
	}
	for _, t := range there {
		if t.Priority == r.Priority && t.Mark == r.Mark && t.Invert == r.Not && t.Table == int(r.Table) && t.SuppressPrefixlen == r.Suppress &&
			r.isFrom(t.Src) {
			return false, fmt.Errorf("%s: it is there already, and not of this tunnel: %w", r, unix.EEXIST)
		}
	}
	return false, nil
}

func (r *Rule) Make(h *Handle) error {
	if err := h.nl.RuleAdd(r.rule()); err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return nil
}

func (r *Rule) Undo(h *Handle) error {
	err := h.nl.RuleDel(r.rule())
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("remove %s: %w", r, err)
	}
	return nil
}

func (r *Rule) rule() *netlink.Rule {
	n := netlink.NewRule()
	n.Family, n.Priority, n.Invert, n.Mark = familyOf(r.IPv6), r.Priority, r.Not, r.Mark
	n.Table, n.SuppressPrefixlen, n.Protocol = int(r.Table), r.Suppress, ruleProtocol
	if r.From.IsValid() {
		n.Src = ipNet(r.From)
	}
	return n
}

func (r *Rule) isFrom(source *net.IPNet) bool {
	p, _ := prefixOf(source) // the zero Prefix where the rule is for any
	return p == r.From
}

func familyOf(ipv6 bool) int {
	if ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// rules lists the rules in the order in which the kernel goes through them. The error is EAFNOSUPPORT where it does not speak
// IPv6.
func (h *Handle) rules(ipv6 bool) (found []netlink.Rule, err error) {
	const tries = 3 // they may change while they are read
	for range tries {
		// Not h.nl: with strict checking the kernel refuses how the library asks for rules.
		if found, err = h.way.RuleList(familyOf(ipv6)); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return found, nil
}

// MarkRule is the rule by which packets with the mark go as if there were no tunnel: by the main table. It is before all
// others but that for local addresses, and those that wg-quick(8) adds later come behind it.
func MarkRule(ipv6 bool, mark uint32) *Rule {
	return &Rule{IPv6: ipv6, Mark: mark, Table: unix.RT_TABLE_MAIN, Suppress: -1}
}

// TunnelRules are the rules by which all packets but those with the mark are routed by table, unless the main table has a
// route for them whose prefix is longer than suppress bits. They come before the rules that are there, so before those of
// a tunnel that was there first; but packets that such a tunnel of another program exempts from its own rules, its sealed
// ones, are exempted from these too.
func (h *Handle) TunnelRules(ipv6 bool, mark, table uint32, suppress int) ([]*Rule, error) {
	there, err := h.rules(ipv6)
	if err != nil {
		return nil, err
	}
	var add []*Rule
	for _, other := range foreignMarks(there) {
		add = append(add, exemption(ipv6, other))
	}
	add = append(add,
		&Rule{IPv6: ipv6, Not: true, Mark: mark, Table: unix.RT_TABLE_MAIN, Suppress: suppress},
		&Rule{IPv6: ipv6, Not: true, Mark: mark, Table: table, Suppress: -1})
	first, err := roomFor(len(add), there)
	if err != nil {
		return nil, err
	}
	for i := range add {
		add[i].Priority = first + i
	}
	return add, nil
}

// exemption is the rule for what another program's tunnel has sealed.
func exemption(ipv6 bool, mark uint32) *Rule {
	return &Rule{IPv6: ipv6, Mark: mark, Table: unix.RT_TABLE_MAIN, Suppress: -1}
}

// Exemptions are what ours, a tunnel's rules, lack when other programs' tunnels have come up since: see TunnelRules.
func (h *Handle) Exemptions(ours []*Rule) (add []*Rule, err error) {
	for _, ipv6 := range []bool{false, true} {
		first := slices.IndexFunc(ours, func(r *Rule) bool { return r.IPv6 == ipv6 && r.Not })
		if first < 0 {
			continue
		}
		there, err := h.rules(ipv6)
		if err != nil {
			return nil, err
		}
		for _, mark := range foreignMarks(there) {
			if !slices.ContainsFunc(ours, func(r *Rule) bool { return r.IPv6 == ipv6 && !r.Not && r.Mark == mark }) {
				r := exemption(ipv6, mark)
				r.Priority = ours[first].Priority - 1 // if a later tunnel has a rule there, this one comes behind it
				add = append(add, r)
			}
		}
	}
	return add, nil
}

// foreignMarks are those with which other programs' tunnels mark what they send themselves: `not fwmark MARK lookup TABLE`.
func foreignMarks(there []netlink.Rule) (marks []uint32) {
	for _, r := range there {
		if isTunnel(r) && r.Protocol != ruleProtocol && !slices.Contains(marks, r.Mark) {
			marks = append(marks, r.Mark)
		}
	}
	return marks
}

// isTunnel says whether a rule sends all but marked packets elsewhere.
func isTunnel(r netlink.Rule) bool {
	return r.Invert && r.Mark != 0 && (r.Mask == nil || *r.Mask == 0xffffffff) && r.Table != unix.RT_TABLE_MAIN && r.Table != 0 && r.Src == nil && r.Dst == nil
}

// roomFor finds n priorities in a row that nobody has, as close as possible before the first rule behind that for local
// addresses, which leaves most room for those that come later.
func roomFor(n int, there []netlink.Rule) (first int, err error) {
	last := 0
	for _, r := range there { // in the order of their priorities
		if r.Priority-last > n {
			return r.Priority - n, nil
		}
		last = r.Priority
	}
	return 0, fmt.Errorf("there is no room for %d rules before those that are there (ip rule): %w", n, unix.EEXIST)
}

// Before tells which tables of other tunnels come before the rule for mark: what has the mark goes into those tunnels.
func (h *Handle) Before(ipv6 bool, mark uint32) (tables []uint32, err error) {
	there, err := h.rules(ipv6)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil
	}
	for _, r := range there {
		if r.Protocol == ruleProtocol && !r.Invert && r.Mark == mark && r.Priority == 0 {
			break
		}
		if isTunnel(r) && r.Mark != mark {
			tables = append(tables, uint32(r.Table))
		}
	}
	return tables, err
}

// DefaultOf names the interface through which a table has its default route; "" if it has none.
func (h *Handle) DefaultOf(ipv6 bool, table uint32) string {
	any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if ipv6 {
		any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return h.holderOf(any, table, 0)
}
