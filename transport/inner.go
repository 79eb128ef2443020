package transport

import (
	"encoding/binary"
	"net/netip"
)

// What is read of an inner packet: version, length, addresses (RFC 791, 8200).
// Nothing here trusts a length before it is compared with what is there.

// destination finds the peer that owns the destination address of the packet
// that begins with b; nil: nobody does, or it is no IP packet.
func (r *routes[V]) destination(b []byte) (owner V, ok bool) {
	switch {
	case len(b) >= ipv4HeaderSize && b[0]>>4 == 4:
		return r.Lookup4((*[4]byte)(b[16:20]))
	case len(b) >= ipv6HeaderSize && b[0]>>4 == 6:
		return r.Lookup6((*[16]byte)(b[24:40]))
	}
	return owner, false
}

// source finds the peer that owns the source address of packet, whose header
// trim has found complete.
func (r *routes[V]) source(packet []byte) (V, bool) {
	if packet[0]>>4 == 4 {
		return r.Lookup4((*[4]byte)(packet[12:16]))
	}
	return r.Lookup6((*[16]byte)(packet[8:24]))
}

// sourceAddress is the source address of packet, as source has it.
func sourceAddress(packet []byte) netip.Addr {
	if packet[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(packet[12:16]))
	}
	return netip.AddrFrom16([16]byte(packet[8:24]))
}

// isMulticast says whether the packet that begins with b goes to a group, or to
// every host of a link.
func isMulticast(b []byte) bool {
	switch {
	case len(b) >= ipv4HeaderSize && b[0]>>4 == 4:
		return b[16]>>4 == 0xe || [4]byte(b[16:20]) == [4]byte{255, 255, 255, 255}
	case len(b) >= ipv6HeaderSize && b[0]>>4 == 6:
		return b[24] == 0xff
	}
	return false
}

// isChatter says whether packet is one that every host with IPv6 tells a link of its own accord, where all addresses lead into
// the tunnel: from an address of that link, or from none, to a group.
func isChatter(packet []byte) bool {
	if packet[0]>>4 != 6 || !isMulticast(packet) {
		return false
	}
	source := sourceAddress(packet)
	return source.IsLinkLocalUnicast() || source.IsUnspecified()
}

// trim cuts the padding off a plaintext by the inner packet's own length. It
// returns nil for what is no IP packet or says to be longer than it is.
func trim(plaintext []byte) []byte {
	var length, header int
	switch {
	case len(plaintext) >= ipv4HeaderSize && plaintext[0]>>4 == 4:
		length, header = int(binary.BigEndian.Uint16(plaintext[2:])), ipv4HeaderSize
	case len(plaintext) >= ipv6HeaderSize && plaintext[0]>>4 == 6:
		length, header = int(binary.BigEndian.Uint16(plaintext[4:]))+ipv6HeaderSize, ipv6HeaderSize
	default:
		return nil
	}
	if length < header || length > len(plaintext) {
		return nil
	}
	return plaintext[:length]
}
