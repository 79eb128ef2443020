package device

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// stream is what an application sent: one flow's consecutive bytes, and how
// the host puts them into packets.
type stream struct {
	v6, udp    bool
	options    []byte // TCP's, a multiple of 4; for UDP ignored
	extension  []byte // IPv6 destination options header, a multiple of 8
	payload    []byte
	size       int // payload bytes per packet
	flags      byte
	id         uint16
	seq        uint32
	flowLabel  uint32
	tos, ttl   byte
	dontMangle bool // DF
}

// packets builds what a host without offloads sends, one byte at a time and
// with the sums of RFC 1071.
func (s stream) packets() (packets [][]byte) {
	for at := 0; at < len(s.payload); at += s.size {
		end := min(at+s.size, len(s.payload))
		flags := s.flags
		if end < len(s.payload) {
			flags &^= tcpFIN | tcpPSH
		}
		if at > 0 {
			flags &^= tcpCWR
		}
		p, transport := s.build(s.payload[at:end], uint16(len(packets)), uint32(at), flags)
		seal(p, transport, s.udp, true)
		packets = append(packets, p)
	}
	return packets
}

// whole builds the super-packet and header that the kernel gives for the same.
func (s stream) whole() (virtioHeader, []byte) {
	p, transport := s.build(s.payload, 0, 0, s.flags)
	seal(p, transport, s.udp, false)
	h := virtioHeader{
		flags:      unix.VIRTIO_NET_HDR_F_NEEDS_CSUM,
		headerLen:  uint16(len(p) - len(s.payload)),
		gsoSize:    uint16(s.size),
		csumStart:  uint16(transport),
		csumOffset: 16,
		gsoType:    unix.VIRTIO_NET_HDR_GSO_TCPV4,
	}
	if s.v6 {
		h.gsoType = unix.VIRTIO_NET_HDR_GSO_TCPV6
	}
	if s.udp {
		h.gsoType, h.csumOffset = unix.VIRTIO_NET_HDR_GSO_UDP_L4, 6
	} else if s.flags&tcpCWR != 0 {
		h.gsoType |= unix.VIRTIO_NET_HDR_GSO_ECN
	}
	return h, p
}

