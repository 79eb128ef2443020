package device

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// single is a stream's payload in one packet, as the kernel gives it: with the
// sum of the pseudo header in its place, and its header.
func (s stream) single() (virtioHeader, []byte) {
	s.size = len(s.payload)
	h, p := s.whole()
	h.gsoType, h.gsoSize, h.headerLen = unix.VIRTIO_NET_HDR_GSO_NONE, 0, 0
	return h, p
}

// sent is the same as a host without offloads sends it.
func (s stream) sent() []byte {
	s.size = len(s.payload)
	return s.packets()[0]
}

// take gives a queue one packet as if read, and returns it or its first segment
// whole.
func take(h virtioHeader, p []byte) (got []byte, partial bool, q *Queue) {
	q = &Queue{virtio: true, slots: make([]byte, maxTrain*longFirst)}
	b := make([]byte, virtioSize+len(p))
	h.encode(b)
	copy(b[virtioSize:], p)
	q.take(b)
	q.split()
	if len(q.first) == 0 {
		return nil, false, q
	}
	return join(q.first, q.rest, 0), q.partial[0], q
}

// kinds are a packet of each kind that may be partial.
func kinds() map[string]stream {
	s := stream{payload: noise(rand.New(rand.NewPCG(7, 7)), 301), flags: tcpACK | tcpPSH, ttl: 64, id: 9, seq: 5, options: []byte{1, 1, 1, 1}}
	m := make(map[string]stream)
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			s.v6, s.udp = v6, udp
			m[fmt.Sprintf("IPv6 %v, UDP %v", v6, udp)] = s
		}
	}
	return m
}

func TestWhatTheKernelLeavesStaysPartialAndIsCompletedToWhatAHostSends(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 2000 {
		s := randomStream(r)
		s.payload = s.payload[:min(len(s.payload), 9000)]
		h, p := s.single()
		got, partial, q := take(h, p)
		if !partial || !bytes.Equal(got, p) {
			t.Fatalf("partial %v: % x, want % x", partial, got, p)
		}
		q.Complete(q.first[0], q.rest[0])
		if d := difference(join(q.first, q.rest, 0), s.sent()); d != "" {
			t.Fatalf("TCP %v, IPv6 %v: %s", !s.udp, s.v6, d)
		}
		// And what is in the field means nothing.
		store16(got[len(p)-len(s.payload)-fieldFromEnd(s):], uint16(r.Uint32()))
		new(Queue).Complete(got[:min(len(got), firstSize)], got[min(len(got), firstSize):])
		if d := difference(got, s.sent()); d != "" {
			t.Fatalf("after garbage in the field: %s", d)
		}
	}
}

// fieldFromEnd is how far before the payload the checksum lies.
func fieldFromEnd(s stream) int {
	if s.udp {
		return 2
	}
	return 4 + len(s.options)
}

