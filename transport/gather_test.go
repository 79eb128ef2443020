package transport

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stunnel/crypto"
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
			b.lanes[0].inbound(a.datagrams(part), *clock)
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
	b.lanes[0].inbound(a.datagrams(a.wire.sent), *clock)
	if got := b.written(); !slices.EqualFunc(got, packets, bytes.Equal) {
		t.Errorf("%d packets arrived, or differ; %d were sent", len(got), len(packets))
	}
	if n := cap(b.lanes[0].arena); n != arenaSize {
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
				b.lanes[0].inbound(a.datagrams(msgs[:1]), *clock)
				b.lanes[0].inbound(a.datagrams(msgs[1:]), *clock)
			} else {
				b.lanes[0].inbound(a.datagrams(msgs), *clock)
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
	b.lanes[0].inbound(a.datagrams(msgs[1:]), *clock)
	b.lanes[0].inbound(a.datagrams(msgs[:1]), *clock)
	if drops := b.toward(a).drops.counts(); b.reassembly.held != 0 || drops["bad_fragment"] != 1 {
		t.Errorf("%d bytes are held, drops %v", b.reassembly.held, drops)
	}
}

// The id is counter - index, which cannot be below the first counter.
func TestAFragmentWhosePacketBeganBeforeTheFirstCounterIsRefused(t *testing.T) {
	a, b, clock := shook(t)
	s := b.toward(a).usable(*clock)
	index := int(s.Sent()) + 1 // one more than its counter: b has said hello
	msgs := sealed(t, s, plainFragment(index, true, make([]byte, 50), 0))
	a.lanes[0].inbound(b.datagrams(msgs), *clock)
	if drops := a.toward(b).drops.counts(); drops["bad_fragment"] != 1 || a.reassembly.held != 0 {
		t.Errorf("drops %v, %d bytes held", drops, a.reassembly.held)
	}
}

// Whatever brought a packet, its length and source are checked; and what is no
// packet does not pass, be it a message that would be good on its own.
func TestWhatFragmentsMakeIsCheckedLikeEveryPacket(t *testing.T) {
	for _, c := range []struct {
		name, drop string
		whole      []byte
	}{
		{"of a foreign source", "bad_source", packet("10.0.0.9", "10.0.0.2", 200)},
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
				b.lanes[0].inbound(a.datagrams(msgs[i:i+1]), *clock)
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
		b.lanes[0].inbound(a.datagrams(msgs), *clock)
		if got := b.written(); len(got) != 1 || !bytes.Equal(got[0], whole[:200]) {
			t.Errorf("%d packets came out, drops %v", len(got), b.toward(a).drops.counts())
		}
	})
}

