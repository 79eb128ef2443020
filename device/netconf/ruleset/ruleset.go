// Package ruleset reads the machine's nftables rules, those of iptables-nft included, and judges what becomes of a packet by
// them. It changes nothing and sends nothing.
//
// [Read] takes a copy of the rules of the calling thread's network namespace; [RuleSet.Judge] asks it about a [Packet].
// Where a rule asks for what the packet does not say (a rate, a user, another table's set by a module), the answer is honest
// about it: see [Verdict].
//
// The rules are as nft(8) and the kernel's net/netfilter/nf_tables_api.c have them. An expression of a kind that
// github.com/google/nftables does not decode is left out by it, and so not seen here: socket, rt, byteorder, osf, xfrm.
package ruleset

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// RuleSet is a copy of the rules. The zero RuleSet has none, and lets everything pass.
type RuleSet struct {
	chains map[key]*chain
	sets   map[key]*set
	bases  []*chain // those with a hook that filter, in the order in which packets meet them
}

// key names a chain or a set.
type key struct {
	family      nftables.TableFamily
	table, name string
}

type chain struct {
	key
	hook     uint32 // as unix.NF_INET_LOCAL_IN; of a base chain
	priority int32
	drops    bool // its policy; of a base chain
	rules    []*nftables.Rule
}

// Read reads all rules, of the families ip, ip6 and inet. The error wraps EPERM for who may not, and EINVAL or EPROTONOSUPPORT
// where the kernel has no nftables.
func Read() (*RuleSet, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("nftables: list chains: %w", err)
	}
	rs := &RuleSet{chains: make(map[key]*chain), sets: make(map[key]*set)}
	tables := make(map[key]*nftables.Table)
	for _, from := range chains {
		if !filters(from.Table.Family) {
			continue
		}
		tables[key{family: from.Table.Family, table: from.Table.Name}] = from.Table
		rules, err := c.GetRules(from.Table, from)
		if err != nil {
			return nil, fmt.Errorf("nftables: rules of %s %s: %w", from.Table.Name, from.Name, err)
		}
		rs.add(from, rules)
	}
	for _, table := range tables {
		if err := rs.readSets(c, table); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(rs.bases, func(a, b *chain) int { return int(a.priority) - int(b.priority) })
	return rs, nil
}

func filters(f nftables.TableFamily) bool {
	return f == nftables.TableFamilyIPv4 || f == nftables.TableFamilyIPv6 || f == nftables.TableFamilyINet
}

func (rs *RuleSet) add(from *nftables.Chain, rules []*nftables.Rule) {
	c := &chain{key: key{from.Table.Family, from.Table.Name, from.Name}, rules: rules}
	rs.chains[c.key] = c
	if from.Hooknum == nil || from.Type == nftables.ChainTypeNAT {
		return // what is not filtered there: a chain of NAT sees but the first packet, to choose its addresses
	}
	c.hook = uint32(*from.Hooknum)
	if from.Priority != nil {
		c.priority = int32(*from.Priority)
	}
	c.drops = from.Policy != nil && *from.Policy == nftables.ChainPolicyDrop
	rs.bases = append(rs.bases, c)
}

func (rs *RuleSet) readSets(c *nftables.Conn, table *nftables.Table) error {
	sets, err := c.GetSets(table)
	if err != nil {
		return fmt.Errorf("nftables: sets of %s: %w", table.Name, err)
	}
	for _, from := range sets {
		elements, err := c.GetSetElements(from)
		if err != nil {
			return fmt.Errorf("nftables: set %s of %s: %w", from.Name, table.Name, err)
		}
		rs.sets[key{table.Family, table.Name, from.Name}] = &set{interval: from.Interval, joined: from.Concatenation, elements: elements}
	}
	return nil
}

// Place is a rule, or a chain's policy.
type Place struct {
	Family, Table, Chain string
	Handle               uint64 // of the rule; 0: it is the policy
	Comment              string // of the rule
}

func placeOf(c *chain, r *nftables.Rule) Place {
	p := Place{Family: familyName(c.family), Table: c.table, Chain: c.name}
	if r != nil {
		p.Handle = r.Handle
		p.Comment, _ = userdata.GetString(r.UserData, userdata.TypeComment)
	}
	return p
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}

func (p Place) String() string {
	where := fmt.Sprintf("chain %s of table %s %s", p.Chain, p.Family, p.Table)
	if p.Handle == 0 {
		return "the policy of " + where
	}
	text := fmt.Sprintf("the rule with handle %d in %s", p.Handle, where)
	if p.Comment != "" {
		text += fmt.Sprintf(" (%q)", p.Comment)
	}
	return text
}

// Command shows the place.
func (p Place) Command() string {
	return fmt.Sprintf("nft -a list chain %s %s %s", p.Family, p.Table, p.Chain)
}

// hooks are what a packet passes, in order, by its way.
var hooks = map[Way][]uint32{
	In:      {unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_IN},
	Out:     {unix.NF_INET_LOCAL_OUT, unix.NF_INET_POST_ROUTING},
	Through: {unix.NF_INET_PRE_ROUTING, unix.NF_INET_FORWARD, unix.NF_INET_POST_ROUTING},
}
