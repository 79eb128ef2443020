package device

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	// longFirst is the length of a first part whose headers don't fit firstSize.
	longFirst = 2 * firstSize
	// maxHeader bounds the headers of a super-packet, TCP's included. With
	// extension headers they may be of any length; longer ones are dropped.
	maxHeader = 512

	tcpFIN, tcpSYN, tcpRST, tcpPSH, tcpACK, tcpURG, tcpECE, tcpCWR = 1, 2, 4, 8, 16, 32, 64, 128
)

// superPacket is a packet that the kernel gave us to cut into segments. The
// zero value is one of which nothing is left. Payloads stay where they are,
// headers are built anew, in the way of the kernel's own tcp_gso_segment,
// __udp_gso_segment and inet_gso_segment.
type superPacket struct {
	packet   []byte
	template []byte // the headers: of packet, or in store if long
	store    [maxHeader]byte

	network   int    // where the IP header begins
	transport int    // where the TCP or UDP header begins
	size      int    // payload bytes of each segment but the last
	partial   bool   // the segments stay partial
	begun     uint64 // sum of the pseudo header but for its length, if they don't
	noSum     bool   // UDP without checksum
	udp       bool
	long      bool // the headers don't fit a first part

	at    int // where the next payload begins
	index int // of the next segment
}

// begin takes a packet with a GSO type, whose IP header begins at network. What
// is in front of that is repeated in every segment. begin trusts nothing that
// the header says before it is bounded. False: not a super-packet that we could
// cut.
func (s *superPacket) begin(h virtioHeader, packet []byte, network int) bool {
	s.packet = nil
	if len(packet)-network < 20 || h.gsoSize == 0 {
		return false
	}
	protocol, next := byte(unix.IPPROTO_TCP), 0
	switch h.gsoType &^ unix.VIRTIO_NET_HDR_GSO_ECN {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4:
		next = 4
	case unix.VIRTIO_NET_HDR_GSO_TCPV6:
		next = 6
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		protocol = unix.IPPROTO_UDP
	default:
		return false // UFO among them, which we never agreed to
	}
	version := int(packet[network] >> 4)
	if next != 0 && next != version {
		return false
	}
	transport, ok := transportOffset(packet, network, protocol, h)
	if !ok {
		return false
	}
	length := len(packet) - transport
	if length > 0xffff {
		return false
	}
	headers, field := transport+8, transport+6
	if protocol == unix.IPPROTO_TCP {
		if length < 20 {
			return false
		}
		dataOffset := int(packet[transport+12]>>4) * 4
		if dataOffset < 20 || dataOffset > length {
			return false
		}
		headers, field = transport+dataOffset, transport+16
	} else if length < 8 {
		return false
	}
	if headers > maxHeader || headers >= len(packet) {
		return false // no payload: nothing to cut
	}
	s.partial, s.begun, s.noSum = h.staysPartial(packet, network), 0, false
	switch {
	case s.partial:
	case h.partial():
		// As the kernel does it: take the length of the whole out of the sum
		// that it left, whatever else is in there (a routing header's last
		// address).
		if int(h.csumOffset) != field-transport {
			return false
		}
		s.begun = load16(packet[field:]) + uint64(^uint16(be16(uint16(length))))
	case protocol == unix.IPPROTO_UDP && load16(packet[field:]) == 0:
		s.noSum = true
	default:
		s.begun = uint64(fold(pseudo(packet[network:], protocol, 0)))
	}
	s.packet, s.network, s.transport = packet, network, transport
	s.size, s.udp = int(h.gsoSize), protocol == unix.IPPROTO_UDP
	s.long = headers > longFirst
	s.template = packet[:headers]
	if s.long {
		s.template = s.store[:copy(s.store[:], packet[:headers])]
	}
	s.at, s.index = headers, 0
	return true
}

// transportOffset finds where the transport header begins. The IP header's
// length must be that of the packet from there on.
func transportOffset(packet []byte, network int, protocol byte, h virtioHeader) (offset int, ok bool) {
	ip, start := packet[network:], int(h.csumStart)-network
	switch ip[0] >> 4 {
	case 4:
		least := int(ip[0]&15) * 4
		if least < 20 || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) ||
			binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 || ip[9] != protocol {
			return 0, false
		}
		if h.partial() && start != least {
			return 0, false
		}
		return network + least, least <= len(ip)
	case 6:
		const least = 40
		if len(ip) < least || int(binary.BigEndian.Uint16(ip[4:]))+least != len(ip) {
			return 0, false
		}
		if h.partial() {
			// Extension headers may lie between; the kernel knows.
			return network + start, start >= least && start <= len(ip) && (start > least || ip[6] == protocol)
		}
		return network + least, ip[6] == protocol
	}
	return 0, false
}

// more says whether segments are left.
func (s *superPacket) more() bool { return s.at < len(s.packet) }

// next cuts off the next segment. The first part is built in slot, longFirst
// bytes; the rest stays in place. The segment of a long super-packet stays in
// place as a whole, with its headers over what came before: then all segments
// before it must have served.
func (s *superPacket) next(slot []byte) (first, rest []byte) {
	end := min(s.at+s.size, len(s.packet))
	payload := s.packet[s.at:end:end]
	n := len(s.template)
	if s.long {
		segment := s.packet[s.at-n : end : end]
		copy(segment, s.template)
		s.finish(segment[:n], payload)
		first, rest = segment[:longFirst:longFirst], segment[longFirst:]
	} else {
		size := firstSize
		if n > firstSize {
			size = longFirst
		}
		copy(slot, s.template)
		s.finish(slot[:n], payload)
		k := copy(slot[n:size], payload)
		first = slot[: n+k : n+k]
		if k < len(payload) {
			rest = payload[k:]
		}
	}
	s.at = end
	s.index++
	return first, rest
}

// finish makes the headers of segment s.index of a copy of the template.
func (s *superPacket) finish(h, payload []byte) {
	total, ip := len(h)+len(payload), h[s.network:]
	if ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(total-s.network))
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(s.index))
		store16(ip[10:], 0)
		store16(ip[10:], ^fold(sum(0, ip[:int(ip[0]&15)*4])))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(total-s.network-40))
	}
	t := h[s.transport:]
	length := uint16(total - s.transport)
	if s.udp {
		binary.BigEndian.PutUint16(t[4:], length)
		if s.partial || s.noSum {
			return
		}
		store16(t[6:], 0)
		v := ^fold(sum(sum(s.begun+be16(length), t), payload))
		if v == 0 {
			v = 0xffff // 0 would say that there is no sum
		}
		store16(t[6:], v)
		return
	}
	binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+uint32(s.at-len(h)))
	if s.index > 0 {
		t[13] &^= tcpCWR // said once
	}
	if s.at+len(payload) < len(s.packet) {
		t[13] &^= tcpFIN | tcpPSH // of the last one
	}
	if s.partial {
		return
	}
	store16(t[16:], 0)
	store16(t[16:], ^fold(sum(sum(s.begun+be16(length), t), payload)))
}