func (s stream) build(payload []byte, index uint16, at uint32, flags byte) (p []byte, transport int) {
	protocol := byte(unix.IPPROTO_TCP)
	var t []byte
	if s.udp {
		protocol = unix.IPPROTO_UDP
		t = []byte{0x30, 0x39, 0x00, 0x07, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(t[4:], uint16(8+len(payload)))
	} else {
		t = append([]byte{0x30, 0x39, 0x00, 0x50, 0, 0, 0, 0, 9, 8, 7, 6, byte(20+len(s.options)) << 2, flags, 0x12, 0x34, 0, 0, 0, 0}, s.options...)
		binary.BigEndian.PutUint32(t[4:], s.seq+at)
	}
	if s.v6 {
		p = make([]byte, 40)
		binary.BigEndian.PutUint32(p, 6<<28|uint32(s.tos)<<20|s.flowLabel&0xfffff)
		binary.BigEndian.PutUint16(p[4:], uint16(len(s.extension)+len(t)+len(payload)))
		p[6], p[7] = protocol, s.ttl
		copy(p[8:], "\xfd0123456789abcde\xfdfedcba987654321")
		if len(s.extension) > 0 {
			p[6] = unix.IPPROTO_DSTOPTS
			p = append(p, s.extension...)
			p[40], p[41] = protocol, byte(len(s.extension)/8-1)
		}
	} else {
		p = []byte{0x45, s.tos, 0, 0, 0, 0, 0, 0, s.ttl, protocol, 0, 0, 10, 9, 8, 2, 10, 9, 8, 1}
		binary.BigEndian.PutUint16(p[2:], uint16(20+len(t)+len(payload)))
		binary.BigEndian.PutUint16(p[4:], s.id+index)
		if s.dontMangle {
			p[6] = 0x40
		}
	}
	transport = len(p)
	return append(append(p, t...), payload...), transport
}

// seal writes the sums: whole or, as offload has it, that of the pseudo header.
func seal(p []byte, transport int, udp, whole bool) {
	pseudoHeader := make([]byte, 40)
	n := copy(pseudoHeader, p[12:20])
	protocol, field := byte(unix.IPPROTO_TCP), transport+16
	if udp {
		protocol, field = unix.IPPROTO_UDP, transport+6
	}
	if p[0]>>4 == 6 {
		n = copy(pseudoHeader, p[8:40])
	} else {
		binary.BigEndian.PutUint16(p[10:], 0)
		binary.BigEndian.PutUint16(p[10:], ^plainSum(p[:20]))
	}
	binary.BigEndian.PutUint32(pseudoHeader[n:], uint32(len(p)-transport))
	pseudoHeader[n+7] = protocol
	pseudoHeader = pseudoHeader[:n+8]
	if !whole {
		binary.BigEndian.PutUint16(p[field:], plainSum(pseudoHeader))
		return
	}
	binary.BigEndian.PutUint16(p[field:], 0)
	v := ^plainSum(append(pseudoHeader, p[transport:]...))
	if v == 0 && udp {
		v = 0xffff
	}
	binary.BigEndian.PutUint16(p[field:], v)
}

// randomStream makes a stream of any kind that a host may send.
func randomStream(r *rand.Rand) stream {
	s := stream{
		v6:         r.IntN(2) == 0,
		udp:        r.IntN(2) == 0,
		flags:      tcpACK | byte(r.IntN(256))&(tcpFIN|tcpPSH|tcpECE|tcpCWR),
		id:         uint16(r.Uint32()),
		seq:        r.Uint32(),
		flowLabel:  r.Uint32(),
		tos:        byte(r.Uint32()),
		ttl:        byte(1 + r.IntN(255)),
		dontMangle: r.IntN(2) == 0,
	}
	if !s.udp {
		s.options = noise(r, 4*r.IntN(11))
	}
	s.size = 1 + r.IntN([]int{8, 100, 1500, 9000}[r.IntN(4)])
	s.payload = noise(r, min(1+r.IntN(s.size*maxSegments), maxMerged-120))
	if r.IntN(8) == 0 {
		clear(s.payload) // sums of zeros and ones
	}
	return s
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// splitAll cuts a super-packet as a queue does and returns its segments whole
// and, if they were partial, completed.
func splitAll(h virtioHeader, packet []byte) (segments [][]byte, ok bool) {
	var s superPacket
	if !s.begin(h, bytes.Clone(packet), 0) {
		return nil, false
	}
	slot := make([]byte, longFirst)
	for s.more() {
		first, rest := s.next(slot)
		if s.partial {
			new(Queue).Complete(first, rest)
		}
		segments = append(segments, append(bytes.Clone(first), rest...))
	}
	return segments, true
}

// mergeAll merges a train of complete packets as a queue does and returns what
// it would write.
func mergeAll(packets [][]byte) (headers []virtioHeader, merged [][]byte) {
	return mergeSome(packets, make([]bool, len(packets)))
}

// mergeSome is mergeAll of packets of which some may be partial. Those that
// can't be are left out.
func mergeSome(packets [][]byte, partial []bool) (headers []virtioHeader, merged [][]byte) {
	return mergeBy(packetQueue(), packets, partial)
}

func mergeBy(q *Queue, packets [][]byte, partial []bool) (headers []virtioHeader, merged [][]byte) {
	b := make([]byte, virtioSize+maxPlainHeader)
	for len(packets) > 0 {
		r := q.runOf(packets, partial)
		if r.n == 1 {
			if h, err := q.single(packets[0], r.partial); err == nil {
				headers, merged = append(headers, h), append(merged, packets[0])
			}
		} else {
			n := r.header(b, packets[0])
			p := bytes.Clone(b[virtioSize:n])
			for _, q := range packets[:r.n] {
				p = append(p, q[r.shape.headers:]...)
			}
			headers, merged = append(headers, decodeVirtio(b)), append(merged, p)
		}
		packets, partial = packets[r.n:], partial[r.n:]
	}
	return headers, merged
}

// difference says where two packets differ, "" for nowhere.
func difference(got, want []byte) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %#02x, want %#02x, in\n% x, want\n% x", i, got[i], want[i], got[:min(len(got), 120)], want[:min(len(want), 120)])
		}
	}
	return ""
}
