package transport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// datagrams are msgs as the socket of the other end gives them.
func (e *end) datagrams(msgs [][]byte) []socket.Datagram {
	burst := make([]socket.Datagram, len(msgs))
	for i, msg := range msgs {
		burst[i] = socket.Datagram{Data: bytes.Clone(msg), Path: socket.Path{Remote: e.addr}}
	}
	return burst
}

// written takes what came out of an end.
func (e *end) written() [][]byte {
	packets := e.stack.written
	e.stack.written = nil
	return packets
}

// copying is a stack whose packets outlive the burst.
type copying struct{ *stack }

func (q copying) Write(packets [][]byte, partial []bool) error {
	copies := make([][]byte, len(packets))
	for i := range packets {
		copies[i] = bytes.Clone(packets[i])
	}
	return q.stack.Write(copies, partial)
}

// sealed are messages with plaintexts of the test's own, under counters one
// behind the other.
func sealed(t testing.TB, s *session, plaintexts ...[]byte) (msgs [][]byte) {
	t.Helper()
	counter, ok := s.Reserve(len(plaintexts))
	if !ok {
		t.Fatal("no counters are left")
	}
	for i, p := range plaintexts {
		room := make([]byte, 0, len(p)+crypto.TransportOverhead)
		msgs = append(msgs, s.Seal(room, counter+crypto.Counter(i), []crypto.Plaintext{{First: p}}))
	}
	return msgs
}

// plainFragment is one as it is before it is sealed, with some padding.
func plainFragment(index int, last bool, part []byte, pad int) []byte {
	flags := byte(index * 2)
	if last {
		flags++
	}
	f := append([]byte{3, flags}, binary.BigEndian.AppendUint16(nil, uint16(len(part)))...)
	return append(append(f, part...), make([]byte, pad)...)
}

func TestPacketsInFragmentsArriveAsTheyWereSentHoweverTheyAreReceived(t *testing.T) {
	a, b, clock := shook(t)
	b.lanes[0].queue = copying{b.stack}
	a.toward(b).carry(700)
	var packets [][]byte
	for _, size := range []int{20, 700, 701, 1420, 5568, 64, 1392, 1393, 3000, 3000, 2999} {
		packets = append(packets, packet("10.0.0.1", "10.0.0.2", size))
	}
	for _, n := range []int{1, 2, 3, 5, 100} {
		first, rest, partial := split(packets...)
		a.lanes[0].outbound(first, rest, partial, *clock)
		for part := range slices.Chunk(a.wire.sent, n) {
			b.lanes[0].in.inbound(a.datagrams(part), *clock)
		}
		if got := b.written(); !slices.EqualFunc(got, packets, bytes.Equal) {
			t.Errorf("bursts of %d: %d packets arrived, or differ; %d were sent; drops %v", n, len(got), len(packets), b.toward(a).drops.counts())
		}
		if held := b.reassembly.held; held != 0 {
			t.Errorf("bursts of %d: %d bytes are still held", n, held)
		}
		a.wire.sent = nil
	}
}

// A partial packet is one in fragments, too, in order or not.
func TestPartialPacketsInFragmentsArrivePartial(t *testing.T) {
	for _, n := range []int{1, 100} {
		a, b, clock := shook(t)
		b.lanes[0].queue = copying{b.stack}
		trust(t, a, b, true, true)
		s := a.toward(b).usable(*clock)
		s.speaks.Store(s.speaks.Load() | uint32(extension.Fragments))
		a.toward(b).carries.Store(300)
		first, rest, partial, want := halfPartial(true)
		wantPartial := slices.Clone(partial)
		a.wire.sent = nil
		a.lanes[0].outbound(first, rest, partial, *clock)
		if len(a.wire.sent) < 2*len(want) {
			t.Fatalf("%d packets are %d messages", len(want), len(a.wire.sent))
		}
		for part := range slices.Chunk(a.wire.sent, n) {
			b.lanes[0].in.inbound(a.datagrams(part), *clock)
		}
		if !slices.EqualFunc(b.stack.written, want, bytes.Equal) || !slices.Equal(b.stack.partial, wantPartial) {
			t.Errorf("bursts of %d: %d packets arrived, or differ; partial %v, want %v", n, len(b.stack.written), b.stack.partial, wantPartial)
		}
	}
}

// More of them in one burst than the arena holds.
func TestABurstOfPacketsInFragmentsMayBeLargerThanTheArena(t *testing.T) {
	a, b, clock := shook(t)
	b.lanes[0].queue = copying{b.stack}
	a.toward(b).carry(1440)
	var packets [][]byte
	for i := range 4 * arenaSize / 9000 {
		p := packet("10.0.0.1", "10.0.0.2", 9000)
		binary.BigEndian.PutUint32(p[ipv4HeaderSize:], uint32(i))
		packets = append(packets, p)
		if i%3 == 0 { // one that lies in the burst and not in the arena
			packets = append(packets, packet("10.0.0.1", "10.0.0.2", 100+i))
		}
	}
	first, rest, partial := split(packets...)
	a.lanes[0].outbound(first, rest, partial, *clock)
	b.lanes[0].in.inbound(a.datagrams(a.wire.sent), *clock)
	if got := b.written(); !slices.EqualFunc(got, packets, bytes.Equal) {
		t.Errorf("%d packets arrived, or differ; %d were sent", len(got), len(packets))
	}
	if n := cap(b.lanes[0].in.arena); n != arenaSize {
		t.Errorf("the arena has grown to %d", n)
	}
}

