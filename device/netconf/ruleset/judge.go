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

// Judge says whether p passes all chains on its way.
func (rs *RuleSet) Judge(p Packet) Verdict {
	sure := true
	var perhaps *Verdict
	for _, hook := range hooks[p.Way] {
		for _, c := range rs.bases {
			if c.hook != hook || !c.sees(p) {
				continue
			}
			j := judge{rules: rs, packet: atHook(p, hook)}
			decided, by := j.chain(c, 0)
			p.Mark, p.marked = j.packet.Mark, j.packet.marked
			drops := decided == dropped || decided == undecided && c.drops
			switch {
			case drops && !j.doubt:
				return Verdict{Drops: true, Sure: true, By: by}
			case drops && perhaps == nil:
				perhaps = &Verdict{Drops: true, By: by}
			}
			sure = sure && !j.doubt
		}
	}
	if perhaps != nil {
		return *perhaps
	}
	return Verdict{Sure: sure}
}

// sees: its table has to do with the packet's family.
func (c *chain) sees(p Packet) bool {
	switch c.family {
	case nftables.TableFamilyIPv4:
		return p.is4()
	case nftables.TableFamilyIPv6:
		return !p.is4()
	}
	return true
}

// atHook is p as the chains of that hook see it: before routing nobody knows where it will leave.
func atHook(p Packet, hook uint32) Packet {
	if hook == unix.NF_INET_PRE_ROUTING {
		p.OutInterface, p.OutIndex = "", 0
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
}

// maxDepth is the kernel's NFT_JUMP_STACK_SIZE.
const maxDepth = 16

func (j *judge) chain(c *chain, depth int) (fate, Place) {
	for _, r := range c.rules {
		applies, v := j.rule(c, r)
		if applies == no || v.kind == proceeds {
			continue
		}
		if applies == maybe || v.kind == unknown {
			j.doubt = true
			continue
		}
		switch v.kind {
		case accepts:
			return accepted, Place{}
		case drops:
			return dropped, placeOf(c, r)
		case returns:
			return undecided, placeOf(c, nil)
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
	return undecided, placeOf(c, nil)
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
