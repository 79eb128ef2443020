package ruleset

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Verdict is what becomes of a packet.
type Verdict struct {
	Drops bool
	// Sure: each rule that could have decided otherwise was read and does not apply. A packet that passes is never sure to
	// where Sure is false, nor is one that is dropped.
	Sure bool
	By   Place // what drops it
}

// Drop is one base chain's verdict that a packet is not to pass.
type Drop struct {
	Chain  *nftables.Chain // the base chain
	By     Place           // what drops it
	Rule   string          // the same, about as nft(8) prints it
	Sure   bool            // as in Verdict
	Passed []string        // the chains that the packet came through, the base chain first
}

// Judge says whether p passes all chains on its way.
func (rs *RuleSet) Judge(p Packet) Verdict {
	drops, sure := rs.drops(p)
	for _, d := range drops {
		if d.Sure {
			return Verdict{Drops: true, Sure: true, By: d.By}
		}
	}
	if len(drops) > 0 {
		return Verdict{Drops: true, By: drops[0].By}
	}
	return Verdict{Sure: sure}
}

// Drops says which of the base chains on p's way drop it, each asked as if the others let it pass. A rule that may apply is
// taken for one that does not: see Sure.
func (rs *RuleSet) Drops(p Packet) []Drop {
	drops, _ := rs.drops(p)
	return drops
}

// drops also says whether all of it is sure.
func (rs *RuleSet) drops(p Packet) (found []Drop, sure bool) {
	sure = true
	for _, hook := range hooks[p.Way] {
		for _, c := range rs.bases {
			if c.hook != hook || !c.sees(p) {
				continue
			}
			j := judge{rules: rs, packet: c.seenBy(p)}
			decided, by := j.chain(c, 0)
			p.Mark, p.marked = j.packet.Mark, j.packet.marked
			sure = sure && !j.doubt
			if decided == dropped || decided == undecided && c.drops {
				found = append(found, Drop{Chain: c.from, By: placeOf(by.chain, by.rule), Rule: by.print(), Sure: !j.doubt, Passed: j.passed})
			}
		}
	}
	return found, sure
}

// sees: its table has to do with the packet's family.
func (c *chain) sees(p Packet) bool {
	switch c.family {
	case nftables.TableFamilyINet:
		return p.family() == unix.NFPROTO_IPV4 || p.family() == unix.NFPROTO_IPV6
	case nftables.TableFamilyBridge:
		return p.Way == Bridged
	}
	return p.family() == byte(c.family)
}

// seenBy is p as a chain sees it: before routing nobody knows where it will leave, and what a bridge lets others' chains see
// (br_netfilter) comes from the bridge and goes there.
func (c *chain) seenBy(p Packet) Packet {
	switch {
	case c.hook == unix.NF_INET_PRE_ROUTING:
		p.OutInterface, p.OutIndex = "", 0
	case p.Way == Bridged && c.family != nftables.TableFamilyBridge:
		p.inPort, p.outPort = p.InInterface, p.OutInterface
		p.InInterface, p.OutInterface, p.InIndex, p.OutIndex = p.Bridge, p.Bridge, 0, 0
	}
	return p
}

// fate is what a chain has decided.
type fate int

const (
	undecided fate = iota
	accepted
	dropped
)

// judge takes one packet through the chains of one hook.
type judge struct {
	rules  *RuleSet
	packet Packet
	doubt  bool // a rule that may apply, or may not, would have decided
	passed []string
}

// place is a rule, or the end of a chain.
type place struct {
	chain *chain
	rule  *nftables.Rule // nil: the end
}

// maxDepth is the kernel's NFT_JUMP_STACK_SIZE.
const maxDepth = 16

func (j *judge) chain(c *chain, depth int) (fate, place) {
	j.passed = append(j.passed, c.name)
	rules, ok := j.rules.rulesOf(c)
	j.doubt = j.doubt || !ok
	for _, r := range rules {
		applies, v := j.rule(c, r)
		if applies == no || v.kind == proceeds {
			continue
		}
		if applies == maybe {
			j.doubt = true
			continue
		}
		switch v.kind {
		case accepts:
			return accepted, place{}
		case drops:
			return dropped, place{c, r}
		case returns:
			return undecided, place{c, nil}
		case unknown: // whoever decides there, no rule behind it does
			j.doubt = true
			return accepted, place{}
		}
		to := j.rules.chains[key{c.family, c.table, v.chain}]
		if to == nil || depth >= maxDepth {
			j.doubt = true
			continue
		}
		decided, by := j.chain(to, depth+1)
		if decided != undecided {
			return decided, by
		}
		if v.kind == goes {
			break
		}
	}
	return undecided, place{c, nil}
}

// verdict is what a rule does with a packet to which it applies.
type verdict struct {
	kind  verdictKind
	chain string // of jumps and goes
}

type verdictKind int

const (
	proceeds verdictKind = iota // to the next rule
	accepts
	drops
	returns
	jumps
	goes    // jumps without coming back
	unknown // another program, or a module, decides
)

func verdictOf(e *expr.Verdict) verdict {
	switch e.Kind {
	case expr.VerdictAccept, expr.VerdictStop:
		return verdict{kind: accepts}
	case expr.VerdictDrop:
		return verdict{kind: drops}
	case expr.VerdictReturn:
		return verdict{kind: returns}
	case expr.VerdictJump:
		return verdict{jumps, e.Chain}
	case expr.VerdictGoto:
		return verdict{goes, e.Chain}
	case expr.VerdictContinue, expr.VerdictBreak:
		return verdict{}
	}
	return verdict{kind: unknown}
}

// rule says whether r applies to the packet, and what it does then. What a rule would only count or log is no verdict.
func (j *judge) rule(c *chain, r *nftables.Rule) (truth, verdict) {
	m := matcher{judge: j, chain: c, applies: yes, registers: newOctets(registerBytes), host: make([]bool, registerBytes)}
	for _, e := range r.Exprs {
		t, v := m.run(e)
		m.applies = min(m.applies, t)
		if m.applies == no {
			return no, verdict{}
		}
		if v.kind != proceeds {
			return m.applies, v
		}
	}
	return m.applies, verdict{}
}

// truth is the answer to whether a rule applies, in order.
type truth int

const (
	no truth = iota
	maybe
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func allKnown(known []bool) bool { return !slices.Contains(known, false) }
