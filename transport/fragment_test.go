package transport

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"stunnel/crypto"
	"stunnel/transport/extension"
)

// carry makes a path of p, which takes fragments: what the largest message may have.
func (p *peer) carry(limit int) {
	p.carries.Store(int32(limit))
	p.sessions.current.Load().speaks.Store(uint32(understands | extension.Fragments))
}

// toward is how e sees other.
func (e *end) toward(other *end) *peer { return e.peers.lookup(other.key.Public()) }

// opened are the plaintexts of messages from e to other, and their counters.
func (e *end) opened(t testing.TB, other *end, msgs [][]byte) (plain [][]byte, counters []crypto.Counter) {
	t.Helper()
	s := other.toward(e).sessions.current.Load()
	plain = make([][]byte, len(msgs))
	copies := make([][]byte, len(msgs))
	for i, msg := range msgs {
		copies[i] = bytes.Clone(msg)
		counters = append(counters, crypto.MessageCounter(msg))
	}
	s.Open(copies, plain)
	if slices.ContainsFunc(plain, func(p []byte) bool { return p == nil }) {
		t.Fatal("a message does not open")
	}
	return plain, counters
}

// The lengths of the parts come from the words: nearly equal, at most 8.
func TestAPacketLongerThanThePathIsCutIntoNearlyEqualParts(t *testing.T) {
	for _, c := range []struct {
		name                string
		length, limit, want int
	}{
		{"a frame over Ethernet", 1514, 1440, 2},
		{"one byte too long", 1441, 1440, 2},
		{"the most of two", 2 * 1436, 1440, 2},
		{"the least of three", 2*1436 + 1, 1440, 3},
		{"a jumbo frame", 9014, 1440, 7},
		{"the most of eight", 8 * 1436, 1440, 8},
		{"the largest packet", 65535, 8200, 8},
		{"the first bytes alone are longer than a part", 130, 60, 3},
		{"parts of a few bytes", 77, 14, 8},
		{"parts that fill the path to the byte", 2870, 1439, 2},
		{"seven parts that are one byte longer", 8*100 - 1, 110, 8},
	} {
		for _, firstLength := range []int{64, 128, c.length} {
			first, rest := make([]byte, min(firstLength, c.length)), make([]byte, c.length-min(firstLength, c.length))
			for i := range first {
				first[i] = byte(i)
			}
			for i := range rest {
				rest[i] = byte(len(first) + i)
			}
			whole := slices.Concat(first, rest)
			n, size := shape(c.length, 1420, c.limit)
			if n != c.want {
				t.Errorf("%s: %d fragments, want %d", c.name, n, c.want)
				continue
			}
			if size > c.limit || size < c.limit && size%16 != 0 {
				t.Errorf("%s: messages of %d bytes", c.name, size)
			}
			l := newSealer()
			l.cut(first, rest, n, size)
			var joined []byte
			least, longest := c.length, 0
			for i := range l.plain {
				p := &l.plain[i]
				if messageSize(p) != size+crypto.TransportOverhead || p.Pad < 0 || p.Pad > 16 {
					t.Errorf("%s: fragment %d: %d bytes with %d of padding, want %d", c.name, i, messageSize(p), p.Pad, size)
				}
				if len(p.Rest) > 0 && len(p.First)%64 != 0 {
					t.Errorf("%s: fragment %d begins with %d bytes: no quick split", c.name, i, len(p.First))
				}
				if len(p.Rest) > 0 && !within(p.Rest, first, rest) {
					t.Errorf("%s: fragment %d: the rest was copied", c.name, i)
				}
				f, ok := parseFragment(slices.Concat(p.First, p.Rest, make([]byte, p.Pad)))
				if !ok || f.index != i || f.last != (i == n-1) {
					t.Fatalf("%s: fragment %d reads as %d, last %v, %v", c.name, i, f.index, f.last, ok)
				}
				least, longest = min(least, len(f.part)), max(longest, len(f.part))
				joined = append(joined, f.part...)
			}
			if longest-least > 1 {
				t.Errorf("%s: parts of %d to %d bytes", c.name, least, longest)
			}
			if !bytes.Equal(joined, whole) {
				t.Errorf("%s, %d first: the parts are not the packet", c.name, len(first))
			}
			if cap(l.heads) != headsSize {
				t.Errorf("%s: the sealer had too little room beside", c.name)
			}
		}
	}
}

// isFragment says whether a plaintext is a fragment.
func isFragment(plaintext []byte) bool { return plaintext[0] == byte(extension.KindFragment) }

// parseFragment reads one.
func parseFragment(plaintext []byte) (f fragment, ok bool) {
	kind, flags, part, ok := extension.Split(plaintext)
	index, last, may := flags.Fragment()
	return fragment{index, last, part}, ok && may && kind == extension.KindFragment && len(part) > 0
}

// within says whether b is a piece of one of some memories.
func within(b []byte, memories ...[]byte) bool {
	at := uintptr(unsafe.Pointer(&b[0]))
	return slices.ContainsFunc(memories, func(m []byte) bool {
		if len(m) == 0 {
			return false
		}
		from := uintptr(unsafe.Pointer(&m[0]))
		return at >= from && at+uintptr(len(b)) <= from+uintptr(len(m))
	})
}

