package transport

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"stunnel/transport/socket"
)

// tally is a Queue that counts the packets that it was given, by their number.
type tally struct {
	stack
	seen []atomic.Uint32
}

func (q *tally) Write(packets [][]byte, _ []bool) error {
	for _, p := range packets {
		q.seen[binary.BigEndian.Uint32(p[ipv4HeaderSize:])].Add(1)
	}
	return nil
}

// Every message comes by all lanes at once, as from somebody who copies what he
// sees; in the same order, and in orders of their own.
func TestACiphertextRacedThroughAllLanesIsDeliveredOnce(t *testing.T) {
	const lanes, train = 4, 64
	rounds := 1_000_000 / train
	if testing.Short() {
		rounds /= 20
	}
	a, b, clock := shook(t)
	queue := &tally{seen: make([]atomic.Uint32, rounds*train)}
	b.lanes[0].queue = queue
	for len(b.lanes) < lanes {
		b.lanes = append(b.lanes, newLane(b.Tunnel, len(b.lanes), queue))
	}
	var bursts [lanes][]socket.Datagram
	begin, done := make([]chan int, lanes), make(chan struct{}, lanes)
	var running sync.WaitGroup
	for i := range lanes {
		bursts[i] = make([]socket.Datagram, train)
		begin[i] = make(chan int, 1)
		running.Go(func() {
			for range begin[i] {
				b.lanes[i].in.inbound(bursts[i], *clock)
				done <- struct{}{}
			}
		})
	}
	defer running.Wait()
	defer func() {
		for i := range lanes {
			close(begin[i])
		}
	}()

	var packets [][]byte
	for range train {
		packets = append(packets, packet("10.0.0.1", "10.0.0.2", 64))
	}
	a.wire.recycle, a.wire.sent = true, make([][]byte, 0, 2*train)
	for round := range rounds {
		for i := range packets {
			binary.BigEndian.PutUint32(packets[i][ipv4HeaderSize:], uint32(round*train+i))
		}
		first, rest, partial := split(packets...)
		a.wire.sent, a.wire.sizes = a.wire.sent[:0], a.wire.sizes[:0]
		a.lanes[0].outbound(first, rest, partial, *clock)
		for i := range lanes {
			for j, msg := range a.wire.sent {
				d := &bursts[i][(j+i*(round%train))%train]
				d.Data, d.Path.Remote = append(d.Data[:0], msg...), a.addr
			}
			begin[i] <- round
		}
		for range lanes {
			<-done
		}
	}
	for i := range queue.seen {
		if n := queue.seen[i].Load(); n != 1 {
			t.Fatalf("message %d was delivered %d times", i, n)
		}
	}
	drops := b.Status().Peers[0].Drops
	if want := uint64(rounds * train * (lanes - 1)); drops["replayed"] != want || len(drops) != 1 {
		t.Errorf("drops %v, want %d replayed", drops, want)
	}
}

// Several lanes send to one peer under one session: each counter is used once.
func TestLanesSealNothingTwiceUnderOneCounter(t *testing.T) {
	const lanes, rounds = 4, 200
	a, b, clock := shook(t)
	wires := []*wire{a.wire}
	sockets := []Socket{a.wire}
	for len(a.lanes) < lanes {
		a.lanes = append(a.lanes, newLane(a.Tunnel, len(a.lanes), a.stack))
		w := &wire{}
		wires, sockets = append(wires, w), append(sockets, w)
	}
	a.binding.Store(newBinding(sockets))
	var sending sync.WaitGroup
	for i := range lanes {
		sending.Go(func() {
			for round := range rounds {
				p := packet("10.0.0.1", "10.0.0.2", 100+i)
				binary.BigEndian.PutUint32(p[ipv4HeaderSize:], uint32(round))
				first, rest, partial := split(p, p, p)
				a.lanes[i].outbound(first, rest, partial, *clock)
			}
		})
	}
	sending.Wait()
	counters := make(map[uint64]bool)
	for i, w := range wires {
		if len(w.sent) != 3*rounds {
			t.Errorf("lane %d sent %d messages by its own socket, want %d", i, len(w.sent), 3*rounds)
		}
		last := uint64(0)
		for _, msg := range w.sent {
			counter := binary.LittleEndian.Uint64(msg[8:])
			if counters[counter] || counter < last {
				t.Fatalf("counter %d again, or after %d", counter, last)
			}
			counters[counter], last = true, counter
		}
	}
	if !bytes.Equal(wires[0].sent[0][:8], wires[lanes-1].sent[0][:8]) {
		t.Error("the lanes used different sessions")
	}
	if b.Status().Peers[0].Drops != nil {
		t.Error("b was told")
	}
}
