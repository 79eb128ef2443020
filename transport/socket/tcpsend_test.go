package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"
)

// numbered is a train of n messages of size bytes, each with a number that goes up from first.
func numbered(first uint64, n, size int) []byte {
	all := make([]byte, n*size)
	for i := range n {
		m := all[i*size:][:size]
		binary.BigEndian.PutUint64(m, first+uint64(i))
		for j := 8; j < size; j++ {
			m[j] = byte(int(first) + i + j)
		}
	}
	return all
}

// number checks a message of such a train and returns its number.
func number(t *testing.T, message []byte) uint64 {
	t.Helper()
	n := binary.BigEndian.Uint64(message)
	if want := numbered(n, 1, len(message)); !bytes.Equal(message, want) {
		t.Fatalf("message %d is garbled", n)
	}
	return n
}

// fill sends until the connection has taken no more, and returns how many trains that were.
func fill(t *testing.T, c *TCP, n, size int) (trains int) {
	t.Helper()
	for ; trains < 100_000; trains++ {
		switch err := c.Send(numbered(uint64(trains*n), n, size), size); {
		case errors.Is(err, ErrStalled):
			return trains + 1
		case err != nil:
			t.Fatal(err)
		}
	}
	t.Fatal("what nobody reads is taken without end")
	return 0
}

func TestAConnectionThatStandsStillDropsWholeMessages(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	const n, size = 40, 1452
	trains := fill(t, dialled, n, size)
	began := time.Now()
	for range 200 {
		if err := dialled.Send(numbered(1<<40, n, size), size); !errors.Is(err, ErrStalled) {
			t.Fatalf("%v", err)
		}
	}
	if took := time.Since(began); took >= 200*patience {
		t.Errorf("200 sends on a connection that stands still took %v: each has waited", took)
	}
	if dialled.Offer(numbered(1<<40, 1, size)) {
		t.Error("a message was sent, and there is no room")
	}
	finishing := func() bool {
		dialled.out.mu.Lock()
		defer dialled.out.mu.Unlock()
		return dialled.out.finishing
	}
	if !finishing() {
		t.Fatal("no message was cut, so nothing is tested")
	}
	// All that was taken comes, and nothing else; the message that was cut comes to its end although nobody sends.
	const marker = 1 << 41
	next, marked := uint64(0), false
	for {
		for _, m := range collectFrom(t, taken, 1) {
			switch number := number(t, []byte(m.data)); {
			case number == marker:
				if next < uint64(trains-1)*n || next >= uint64(trains*n) {
					t.Errorf("%d messages came of %d trains of %d, of which the last was cut", next, trains, n)
				}
				return
			case number != next || len(m.data) != size:
				t.Fatalf("after %d messages comes number %d", next, number)
			}
			next++
		}
		if !finishing() && !marked {
			marked = dialled.Send(numbered(marker, 1, 50), 50) == nil // or there is more to come, and then room
		}
	}
}

func TestTryDoesNotWaitForRoom(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	const n, size = 40, 1452
	trains := fill(t, dialled, n, size)
	began := time.Now()
	for range 100 {
		dialled.out.mu.Lock()
		dialled.out.stalled = false // as after every moment in which something was taken
		dialled.out.mu.Unlock()
		if err := dialled.Try(numbered(1<<40, n, size), size); !errors.Is(err, ErrStalled) {
			t.Fatalf("%v", err)
		}
	}
	if took := time.Since(began); took >= 100*patience {
		t.Errorf("100 tries on a connection that stands still took %v", took)
	}
	for next := uint64(0); next < uint64(trains-1)*n; {
		for _, m := range collectFrom(t, taken, 1) {
			if got := number(t, []byte(m.data)); got != next && next < uint64(trains-1)*n {
				t.Fatalf("after %d messages comes number %d", next, got)
			}
			next++
		}
	}
}

func TestManyWhoSendDoNotTearEachOthersMessages(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "::1")
	const senders = 4
	var group sync.WaitGroup
	for s := range senders {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(s), 0))
			for i := range 200 {
				size, n := 40+r.IntN(3000), 1+r.IntN(70)
				first := uint64(s)<<40 + uint64(i*100)
				if r.IntN(4) == 0 {
					dialled.Offer(numbered(first, 1, size))
				} else if err := dialled.Send(numbered(first, n, size), size); err != nil && !errors.Is(err, ErrStalled) {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		group.Wait()
		// Behind all else, however long that takes.
		for dialled.Send(numbered(99<<40, 1, 40), 40) != nil {
		}
	}()
	var last [senders]uint64
	r := rand.New(rand.NewPCG(99, 0))
	came := 0
	for {
		for _, m := range collectFrom(t, taken, 1) {
			n := number(t, []byte(m.data))
			if n == 99<<40 {
				t.Logf("%d messages came", came)
				return
			}
			came++
			if s := n >> 40; n < last[s] {
				t.Fatalf("of sender %d comes %d after %d", s, n, last[s])
			} else {
				last[s] = n
			}
		}
		if r.IntN(20) == 0 {
			time.Sleep(time.Millisecond) // not an event: a reader that is slow now and then
		}
	}
}

func TestAMessageThatHasNoLengthIsRefused(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	if err := dialled.Send(make([]byte, 70_000), 70_000); !errors.Is(err, ErrTooLong) {
		t.Errorf("%v", err)
	}
	if dialled.Offer(make([]byte, 70_000)) || dialled.Offer(nil) {
		t.Error("it was sent")
	}
	if !dialled.Offer(numbered(1, 1, 50)) {
		t.Error("nothing is in the way, and it was not sent")
	}
	expect(t, collectFrom(t, taken, 1), []string{string(numbered(1, 1, 50))})
}

func TestAConnectionThatIsClosedWhileItStandsStillLeavesNobodyBehind(t *testing.T) {
	inNetworkNamespace(t)
	dialled, _ := connected(t, "127.0.0.1")
	fill(t, dialled, 3, 50_000)
	for range 10 {
		_ = dialled.Send(numbered(1<<40, 3, 50_000), 50_000)
	}
	if err := dialled.Close(); err != nil { // waits for those who use the connection
		t.Fatal(err)
	}
	if err := dialled.Send(numbered(0, 1, 50), 50); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestSendAndReceiveOnAConnectionDoNotAllocate(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("SKIPPED: with the race detector a sync.Pool forgets things at random")
	}
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	all, _ := train(40, 1452)
	one := numbered(0, 1, 100)
	allocs := testing.AllocsPerRun(500, func() {
		if err := dialled.Send(all, 1452); err != nil {
			t.Fatal(err)
		}
		if !dialled.Offer(one) {
			t.Fatal("an offer was not taken")
		}
		for n := 0; n < 41; {
			burst, err := taken.Receive()
			if err != nil {
				t.Fatal(err)
			}
			n += len(burst)
		}
	})
	if allocs != 0 {
		t.Errorf("a train costs %v allocations", allocs)
	}
}