// Several peers, each with an old session and a new one, send packets in
// fragments of any length and number among whole ones. The network loses,
// doubles and reorders. What has lost nothing arrives, once; what has is
// forgotten a second later.
func TestLossOfAFragmentCostsThatPacketOnly(t *testing.T) {
	const peers, lanes = 3, 2
	rounds := 400
	if testing.Short() {
		rounds = 40
	}
	random := rand.New(rand.NewPCG(4, 2))
	clock := new(time.Duration)
	*clock = time.Hour
	b := newEnd(t, clock, "192.0.2.100:51820")
	b.lanes[0].queue = copying{b.stack}
	for len(b.lanes) < lanes {
		b.lanes = append(b.lanes, &lane{tunnel: b.Tunnel, number: len(b.lanes), queue: b.lanes[0].queue, sealer: newSealer()})
	}
	type sender struct {
		*end
		source   string
		sessions []*session
	}
	var senders []*sender
	for i := range peers {
		source := []string{"10.0.0.1", "10.0.0.3", "10.0.0.4"}[i]
		a := newEnd(t, clock, "192.0.2."+string('1'+rune(i))+":51820")
		toB := a.add(t, b, "10.0.0.2/32")
		b.add(t, a, source+"/32")
		from := &sender{end: a, source: source}
		for range 2 {
			toB.initiate(*clock)
			a.pass(b)
			b.pass(a)
			a.pass(b)
			from.sessions = append(from.sessions, toB.sessions.current.Load())
			*clock += 2 * RekeyTimeout
		}
		if from.sessions[0] == from.sessions[1] {
			t.Fatal("there is one session only")
		}
		senders = append(senders, from)
	}

	type delivery struct {
		from *sender
		msg  []byte
	}
	serial, missing, replayed := uint32(0), uint64(0), uint64(0)
	for round := range rounds {
		var arriving []delivery
		want := make(map[string]int)
		for _, from := range senders {
			for _, s := range from.sessions {
				for range 1 + random.IntN(maxOpenWholes) {
					whole := packet(from.source, "10.0.0.2", 40+random.IntN(3000))
					serial++
					binary.BigEndian.PutUint32(whole[ipv4HeaderSize:], serial)
					plaintexts := [][]byte{whole}
					if n := random.IntN(maxFragments + 1); n > 1 {
						cuts := random.Perm(len(whole) - 1)[:n-1]
						slices.Sort(cuts)
						plaintexts = nil
						for at, rest := 0, whole; len(plaintexts) < n; {
							end := len(rest)
							if len(plaintexts) < n-1 {
								end = cuts[len(plaintexts)] + 1 - at
							}
							plaintexts = append(plaintexts, plainFragment(len(plaintexts), len(plaintexts) == n-1, rest[:end], random.IntN(16)))
							at, rest = at+end, rest[end:]
						}
					}
					arrived := 0
					for _, msg := range sealed(t, s, plaintexts...) {
						if random.IntN(12) == 0 {
							continue
						}
						arrived++
						arriving = append(arriving, delivery{from, msg})
						if random.IntN(8) == 0 {
							arriving = append(arriving, delivery{from, msg})
							replayed++
						}
					}
					switch arrived {
					case len(plaintexts):
						want[string(whole)]++
					case 0:
					default:
						missing++
					}
				}
			}
		}
		// All out of order, a few, or none.
		for swaps := []int{len(arriving) * 2, len(arriving) / 8, 0}[round%3]; swaps > 0; swaps-- {
			i, j := random.IntN(len(arriving)), random.IntN(len(arriving))
			arriving[i], arriving[j] = arriving[j], arriving[i]
		}
		for len(arriving) > 0 {
			n := min(1+random.IntN(64), len(arriving))
			var burst []socket.Datagram
			for _, d := range arriving[:n] {
				burst = append(burst, d.from.datagrams([][]byte{d.msg})...)
			}
			b.lanes[random.IntN(lanes)].inbound(burst, *clock)
			arriving = arriving[n:]
			*clock += time.Duration(random.IntN(int(time.Millisecond)))
		}
		got := make(map[string]int)
		for _, p := range b.written() {
			got[string(p)]++
		}
		if !maps.Equal(got, want) {
			t.Fatalf("round %d: %d packets came out, or differ; %d were to; drops %v", round, len(got), len(want), b.toward(senders[0].end).drops.counts())
		}
		*clock += reassemblyTime
		drops := make(map[string]uint64)
		for _, from := range senders {
			p := b.toward(from.end)
			p.expire(*clock)
			for reason, n := range p.drops.counts() {
				drops[reason] += n
			}
		}
		if b.reassembly.held != 0 {
			t.Fatalf("round %d: %d bytes are held a second later", round, b.reassembly.held)
		}
		if drops["fragment_missing"] != missing || drops["replayed"] != replayed || len(drops) > 2 {
			t.Fatalf("round %d: drops %v, want %d and %d replayed", round, drops, missing, replayed)
		}
		for _, from := range senders { // sessions must last
			for _, s := range from.sessions {
				s.created = *clock
				if other := b.indices.lookup(s.RemoteIndex()).session; other != nil {
					other.created = *clock
				}
			}
		}
	}
	if missing == 0 || replayed == 0 {
		t.Error("nothing was lost")
	}
}

