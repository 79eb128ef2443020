package device

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// frontOf makes what is in front of an IP packet in a frame: addresses, tags and
// EtherType.
func frontOf(r *rand.Rand, v6 bool, tags ...uint16) []byte {
	front := noise(r, frameAddresses)
	for _, kind := range tags {
		front = binary.BigEndian.AppendUint16(front, kind)
		front = binary.BigEndian.AppendUint16(front, uint16(r.Uint32()))
	}
	if v6 {
		return binary.BigEndian.AppendUint16(front, unix.ETH_P_IPV6)
	}
	return binary.BigEndian.AppendUint16(front, unix.ETH_P_IP)
}

// tagsOf are the kinds of tags that a frame may have and be looked into.
var tagsOf = [][]uint16{nil, {unix.ETH_P_8021Q}, {unix.ETH_P_8021AD, unix.ETH_P_8021Q}}

func randomFront(r *rand.Rand, v6 bool) []byte { return frontOf(r, v6, tagsOf[r.IntN(3)]...) }

// inFrame is a packet in a frame, and its header, which counts from the frame's
// begin.
func inFrame(front []byte, h virtioHeader, p []byte) (virtioHeader, []byte) {
	if h.partial() {
		h.csumStart += uint16(len(front))
	}
	if h.gsoType != 0 {
		h.headerLen += uint16(len(front))
	}
	return h, slices.Concat(front, p)
}

func inFrames(front []byte, packets [][]byte) (frames [][]byte) {
	for _, p := range packets {
		frames = append(frames, slices.Concat(front, p))
	}
	return frames
}

// tapQueue is a queue of frames, without descriptor.
func tapQueue() *Queue {
	return &Queue{ethernet: true, virtio: true, wanted: true, mergeTCP: true, mergeUDP: true, slots: make([]byte, maxTrain*longFirst)}
}

// takeFrames gives a queue one frame as if read, uses the room in front of each
// that comes of it as its caller may, completes those that are partial, and
// returns them whole.
func takeFrames(t testing.TB, q *Queue, h virtioHeader, frame []byte) (frames [][]byte, partial []bool) {
	t.Helper()
	b := make([]byte, virtioSize, virtioSize+len(frame))
	h.encode(b)
	q.first, q.rest, q.partial = q.first[:0], q.rest[:0], q.partial[:0]
	q.take(append(b, frame...))
	for {
		q.split()
		if len(q.first) == 0 {
			return frames, partial
		}
		for i := range q.first {
			if n := len(q.first[i]); n < FrameRoom || len(q.rest[i]) > 0 && n != firstSize && n != longFirst {
				t.Fatalf("a first part of %d bytes, with %d behind it", n, len(q.rest[i]))
			}
			copy(q.first[i], "\x02\xff\xff\xff")
			if q.partial[i] {
				q.Complete(q.first[i], q.rest[i])
			}
			frames = append(frames, join(q.first, q.rest, i)[FrameRoom:])
		}
		partial = append(partial, q.partial...)
		q.first, q.rest, q.partial = q.first[:0], q.rest[:0], q.partial[:0]
	}
}

func FuzzFramesAreSplitAndMergedAsTheirPackets(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		for i := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, i))
			s := randomStream(r)
			checkFrames(t, s, randomFront(r, s.v6))
		}
	})
}

func checkFrames(t *testing.T, s stream, front []byte) {
	t.Helper()
	s.payload = s.payload[:min(len(s.payload), maxMerged-maxPlainHeader)]
	h, super := s.whole()
	h, super = inFrame(front, h, super)
	got, partial := takeFrames(t, tapQueue(), h, super)
	want := inFrames(front, s.packets())
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range got {
		if d := difference(got[i], want[i]); d != "" {
			t.Fatalf("frame %d of %d (TCP %v, IPv6 %v, %d bytes in front): %s", i, len(got), !s.udp, s.v6, len(front), d)
		}
		if partial[i] != (s.extension == nil) {
			t.Fatalf("frame %d: partial %v", i, partial[i])
		}
	}
	if s.extension == nil || len(got) == 1 {
		carriedFrames.checkMergedTo(t, got, h, super)
	} else if _, merged := mergeBy(tapQueue(), got, make([]bool, len(got))); len(merged) != len(got) {
		t.Errorf("%d frames with extension headers became %d", len(got), len(merged))
	}
}

func TestFramesWithLongHeadersAreSplit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, tags := range tagsOf {
		for _, n := range []int{8, 24, 64, 72, 128, 256, 400} {
			for _, udp := range []bool{false, true} {
				for _, size := range []int{7, 100, 1300} {
					checkFrames(t, stream{v6: true, udp: udp, extension: noise(r, n), options: make([]byte, 12),
						size: size, payload: noise(r, 20*size+3), flags: tcpACK | tcpPSH, ttl: 64}, frontOf(r, true, tags...))
				}
			}
		}
		for options := 0; options <= 40; options += 4 {
			for _, v6 := range []bool{false, true} {
				checkFrames(t, stream{v6: v6, options: make([]byte, options), size: 500, payload: noise(r, 5001), flags: tcpACK, ttl: 64},
					frontOf(r, v6, tags...))
			}
		}
	}
}

