package netconf

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// apart are the steps of a tunnel for everything, of one family.
func (h host) apart(name string, mark uint32, ipv6 bool) []Step {
	h.t.Helper()
	rules, err := h.TunnelRules(ipv6, mark, mark, 0)
	h.must(nil, err)
	all := []Step{MarkRule(ipv6, mark)}
	for _, r := range rules {
		all = append(all, r)
	}
	prefix := "0.0.0.0/0"
	if ipv6 {
		prefix = "::/0"
	}
	return append(all, &Routes{Interface: name, Table: mark, Prefixes: prefixes(prefix)})
}

// via is the interface by which packets with a mark go to an address.
func (h host) via(remote string, mark uint32) string {
	h.t.Helper()
	found, err := h.way.RouteGetWithOptions(netip.MustParseAddr(remote).AsSlice(), &netlink.RouteGetOptions{Mark: mark})
	if err != nil || len(found) == 0 {
		return "nowhere"
	}
	return h.nameOf(found[0].LinkIndex)
}

// wantWays checks "mark remote interface".
func (h host) wantWays(when string, ways map[string][2]any) {
	h.t.Helper()
	for want, way := range ways {
		name, _, _ := strings.Cut(want, " ")
		if got := h.via(way[1].(string), uint32(way[0].(int))); got != name {
			h.t.Errorf("%s: %s with mark %d goes by %s, want %s", when, way[1], way[0], got, name)
		}
	}
}

// withDefaults gives tun0 and tun1 addresses, and eth0 default routes.
func (h host) withDefaults() {
	h.tunUp()
	h.tun("tun1")
	h.took(address("tun1", "10.8.0.1/24"))
	h.took(address("tun1", "fd08::1/64"))
	h.took(&Up{Interface: "tun1"})
	h.took(address("eth0", "2001:db8::1/64"))
	l, err := h.link("eth0")
	h.must(nil, err)
	for _, p := range []string{"0.0.0.0/0", "::/0"} {
		r := (&Routes{Index: l.Attrs().Index}).route(netip.MustParsePrefix(p))
		h.must(nil, h.nl.RouteAdd(r))
	}
}

func TestOfTwoTunnelsForEverythingTheLaterCarriesItAndNeitherTheOther(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		for _, firstGoes := range []bool{false, true} {
			inNamespace(t, func(h host) {
				far, near := "198.51.100.1", "192.0.2.77"
				if ipv6 {
					far, near = "2001:db8:1::1", "2001:db8::77"
				}
				h.withDefaults()
				before := h.state()
				var one, two []undo
				for _, s := range h.apart("tun0", 100, ipv6) {
					one = append(one, h.took(s))
				}
				h.wantWays("one tunnel", map[string][2]any{"tun0 far": {0, far}, "eth0 near": {0, near}, "eth0 sealed": {100, far}, "tun0 another mark": {7, far}})
				for _, s := range h.apart("tun1", 200, ipv6) {
					two = append(two, h.took(s))
				}
				h.wantWays("two tunnels", map[string][2]any{"tun1 far": {0, far}, "eth0 near": {0, near}, "eth0 sealed by the first": {100, far}, "eth0 sealed by the second": {200, far}})
				if firstGoes {
					h.must(nil, undoAll(one))
					h.wantWays("the second", map[string][2]any{"tun1 far": {0, far}, "eth0 near": {0, near}, "eth0 sealed by the second": {200, far}})
					h.must(nil, undoAll(two))
				} else {
					h.must(nil, undoAll(two))
					h.wantWays("the first", map[string][2]any{"tun0 far": {0, far}, "eth0 near": {0, near}, "eth0 sealed by the first": {100, far}})
					h.must(nil, undoAll(one))
				}
				h.wantWays("none", map[string][2]any{"eth0 far": {0, far}})
				if after := h.state(); after != before {
					t.Errorf("left\n%s\nwhere there was\n%s", after, before)
				}
			})
		}
	}
}

// wgQuick adds the rules and the route of wg-quick(8), as that does.
func (h host) wgQuick(name string, mark uint32) {
	h.t.Helper()
	r := netlink.NewRule()
	r.Family, r.Invert, r.Mark, r.Table = unix.AF_INET, true, mark, int(mark)
	h.must(nil, h.nl.RuleAdd(r))
	r = netlink.NewRule()
	r.Family, r.Table, r.SuppressPrefixlen = unix.AF_INET, unix.RT_TABLE_MAIN, 0
	h.must(nil, h.nl.RuleAdd(r))
	h.took(&Routes{Interface: name, Table: mark, Prefixes: prefixes("0.0.0.0/0")})
}

func TestATunnelOfWgQuickThatIsThereFirstIsNotCarried(t *testing.T) {
	inNamespace(t, func(h host) {
		const far = "198.51.100.1"
		h.withDefaults()
		h.wgQuick("tun1", 51820)
		before := h.state()
		var back []undo
		for _, s := range h.apart("tun0", 51821, false) {
			back = append(back, h.took(s))
		}
		h.wantWays("beside wg-quick", map[string][2]any{"tun0 far": {0, far}, "eth0 sealed by us": {51821, far}, "eth0 sealed by wg-quick's": {51820, far}})
		if tables, err := h.Before(false, 51821); len(tables) > 0 || err != nil {
			t.Errorf("before ours: %v, %v", tables, err)
		}
		h.must(nil, undoAll(back))
		h.wantWays("wg-quick alone", map[string][2]any{"tun1 far": {0, far}, "eth0 sealed by wg-quick's": {51820, far}})
		if after := h.state(); after != before {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}
	})
}