// The fragments of each packet come by different lanes at the same time.
func TestFragmentsOfAPacketMeetWhateverLaneTheyComeBy(t *testing.T) {
	const lanes = 4
	rounds := 3000
	if testing.Short() {
		rounds /= 10
	}
	a, b, clock := shook(t)
	queue := &tally{seen: make([]atomic.Uint32, rounds*maxOpenWholes)}
	b.lanes[0].queue = queue
	for len(b.lanes) < lanes {
		b.lanes = append(b.lanes, &lane{tunnel: b.Tunnel, number: len(b.lanes), queue: queue, sealer: newSealer()})
	}
	a.toward(b).carry(200)
	random := rand.New(rand.NewPCG(4, 3))
	packets := make([][]byte, maxOpenWholes)
	for round := range rounds {
		for i := range packets {
			packets[i] = packet("10.0.0.1", "10.0.0.2", 201+random.IntN(8*196-201))
			binary.BigEndian.PutUint32(packets[i][ipv4HeaderSize:], uint32(round*maxOpenWholes+i))
		}
		first, rest, partial := split(packets...)
		a.wire.sent = nil
		a.lanes[0].outbound(first, rest, partial, *clock)
		var bursts [lanes][][]byte
		for _, msg := range a.wire.sent {
			i := random.IntN(lanes)
			bursts[i] = append(bursts[i], msg)
		}
		var receiving sync.WaitGroup
		for i, burst := range bursts {
			receiving.Go(func() { b.lanes[i].inbound(a.datagrams(burst), *clock) })
		}
		receiving.Wait()
	}
	for i := range queue.seen {
		if n := queue.seen[i].Load(); n != 1 {
			t.Fatalf("packet %d was delivered %d times; drops %v", i, n, b.toward(a).drops.counts())
		}
	}
	if drops := b.toward(a).drops.counts(); drops != nil || b.reassembly.held != 0 {
		t.Errorf("drops %v, %d bytes held", drops, b.reassembly.held)
	}
}

func TestNoAllocationPerPacketInFragments(t *testing.T) {
	for _, c := range []struct {
		name  string
		order func(i, n int) int // where the message stands that comes as number i
		burst int
	}{
		{"in order", func(i, n int) int { return i }, 64},
		{"in bursts that end between fragments", func(i, n int) int { return i }, 3},
		{"the last first", func(i, n int) int { return n - 1 - i }, 64},
	} {
		a, b, clock := shook(t)
		a.toward(b).carry(1440)
		packets := make([][]byte, maxOpenWholes)
		for i := range packets {
			packets[i] = packet("10.0.0.1", "10.0.0.2", 1500)
		}
		first, rest, partial := split(packets...)
		a.wire.recycle = true
		a.wire.sent, a.wire.sizes = make([][]byte, 0, 64), make([]int, 0, 64)
		burst := make([]socket.Datagram, 0, 64)
		b.stack.written = make([][]byte, 0, 64)
		run := func() {
			a.wire.sent, a.wire.sizes, b.stack.written = a.wire.sent[:0], a.wire.sizes[:0], b.stack.written[:0]
			a.lanes[0].outbound(first, rest, partial, *clock)
			for i := range a.wire.sent {
				msg := a.wire.sent[c.order(i, len(a.wire.sent))]
				burst = append(burst, socket.Datagram{Data: msg, Path: socket.Path{Remote: a.addr}})
				if len(burst) == c.burst || i == len(a.wire.sent)-1 {
					b.lanes[0].inbound(burst, *clock)
					burst = burst[:0]
				}
			}
			if len(a.wire.sent) != 2*len(packets) || len(b.stack.written) != len(packets) {
				t.Fatalf("%s: %d packets arrived in %d messages, want %d", c.name, len(b.stack.written), len(a.wire.sent), len(packets))
			}
		}
		run()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations per burst of %d packets in fragments, both ways; want 0", c.name, n, len(packets))
		}
	}
}