func TestEmptyPacketsMayBePartial(t *testing.T) {
	for name, s := range kinds() {
		s.payload = []byte{1}
		h, p := s.single()
		p = p[:len(p)-1]
		relength(p)
		if s.udp {
			binary.BigEndian.PutUint16(p[len(p)-4:], 8)
		}
		seal(p, int(h.csumStart), s.udp, false)
		got, partial, q := take(h, p)
		if !partial {
			t.Fatalf("%s: not partial: % x", name, got)
		}
		q.Complete(q.first[0], q.rest[0])
		want := bytes.Clone(p)
		seal(want, int(h.csumStart), s.udp, true)
		if d := difference(join(q.first, q.rest, 0), want); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// Whatever is no TCP or UDP packet of the plainest kind is completed when it is
// read, where the header says; and a header that can't be true costs the packet.
func TestEverythingElseIsCompletedAtOnce(t *testing.T) {
	const (
		stays = iota
		completed
		unchanged
		dropped
	)
	for _, c := range []struct {
		name  string
		only  string // "4", "6", "tcp", "udp"; "": all four kinds
		spoil func(h *virtioHeader, p *[]byte)
		want  int
	}{
		{"nothing is wrong", "", func(*virtioHeader, *[]byte) {}, stays},
		{"DF", "4", func(_ *virtioHeader, p *[]byte) { (*p)[6] = 0x40 }, stays},
		{"other flags of the virtio header", "", func(h *virtioHeader, _ *[]byte) { h.flags |= 2 }, stays},
		{"a header length that lies", "", func(h *virtioHeader, _ *[]byte) { h.headerLen = 0xffff }, stays},
		{"the sum is there", "", func(h *virtioHeader, _ *[]byte) { h.flags = 0 }, unchanged},
		{"the sum is known to be right", "", func(h *virtioHeader, _ *[]byte) { h.flags = 2 }, unchanged},
		{"a sum further in", "", func(h *virtioHeader, _ *[]byte) { h.csumStart += 50 }, completed},
		{"a sum of the IP header too", "", func(h *virtioHeader, _ *[]byte) { h.csumStart -= 20; h.csumOffset += 20 }, completed},
		{"a sum elsewhere", "", func(h *virtioHeader, _ *[]byte) { h.csumOffset += 2 }, completed},
		{"the other protocol's sum", "", func(h *virtioHeader, _ *[]byte) { h.csumOffset = 22 - h.csumOffset }, completed},
		{"a sum behind the packet", "", func(h *virtioHeader, _ *[]byte) { h.csumOffset = 0xffff }, dropped},
		{"a sum that begins behind the packet", "", func(h *virtioHeader, _ *[]byte) { h.csumStart = 0xffff }, dropped},
		{"more of it than a sum of the pseudo header", "", func(h *virtioHeader, p *[]byte) { (*p)[h.csumStart+h.csumOffset] ^= 1 }, completed},
		{"IHL 6", "4", func(_ *virtioHeader, p *[]byte) { (*p)[0] = 0x46 }, completed},
		{"IHL 4", "4", func(_ *virtioHeader, p *[]byte) { (*p)[0] = 0x44 }, completed},
		{"MF", "4", func(_ *virtioHeader, p *[]byte) { (*p)[6] = 0x20 }, completed},
		{"a fragment", "4", func(_ *virtioHeader, p *[]byte) { (*p)[7] = 1 }, completed},
		{"a fragment far behind", "4", func(_ *virtioHeader, p *[]byte) { (*p)[6] = 0x10 }, completed},
		{"version 5", "4", func(_ *virtioHeader, p *[]byte) { (*p)[0] = 0x55 }, completed},
		{"version 4 of a longer header", "6", func(_ *virtioHeader, p *[]byte) { (*p)[0] = 0x45 }, completed},
		{"a trailer", "", func(_ *virtioHeader, p *[]byte) { *p = append(*p, 1, 2, 3) }, completed},
		{"a byte less than it says", "", func(_ *virtioHeader, p *[]byte) { *p = (*p)[:len(*p)-1] }, completed},
		{"a UDP length that lies", "udp", func(h *virtioHeader, p *[]byte) { (*p)[h.csumStart+5]-- }, completed},
		{"an IP length that lies, and UDP's with it", "udp", func(h *virtioHeader, p *[]byte) { (*p)[h.csumStart+5]--; relengthBy(*p, -1) }, completed},
		{"IPIP", "4", func(_ *virtioHeader, p *[]byte) { (*p)[9] = unix.IPPROTO_IPIP }, completed},
		{"GRE", "4", func(_ *virtioHeader, p *[]byte) { (*p)[9] = unix.IPPROTO_GRE }, completed},
		{"UDP-Lite", "", func(_ *virtioHeader, p *[]byte) { (*p)[9-3*int((*p)[0]>>4-4)/2] = unix.IPPROTO_UDPLITE }, completed},
		{"hop-by-hop options", "6", func(_ *virtioHeader, p *[]byte) { (*p)[6] = 0 }, completed},
		{"a fragment header", "6", func(_ *virtioHeader, p *[]byte) { (*p)[6] = unix.IPPROTO_FRAGMENT }, completed},
		{"to a DHCP server", "udp", func(h *virtioHeader, p *[]byte) { binary.BigEndian.PutUint16((*p)[h.csumStart+2:], 67) }, completed},
		{"to a DHCP client", "udp", func(h *virtioHeader, p *[]byte) { binary.BigEndian.PutUint16((*p)[h.csumStart+2:], 68) }, completed},
		{"from a DHCP server", "udp", func(h *virtioHeader, p *[]byte) { binary.BigEndian.PutUint16((*p)[h.csumStart:], 67) }, stays},
		{"port 67 of TCP", "tcp", func(h *virtioHeader, p *[]byte) { binary.BigEndian.PutUint16((*p)[h.csumStart+2:], 67) }, stays},
		{"a TCP header cut short", "tcp", func(h *virtioHeader, p *[]byte) {
			*p = (*p)[:h.csumStart+19]
			relength(*p)
			seal(*p, int(h.csumStart), false, false)
		}, completed},
	} {
		for name, s := range kinds() {
			if c.only == "4" && s.v6 || c.only == "6" && !s.v6 || c.only == "tcp" && s.udp || c.only == "udp" && !s.udp {
				continue
			}
			h, p := s.single()
			c.spoil(&h, &p)
			want := bytes.Clone(p)
			if c.want == completed {
				// Word by word from where the header says.
				store16BE(want[h.csumStart+h.csumOffset:], ^plainSum(want[h.csumStart:]))
			}
			got, partial, q := take(h, p)
			switch {
			case c.want == dropped:
				if got != nil || q.drops.header.Load() != 1 {
					t.Errorf("%s (%s): % x, drops %d", c.name, name, got, q.drops.header.Load())
				}
			case partial != (c.want == stays) || !bytes.Equal(got, want):
				t.Errorf("%s (%s): partial %v, % x, want % x", c.name, name, partial, got, want)
			}
		}
	}
}

func store16BE(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }

// relengthBy adds n to what the IP header says.
func relengthBy(p []byte, n int) {
	at := 2
	if p[0]>>4 == 6 {
		at = 4
	}
	binary.BigEndian.PutUint16(p[at:], uint16(int(binary.BigEndian.Uint16(p[at:]))+n))
}

// A damaged packet that is to be completed comes out damaged.
func TestABadBeginningOfASumIsNotMadeGood(t *testing.T) {
	for name, s := range kinds() {
		for _, gso := range []bool{false, true} {
			h, p := s.single()
			if gso {
				s.size = 100
				h, p = s.whole()
			}
			p[h.csumStart+h.csumOffset] ^= 0x40
			got, partial, _ := take(h, p)
			if shape := shapeOf(got, 0, false); partial || shape.version == 0 || shape.verified(got, false) {
				t.Errorf("%s, GSO %v: partial %v, and the sum is right", name, gso, partial)
			}
		}
	}
}

func TestSegmentsArePartialAsTheirSuperPacketIs(t *testing.T) {
	for name, s := range kinds() {
		s.size = 100
		for _, extension := range [][]byte{nil, make([]byte, 8)} {
			if extension != nil && !s.v6 {
				continue
			}
			s.extension = extension
			h, p := s.whole()
			_, _, q := take(h, p)
			if len(q.first) != 4 || len(q.partial) != 4 {
				t.Fatalf("%s: %d segments, %d flags", name, len(q.first), len(q.partial))
			}
			want := s.packets()
			for i, partial := range q.partial {
				if partial != (extension == nil) {
					t.Errorf("%s, extension header %v: segment %d partial %v", name, extension != nil, i, partial)
				}
				if partial {
					q.Complete(q.first[i], q.rest[i])
				}
				if d := difference(join(q.first, q.rest, i), want[i]); d != "" {
					t.Errorf("%s, segment %d: %s", name, i, d)
				}
			}
		}
	}
}

func TestPayloadOfAPartialSuperPacketIsNotRead(t *testing.T) {
	// Nothing but the headers is there: reading on would fault.
	page := os.Getpagesize()
	memory, err := unix.Mmap(-1, 0, 18*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	defer func() { must(t, unix.Munmap(memory)) }()
	for name, s := range kinds() {
		must(t, unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE))
		s.size, s.payload = 1300, make([]byte, 1300*40)
		h, p := s.whole()
		// The headers and the first segments' first parts end where the page does.
		packet := memory[page-200:][:len(p)]
		copy(packet, p)
		must(t, unix.Mprotect(memory[page:], unix.PROT_NONE))
		var super superPacket
		if !super.begin(h, packet, 0) || !super.partial {
			t.Fatalf("%s: not taken as partial", name)
		}
		for super.more() {
			super.finish(make([]byte, len(super.template)), packet[super.at:min(super.at+super.size, len(packet))])
			super.at += super.size
			super.index++
		}
	}
}

// written is what a queue hands to the kernel: each header with its packet.
type written struct {
	h virtioHeader
	p []byte
}

// capture makes a queue whose writes are kept.
func capture(t *testing.T, virtio, wanted bool) (q *Queue, wrote *[]written) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	q = newQueue(os.NewFile(uintptr(fds[0]), "fake"), virtio, wanted, offloadTCP|offloadUDP)
	t.Cleanup(func() {
		must(t, q.Close())
		must(t, unix.Close(fds[1]))
	})
	wrote = new([]written)
	q.writev = func(_ uintptr, v []unix.Iovec) unix.Errno {
		var all []byte
		for _, part := range v {
			all = append(all, bytesOf(part)...)
		}
		*wrote = append(*wrote, written{decodeVirtio(all), all[virtioSize:]})
		return 0
	}
	if !virtio {
		// A packet goes by write(2), and comes out of the pair's other end.
		drain := func() {
			b := make([]byte, maxPacket)
			for {
				n, err := unix.Read(fds[1], b)
				if err != nil || n == 0 {
					return
				}
				*wrote = append(*wrote, written{p: bytes.Clone(b[:n])})
			}
		}
		must(t, unix.SetNonblock(fds[1], true))
		pour := q.pour
		q.pour = func(fd uintptr) bool { defer drain(); return pour(fd) }
	}
	return q, wrote
}

func TestAPartialPacketIsWrittenWithItsSumBegun(t *testing.T) {
	for name, s := range kinds() {
		h, want := s.single()
		for _, c := range []struct{ virtio, wanted bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
			q, wrote := capture(t, c.virtio, c.wanted)
			p := bytes.Clone(want)
			copy(p[h.csumStart+h.csumOffset:], "xx") // means nothing
			other := s.sent()
			must(t, q.Write([][]byte{p, other}, []bool{true, false}))
			if len(*wrote) != 2 {
				t.Fatalf("%s: %d packets written", name, len(*wrote))
			}
			first, second := (*wrote)[0], (*wrote)[1]
			if !c.virtio || !c.wanted {
				h, want = virtioHeader{}, s.sent() // completed
			}
			if first.h != h {
				t.Errorf("%s, %+v: header %+v, want %+v", name, c, first.h, h)
			}
			if d := difference(first.p, want); d != "" {
				t.Errorf("%s, %+v: %s", name, c, d)
			}
			if second.h != (virtioHeader{}) || !bytes.Equal(second.p, other) {
				t.Errorf("%s, %+v: the complete packet was written with %+v", name, c, second.h)
			}
			h, want = s.single()
		}
	}
}

func TestPartialPacketsThatCannotBeAreDroppedAndCounted(t *testing.T) {
	for _, c := range []struct{ virtio, wanted bool }{{true, true}, {true, false}, {false, false}} {
		for name, s := range kinds() {
			_, good := s.single()
			var bad [][]byte
			for n := range good {
				bad = append(bad, good[:n:n]) // cut short
			}
			bad = append(bad, append(bytes.Clone(good), 0))
			change := func(at int, v byte) {
				p := bytes.Clone(good)
				p[at] = v
				bad = append(bad, p)
			}
			for v := range 16 {
				if v != int(good[0]>>4) {
					change(0, byte(v<<4)|good[0]&15)
				}
			}
			if s.v6 {
				change(6, unix.IPPROTO_DSTOPTS)
				change(6, unix.IPPROTO_FRAGMENT)
				change(6, unix.IPPROTO_ICMPV6)
				change(5, good[5]+1)
			} else {
				for ihl := range 16 {
					if ihl != 5 {
						change(0, 0x40|byte(ihl))
					}
				}
				change(6, 0x20)
				change(6, 0x10)
				change(7, 1)
				change(9, unix.IPPROTO_IPIP)
				change(9, unix.IPPROTO_GRE)
				change(9, unix.IPPROTO_ICMP)
				change(3, good[3]-1)
			}
			if s.udp {
				at := len(good) - len(s.payload) - 3
				change(at, good[at]-1)
				change(at, good[at]+1)
			}
			q, wrote := capture(t, c.virtio, c.wanted)
			partial := make([]bool, len(bad))
			for i := range partial {
				partial[i] = true
			}
			must(t, q.Write(bad, partial))
			if len(*wrote) != 0 || q.Drops()["bad_partial"] != uint64(len(bad)) {
				t.Errorf("%s, %+v: %d packets written, drops %v, want %d", name, c, len(*wrote), q.Drops(), len(bad))
			}
		}
	}
}
