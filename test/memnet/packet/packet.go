// Package packet makes and reads the inner packets of tunnel tests: IPv4 and
// IPv6 with UDP (RFC 791, 8200, 768), lengths and checksums right.
//
// UDP makes one, Parse reads one and says what is wrong with it, Complete
// computes a checksum that a sender has left out.
package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58

	udpHeader  = 8
	ipv4Header = 20
	ipv6Header = 40
)

// UDP returns an IP packet (no options, TTL 64) with one UDP datagram. Both
// addresses must be of one family.
func UDP(local, remote netip.AddrPort, payload []byte) []byte {
	segment := make([]byte, udpHeader+len(payload))
	binary.BigEndian.PutUint16(segment[0:], local.Port())
	binary.BigEndian.PutUint16(segment[2:], remote.Port())
	binary.BigEndian.PutUint16(segment[4:], uint16(len(segment)))
	copy(segment[udpHeader:], payload)
	sum := checksum(pseudo(local.Addr(), remote.Addr(), protocolUDP, len(segment)), segment)
	if sum == 0 {
		sum = 0xffff // RFC 768: 0 says that there is none
	}
	binary.BigEndian.PutUint16(segment[6:], sum)
	return ip(local.Addr(), remote.Addr(), protocolUDP, segment)
}

// Sized returns an IP packet of exactly size bytes; its payload begins with
// text, the rest is zeros. It panics if size has no room for that.
func Sized(local, remote netip.AddrPort, size int, text string) []byte {
	headers := ipv4Header + udpHeader
	if local.Addr().Is6() {
		headers = ipv6Header + udpHeader
	}
	payload := make([]byte, size-headers)
	if copy(payload, text) < len(text) {
		panic("packet: text does not fit the size")
	}
	return UDP(local, remote, payload)
}

// Bare returns an IP packet of a protocol with an opaque payload.
func Bare(local, remote netip.Addr, protocol byte, payload []byte) []byte {
	return ip(local, remote, protocol, payload)
}

func ip(local, remote netip.Addr, protocol byte, payload []byte) []byte {
	if local.Is4() != remote.Is4() {
		panic("packet: addresses of two families")
	}
	if local.Is4() {
		p := make([]byte, ipv4Header, ipv4Header+len(payload))
		p[0], p[8], p[9] = 0x45, 64, protocol
		binary.BigEndian.PutUint16(p[2:], uint16(ipv4Header+len(payload)))
		copy(p[12:], local.AsSlice())
		copy(p[16:], remote.AsSlice())
		binary.BigEndian.PutUint16(p[10:], checksum(0, p))
		return append(p, payload...)
	}
	p := make([]byte, ipv6Header, ipv6Header+len(payload))
	p[0], p[6], p[7] = 0x60, protocol, 64
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	copy(p[8:], local.AsSlice())
	copy(p[24:], remote.AsSlice())
	return append(p, payload...)
}

// Complete computes the UDP or TCP checksum of a packet without IPv4 options and
// IPv6 extension headers, whatever is in its place; false: it is none.
func Complete(b []byte) bool {
	field := Checksum(b)
	if field == nil {
		return false
	}
	from, to := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	protocol, segment := b[9], b[ipv4Header:]
	if b[0]>>4 == 6 {
		from, to = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		protocol, segment = b[6], b[ipv6Header:]
	}
	clear(field)
	sum := checksum(pseudo(from, to, protocol, len(segment)), segment)
	if sum == 0 && protocol == protocolUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
	return true
}

// Checksum is where the UDP or TCP checksum of such a packet lies; nil: it is
// none, or not as long as it says.
func Checksum(b []byte) []byte {
	segment, protocol := []byte(nil), byte(0)
	switch {
	case len(b) >= ipv4Header && b[0] == 0x45 && int(binary.BigEndian.Uint16(b[2:])) == len(b) &&
		binary.BigEndian.Uint16(b[6:])&0x3fff == 0:
		segment, protocol = b[ipv4Header:], b[9]
	case len(b) >= ipv6Header && b[0]>>4 == 6 && int(binary.BigEndian.Uint16(b[4:])) == len(b)-ipv6Header:
		segment, protocol = b[ipv6Header:], b[6]
	}
	switch {
	case protocol == protocolUDP && len(segment) >= udpHeader && int(binary.BigEndian.Uint16(segment[4:])) == len(segment):
		return segment[6:8]
	case protocol == protocolTCP && len(segment) >= 20:
		return segment[16:18]
	}
	return nil
}

