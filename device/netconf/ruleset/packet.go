package ruleset

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Way is how a packet meets this host.
type Way int

// The ways.
const (
	In      Way = iota // to a program here
	Out                // from a program here
	Through            // forwarded
	Bridged            // a frame that a bridge forwards
)

// State is what connection tracking says of a packet.
type State int

// The states.
const (
	New         State = iota // the first of its connection
	Established              // an answer, or behind one
)

// Packet is what is asked about. What is zero in it is not known, and what hangs on it stays open.
type Packet struct {
	Way                         Way
	InInterface                 string // "": it comes from here; of what is Bridged: not known
	OutInterface                string // "": it stays here; of what is Bridged: not known
	InIndex, OutIndex           int
	Bridge                      string // that forwards it, of what is Bridged; the interfaces are its ports then
	Family                      byte   // unix.NFPROTO_IPV4 or IPV6; not needed where an address is known
	Source, Destination         netip.Addr
	Protocol                    uint8 // as unix.IPPROTO_UDP
	SourcePort, DestinationPort uint16
	Mark                        uint32 // known always
	State                       State  // known always

	marked          bool   // by a rule that may apply, or may not: Mark is not known any more
	inPort, outPort string // as seen by a chain to which the interfaces are the bridge; "": not known
}

func (p *Packet) family() byte {
	for _, a := range []netip.Addr{p.Source, p.Destination} {
		if a.IsValid() && a.Unmap().Is4() {
			return unix.NFPROTO_IPV4
		}
		if a.IsValid() {
			return unix.NFPROTO_IPV6
		}
	}
	return p.Family
}

// octets are bytes of which some are not known.
type octets struct {
	data  []byte
	known []bool
}

func (o octets) put(at int, value []byte) {
	for i, b := range value {
		o.data[at+i], o.known[at+i] = b, true
	}
}

func newOctets(n int) octets { return octets{make([]byte, n), make([]bool, n)} }

// network is the IP header.
func (p *Packet) network() octets {
	if p.family() == unix.NFPROTO_IPV4 {
		h := newOctets(20)
		h.put(0, []byte{0x45})
		if p.Protocol != 0 {
			h.put(9, []byte{p.Protocol})
		}
		putAddress(h, 12, p.Source)
		putAddress(h, 16, p.Destination)
		return h
	}
	h := newOctets(40)
	if p.Protocol != 0 {
		h.put(6, []byte{p.Protocol})
	}
	putAddress(h, 8, p.Source)
	putAddress(h, 24, p.Destination)
	return h
}

func putAddress(h octets, at int, a netip.Addr) {
	if a.IsValid() {
		h.put(at, a.Unmap().AsSlice())
	}
}

// ports are the first bytes behind the IP header, of a protocol that has ports there.
func (p *Packet) ports() octets {
	h := newOctets(4)
	if p.SourcePort != 0 {
		h.put(0, binary.BigEndian.AppendUint16(nil, p.SourcePort))
	}
	if p.DestinationPort != 0 {
		h.put(2, binary.BigEndian.AppendUint16(nil, p.DestinationPort))
	}
	return h
}

// meta is a value of the packet that nftables reads by that key of unix.NFT_META_*; host: it is a number in the machine's own
// byte order. ok is false for what is not known.
func (p *Packet) meta(key uint32) (value []byte, host, ok bool) {
	number := func(n int, known bool) ([]byte, bool, bool) {
		return binary.NativeEndian.AppendUint32(nil, uint32(n)), true, known
	}
	switch key {
	case unix.NFT_META_IIFNAME:
		return interfaceName(p.InInterface), false, p.InInterface != "" || p.Way != Bridged
	case unix.NFT_META_OIFNAME:
		return interfaceName(p.OutInterface), false, p.OutInterface != "" || p.Way != Bridged
	case unix.NFT_META_IIF:
		return number(p.InIndex, p.InIndex != 0 || p.InInterface == "" && p.Way != Bridged)
	case unix.NFT_META_OIF:
		return number(p.OutIndex, p.OutIndex != 0 || p.OutInterface == "" && p.Way != Bridged)
	case unix.NFT_META_MARK:
		return number(int(p.Mark), !p.marked)
	case unix.NFT_META_L4PROTO:
		return []byte{p.Protocol}, false, p.Protocol != 0
	case unix.NFT_META_NFPROTO:
		return []byte{p.family()}, false, true
	case unix.NFT_META_PROTOCOL:
		if p.family() == unix.NFPROTO_IPV4 {
			return binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP), false, true
		}
		return binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6), false, true
	}
	return nil, false, false
}

func interfaceName(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

// Bits of `ct state`, as in the kernel's NF_CT_STATE_BIT.
const (
	ctEstablished = 1 << 1
	ctNew         = 1 << 3
)

// conntrack is what nftables reads of a packet's connection by that key of unix.NFT_CT_*.
func (p *Packet) conntrack(key uint32) (value []byte, ok bool) {
	switch {
	case key == unix.NFT_CT_STATE && p.State == Established:
		return binary.NativeEndian.AppendUint32(nil, ctEstablished), true
	case key == unix.NFT_CT_STATE:
		return binary.NativeEndian.AppendUint32(nil, ctNew), true
	case key == unix.NFT_CT_DIRECTION && p.State == New:
		return []byte{0}, true
	case key == unix.NFT_CT_STATUS && p.State == New:
		return make([]byte, 4), true
	}
	return nil, false
}
