package transport

import (
	"encoding/binary"
	"net/netip"
)

const (
	ipv4HeaderSize = 20
	ipv6HeaderSize = 40
	icmpHeaderSize = 8
	udpHeaderSize  = 8

	protocolICMP   = 1
	protocolICMPv6 = 58

	dontFragment = 0x40 // in the byte of an IPv4 header that has the flags
	leastIPv6MTU = 1280

	// An error quotes as much of its cause as fits (RFC 1812 §4.3.2.3, RFC 4443 §2.4 (c)).
	maxICMPv4Error = 576
	maxICMPv6Error = 1280
)

// unreachable appends to dst the ICMP error that tells the sender of an inner packet that it goes to no peer: host
// unreachable (type 3, code 1) for IPv4, address unreachable (type 1, code 3) for IPv6, as the kernel's WireGuard
// answers. dst should have room for 1280 bytes, and must not overlap packet. It returns nil where no error may be
// sent: about ICMP errors, fragments other than the first, packets from or to multicast, broadcast or unspecified
// addresses, and what is no sound IP packet (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)).
//
// from4 and from6 are the addresses that the error comes from. Where invalid, or of the wrong family, it comes from
// the address that cannot be reached, as if from that host itself. That is what to use for an answer written to a TUN
// device: the kernel takes a packet that comes in with one of its own IPv4 addresses as the source for a martian, and
// drops it, while the unreachable address passes the reverse path filter, because it is routed to that device.
func unreachable(dst, packet []byte, from4, from6 netip.Addr) []byte {
	return icmpError{type4: 3, code4: 1, type6: 1, code6: 3}.about(dst, packet, from4, from6)
}

// tooBig appends to dst the ICMP error that tells the sender of an inner packet to send none that is longer than mtu
// bytes: fragmentation needed (type 3, code 4, RFC 1191 §4) for IPv4 that must not be fragmented, packet too big (type 2)
// for IPv6, which is never told less than its least MTU, 1280. It returns nil where unreachable would, and for what is
// not too long, or may be fragmented.
func tooBig(dst, packet []byte, mtu int, from4, from6 netip.Addr) []byte {
	if !isTooBig(packet, len(packet), mtu) {
		return nil
	}
	if packet[0]>>4 == 6 {
		mtu = max(mtu, leastIPv6MTU)
	}
	return icmpError{type4: 3, code4: 4, type6: 2, mtu: mtu}.about(dst, packet, from4, from6)
}

// isTooBig says whether a packet of length bytes that begins with b is one to tell of that it is longer than mtu.
func isTooBig(b []byte, length, mtu int) bool {
	if len(b) < ipv4HeaderSize || length <= mtu {
		return false
	}
	if b[0]>>4 == 6 {
		return length > leastIPv6MTU
	}
	return b[6]&dontFragment != 0
}

// icmpError is what an error says: in IPv4, in IPv6, and, of what is too long, how much is not.
type icmpError struct {
	type4, code4, type6, code6 byte
	mtu                        int
}

func (e icmpError) about(dst, packet []byte, from4, from6 netip.Addr) []byte {
	if len(packet) == 0 {
		return nil
	}
	switch packet[0] >> 4 {
	case 4:
		return e.about4(dst, packet, from4)
	case 6:
		return e.about6(dst, packet, from6)
	}
	return nil
}

