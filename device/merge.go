package device

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	// maxSegments bounds a merged packet: the least UDP_MAX_SEGMENTS that
	// kernels have had.
	maxSegments = 64
	// maxMerged bounds its bytes: what an IPv4 header can say, and with an
	// Ethernet header no more than other interfaces take without cutting it.
	maxMerged = 65535
	// maxPlainHeader is the longest header that is merged: of a frame with
	// tags, IPv6 and a TCP header full of options.
	maxPlainHeader = maxFrameHeader + 40 + 60
)

// shape is where the parts of a packet lie that may be merged. The zero value
// is that of any other packet.
type shape struct {
	version   uint8
	udp       bool
	network   int // where the IP header begins
	transport int // where the TCP or UDP header begins
	headers   int // where the payload begins
}

// shapeOf looks at lengths and kinds only, from the IP header on, which begins
// at network, and trusts none of them. Mergeable are TCP segments with ACK and without SYN, RST and URG, and UDP datagrams
// with a checksum, that have a payload and lie directly behind an IPv4 header
// without options and fragmentation or an IPv6 header. All of them can be
// partial; then they have a checksum whatever is in its place.
func shapeOf(packet []byte, network int, partial bool) (s shape) {
	ip := packet[network:]
	if len(ip) < 28 {
		return s
	}
	var protocol byte
	switch ip[0] >> 4 {
	case 4:
		// The reserved bit, MF and the offset are zero; DF may be set.
		if ip[0] != 0x45 || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) ||
			binary.BigEndian.Uint16(ip[6:])&^0x4000 != 0 {
			return s
		}
		protocol, s.transport = ip[9], network+20
	case 6:
		if len(ip) < 48 || int(binary.BigEndian.Uint16(ip[4:]))+40 != len(ip) {
			return s
		}
		protocol, s.transport = ip[6], network+40
	default:
		return s
	}
	t := packet[s.transport:]
	switch protocol {
	case unix.IPPROTO_TCP:
		if len(t) < 20 || t[13]&(tcpACK|tcpSYN|tcpRST|tcpURG) != tcpACK {
			return s
		}
		n := int(t[12]>>4) * 4
		if n < 20 || n >= len(t) {
			return s
		}
		s.headers = s.transport + n
	case unix.IPPROTO_UDP:
		if len(t) <= 8 || int(binary.BigEndian.Uint16(t[4:])) != len(t) || !partial && load16(t[6:]) == 0 {
			return s
		}
		s.udp, s.headers = true, s.transport+8
	default:
		return s
	}
	s.version, s.network = ip[0]>>4, network
	return s
}

// verified computes the packet's sums. Merging writes new ones, so the old ones
// must have been right: else a damaged packet would come out as a good one. Of
// a partial packet that is the IPv4 header's.
func (s shape) verified(packet []byte, partial bool) bool {
	protocol := byte(unix.IPPROTO_TCP)
	if s.udp {
		protocol = unix.IPPROTO_UDP
	}
	ip := packet[s.network:]
	if s.version == 4 && fold(sum(0, ip[:20])) != 0xffff {
		return false
	}
	if partial {
		return true
	}
	return fold(sumBehindIP(ip, s.transport-s.network, protocol, len(ip))) == 0xffff
}

// run is the longest row of packets, from the first one of a train on, that
// may be merged into one.
type run struct {
	shape
	n       int  // packets, at least 1
	partial bool // all of them are; else none is
	bytes   int  // of the merged packet
	size    int  // payload bytes of each but the last
	flags   byte
	ids     uint16 // what the IPv4 ID grows by: 0 or 1
	ended   bool   // a short, PSH or FIN packet was the last one
}

// kind is 0 for TCP and 1 for UDP.
func (r *run) kind() int {
	if r.udp {
		return 1
	}
	return 0
}

// runOf finds the run at the begin of packets, which are at least one. partial
// says of each what it is, nil: none is partial. So no packet gets a sum that
// was not verified from one that trusts.
func (q *Queue) runOf(packets [][]byte, partial []bool) (r run) {
	first := packets[0]
	r.n, r.bytes, r.partial = 1, len(first), partial != nil && partial[0]
	if len(packets) == 1 || !q.mergeTCP && !q.mergeUDP {
		return r
	}
	r.shape = shapeOf(first, q.network(first, 0), r.partial)
	if r.version == 0 || r.udp && !q.mergeUDP || !r.udp && !q.mergeTCP {
		return r
	}
	r.size = len(first) - r.headers
	if !r.udp {
		r.flags = first[r.transport+13]
		r.ended = r.flags&(tcpFIN|tcpPSH) != 0
	}
	for r.n < len(packets) && r.n < maxSegments && !r.ended &&
		(partial == nil || partial[r.n] == r.partial) && r.extend(first, packets[r.n]) {
	}
	return r
}