// FuzzMergedFramesAreWhatASplitGivesBack damages and shuffles frames of which
// some are partial. What is merged, split again and completed must be the very
// same frames in the same order, those left out that can't be partial.
func FuzzMergedFramesAreWhatASplitGivesBack(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		for i := range uint64(5) {
			checkDamagedFrames(t, rand.New(rand.NewPCG(seed, i)))
		}
	})
}

func checkDamagedFrames(t *testing.T, r *rand.Rand) {
	var train [][]byte
	for range 1 + r.IntN(4) {
		s := randomStream(r)
		packets := s.packets()
		for range r.IntN(4) {
			packets = damage(r, packets)
		}
		train = append(train, inFrames(randomFront(r, s.v6), packets)...)
	}
	for range r.IntN(6) {
		train = damageFrame(r, train)
	}
	partial, want := carriedFrames.marked(r, train)
	carriedFrames.checkRoundTrip(t, train, partial, want)
}

// damageFrame changes one thing of a train of frames.
func damageFrame(r *rand.Rand, train [][]byte) [][]byte {
	if len(train) == 0 {
		return train
	}
	i, j := r.IntN(len(train)), r.IntN(len(train))
	p := bytes.Clone(train[i])
	switch r.IntN(5) {
	case 0: // in Ethernet's header
		if n := min(len(p), maxFrameHeader); n > 0 {
			p[r.IntN(n)] ^= 1 << r.IntN(8)
		}
	case 1: // padding, as a short frame has
		p = append(p, make([]byte, 1+r.IntN(46))...)
	case 2:
		p = p[:r.IntN(len(p)+1)]
	case 3:
		train[i], train[j] = train[j], train[i]
		return train
	case 4: // one tag more, or in
		at := min(frameAddresses, len(p))
		p = slices.Concat(p[:at], []byte{0x81, 0, 0, byte(r.IntN(4))}, p[at:])
	}
	train[i] = p
	return train
}

// plainNetwork says once more, from the text of the rule, where the IP packet in
// a frame begins; its end for nowhere.
func plainNetwork(frame []byte) int {
	for _, front := range []int{14, 18, 22} {
		if len(frame) <= front {
			break
		}
		tags, kind := frame[12:front-2], string(frame[front-2:front])
		ok := true
		for i := 0; i < len(tags); i += 4 {
			tag := string(tags[i : i+2])
			ok = ok && (tag == "\x81\x00" || tag == "\x88\xa8")
		}
		if ok && (kind == "\x08\x00" && frame[front]>>4 == 4 || kind == "\x86\xdd" && frame[front]>>4 == 6) {
			return front
		}
	}
	return len(frame)
}

