package device

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"time"
)

func TestWhoHasWrittenFindsTheAnswerAtOnce(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420, Offload: true})
	addressed(t, tun)
	q := tun.Queues()[0]
	// Nobody listens on the port: the stack answers within the write.
	must(t, q.Write([][]byte{udp4("10.9.8.2", "10.9.8.1", 1000, 9, []byte("x"))}, nil))
	found := 0
	q.Look(func(first, rest [][]byte, _ []bool) {
		for i := range first {
			if p := join(first, rest, i); p[0]>>4 == 4 && p[9] == 1 { // ICMP: port unreachable
				found++
			}
		}
	})
	if found != 1 {
		t.Errorf("%d answers, want 1", found)
	}
	q.Look(func(first, _ [][]byte, _ []bool) { t.Errorf("%d packets out of nothing", len(first)) })
}

func TestWhatReadHasLentIsNotLookedAt(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420})
	addressed(t, tun)
	q, c := tun.Queues()[0], sender(t, "10.9.8.2:9")
	for _, word := range []string{"one", "two"} {
		_, err := c.Write([]byte(word))
		must(t, err)
		if word == "one" {
			first, rest, _, err := q.Read()
			must(t, err)
			if p := join(first, rest, 0); string(p[28:]) != "one" {
				t.Fatalf("read %q", p[28:])
			}
		}
	}
	q.Look(func(first, _ [][]byte, _ []bool) { t.Errorf("looked at %d packets while Read's are lent", len(first)) })
	first, rest, _, err := q.Read()
	must(t, err)
	if p := join(first, rest, 0); string(p[28:]) != "two" {
		t.Errorf("read %q", p[28:])
	}
}

// One goroutine reads, others look: each packet is given out once, whole.
func TestReadAndLookShareWhatComes(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420, Offload: true})
	addressed(t, tun)
	q, c := tun.Queues()[0], sender(t, "10.9.8.2:9")
	const (
		n      = 20_000
		window = 200 // packets under way, fewer than the interface drops
	)
	var mu sync.Mutex
	came, late := sync.NewCond(&mu), false
	seen := make(map[uint32]int)
	use := func(first, rest [][]byte, _ []bool) {
		mu.Lock()
		defer mu.Unlock()
		for i := range first {
			if p := join(first, rest, i); p[0]>>4 == 4 && p[9] == 17 && len(p) == 28+1000 {
				seen[binary.BigEndian.Uint32(p[28:])]++
			}
		}
		came.Broadcast()
	}
	await := func(want int) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		for len(seen) < want && !late {
			came.Wait()
		}
		if len(seen) < want {
			t.Fatalf("%d packets came and then none, want %d", len(seen), want)
		}
	}
	alarm := time.AfterFunc(time.Minute, func() {
		mu.Lock()
		late = true
		mu.Unlock()
		came.Broadcast()
	})
	defer alarm.Stop()
	var workers sync.WaitGroup
	defer workers.Wait()
	defer q.Close()
	workers.Go(func() {
		for {
			first, rest, partial, err := q.Read()
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			use(first, rest, partial)
		}
	})
	payload := make([]byte, 1000)
	for i := range n {
		binary.BigEndian.PutUint32(payload, uint32(i))
		_, err := c.Write(payload)
		must(t, err)
		q.Look(use)
		await(i + 1 - window)
	}
	await(n)
	mu.Lock()
	defer mu.Unlock()
	for i, times := range seen {
		if times != 1 {
			t.Fatalf("packet %d was given out %d times", i, times)
		}
	}
}