// extend takes in the next packet, if it continues the run. Everything is
// compared before any sum is computed.
func (r *run) extend(first, next []byte) bool {
	if len(next) < r.network || !bytes.Equal(first[:r.network], next[:r.network]) { // Ethernet's
		return false
	}
	// A slip in length or kind shows here: the shapes differ.
	s := shapeOf(next, r.network, r.partial)
	payload := len(next) - s.headers
	if s != r.shape || payload > r.size || r.bytes+payload > maxMerged {
		return false
	}
	if !r.sameFlow(first, next) || !r.sameNetwork(first, next) {
		return false
	}
	var flags byte
	if !r.udp {
		a, b := first[r.transport:], next[r.transport:]
		flags = b[13]
		switch {
		case binary.BigEndian.Uint32(b[4:]) != binary.BigEndian.Uint32(a[4:])+uint32(r.bytes-r.headers): // sequence
			return false
		case !bytes.Equal(a[8:12], b[8:12]), a[12] != b[12], !bytes.Equal(a[14:16], b[14:16]), !bytes.Equal(a[18:20], b[18:20]):
			// Acknowledgement, offset and AE, window, urgent pointer.
			return false
		case (r.flags^flags)&^(tcpFIN|tcpPSH|tcpCWR) != 0, flags&tcpCWR != 0:
			return false
		case !bytes.Equal(first[r.transport+20:r.headers], next[r.transport+20:r.headers]): // options
			return false
		}
	}
	if r.n == 1 && !r.verified(first, r.partial) {
		return false
	}
	if !r.verified(next, r.partial) {
		return false
	}
	if r.version == 4 && r.n == 1 {
		r.ids = binary.BigEndian.Uint16(next[r.network+4:]) - binary.BigEndian.Uint16(first[r.network+4:])
	}
	r.n++
	r.bytes += payload
	r.flags |= flags & (tcpFIN | tcpPSH)
	r.ended = payload < r.size || flags&(tcpFIN|tcpPSH) != 0
	return true
}

// sameFlow compares addresses and ports.
func (r *run) sameFlow(a, b []byte) bool {
	from := r.network + 12
	if r.version == 6 {
		from = r.network + 8
	}
	return bytes.Equal(a[from:r.transport+4], b[from:r.transport+4])
}

// sameNetwork compares what else the IP header says: a merged packet can say it
// only once.
func (r *run) sameNetwork(a, b []byte) bool {
	a, b = a[r.network:], b[r.network:]
	if r.version == 6 {
		return bytes.Equal(a[:4], b[:4]) && a[7] == b[7] // class and label, hop limit
	}
	if a[1] != b[1] || a[6] != b[6] || a[8] != b[8] { // TOS with ECN, DF, TTL
		return false
	}
	// Segments of one packet have IDs that follow each other. Where nothing
	// may be fragmented the ID means nothing (RFC 6864, 4.1) and many hosts
	// send always the same.
	grown := binary.BigEndian.Uint16(b[4:]) - binary.BigEndian.Uint16(a[4:])
	if r.n > 1 {
		return grown == r.ids*uint16(r.n)
	}
	return grown == 1 || grown == 0 && a[6]&0x40 != 0
}

// header writes the virtio header and the merged packet's headers to b and
// returns their length, at most virtioSize + maxPlainHeader. The transport sum
// is that of the pseudo header: the rest is known to be right, and whoever
// sends the packet on completes it.
func (r *run) header(b, first []byte) int {
	v := virtioHeader{
		flags:      unix.VIRTIO_NET_HDR_F_NEEDS_CSUM,
		headerLen:  uint16(r.headers),
		gsoSize:    uint16(r.size),
		csumStart:  uint16(r.transport),
		csumOffset: 16,
	}
	p := b[virtioSize:]
	n := virtioSize + copy(p, first[:r.headers])
	ip, ipLength := p[r.network:], r.bytes-r.network
	if r.version == 4 {
		v.gsoType = unix.VIRTIO_NET_HDR_GSO_TCPV4
		binary.BigEndian.PutUint16(ip[2:], uint16(ipLength))
		store16(ip[10:], 0)
		store16(ip[10:], ^fold(sum(0, ip[:20])))
	} else {
		v.gsoType = unix.VIRTIO_NET_HDR_GSO_TCPV6
		binary.BigEndian.PutUint16(ip[4:], uint16(ipLength-40))
	}
	t, length := p[r.transport:], r.bytes-r.transport
	if r.udp {
		v.gsoType, v.csumOffset = unix.VIRTIO_NET_HDR_GSO_UDP_L4, 6
		binary.BigEndian.PutUint16(t[4:], uint16(length))
		store16(t[6:], fold(pseudo(ip, unix.IPPROTO_UDP, length)))
	} else {
		t[13] = r.flags
		if r.flags&tcpCWR != 0 {
			v.gsoType |= unix.VIRTIO_NET_HDR_GSO_ECN
		}
		store16(t[16:], fold(pseudo(ip, unix.IPPROTO_TCP, length)))
	}
	v.encode(b)
	return n
}