// What cannot be a fragment ends the packet that it would belong to, whether
// that is gathered or waits, and no other.
func TestAFragmentThatCannotBeIsRefusedAndEndsItsPacket(t *testing.T) {
	whole := packet("10.0.0.1", "10.0.0.2", 300)
	empty := plainFragment(1, false, nil, 20)
	tooLong := plainFragment(1, false, whole[100:200], 0)
	tooLong = tooLong[:len(tooLong)-1]
	for _, c := range []struct {
		name, drop string
		bad        []byte
		ends       bool
	}{
		{"an empty part", "bad_fragment", empty, true},
		{"an empty last part", "bad_fragment", plainFragment(1, true, nil, 0), true},
		{"a first part that is the last one", "bad_fragment", plainFragment(0, true, whole, 4), false},
		{"a ninth part", "bad_fragment", plainFragment(8, false, whole[100:200], 0), false},
		{"an index beyond all", "bad_fragment", plainFragment(127, true, whole[100:200], 0), false},
		{"a part that is not all there", "bad_extension", tooLong, false},
		{"a kind and nothing else", "bad_extension", []byte{3}, false},
		{"half a header", "bad_extension", []byte{3, 2, 0}, false},
	} {
		for _, waits := range []bool{false, true} {
			a, b, clock := shook(t)
			s := a.toward(b).usable(*clock)
			msgs := sealed(t, s, plainFragment(0, false, whole[:100], 0), c.bad, plainFragment(2, true, whole[100:], 0))
			if waits {
				b.lanes[0].in.inbound(a.datagrams(msgs[:1]), *clock)
				b.lanes[0].in.inbound(a.datagrams(msgs[1:]), *clock)
			} else {
				b.lanes[0].in.inbound(a.datagrams(msgs), *clock)
			}
			drops := b.toward(a).drops.counts()
			if len(b.written()) != 0 || drops[c.drop] != 1 || len(drops) != 1 {
				t.Errorf("%s: a packet came out, or drops %v", c.name, drops)
			}
			// The last part is a packet of its own if the first has gone.
			_, parts := 0, 0
			for _, w := range b.toward(a).wholes.wholes {
				for i := range w.parts {
					if w.parts[i].length > 0 {
						parts++
					}
				}
			}
			if want := map[bool]int{true: 1, false: 2}[c.ends]; parts != want {
				t.Errorf("%s: %d parts wait (the first one had been kept: %v), want %d", c.name, parts, waits, want)
			}
		}
	}
}

func TestAFirstFragmentThatIsTheLastEndsWhatWaitedForIt(t *testing.T) {
	a, b, clock := shook(t)
	s := a.toward(b).usable(*clock)
	msgs := sealed(t, s, plainFragment(0, true, make([]byte, 100), 0), plainFragment(1, false, make([]byte, 100), 0))
	b.lanes[0].in.inbound(a.datagrams(msgs[1:]), *clock)
	b.lanes[0].in.inbound(a.datagrams(msgs[:1]), *clock)
	if drops := b.toward(a).drops.counts(); b.reassembly.held != 0 || drops["bad_fragment"] != 1 {
		t.Errorf("%d bytes are held, drops %v", b.reassembly.held, drops)
	}
}

// What could be put together where it lies is held against what came before.
func TestPartsThatContradictEachOtherAcrossBurstsMakeNoPacket(t *testing.T) {
	whole := packet("10.0.0.1", "10.0.0.2", 200)
	a, b, clock := shook(t)
	msgs := sealed(t, a.toward(b).usable(*clock),
		plainFragment(0, false, whole[:100], 0), plainFragment(1, true, whole[100:], 0), plainFragment(2, false, whole[:50], 0))
	b.lanes[0].in.inbound(a.datagrams(msgs[2:]), *clock)
	b.lanes[0].in.inbound(a.datagrams(msgs[:2]), *clock)
	if drops := b.toward(a).drops.counts(); len(b.written()) != 0 || drops["bad_fragment"] != 1 || b.reassembly.held != 0 {
		t.Errorf("a packet came out, or drops %v, %d bytes held", drops, b.reassembly.held)
	}
}

func TestPartsInOneBurstMakeNoMoreThanTheLargestPacket(t *testing.T) {
	for _, c := range []struct{ length, bad int }{{maxWhole, 0}, {maxWhole + 1, 1}} {
		a, b, clock := shook(t)
		whole := append(packet("10.0.0.1", "10.0.0.2", maxWhole), 0)[:c.length]
		msgs := sealed(t, a.toward(b).usable(*clock),
			plainFragment(0, false, whole[:40000], 0), plainFragment(1, false, whole[40000:maxWhole-1], 0), plainFragment(2, true, whole[maxWhole-1:], 0))
		b.lanes[0].in.inbound(a.datagrams(msgs), *clock)
		drops := b.toward(a).drops.counts()
		if got := b.written(); len(got) != 1-c.bad || int(drops["bad_fragment"]) != c.bad || b.reassembly.held != 0 {
			t.Errorf("%d bytes: %d packets came out, drops %v, %d bytes held", c.length, len(got), drops, b.reassembly.held)
		}
	}
}

