package netconf

import (
	"bytes"
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Way is a way of packets through this host, and all that is known of them.
type Way struct {
	In, Out string // interfaces
	IPv6    bool
	Answer  bool // they belong to a connection that began the other way round
}

func (w Way) String() string {
	family := "IPv4"
	if w.IPv6 {
		family = "IPv6"
	}
	return fmt.Sprintf("%s from %s to %s", family, w.In, w.Out)
}

// Drop is a rule, or the policy of a chain, that lets no packet of a Way pass.
type Drop struct {
	Way   Way
	Table string // with its family: "inet filter"
	Chain string // the base chain
	Rule  string // about as nft(8) prints it

	base *nftables.Chain
	user bool // the base chain leads to Docker's chain for rules of the user's
}

// Drops finds, for each Way, the first rule of each base chain that drops all of its packets, in the tables of nftables, which
// are also those of iptables-nft. A rule that asks for more than what is known of the packets is taken for one that does not match.
func (h *Handle) Drops(ways ...Way) ([]Drop, error) {
	r, err := h.readRuleset()
	if err != nil {
		return nil, err
	}
	var drops []Drop
	for _, base := range r.chains {
		if base.Hooknum == nil || *base.Hooknum != *nftables.ChainHookForward || base.Type != nftables.ChainTypeFilter {
			continue
		}
		for _, w := range ways {
			if !meets(base.Table.Family, w) {
				continue
			}
			p := passing{ruleset: r, way: w, seen: make(map[string]bool)}
			if rule := p.through(base); rule != "" {
				drops = append(drops, Drop{w, familyName(base.Table.Family) + " " + base.Table.Name, base.Name, rule, base, p.seen[dockerChain]})
			}
		}
	}
	return drops, nil
}

func meets(family nftables.TableFamily, w Way) bool {
	switch family {
	case nftables.TableFamilyINet:
		return true
	case nftables.TableFamilyIPv4:
		return !w.IPv6
	case nftables.TableFamilyIPv6:
		return w.IPv6
	}
	return false
}

// passing is one walk of a Way's packets through a base chain.
type passing struct {
	*ruleset
	way  Way
	seen map[string]bool // chains that all of the packets came through
}

// answer is what is known of a condition.
type answer int

const (
	yes answer = iota
	perhaps
	no
)

// through is the rule that drops the packets; "": they pass.
func (p *passing) through(base *nftables.Chain) string {
	switch end, rule := p.walk(base, 0); {
	case end == expr.VerdictDrop:
		return rule
	case end == expr.VerdictReturn && base.Policy != nil && *base.Policy == nftables.ChainPolicyDrop:
		return fmt.Sprintf("chain %s { type filter hook forward; policy drop; }", base.Name)
	}
	return ""
}

// deepest is how many chains may call each other, as in the kernel.
const deepest = 16

// walk is how the chain ends: accept, drop (by which rule), or return, at its end too.
func (p *passing) walk(c *nftables.Chain, depth int) (end expr.VerdictKind, rule string) {
	p.seen[c.Name] = true
	if depth > deepest {
		return expr.VerdictReturn, ""
	}
	for _, r := range p.rulesOf(c) {
		matches, v := p.rule(r)
		if matches != yes || v == nil {
			continue
		}
		switch v.Kind {
		case expr.VerdictAccept, expr.VerdictQueue, expr.VerdictStolen:
			return expr.VerdictAccept, ""
		case expr.VerdictDrop:
			return expr.VerdictDrop, printRule(r)
		case expr.VerdictReturn:
			return expr.VerdictReturn, ""
		case expr.VerdictJump, expr.VerdictGoto:
			called := p.chain(c.Table, v.Chain)
			if called == nil {
				continue
			}
			if end, rule = p.walk(called, depth+1); end != expr.VerdictReturn || v.Kind == expr.VerdictGoto {
				return end, rule
			}
		}
	}
	return expr.VerdictReturn, ""
}

// rule says whether it matches the packets, and with which verdict; nil: none.
func (p *passing) rule(r *nftables.Rule) (matches answer, v *expr.Verdict) {
	known := make(map[uint32][]byte) // what is in the registers
	take := func(register uint32) []byte {
		data := known[register]
		delete(known, register) // the library leaves out what it does not know: nothing is taken twice
		return data
	}
	for _, e := range r.Exprs {
		is := yes
		switch e := e.(type) {
		case *expr.Meta:
			if !e.SourceRegister {
				known[e.Register] = p.meta(e.Key)
			}
		case *expr.Ct:
			known[e.Register] = p.connection(e.Key)
		case *expr.Bitwise:
			known[e.DestRegister] = bitwise(take(e.SourceRegister), e)
		case *expr.Cmp:
			is = holds(take(e.Register), e)
		case *expr.Lookup:
			is, v = p.lookup(r.Table, take(e.SourceRegister), e)
		case *expr.Match:
			is = p.match(e)
		case *expr.Verdict:
			v = e
		case *expr.Reject:
			v = &expr.Verdict{Kind: expr.VerdictDrop}
		case *expr.Target:
			if e.Name == "REJECT" || e.Name == "DROP" {
				v = &expr.Verdict{Kind: expr.VerdictDrop}
			}
		case *expr.Counter, *expr.Log, *expr.Objref, *expr.Notrack:
		case *expr.Limit, *expr.Quota, *expr.Connlimit:
			is = perhaps
		default: // it may have written to any register
			clear(known)
		}
		if is == no {
			return no, nil
		}
		matches = max(matches, is)
	}
	return matches, v
}

// meta is what the packets have there; nil: that is not known.
func (p *passing) meta(key expr.MetaKey) []byte {
	switch key {
	case expr.MetaKeyIIFNAME:
		return nameData(p.way.In)
	case expr.MetaKeyOIFNAME:
		return nameData(p.way.Out)
	case expr.MetaKeyIIF:
		return indexData(p.way.In)
	case expr.MetaKeyOIF:
		return indexData(p.way.Out)
	case expr.MetaKeyNFPROTO:
		if p.way.IPv6 {
			return []byte{unix.NFPROTO_IPV6}
		}
		return []byte{unix.NFPROTO_IPV4}
	case expr.MetaKeyPROTOCOL:
		if p.way.IPv6 {
			return binaryutil.BigEndian.PutUint16(unix.ETH_P_IPV6)
		}
		return binaryutil.BigEndian.PutUint16(unix.ETH_P_IP)
	}
	return nil
}

func indexData(name string) []byte {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	return native32(uint32(i.Index))
}

func (p *passing) connection(key expr.CtKey) []byte {
	if key != expr.CtKeySTATE {
		return nil
	}
	return native32(p.state())
}

func (p *passing) state() uint32 {
	if p.way.Answer {
		return expr.CtStateBitESTABLISHED
	}
	return expr.CtStateBitNEW
}

func bitwise(data []byte, e *expr.Bitwise) []byte {
	if len(data) != len(e.Mask) || len(data) != len(e.Xor) {
		return nil
	}
	result := make([]byte, len(data))
	for i := range data {
		result[i] = data[i]&e.Mask[i] ^ e.Xor[i]
	}
	return result
}

func holds(data []byte, e *expr.Cmp) answer {
	if len(data) < len(e.Data) || data == nil {
		return perhaps
	}
	order := bytes.Compare(data[:len(e.Data)], e.Data) // a pattern as "eth*" is shorter
	switch e.Op {
	case expr.CmpOpEq:
		return truth(order == 0)
	case expr.CmpOpNeq:
		return truth(order != 0)
	}
	return perhaps
}

func truth(is bool) answer {
	if is {
		return yes
	}
	return no
}

// lookup is for the simple sets: single values, and maps from them to verdicts.
func (p *passing) lookup(table *nftables.Table, data []byte, e *expr.Lookup) (answer, *expr.Verdict) {
	set := p.set(table, e.SetName)
	if set == nil || data == nil {
		return perhaps, nil
	}
	for _, x := range set.elements {
		switch {
		case !bytes.Equal(x.Key, data):
		case e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT:
			return yes, mapped(x.Val)
		default:
			return truth(!e.Invert), nil
		}
	}
	return truth(e.Invert), nil
}

// match is a match of iptables.
func (p *passing) match(e *expr.Match) answer {
	if e.Name == "comment" {
		return yes
	}
	info, ok := e.Info.(*xt.ConntrackMtinfo3)
	if e.Name != "conntrack" || !ok || info.MatchFlags&^uint16(xt.ConntrackStateAlias) != uint16(xt.ConntrackState) {
		return perhaps
	}
	inverted := info.InvertFlags&uint16(xt.ConntrackState) != 0
	return truth((uint32(info.StateMask)&p.state() != 0) != inverted) // its bits are those of nftables
}
