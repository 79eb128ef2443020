package netconf

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// MarkTable is the table of nftables that a tunnel for everything needs beside its rules. It has three chains:
//
//   - preraw drops what comes to the tunnel's addresses by another interface and not from this host itself: else anybody on the
//     same cable could send packets into what runs inside the tunnel.
//   - postmangle notes the mark of what the tunnel itself sends in its connection (conntrack), and premangle gives it to the
//     answers, so that the reverse path filter (rp_filter) looks for the way back by the same rules.
type MarkTable struct {
	Interface string
	Mark      uint32
	Addresses []netip.Addr // the tunnel's
}

func (t *MarkTable) String() string { return "nft table inet " + t.Table() }

// Table is the table's name.
func (t *MarkTable) Table() string { return "stunnel-" + t.Interface }

func (t *MarkTable) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: t.Table()}
}

func (t *MarkTable) Look(h *Handle) (done bool, err error) { return false, h.lookTable(t.table()) }

func (t *MarkTable) Make(h *Handle) error {
	c, err := h.nft()
	if err != nil {
		return err
	}
	table := c.CreateTable(t.table())
	chain := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: priority})
	}
	preraw := chain("preraw", nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	for _, a := range t.Addresses {
		c.AddRule(&nftables.Rule{Table: table, Chain: preraw, Exprs: t.injected(a)})
	}
	premangle := chain("premangle", nftables.ChainHookPrerouting, nftables.ChainPriorityMangle)
	postmangle := chain("postmangle", nftables.ChainHookPostrouting, nftables.ChainPriorityMangle)
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		c.AddRule(&nftables.Rule{Table: table, Chain: premangle, Exprs: append(packetsWith(protocol, &expr.Ct{Register: 1, Key: expr.CtKeyMARK}, t.Mark),
			&expr.Immediate{Register: 1, Data: native32(t.Mark)},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1})})
		c.AddRule(&nftables.Rule{Table: table, Chain: postmangle, Exprs: append(packetsWith(protocol, &expr.Meta{Register: 1, Key: expr.MetaKeyMARK}, t.Mark),
			&expr.Immediate{Register: 1, Data: native32(t.Mark)},
			&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1})})
	}
	return refusedByNft(t.String(), c.Flush())
}

func (t *MarkTable) Undo(h *Handle) error { return h.deleteTable(t.table()) }

// injected drops what is addressed to a, did not come through the tunnel and has no source of this host's.
func (t *MarkTable) injected(a netip.Addr) []expr.Any {
	protocol, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if a.Is6() {
		protocol, offset = unix.NFPROTO_IPV6, 24
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, t.Interface)
	return []expr.Any{
		&expr.Meta{Register: 1, Key: expr.MetaKeyIIFNAME},
		&expr.Cmp{Register: 1, Op: expr.CmpOpNeq, Data: name},
		&expr.Meta{Register: 1, Key: expr.MetaKeyNFPROTO},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.BitLen() / 8)},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: a.AsSlice()},
		&expr.Fib{Register: 1, FlagSADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Register: 1, Op: expr.CmpOpNeq, Data: native32(unix.RTN_LOCAL)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// packetsWith matches packets of a protocol for which what load loads is value.
func packetsWith(protocol byte, load expr.Any, value uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Register: 1, Key: expr.MetaKeyL4PROTO},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{protocol}},
		load,
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: native32(value)},
	}
}