func FuzzAFrameIsPartialByTheRuleOrNotAtAll(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, s := range kinds() {
		for _, tags := range tagsOf {
			h, p := s.single()
			h, p = inFrame(frontOf(r, s.v6, tags...), h, p)
			b := make([]byte, virtioSize)
			h.encode(b)
			f.Add(append(b, p...))
			h, p = s.whole()
			h, p = inFrame(frontOf(r, s.v6, tags...), h, p)
			h.encode(b)
			f.Add(append(b, p...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= virtioSize || len(b) > maxRead {
			return
		}
		h, p := decodeVirtio(b), b[virtioSize:]
		network := plainNetwork(p)
		if got := networkOffset(p, 0); got != network {
			t.Fatalf("the IP header is at %d, want %d: % x", got, network, p[:min(len(p), 30)])
		}

		// Read, whatever the header says: what comes of one frame is bounded, and
		// what is partial can be completed.
		q := tapQueue()
		frames, partial := takeFrames(t, q, h, p)
		total := 0
		for i, frame := range frames {
			total += len(frame)
			if len(frame) > len(p) || total > len(b)*maxHeader {
				t.Fatalf("%d bytes became %d and more", len(b), total)
			}
			if !partial[i] {
				continue
			}
			ip := bytes.Clone(frame[plainNetwork(frame):])
			start, field, ok := plainRule(ip)
			if !ok {
				t.Fatalf("a frame is partial that can't be: % x", frame)
			}
			if plainComplete(ip, start, field); !bytes.HasSuffix(frame, ip) {
				t.Fatalf("a partial frame was completed to one with a wrong sum: % x", frame)
			}
		}
		if want := readsPartial(h, p, network); h.gsoType == 0 && len(frames) == 1 && partial[0] != want {
			t.Fatalf("read: partial %v, want %v: %+v, % x", partial[0], want, h, p)
		}
		checkPartialWrite(t, tapQueue(), p, network)
	})
}

// What else is in frames than TCP and UDP of the plainest kind goes out as it
// came, completed where the kernel says.
func TestOtherFramesPassUnchangedAndUnmerged(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	tcp := stream{size: 100, payload: noise(r, 400), flags: tcpACK, ttl: 64}
	ip := func(tags ...uint16) []byte { return frontOf(r, false, tags...) }
	for name, front := range map[string][]byte{
		"ARP":                          append(ip()[:12], 0x08, 0x06),
		"IPv6's EtherType before IPv4": append(ip()[:12], 0x86, 0xdd),
		"a length (802.3)":             append(ip()[:12], 0x00, 0x64),
		"three tags":                   ip(unix.ETH_P_8021AD, unix.ETH_P_8021Q, unix.ETH_P_8021Q),
		"a tag of old QinQ":            ip(unix.ETH_P_QINQ1),
	} {
		train := inFrames(front, tcp.packets())
		headers, merged := mergeBy(tapQueue(), train, make([]bool, len(train)))
		if len(merged) != len(train) || headers[0] != (virtioHeader{}) || !bytes.Equal(merged[1], train[1]) {
			t.Errorf("%s: %d frames of %d", name, len(merged), len(train))
		}
		h, p := tcp.single()
		h, p = inFrame(front, h, p)
		got, partial := takeFrames(t, tapQueue(), h, p)
		want := bytes.Clone(p)
		store16BE(want[h.csumStart+h.csumOffset:], ^plainSum(want[h.csumStart:]))
		if len(got) != 1 || partial[0] || !bytes.Equal(got[0], want) {
			t.Errorf("%s: a frame to complete became %d, partial %v", name, len(got), partial)
		}
	}
	for _, n := range []int{1, 6, 46} {
		train := inFrames(ip(), tcp.packets())
		for i := range train {
			train[i] = append(train[i], make([]byte, n)...)
		}
		if _, merged := mergeBy(tapQueue(), train, make([]bool, len(train))); len(merged) != len(train) || !bytes.Equal(merged[0], train[0]) {
			t.Errorf("frames padded with %d bytes were merged", n)
		}
	}
}

func TestFramesOfDifferentHeadersAreNotMerged(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	tcp := stream{size: 100, payload: noise(r, 400), flags: tcpACK, ttl: 64}
	for at := range 18 {
		front := frontOf(r, false, unix.ETH_P_8021Q)
		train := inFrames(front, tcp.packets())
		train[2][at] ^= 0x10
		headers, merged := mergeBy(tapQueue(), train, make([]bool, len(train)))
		if len(merged) != 3 || headers[1] != (virtioHeader{}) || !bytes.Equal(merged[1], train[2]) {
			t.Errorf("byte %d differs: %d frames, want 3", at, len(merged))
		}
	}
}

func TestAPartialFrameHasAllItsHeadersInItsFirstPart(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for name, s := range kinds() {
		for _, tags := range tagsOf {
			h, p := s.single()
			h, p = inFrame(frontOf(r, s.v6, tags...), h, p)
			q := tapQueue()
			if _, partial := takeFrames(t, q, h, p); !partial[0] { // completed there, from its first part
				t.Errorf("%s, %d tags: not partial", name, len(tags))
			}
		}
	}
}

func TestASumBehindAnyFrameIsRefused(t *testing.T) {
	for _, start := range []uint16{1000, 0xfffa, 0xfffb, 0xfffc, 0xffff} {
		for _, gso := range []uint8{unix.VIRTIO_NET_HDR_GSO_NONE, unix.VIRTIO_NET_HDR_GSO_TCPV4} {
			q := tapQueue()
			frames, _ := takeFrames(t, q, virtioHeader{flags: 1, gsoType: gso, gsoSize: 100, csumStart: start}, make([]byte, 900))
			if len(frames) != 0 || q.drops.header.Load() != 1 {
				t.Errorf("a sum from byte %d of a frame of 900: %d frames, %d drops", start, len(frames), q.drops.header.Load())
			}
		}
	}
}

func BenchmarkFrames64K(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	s := stream{size: 1368, payload: make([]byte, 46*1368), flags: tcpACK, ttl: 64, options: make([]byte, 12)}
	front := frontOf(r, false)
	b.Run("split", func(b *testing.B) {
		h, p := s.whole()
		h, p = inFrame(front, h, append(make([]byte, 0, len(p)), p...))
		h.csumStart += FrameRoom
		p = append(make([]byte, FrameRoom), p...)
		slot := make([]byte, longFirst)
		b.SetBytes(int64(len(p)))
		b.ReportAllocs()
		var super superPacket
		for b.Loop() {
			if !super.begin(h, p, networkOffset(p, FrameRoom)) || !super.partial {
				b.Fatal("not taken, or not as what it is")
			}
			for super.more() {
				super.next(slot)
			}
		}
	})
	train := inFrames(front, s.packets())
	for _, trusting := range []bool{false, true} {
		b.Run(fmt.Sprintf("merge/partial=%v", trusting), func(b *testing.B) { benchmarkMerge(b, tapQueue(), train, trusting) })
	}
}