func TestATunnelOfWgQuickThatComesLaterDoesNotCarryOurs(t *testing.T) {
	inNamespace(t, func(h host) {
		const far = "198.51.100.1"
		h.withDefaults()
		var ours []*Rule
		for _, s := range h.apart("tun0", 51821, false) {
			h.took(s)
			if r, is := s.(*Rule); is {
				ours = append(ours, r)
			}
		}
		h.wgQuick("tun1", 51820)
		h.wantWays("before wg-quick's", map[string][2]any{"tun1 far": {0, far}, "eth0 sealed by us": {51821, far}})
		add, err := h.Exemptions(ours)
		if err != nil || len(add) != 1 {
			t.Errorf("exemptions %v, %v", add, err)
			return
		}
		h.took(add[0])
		h.wantWays("before wg-quick's", map[string][2]any{"tun1 far": {0, far}, "eth0 sealed by us": {51821, far}, "eth0 sealed by wg-quick's": {51820, far}})
		if add, err = h.Exemptions(append(ours, add...)); len(add) > 0 || err != nil {
			t.Errorf("once more: %v, %v", add, err)
		}
	})
}

func TestRulesThatSomebodyRemovesArePutBack(t *testing.T) {
	inNamespace(t, func(h host) {
		h.withDefaults()
		var ours []*Rule
		for _, s := range h.apart("tun0", 100, false) {
			h.took(s)
			if r, is := s.(*Rule); is {
				ours = append(ours, r)
			}
		}
		before := h.state()
		if restored, err := h.Restore(ours); len(restored) > 0 || err != nil {
			t.Errorf("nothing is missing, but %v, %v", restored, err)
		}
		changes, err := RuleChanges()
		h.must(nil, err)
		for _, gone := range ours[1:] {
			h.must(nil, gone.Undo(h.Handle))
		}
		ctx, stop := context.WithCancel(context.Background())
		err = changes.Follow(ctx, func() {
			defer stop()
			if restored, err := h.Restore(ours); len(restored) != len(ours)-1 || err != nil {
				t.Errorf("put back %v, %v", restored, err)
			}
		})
		if err != nil {
			t.Error(err)
		}
		if after := h.state(); after != before {
			t.Errorf("there is\n%s\nwhere there was\n%s", after, before)
		}
	})
}

func TestWhoComesBeforeOursIsFound(t *testing.T) {
	inNamespace(t, func(h host) {
		h.withDefaults()
		r := netlink.NewRule()
		r.Family, r.Invert, r.Mark, r.Table, r.Priority = unix.AF_INET, true, 51820, 51820, 0
		h.must(nil, h.nl.RuleAdd(r))
		h.took(&Routes{Interface: "tun1", Table: 51820, Prefixes: prefixes("0.0.0.0/0")})
		for _, s := range h.apart("tun0", 51821, false) {
			h.took(s)
		}
		tables, err := h.Before(false, 51821)
		if err != nil || len(tables) != 1 || tables[0] != 51820 || h.DefaultOf(false, 51820) != "tun1" {
			t.Errorf("%v, %v, through %q", tables, err, h.DefaultOf(false, 51820))
		}
	})
}

func TestTheRulesOfOthersStayWhateverOursAre(t *testing.T) {
	inNamespace(t, func(h host) {
		h.withDefaults()
		for _, priority := range []int{1, 3, 100} {
			r := netlink.NewRule()
			r.Family, r.Priority, r.Table = unix.AF_INET, priority, 77
			h.must(nil, h.nl.RuleAdd(r))
		}
		before := h.state()
		var back []undo
		for _, s := range h.apart("tun0", 100, false) {
			back = append(back, h.took(s))
		}
		if !h.hasLine("rule 98 table 254 mark 100 not true suppress 0") || !h.hasLine("rule 99 table 100 mark 100 not true suppress -1") {
			t.Errorf("not where there is room:\n%s", h.state())
		}
		h.must(nil, undoAll(back))
		if after := h.state(); after != before {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}
	})
}

func TestARuleThatIsThereAlreadyIsSomebodyElses(t *testing.T) {
	inNamespace(t, func(h host) {
		h.took(MarkRule(false, 100))
		before := h.state()
		if err := h.Apply(MarkRule(false, 100)); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "0x64") {
			t.Errorf("error %v", err)
		}
		if after := h.state(); after != before {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}
	})
}

func TestAMarkIsNobodyElses(t *testing.T) {
	inNamespace(t, func(h host) {
		h.tunUp()
		h.took(routes(51820, "0.0.0.0/0"))
		r := netlink.NewRule()
		r.Family, r.Mark, r.Table, r.Priority = unix.AF_INET6, 51821, unix.RT_TABLE_MAIN, 5
		h.must(nil, h.nl.RuleAdd(r))
		one, two := &Mark{Interface: "tun0"}, &Mark{Interface: "tun1"}
		back := h.took(one)
		h.took(two)
		if one.Mark != 51822 || one.Table != 51822 || two.Mark != 51823 {
			t.Errorf("marks %s and %s", one, two)
		}
		if err := h.Apply(&Mark{Interface: "tun2", Mark: 51823}); !errors.Is(err, ErrMarkTaken) {
			t.Errorf("error %v", err)
		}
		h.must(nil, back())
		again := &Mark{Interface: "tun2", Mark: 51822}
		h.took(again)
		if again.Table != 51822 {
			t.Errorf("%s", again)
		}
		for mark, table := range map[uint32]uint32{254: 51824, 51820: 51824, 7: 7} {
			m := &Mark{Interface: "tun3", Mark: mark}
			if _, err := m.Look(h.Handle); err != nil || m.Mark != mark || m.Table != table {
				t.Errorf("of the file: %s, %v, want table %d", m, err, table)
			}
		}
	})
}
