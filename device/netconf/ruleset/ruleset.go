// Package ruleset reads the machine's nftables rules, those of iptables-nft included, and judges what becomes of a packet by
// them. It changes nothing and sends nothing.
//
// [Read] finds the chains; [RuleSet.Judge] asks them about a [Packet], and [RuleSet.Drops] tells of each by itself. Where a
// rule asks for what the packet does not say (a rate, a user, another table's set by a module), the answer is honest about it:
// see [Verdict].
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

// RuleSet is the rules. Rules and sets are read when they are needed, once: there may be thousands of chains, and sets with
// the addresses of whole countries. The zero RuleSet has none, and lets everything pass. Not safe for concurrent use.
type RuleSet struct {
	conn   *nftables.Conn
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
	from     *nftables.Chain
	hook     uint32 // as unix.NF_INET_LOCAL_IN; of a base chain
	priority int32
	drops    bool // its policy; of a base chain
	read     bool
	rules    []*nftables.Rule
	unread   bool // its rules can't be read, or it has gone
}

// Read reads what chains there are, of the families ip, ip6, inet and bridge, in the calling thread's network namespace
// unless the options name another. The error wraps EPERM for who may not, and EINVAL or EPROTONOSUPPORT where the kernel has
// no nftables.
func Read(options ...nftables.ConnOption) (*RuleSet, error) {
	c, err := nftables.New(options...)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("nftables: list chains: %w", err)
	}
	rs := &RuleSet{conn: c, chains: make(map[key]*chain), sets: make(map[key]*set)}
	for _, from := range chains {
		if familyNames[from.Table.Family] != "" {
			rs.add(from)
		}
	}
	slices.SortStableFunc(rs.bases, func(a, b *chain) int { return int(a.priority) - int(b.priority) })
	return rs, nil
}

func (rs *RuleSet) add(from *nftables.Chain) {
	c := &chain{key: key{from.Table.Family, from.Table.Name, from.Name}, from: from}
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

// rulesOf reads them, if nobody has; ok is false where they can't be read.
func (rs *RuleSet) rulesOf(c *chain) (rules []*nftables.Rule, ok bool) {
	if !c.read {
		var err error
		c.rules, err = rs.conn.GetRules(c.from.Table, c.from)
		c.read, c.unread = true, err != nil
	}
	return c.rules, !c.unread
}

// set reads one of the chain's table, if nobody has; nil: it can't be read.
func (rs *RuleSet) set(c *chain, name string) *set {
	k := key{c.family, c.table, name}
	if s, known := rs.sets[k]; known {
		return s
	}
	rs.sets[k] = nil
	from, err := rs.conn.GetSetByName(c.from.Table, name)
	if err != nil {
		return nil
	}
	if elements, err := rs.conn.GetSetElements(from); err == nil {
		rs.sets[k] = &set{interval: from.Interval, joined: from.Concatenation, elements: elements}
	}
	return rs.sets[k]
}

// Place is a rule, or a chain's policy.
type Place struct {
	Family, Table, Chain string
	Handle               uint64 // of the rule; 0: it is the policy
	Comment              string // of the rule
}

func placeOf(c *chain, r *nftables.Rule) Place {
	p := Place{Family: FamilyName(c.family), Table: c.table, Chain: c.name}
	if r != nil {
		p.Handle = r.Handle
		p.Comment, _ = userdata.GetString(r.UserData, userdata.TypeComment)
	}
	return p
}

var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	nftables.TableFamilyBridge: "bridge",
}

// FamilyName is what nft(8) calls the family; "" for one whose chains are not judged.
func FamilyName(f nftables.TableFamily) string { return familyNames[f] }

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
	Bridged: {unix.NF_INET_FORWARD}, // whose number is that of NF_BR_FORWARD
}
