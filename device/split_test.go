package device

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzSplitGivesWhatAHostWithoutOffloadsSends(f *testing.F) {
	f.Add(uint64(0))
	f.Fuzz(func(t *testing.T, seed uint64) {
		for i := range uint64(20) {
			checkSplit(t, randomStream(rand.New(rand.NewPCG(seed, i))))
		}
	})
}

func checkSplit(t *testing.T, s stream) {
	t.Helper()
	got, ok := splitAll(s.whole())
	want := s.packets()
	if !ok || len(got) != len(want) {
		t.Fatalf("taken %v, %d segments, want %d", ok, len(got), len(want))
	}
	for i := range got {
		if d := difference(got[i], want[i]); d != "" {
			t.Fatalf("segment %d of %d (TCP %v, IPv6 %v): %s", i, len(got), !s.udp, s.v6, d)
		}
	}
}

func TestExtensionHeadersAreRepeatedInEverySegment(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{8, 24, 64, 72, 128, 256, 400} {
		for _, udp := range []bool{false, true} {
			for _, size := range []int{7, 100, 1300} {
				checkSplit(t, stream{v6: true, udp: udp, extension: noise(r, n), options: make([]byte, 12),
					size: size, payload: noise(r, 20*size+3), flags: tcpACK | tcpPSH, ttl: 64})
			}
		}
	}
}

func TestPayloadIsLeftInPlace(t *testing.T) {
	s := stream{size: 1000, payload: noise(rand.New(rand.NewPCG(1, 1)), 10000), flags: tcpACK, ttl: 64, options: make([]byte, 12)}
	h, p := s.whole()
	var super superPacket
	if !super.begin(h, p, 0) {
		t.Fatal("not taken")
	}
	slot := make([]byte, longFirst)
	for i := 0; super.more(); i++ {
		first, rest := super.next(slot)
		if len(first) != firstSize || &first[0] != &slot[0] {
			t.Errorf("first part of %d bytes", len(first))
		}
		if at := 52 + i*1000 + firstSize - 52; &rest[0] != &p[at] {
			t.Errorf("rest of segment %d is not at %d", i, at)
		}
	}
	s.options = make([]byte, 40) // 80 bytes of headers
	h, p = s.whole()
	if !super.begin(h, p, 0) {
		t.Fatal("not taken")
	}
	if first, _ := super.next(slot); len(first) != longFirst {
		t.Errorf("first part of %d bytes for long headers", len(first))
	}
}

func TestZeroUDPSumIsWrittenAsAllOnes(t *testing.T) {
	s := stream{udp: true, size: 2, payload: make([]byte, 4), ttl: 64}
	// Choose the payload so that the sum comes out as zero.
	p := s.packets()[0]
	copy(s.payload, p[26:28])
	copy(s.payload[2:], p[26:28])
	got, ok := splitAll(s.whole())
	if !ok || binary.BigEndian.Uint16(got[0][26:]) != 0xffff {
		t.Errorf("sum is % x", got[0][26:28])
	}
	single := virtioHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, csumStart: 20, csumOffset: 6}
	s.payload = s.payload[:2]
	_, p = s.whole()
	if !single.complete(p) || binary.BigEndian.Uint16(p[26:]) != 0xffff {
		t.Errorf("sum of a single packet is % x", p[26:28])
	}
}

func TestUDPWithoutSumStaysWithout(t *testing.T) {
	s := stream{udp: true, size: 100, payload: make([]byte, 1000), ttl: 64}
	h, p := s.whole()
	h.flags, h.csumStart, h.csumOffset = 0, 0, 0
	p[26], p[27] = 0, 0
	segments, ok := splitAll(h, p)
	if !ok || len(segments) != 10 {
		t.Fatalf("%d segments", len(segments))
	}
	for _, p := range segments {
		if p[26] != 0 || p[27] != 0 {
			t.Errorf("sum is % x", p[26:28])
		}
	}
}

func TestSinglePartialSumIsCompleted(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		s := randomStream(r)
		s.size = len(s.payload)
		h, p := s.whole()
		h.gsoType = unix.VIRTIO_NET_HDR_GSO_NONE
		if !h.complete(p) {
			t.Fatal("refused")
		}
		if d := difference(p, s.packets()[0]); d != "" && !bytes.Contains(p, []byte{0xff, 0xff}) {
			t.Error(d)
		}
	}
}

