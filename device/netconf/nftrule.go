package netconf

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// nftTable is a table of our own that is being written. Nothing is done before commit, and then all of it at once.
type nftTable struct {
	conn  *nftables.Conn
	table *nftables.Table
}

// newTable begins a table for both families, in the place of the one of that name if there is one: what the old one has
// forbidden is never allowed in between.
func (h *Handle) newTable(name string) (*nftTable, error) {
	t, err := h.sameTable(name) // else there may be none to delete
	if err != nil {
		return nil, err
	}
	t.conn.DelTable(t.table)
	t.conn.AddTable(t.table)
	return t, nil
}

// sameTable begins to change the table of that name, which keeps what it has, or a new one if there is none.
func (h *Handle) sameTable(name string) (*nftTable, error) {
	c, err := h.nft()
	if err != nil {
		return nil, err
	}
	t := &nftTable{c, &nftables.Table{Name: name, Family: nftables.TableFamilyINet}}
	t.conn.AddTable(t.table)
	return t, nil
}

// called adds a chain that others jump to.
func (t *nftTable) called(name string) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table})
}

// chain adds a base chain.
func (t *nftTable) chain(hook *nftables.ChainHook, kind nftables.ChainType, priority nftables.ChainPriority, policy nftables.ChainPolicy) *nftables.Chain {
	names := map[nftables.ChainHook]string{unix.NF_INET_FORWARD: "forward", unix.NF_INET_LOCAL_OUT: "output", unix.NF_INET_POST_ROUTING: "postrouting"}
	return t.conn.AddChain(&nftables.Chain{Name: names[*hook], Table: t.table, Hooknum: hook, Type: kind, Priority: &priority, Policy: &policy})
}

// rule adds a rule at the chain's end.
func (t *nftTable) rule(c *nftables.Chain, comment string, parts ...[]expr.Any) {
	r := &nftables.Rule{Table: t.table, Chain: c}
	for _, p := range parts {
		r.Exprs = append(r.Exprs, p...)
	}
	if comment != "" {
		r.UserData = userdata.AppendString(nil, userdata.TypeComment, comment)
	}
	t.conn.AddRule(r)
}

func (t *nftTable) commit() error {
	return refusedByNft("nft table inet "+t.table.Name, t.conn.Flush())
}

// removeTable removes an inet table. That there is none, or no nftables, is no error.
func (h *Handle) removeTable(name string) (was bool, err error) {
	c, err := h.nft()
	if err != nil {
		return false, err
	}
	c.DelTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet})
	err = refusedByNft("remove nft table inet "+name, c.Flush())
	if errors.Is(err, ErrNoNftables) { // which is also what the kernel says when there is no such table
		return false, nil
	}
	return err == nil, err
}

// What follows are the parts of rules. All compare by register 1, as nft(8) has it, so that it prints them as they were meant.

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: data}
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: unix.NFT_REG_1} }

// nameData is an interface's name as the kernel compares it, to its end.
func nameData(name string) []byte {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return data
}

func in(name string) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyIIFNAME), compare(expr.CmpOpEq, nameData(name))}
}

func out(name string) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyOIFNAME), compare(expr.CmpOpEq, nameData(name))}
}

func notOut(name string) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyOIFNAME), compare(expr.CmpOpNeq, nameData(name))}
}

func marked(mark uint32) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyMARK), compare(expr.CmpOpEq, native32(mark))}
}

func masked(mask []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

// inFamily is for packets of one family, unix.NFPROTO_IPV4 or IPV6.
func inFamily(family byte) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyNFPROTO), compare(expr.CmpOpEq, []byte{family})}
}

func ofProtocol(protocol byte) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyL4PROTO), compare(expr.CmpOpEq, []byte{protocol})}
}

// headerField is for packets with these bytes at an offset of their network or transport header.
func headerField(base expr.PayloadBase, offset uint32, data ...byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: unix.NFT_REG_1, Base: base, Offset: offset, Len: uint32(len(data))}, compare(expr.CmpOpEq, data)}
}

// towards is for packets to an address of p.
func towards(p netip.Prefix) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	addr := p.Masked().Addr().AsSlice()
	parts := append(inFamily(family), &expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(addr))})
	if p.Bits() < p.Addr().BitLen() {
		parts = append(parts, masked(net.CIDRMask(p.Bits(), p.Addr().BitLen())))
	}
	return append(parts, compare(expr.CmpOpEq, addr))
}

// betweenPorts is for UDP packets from one port to another.
func betweenPorts(from, to uint16) []expr.Any {
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	source := headerField(expr.PayloadBaseTransportHeader, 0, ports[:2]...)
	return append(append(ofProtocol(unix.IPPROTO_UDP), source...), headerField(expr.PayloadBaseTransportHeader, 2, ports[2:]...)...)
}

// inState is for packets whose connection is in one of these states, expr.CtStateBit...
func inState(bits uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: unix.NFT_REG_1},
		masked(native32(bits)),
		compare(expr.CmpOpNeq, make([]byte, 4))}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func counted() []expr.Any { return []expr.Any{new(expr.Counter)} }
