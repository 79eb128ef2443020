package device

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// carried is what a queue carries: packets, or frames with packets in them.
type carried struct {
	queue   func() *Queue
	network func(p []byte) int                                    // where the IP packet begins
	split   func(t testing.TB, h virtioHeader, p []byte) [][]byte // a super-packet, its segments whole and completed
}

var carriedPackets = carried{packetQueue, func([]byte) int { return 0 }, func(t testing.TB, h virtioHeader, p []byte) [][]byte {
	segments, ok := splitAll(h, p)
	if !ok {
		t.Fatalf("can't be split again: %+v", h)
	}
	return segments
}}

var carriedFrames = carried{tapQueue, plainNetwork, func(t testing.TB, h virtioHeader, p []byte) [][]byte {
	frames, _ := takeFrames(t, tapQueue(), h, p)
	if len(frames) < 2 {
		t.Fatalf("can't be split again: %+v", h)
	}
	return frames
}}

// packetQueue is a queue of packets, without descriptor.
func packetQueue() *Queue { return &Queue{virtio: true, wanted: true, mergeTCP: true, mergeUDP: true} }

// marked takes some of a train for partial, or all, with anything in the fields
// of their sums. It returns the train as it must come out: those with the right
// sum, and those left out that can't be partial.
func (c carried) marked(r *rand.Rand, train [][]byte) (partial []bool, want [][]byte) {
	partial, all := make([]bool, len(train)), r.IntN(2) == 0
	for i, p := range train {
		train[i] = bytes.Clone(p)
		if partial[i] = all || r.IntN(8) == 0; !partial[i] {
			want = append(want, bytes.Clone(p))
			continue
		}
		network := c.network(p)
		if start, field, ok := plainRule(p[network:]); ok {
			binary.BigEndian.PutUint16(train[i][network+field:], uint16(r.IntN(3)*0x7fff))
			p = bytes.Clone(p)
			plainComplete(p[network:], start, field)
			want = append(want, p)
		}
	}
	return partial, want
}

// checkRoundTrip merges a train, splits again what was merged, and completes
// what is partial. What comes of it must be what is wanted, in the same order.
func (c carried) checkRoundTrip(t *testing.T, train [][]byte, partial []bool, want [][]byte) {
	t.Helper()
	headers, merged := mergeBy(c.queue(), train, partial)
	var got [][]byte
	for i, p := range merged {
		if len(p) > maxMerged {
			t.Fatalf("%d bytes in one", len(p))
		}
		switch h := headers[i]; {
		case h.gsoType != 0:
			segments := c.split(t, h, p)
			for k, p := range segments {
				ip := p[c.network(p):]
				if ip[0] == 0x45 && ip[6]&0x40 != 0 && len(got)+k < len(want) {
					// The ID of a packet that may not be fragmented means nothing.
					copy(ip[4:6], want[len(got)+k][len(p)-len(ip)+4:])
					repair(ip)
				}
			}
			got = append(got, segments...)
			continue
		case h.partial():
			// What a kernel does, knowing nothing but the header.
			at := int(h.csumStart + h.csumOffset)
			v := ^plainSum(p[h.csumStart:])
			if v == 0 && h.csumOffset == 6 {
				v = 0xffff
			}
			binary.BigEndian.PutUint16(p[at:], v)
		}
		got = append(got, p)
	}
	if len(got) != len(want) {
		t.Fatalf("%d became %d, want %d", len(train), len(got), len(want))
	}
	for i := range got {
		if d := difference(got[i], want[i]); d != "" {
			t.Fatalf("number %d: %s", i, d)
		}
	}
}

// checkMergedTo merges complete segments to the super-packet that they are of.
// One alone stays as it is.
func (c carried) checkMergedTo(t *testing.T, segments [][]byte, h virtioHeader, super []byte) {
	t.Helper()
	first := bytes.Clone(segments[0])
	headers, merged := mergeBy(c.queue(), segments, make([]bool, len(segments)))
	if len(segments) == 1 {
		if headers[0] != (virtioHeader{}) || !bytes.Equal(merged[0], first) {
			t.Error("a single one was changed")
		}
		return
	}
	if len(merged) != 1 || headers[0] != h {
		t.Fatalf("%d, first with %+v; want one with %+v", len(merged), headers[0], h)
	}
	if d := difference(merged[0], super); d != "" {
		t.Errorf("merged: %s", d)
	}
}

// readsPartial says once more, by the rule, whether what the kernel has begun, as
// h has it, stays partial: h must say the same, and the sum must be begun.
func readsPartial(h virtioHeader, p []byte, network int) bool {
	start, field, ok := plainRule(p[network:])
	if !ok {
		return false
	}
	begun := bytes.Clone(p)
	seal(begun[network:], start, field-start == 6, false)
	return h.flags&1 != 0 && int(h.csumStart) == network+start && int(h.csumOffset) == field-start &&
		sameSum(binary.BigEndian.Uint16(p[network+field:]), binary.BigEndian.Uint16(begun[network+field:])) &&
		(field-start == 16 || p[network+start+2] != 0 || p[network+start+3] != 67 && p[network+start+3] != 68)
}

// checkPartialWrite has a queue write p as partial: that goes by the rule,
// whatever the field of the sum holds, and no other byte changes.
func checkPartialWrite(t *testing.T, q *Queue, p []byte, network int) {
	t.Helper()
	start, field, ok := plainRule(p[network:])
	want, out := bytes.Clone(p), bytes.Clone(p)
	h, err := q.single(out, true)
	if (err == nil) != ok {
		t.Fatalf("written: %v, may be partial: %v: % x", err, ok, p)
	}
	if ok {
		seal(want[network:], start, field-start == 6, false)
		copy(want, p[:network+field])
		copy(want[network+field+2:], p[network+field+2:])
		if h != (virtioHeader{flags: 1, csumStart: uint16(network + start), csumOffset: uint16(field - start)}) {
			t.Fatalf("written with %+v", h)
		}
	}
	if d := difference(out, want); d != "" {
		t.Fatalf("written: %s", d)
	}
}

func benchmarkMerge(b *testing.B, q *Queue, train [][]byte, partial bool) {
	h, marks := make([]byte, virtioSize+maxPlainHeader), make([]bool, len(train))
	for i := range marks {
		marks[i] = partial
	}
	b.SetBytes(int64(46 * 1368))
	b.ReportAllocs()
	for b.Loop() {
		r := q.runOf(train, marks)
		if r.n != 46 {
			b.Fatal(r.n)
		}
		r.header(h, train[0])
	}
}