// writes is a Queue that counts calls of Write.
type writes struct {
	stack
	n int
}

func (q *writes) Write(packets [][]byte, partial []bool) error {
	q.n++
	return nil
}

func TestABurstOfPacketsInFragmentsIsOneWrite(t *testing.T) {
	a, b, clock := shook(t)
	queue := &writes{}
	b.lanes[0].queue = queue
	a.toward(b).carry(1440)
	p := packet("10.0.0.1", "10.0.0.2", 1500)
	first, rest, partial := split(p, p, p, p, p, p, p, p)
	const bursts = 2 * arenaSize / (8 * 1500)
	for range bursts {
		a.wire.sent = nil
		a.lanes[0].outbound(first, rest, partial, *clock)
		b.lanes[0].in.inbound(a.datagrams(a.wire.sent), *clock)
	}
	if queue.n != bursts {
		t.Errorf("%d bursts are %d writes", bursts, queue.n)
	}
}

// The id is counter - index, which cannot be below the first counter.
func TestAFragmentWhosePacketBeganBeforeTheFirstCounterIsRefused(t *testing.T) {
	a, b, clock := shook(t)
	s := b.toward(a).usable(*clock)
	index := int(s.Sent()) + 1 // one more than its counter: b has said hello
	msgs := sealed(t, s, plainFragment(index, true, make([]byte, 50), 0))
	a.lanes[0].in.inbound(b.datagrams(msgs), *clock)
	if drops := a.toward(b).drops.counts(); drops["bad_fragment"] != 1 || a.reassembly.held != 0 {
		t.Errorf("drops %v, %d bytes held", drops, a.reassembly.held)
	}
}

// packet6 is packet for IPv6.
func packet6(source, destination string, length int) []byte {
	b := make([]byte, length)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(length-ipv6HeaderSize))
	from, to := netip.MustParseAddr(source).As16(), netip.MustParseAddr(destination).As16()
	copy(b[8:], from[:])
	copy(b[24:], to[:])
	return b
}

// Whatever brought a packet, its length and source are checked; and what is no
// packet does not pass, be it a message that would be good on its own.
func TestWhatFragmentsMakeIsCheckedLikeEveryPacket(t *testing.T) {
	for _, c := range []struct {
		name, drop string
		whole      []byte
	}{
		{"of a foreign source", "bad_source", packet("10.0.0.9", "10.0.0.2", 200)},
		{"of a foreign source, to a group", "bad_source", packet6("2001:db8::9", "ff02::2", 200)},
		{"of a link's address, to a host", "bad_source", packet6("fe80::9", "2001:db8::2", 200)},
		{"what IPv6 tells a link", "no_peer_multicast", packet6("fe80::9", "ff02::2", 200)},
		{"what IPv6 tells a link before it has an address there", "no_peer_multicast", packet6("::", "ff02::16", 200)},
		{"shorter than it says", "bad_packet", packet("10.0.0.1", "10.0.0.2", 200)[:199]},
		{"a control message", "bad_packet", append([]byte{1, 0, 0, 196}, make([]byte, 196)...)},
		{"a fragment", "bad_packet", plainFragment(0, false, make([]byte, 196), 0)},
		{"of zeros", "bad_packet", make([]byte, 200)},
	} {
		for _, order := range [][]int{{0, 1}, {1, 0}} {
			a, b, clock := shook(t)
			s := a.toward(b).usable(*clock)
			msgs := sealed(t, s, plainFragment(0, false, c.whole[:100], 0), plainFragment(1, true, c.whole[100:], 0))
			for _, i := range order {
				b.lanes[0].in.inbound(a.datagrams(msgs[i:i+1]), *clock)
			}
			drops := b.toward(a).drops.counts()
			if len(b.written()) != 0 || drops[c.drop] != 1 || len(drops) != 1 || b.reassembly.held != 0 {
				t.Errorf("%s: drops %v, want one %s", c.name, drops, c.drop)
			}
		}
	}
	t.Run("and passes if it is one", func(t *testing.T) {
		a, b, clock := shook(t)
		whole := append(packet("10.0.0.1", "10.0.0.2", 200), 1, 2, 3) // and something behind it
		msgs := sealed(t, a.toward(b).usable(*clock), plainFragment(0, false, whole[:1], 15), plainFragment(1, true, whole[1:], 3))
		b.lanes[0].in.inbound(a.datagrams(msgs), *clock)
		if got := b.written(); len(got) != 1 || !bytes.Equal(got[0], whole[:200]) {
			t.Errorf("%d packets came out, drops %v", len(got), b.toward(a).drops.counts())
		}
	})
}