func TestWhatIsNotCutIsNoLongerThanThePathCarries(t *testing.T) {
	for limit := 100; limit < 200; limit++ {
		for length := 1; length <= limit; length++ {
			n, size := shape(length, 150, limit)
			if n != 1 || size < length || size > limit {
				t.Errorf("%d bytes on a path of %d: %d messages of %d", length, limit, n, size)
			}
			if usual := length + padding(length, 150); usual <= limit && size != usual {
				t.Errorf("%d bytes on a path of %d: padded to %d, to %d without that path", length, limit, size, usual)
			}
		}
	}
}

// WireGuard would carry it; the networks outside may cut its datagram.
func TestAPacketOfMoreThanEightFragmentsGoesWhole(t *testing.T) {
	a, b, clock := shook(t)
	for _, c := range []struct{ limit, size, want int }{
		{1440, 8 * 1436, 8}, {1440, 8*1436 + 1, 1}, {4, 100, 1}, {3, 100, 1}, {12, 64, 8}, {12, 65, 1}, {0, 65535, 0},
		{65475, 65535, 2}, {70000, 65535, 2}, // beyond what a datagram can hold
	} {
		a.toward(b).carry(c.limit)
		a.wire.sent = nil
		before := a.Status().Peers[0].Drops["too_large"]
		first, rest, partial := split(packet("10.0.0.1", "10.0.0.2", c.size))
		a.lanes[0].outbound(first, rest, partial, *clock)
		dropped := a.Status().Peers[0].Drops["too_large"] - before
		if len(a.wire.sent) != c.want || dropped != 1 && c.want == 0 || dropped != 0 && c.want > 0 {
			t.Errorf("%d bytes on a path of %d: %d messages, %d dropped", c.size, c.limit, len(a.wire.sent), dropped)
		}
	}
}

// What two tunnels say to each other must arrive as it is or not at all: the
// receiver refuses it as the whole of fragments.
func TestOnlyPacketsAndFramesAreCut(t *testing.T) {
	a, b, clock := shook(t)
	a.toward(b).carry(200)
	s := a.toward(b).usable(*clock)
	for begin := range 256 {
		long := make([]byte, 300)
		long[0] = byte(begin)
		a.wire.sent = nil
		a.lanes[0].sealer.send(s, a.wire, [][]byte{long[:64]}, [][]byte{long[64:]}, *clock)
		want := 1
		if kind := begin >> 4; kind == 4 || kind == 6 || kind == 0xc || kind == 0xe || begin == int(extension.KindFrame) {
			want = 2
		}
		if len(a.wire.sent) != want {
			t.Errorf("300 bytes that begin with %02x are %d messages on a path of 200, want %d", begin, len(a.wire.sent), want)
		}
	}
}

// Bursts of packets of all sizes, so many that they are sealed in several
// goes: of each packet, the fragments have counters one behind the other.
func TestFragmentsOfAPacketHaveCountersThatFollowEachOther(t *testing.T) {
	a, b, clock := shook(t)
	a.toward(b).carry(300)
	random := rand.New(rand.NewPCG(4, 1))
	for range 20 {
		var packets [][]byte
		for i := range 300 {
			p := packet("10.0.0.1", "10.0.0.2", 24+random.IntN(2000))
			binary.BigEndian.PutUint32(p[ipv4HeaderSize:], uint32(i))
			packets = append(packets, p)
		}
		first, rest, partial := split(packets...)
		a.lanes[0].outbound(first, rest, partial, *clock)
		plain, counters := a.opened(t, b, a.wire.sent)
		var got [][]byte
		for i := 0; i < len(plain); {
			if !isFragment(plain[i]) {
				got = append(got, trim(plain[i]))
				i++
				continue
			}
			var whole []byte
			for index, last := 0, false; !last; index++ {
				f, ok := parseFragment(plain[i])
				if !ok || !isFragment(plain[i]) || f.index != index || counters[i] != counters[i-index]+crypto.Counter(index) {
					t.Fatalf("message %d is fragment %d (%v) under %d, want %d", i, f.index, ok, counters[i], index)
				}
				whole, last = append(whole, f.part...), f.last
				i++
			}
			got = append(got, whole)
		}
		if !slices.EqualFunc(got, packets, bytes.Equal) {
			t.Fatalf("%d packets were sent as %d others", len(packets), len(got))
		}
		if l := a.lanes[0].sealer; cap(l.plain) != sealerPackets || cap(l.out) != sealerSize || cap(l.heads) != headsSize {
			t.Fatalf("the sealer has grown to %d messages, %d bytes and %d beside", cap(l.plain), cap(l.out), cap(l.heads))
		}
		a.wire.sent = nil
	}
}

func TestEqualPacketsCutLeaveAsOneTrain(t *testing.T) {
	for _, size := range []int{1500, 1501, 1503, 1513, 1514} { // in halves: equal, unequal, on both sides of a multiple of 16
		a, b, clock := shook(t)
		a.toward(b).carry(1440)
		var packets [][]byte
		for range 32 {
			packets = append(packets, packet("10.0.0.1", "10.0.0.2", size))
		}
		first, rest, partial := split(packets...)
		a.lanes[0].outbound(first, rest, partial, *clock)
		if len(a.wire.sizes) != 1 || len(a.wire.sent) != 64 {
			t.Errorf("32 packets of %d bytes: %d sends of %d messages, want 1 of 64", size, len(a.wire.sizes), len(a.wire.sent))
		}
	}
}