// Packet is what Parse found. Ports and payload are UDP's; of another protocol
// Payload is all behind the IP header. ICMP's Type and Code are its first two
// bytes.
type Packet struct {
	Local, Remote netip.AddrPort // sender and receiver, as in the header
	Protocol      byte
	Type, Code    byte // of ICMP and ICMPv6
	Payload       []byte
}

// ICMP says whether the packet is ICMP or ICMPv6.
func (p Packet) ICMP() bool { return p.Protocol == protocolICMP || p.Protocol == protocolICMPv6 }

var errShort = errors.New("shorter than its headers")

// Parse reads a packet and checks that its length field says exactly its
// length, and every checksum.
func Parse(b []byte) (Packet, error) {
	if len(b) == 0 {
		return Packet{}, errShort
	}
	var p Packet
	var from, to netip.Addr
	switch b[0] >> 4 {
	case 4:
		if len(b) < ipv4Header {
			return p, errShort
		}
		header := int(b[0]&15) * 4
		if total := int(binary.BigEndian.Uint16(b[2:])); total != len(b) || header < ipv4Header || header > len(b) {
			return p, fmt.Errorf("%d bytes with total length %d and header length %d", len(b), total, header)
		}
		if checksum(0, b[:header]) != 0 {
			return p, errors.New("wrong IPv4 header checksum")
		}
		from, to = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		p.Protocol, p.Payload = b[9], b[header:]
	case 6:
		if len(b) < ipv6Header {
			return p, errShort
		}
		if length := int(binary.BigEndian.Uint16(b[4:])); length != len(b)-ipv6Header {
			return p, fmt.Errorf("%d bytes with payload length %d", len(b), length)
		}
		from, to = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		p.Protocol, p.Payload = b[6], b[ipv6Header:]
	default:
		return p, fmt.Errorf("version %d", b[0]>>4)
	}
	return p.transport(from, to)
}

func (p Packet) transport(from, to netip.Addr) (Packet, error) {
	p.Local, p.Remote = netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0)
	segment := p.Payload
	switch p.Protocol {
	case protocolUDP:
		if len(segment) < udpHeader || int(binary.BigEndian.Uint16(segment[4:])) != len(segment) {
			return p, errors.New("wrong UDP length")
		}
		if checksum(pseudo(from, to, protocolUDP, len(segment)), segment) != 0 {
			return p, errors.New("wrong UDP checksum")
		}
		p.Local = netip.AddrPortFrom(from, binary.BigEndian.Uint16(segment[0:]))
		p.Remote = netip.AddrPortFrom(to, binary.BigEndian.Uint16(segment[2:]))
		p.Payload = segment[udpHeader:]
	case protocolICMP, protocolICMPv6:
		if len(segment) < 8 {
			return p, errShort
		}
		initial := uint32(0)
		if p.Protocol == protocolICMPv6 {
			initial = pseudo(from, to, protocolICMPv6, len(segment))
		}
		if checksum(initial, segment) != 0 {
			return p, errors.New("wrong ICMP checksum")
		}
		p.Type, p.Code = segment[0], segment[1]
	}
	return p, nil
}

// pseudo sums the pseudo-header of RFC 768 and RFC 8200 §8.1.
func pseudo(from, to netip.Addr, protocol byte, length int) uint32 {
	sum := uint32(protocol) + uint32(length)
	for _, a := range [2]netip.Addr{from, to} {
		b := a.AsSlice()
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	return sum
}

// checksum is RFC 1071's, of data behind an initial sum; 0 over data that
// holds a right checksum.
func checksum(sum uint32, data []byte) uint16 {
	for ; len(data) >= 2; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
