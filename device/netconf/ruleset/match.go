package ruleset

import (
	"bytes"
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// registerBytes is the size of all registers of a rule's program.
const registerBytes = 16 * 4

// matcher runs the expressions of one rule.
type matcher struct {
	*judge
	chain     *chain
	applies   truth // by what has been run
	registers octets
	host      []bool // bytes of numbers in the machine's own order, which can be compared for equality only
}

// register is where a register begins: 1 to 4 are of 16 bytes each, 8 and up the same memory by 4 bytes.
func register(n uint32) int {
	if n >= unix.NFT_REG32_00 {
		return int(n-unix.NFT_REG32_00) * 4
	}
	return int(n-unix.NFT_REG_1) * 16
}

// at is what n bytes of a register hold. Those that are not there are not known.
func (m *matcher) at(reg uint32, n int) (o octets, host bool) {
	from := register(reg)
	if reg == unix.NFT_REG_VERDICT || from+n > registerBytes {
		return newOctets(n), false
	}
	for _, h := range m.host[from : from+n] {
		host = host || h
	}
	return octets{m.registers.data[from : from+n], m.registers.known[from : from+n]}, host
}

// load puts a value into a register, or takes what was there away if it is not known.
func (m *matcher) load(reg uint32, value []byte, host, ok bool) {
	if reg == unix.NFT_REG_VERDICT {
		return
	}
	if !ok {
		value = make([]byte, 16)
	}
	from := register(reg)
	for i, b := range value {
		if from+i < registerBytes {
			m.registers.data[from+i], m.registers.known[from+i], m.host[from+i] = b, ok, host
		}
	}
}

// run is one expression: whether the rule still applies, and a verdict if it has one.
func (m *matcher) run(e expr.Any) (truth, verdict) {
	switch e := e.(type) {
	case *expr.Verdict:
		return yes, verdictOf(e)
	case *expr.Reject:
		return yes, verdict{kind: drops}
	case *expr.Queue:
		return yes, verdict{kind: unknown}
	case *expr.Meta:
		m.meta(e)
	case *expr.Ct:
		if !e.SourceRegister {
			value, ok := m.packet.conntrack(uint32(e.Key))
			m.load(e.Register, value, true, ok)
		}
	case *expr.Payload:
		m.payload(e)
	case *expr.Immediate:
		m.load(e.Register, e.Data, false, true)
	case *expr.Bitwise:
		m.bitwise(e)
	case *expr.Fib:
		m.fib(e)
	case *expr.Cmp:
		return m.compare(e), verdict{}
	case *expr.Range:
		return m.within(e), verdict{}
	case *expr.Lookup:
		return m.lookup(e)
	case *expr.Match:
		return m.match(e), verdict{}
	case *expr.Target:
		return yes, m.target(e)
	case *expr.Counter, *expr.Log, *expr.Objref, *expr.Notrack, *expr.FlowOffload, *expr.SecMark,
		*expr.NAT, *expr.Masq, *expr.Redir, *expr.CtHelper, *expr.CtTimeout, *expr.CtExpect:
	default: // a limit, a quota, a hash and the like
		m.registers = newOctets(registerBytes)
		return maybe, verdict{}
	}
	return yes, verdict{}
}

func (m *matcher) meta(e *expr.Meta) {
	if !e.SourceRegister {
		value, host, ok := m.packet.meta(uint32(e.Key))
		m.load(e.Register, value, host, ok)
		return
	}
	if uint32(e.Key) != unix.NFT_META_MARK {
		return
	}
	o, _ := m.at(e.Register, 4)
	m.packet.Mark = binary.NativeEndian.Uint32(o.data)
	m.packet.marked = m.applies != yes || !allKnown(o.known)
}

func (m *matcher) payload(e *expr.Payload) {
	if e.OperationType == expr.PayloadWrite {
		return
	}
	var from octets
	switch e.Base {
	case expr.PayloadBaseNetworkHeader:
		from = m.packet.network()
	case expr.PayloadBaseTransportHeader:
		from = m.packet.ports()
	}
	to := register(e.DestRegister)
	for i := range int(e.Len) {
		at := int(e.Offset) + i
		if to+i >= registerBytes {
			return
		}
		m.host[to+i] = false
		m.registers.known[to+i] = at < len(from.data) && from.known[at]
		if m.registers.known[to+i] {
			m.registers.data[to+i] = from.data[at]
		}
	}
}

func (m *matcher) bitwise(e *expr.Bitwise) {
	n := min(len(e.Mask), len(e.Xor))
	from, host := m.at(e.SourceRegister, n)
	if n == 0 { // a shift, or an operation of two registers
		m.load(e.DestRegister, nil, false, false)
		return
	}
	value, known := make([]byte, n), make([]bool, n)
	for i := range n {
		value[i] = from.data[i]&e.Mask[i] ^ e.Xor[i]
		known[i] = from.known[i] || e.Mask[i] == 0
	}
	m.load(e.DestRegister, value, host, true)
	to, _ := m.at(e.DestRegister, n)
	copy(to.known, known)
}

// fib: `fib daddr type` is the one that firewalls of hosts use.
func (m *matcher) fib(e *expr.Fib) {
	kind := uint32(unix.RTN_UNICAST)
	if m.packet.Way == In {
		kind = unix.RTN_LOCAL
	}
	m.load(e.Register, binary.NativeEndian.AppendUint32(nil, kind), true, e.ResultADDRTYPE && e.FlagDADDR && !e.FlagSADDR)
}

func (m *matcher) compare(e *expr.Cmp) truth {
	o, host := m.at(e.Register, len(e.Data))
	switch e.Op {
	case expr.CmpOpEq, expr.CmpOpNeq:
		equal := yes
		for i, b := range e.Data {
			if !o.known[i] {
				equal = min(equal, maybe)
			} else if o.data[i] != b {
				equal = no
			}
		}
		if e.Op == expr.CmpOpNeq {
			return yes - equal
		}
		return equal
	}
	if host || !allKnown(o.known) {
		return maybe
	}
	c := bytes.Compare(o.data, e.Data)
	switch e.Op {
	case expr.CmpOpLt:
		return truthOf(c < 0)
	case expr.CmpOpLte:
		return truthOf(c <= 0)
	case expr.CmpOpGt:
		return truthOf(c > 0)
	case expr.CmpOpGte:
		return truthOf(c >= 0)
	}
	return maybe
}

func (m *matcher) within(e *expr.Range) truth {
	o, host := m.at(e.Register, len(e.FromData))
	if host || !allKnown(o.known) || len(e.ToData) != len(e.FromData) {
		return maybe
	}
	inside := bytes.Compare(o.data, e.FromData) >= 0 && bytes.Compare(o.data, e.ToData) <= 0
	return truthOf(inside == (e.Op == expr.CmpOpEq))
}

func (m *matcher) lookup(e *expr.Lookup) (truth, verdict) {
	s := m.rules.set(m.chain, e.SetName)
	if s == nil {
		return maybe, verdict{kind: unknown}
	}
	o, host := m.at(e.SourceRegister, s.width())
	found, known := s.find(o, host)
	switch {
	case !known && e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT:
		return maybe, verdict{kind: unknown}
	case !known:
		m.load(e.DestRegister, nil, false, false)
		return maybe, verdict{}
	case e.Invert:
		return truthOf(found == nil), verdict{}
	case found == nil:
		return no, verdict{}
	case e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT:
		return yes, verdictOf(decodeVerdict(found.Val))
	case e.IsDestRegSet:
		m.load(e.DestRegister, found.Val, false, true)
	}
	return yes, verdict{}
}