func (e icmpError) about4(dst, packet []byte, from netip.Addr) []byte {
	if len(packet) < ipv4HeaderSize {
		return nil
	}
	header := int(packet[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(packet[2:]))
	fragment := binary.BigEndian.Uint16(packet[6:]) & 0x1fff
	if header < ipv4HeaderSize || total < header || total > len(packet) || fragment != 0 {
		return nil
	}
	packet = packet[:total]
	local, remote := [4]byte(packet[12:16]), [4]byte(packet[16:20])
	if !isHost4(local) || !isHost4(remote) {
		return nil
	}
	if packet[9] == protocolICMP && (total == header || !isICMPv4Query(packet[header])) {
		return nil
	}
	if from.Is4() {
		remote = from.As4()
	}

	quote := packet[:min(total, maxICMPv4Error-ipv4HeaderSize-icmpHeaderSize)]
	start := len(dst)
	dst = append(dst,
		// The type of service of the cause at the precedence of internetwork control (RFC 1812 §4.3.2.5).
		0x45, packet[1]&0x1e|0xc0, 0, 0,
		0, 0, 0, 0,
		64, protocolICMP, 0, 0)
	dst = append(dst, remote[:]...)
	dst = append(dst, local[:]...)
	dst = append(dst, e.type4, e.code4, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(e.mtu))
	dst = append(dst, quote...)

	answer := dst[start:]
	binary.BigEndian.PutUint16(answer[2:], uint16(len(answer)))
	binary.BigEndian.PutUint16(answer[10:], ^onesSum(0, answer[:ipv4HeaderSize]))
	message := answer[ipv4HeaderSize:]
	binary.BigEndian.PutUint16(message[2:], ^onesSum(0, message))
	return dst
}

func (e icmpError) about6(dst, packet []byte, from netip.Addr) []byte {
	if len(packet) < ipv6HeaderSize {
		return nil
	}
	total := ipv6HeaderSize + int(binary.BigEndian.Uint16(packet[4:]))
	if total > len(packet) {
		return nil
	}
	packet = packet[:total]
	local, remote := [16]byte(packet[8:24]), [16]byte(packet[24:40])
	if !isHost6(local) || !isHost6(remote) {
		return nil
	}
	protocol, payload, ok := upperLayer(packet[6], packet[ipv6HeaderSize:])
	if !ok {
		return nil
	}
	if protocol == protocolICMPv6 && (len(payload) == 0 || payload[0] < 128) {
		return nil
	}
	if from.Is6() && !from.Is4In6() {
		remote = from.As16()
	}

	quote := packet[:min(total, maxICMPv6Error-ipv6HeaderSize-icmpHeaderSize)]
	start := len(dst)
	dst = append(dst, 0x60, 0, 0, 0, 0, 0, protocolICMPv6, 64)
	dst = append(dst, remote[:]...)
	dst = append(dst, local[:]...)
	dst = append(dst, e.type6, e.code6, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(e.mtu))
	dst = append(dst, quote...)

	answer := dst[start:]
	message := answer[ipv6HeaderSize:]
	binary.BigEndian.PutUint16(answer[4:], uint16(len(message)))
	sum := onesSum(uint32(len(message))+protocolICMPv6, answer[8:ipv6HeaderSize]) // the pseudo-header
	binary.BigEndian.PutUint16(message[2:], ^onesSum(uint32(sum), message))
	return dst
}

// isHost4 says whether a can be one host: not 0/8, 127/8, nor anything from multicast upwards.
func isHost4(a [4]byte) bool { return a[0] != 0 && a[0] != 127 && a[0] < 224 }

// isHost6 says whether a can be one host: neither ::, ::1 nor multicast.
func isHost6(a [16]byte) bool {
	addr := netip.AddrFrom16(a)
	return !addr.IsUnspecified() && !addr.IsLoopback() && !addr.IsMulticast()
}

// isICMPv4Query says whether a type is known to be no error. Types that nobody knows may be errors.
func isICMPv4Query(t byte) bool {
	switch t {
	case 0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43:
		return true
	}
	return false
}

// upperLayer walks the extension headers that a router can read. It fails on fragments other than the first, on
// headers that are cut short, and on more of them than an honest packet has.
func upperLayer(next byte, rest []byte) (protocol byte, payload []byte, ok bool) {
	const (
		hopByHop       = 0
		routing        = 43
		fragment       = 44
		authentication = 51
		destination    = 60
		mobility       = 135
	)
	for range 8 {
		var size int
		switch next {
		case hopByHop, routing, destination, mobility, authentication, fragment:
			if len(rest) < 8 {
				return 0, nil, false
			}
		default:
			return next, rest, true
		}
		switch next {
		case fragment:
			if binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0 {
				return 0, nil, false
			}
			size = 8
		case authentication:
			size = (int(rest[1]) + 2) * 4
		default:
			size = (int(rest[1]) + 1) * 8
		}
		if size > len(rest) {
			return 0, nil, false
		}
		next, rest = rest[0], rest[size:]
	}
	return 0, nil, false
}

// onesSum is the ones' complement sum of the 16-bit words of b on top of sum (RFC 1071). For headers and errors, which
// are short; packets are summed by the device.
func onesSum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
