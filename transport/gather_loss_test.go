package transport

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stunnel/transport/socket"
)

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
		b.lanes = append(b.lanes, newLane(b.Tunnel, len(b.lanes), b.lanes[0].queue))
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
			b.lanes[random.IntN(lanes)].in.inbound(burst, *clock)
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
		b.lanes = append(b.lanes, newLane(b.Tunnel, len(b.lanes), queue))
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
			receiving.Go(func() { b.lanes[i].in.inbound(a.datagrams(burst), *clock) })
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
					b.lanes[0].in.inbound(burst, *clock)
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