func TestHeadersThatLieAreRefused(t *testing.T) {
	s := stream{size: 100, payload: make([]byte, 1000), flags: tcpACK, ttl: 64}
	s6 := s
	s6.v6 = true
	for name, spoil := range map[string]func(h *virtioHeader, p *[]byte){
		"no size":            func(h *virtioHeader, p *[]byte) { h.gsoSize = 0 },
		"UFO":                func(h *virtioHeader, p *[]byte) { h.gsoType = unix.VIRTIO_NET_HDR_GSO_UDP },
		"unknown type":       func(h *virtioHeader, p *[]byte) { h.gsoType = 7 },
		"other version":      func(h *virtioHeader, p *[]byte) { h.gsoType ^= 5 },
		"other protocol":     func(h *virtioHeader, p *[]byte) { h.gsoType = unix.VIRTIO_NET_HDR_GSO_UDP_L4 },
		"sum begins outside": func(h *virtioHeader, p *[]byte) { h.csumStart = 0xffff },
		"sum begins in IP":   func(h *virtioHeader, p *[]byte) { h.csumStart = 8 },
		"sum goes elsewhere": func(h *virtioHeader, p *[]byte) { h.csumOffset = 6 },
		"sum goes outside":   func(h *virtioHeader, p *[]byte) { h.csumOffset = 0xffff },
		"cut short":          func(h *virtioHeader, p *[]byte) { *p = (*p)[:500] },
		"almost nothing":     func(h *virtioHeader, p *[]byte) { *p = (*p)[:1] },
		"nothing":            func(h *virtioHeader, p *[]byte) { *p = nil },
		"data offset too large": func(h *virtioHeader, p *[]byte) {
			(*p)[h.csumStart+12] = 0xf0
			*p = (*p)[:h.csumStart+24]
			relength(*p)
		},
		"data offset too small":    func(h *virtioHeader, p *[]byte) { (*p)[h.csumStart+12] = 0x40 },
		"headers without payload":  func(h *virtioHeader, p *[]byte) { *p = (*p)[:h.csumStart+20]; relength(*p) },
		"neither IPv4 nor IPv6":    func(h *virtioHeader, p *[]byte) { (*p)[0] = 0x55 },
		"trailing bytes":           func(h *virtioHeader, p *[]byte) { *p = append(*p, 0) },
		"type without a transport": func(h *virtioHeader, p *[]byte) { *p = (*p)[:h.csumStart]; relength(*p) },
	} {
		for _, s := range []stream{s, s6} {
			h, p := s.whole()
			spoil(&h, &p)
			if _, ok := splitAll(h, p); ok {
				t.Errorf("%s (IPv6 %v): taken", name, s.v6)
			}
		}
	}
	h, p := s.whole()
	p[6] = 0x20 // MF
	if _, ok := splitAll(h, p); ok {
		t.Error("a fragment was taken")
	}
	h, p = s.whole()
	p[0] = 0x4f // options over the TCP header
	if _, ok := splitAll(h, p); ok {
		t.Error("a wrong IHL was taken")
	}
	s6.extension = make([]byte, 800)
	if _, ok := splitAll(s6.whole()); ok {
		t.Error("endless headers were taken")
	}
	for _, h := range []virtioHeader{{csumStart: 0xffff}, {csumStart: 1000, csumOffset: 0xffff}, {csumStart: 0, csumOffset: 99}, {csumStart: 99, csumOffset: 0}, {csumStart: 101}} {
		if h.complete(make([]byte, 100)) {
			t.Errorf("%+v was taken for 100 bytes", h)
		}
	}
}

// relength makes the IP header say how long p is.
func relength(p []byte) {
	if p[0]>>4 == 4 {
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	} else {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	}
}

func FuzzNoHeaderAndNoPacketDoesHarm(f *testing.F) {
	for _, s := range []stream{
		{size: 100, payload: make([]byte, 1000), flags: tcpACK, ttl: 64},
		{size: 100, payload: make([]byte, 1000), flags: tcpACK, ttl: 64, v6: true, extension: make([]byte, 200)},
		{size: 100, payload: make([]byte, 1000), udp: true, ttl: 64},
	} {
		h, p := s.whole()
		b := make([]byte, virtioSize)
		h.encode(b)
		f.Add(append(b, p...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxRead {
			return
		}
		q := &Queue{virtio: true, slots: make([]byte, maxTrain*longFirst)}
		q.take(bytes.Clone(b))
		total := 0
		for {
			q.first, q.rest, q.partial = q.first[:0], q.rest[:0], q.partial[:0]
			q.split()
			if len(q.first) == 0 {
				break
			}
			for i := range q.first {
				if q.partial[i] {
					q.Complete(q.first[i], q.rest[i])
				}
				p := join(q.first, q.rest, i)
				if len(p) > len(b) || total > len(b)*maxHeader {
					t.Fatalf("%d bytes became %d and more", len(b), total)
				}
				if h := decodeVirtio(b); h.gsoType != 0 && h.flags&1 == 0 || q.partial[i] {
					if s := shapeOf(p, 0, false); s.version != 0 && (q.partial[i] || s.udp == (h.gsoType&0x7f == 5)) && !s.verified(p, false) {
						t.Fatalf("a segment with wrong sums: % x", p)
					}
				}
				total += len(p)
			}
		}
	})
}

// BenchmarkSplit64K cuts a super-packet of 46 segments, which stay partial, are
// completed for somebody who does not trust, or can't be partial.
func BenchmarkSplit64K(b *testing.B) {
	s := stream{size: 1368, payload: make([]byte, 46*1368), flags: tcpACK, ttl: 64, options: make([]byte, 12)}
	for _, c := range []struct {
		name           string
		stay, complete bool
	}{{"partial", true, false}, {"completed", true, true}, {"complete", false, false}} {
		b.Run(c.name, func(b *testing.B) {
			h, p := s.whole()
			if !c.stay {
				h.flags = 0 // the sum of the super-packet is right, as of one that the kernel merged
			}
			slot := make([]byte, longFirst)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			var super superPacket
			q := new(Queue)
			for b.Loop() {
				if !super.begin(h, p, 0) || super.partial != c.stay {
					b.Fatal("not taken, or not as what it is")
				}
				for super.more() {
					first, rest := super.next(slot)
					if c.complete {
						q.Complete(first, rest)
					}
				}
			}
		})
	}
}
