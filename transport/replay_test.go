package transport

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"stunnel/crypto"
)

const lastCounter = crypto.RejectAfterMessages - 1

func TestTheWindowDecidesEachCounterOnce(t *testing.T) {
	type step struct {
		c    crypto.Counter
		want bool
	}
	sequence := func(steps ...step) []step { return steps }
	run := func(from, to, by int64) (steps []step) {
		for c := from; c != to+by; c += by {
			steps = append(steps, step{crypto.Counter(c), true})
		}
		return steps
	}
	for name, steps := range map[string][]step{
		"in order, each twice":     sequence(step{0, true}, step{0, false}, step{1, true}, step{1, false}, step{2, true}, step{2, false}),
		"out of order":             sequence(step{9, true}, step{8, true}, step{7, true}, step{7, false}, step{10, true}, step{9, false}, step{0, true}, step{0, false}),
		"the whole window upwards": append(run(0, windowUsable*3, 1), step{0, false}, step{windowUsable * 3, false}, step{windowUsable * 2, false}),
		"the whole window downwards": append(append(sequence(step{windowUsable + 1, true}), run(windowUsable, 1, -1)...),
			step{0, false}, step{1, false}, step{windowUsable, false}),
		"the lower edge": sequence(step{windowUsable + 100, true}, step{100, true}, step{99, false}, step{100, false}, step{windowUsable + 101, true}, step{100, false}, step{101, true}),
		"a leap clears what it skips": append(append(run(0, 8000, 1), step{8000 + 3*windowSize, true}),
			step{7999 + 3*windowSize - windowUsable, false}, step{8000 + 3*windowSize - windowUsable, true}, step{8000, false}),
		"a leap of one ring": append(run(0, 300, 1), step{windowSize + 300, true}, step{windowSize + 299, true}, step{windowSize + 1, true}, step{300, false}, step{windowSize + 1, false}),
		"the end of a key": sequence(step{1, true}, step{lastCounter, true}, step{lastCounter + 1, false}, step{^crypto.Counter(0), false}, step{lastCounter, false},
			step{lastCounter - 1, true}, step{lastCounter - windowUsable, true}, step{lastCounter - windowUsable - 1, false}, step{0, false}, step{2, false}),
	} {
		t.Run(name, func(t *testing.T) {
			var w replayWindow
			for i, s := range steps {
				if hint := w.Check(s.c); hint != s.want {
					t.Fatalf("step %d: Check(%d) = %t", i, s.c, hint)
				}
				if got := w.Accept(s.c); got != s.want {
					t.Fatalf("step %d: Accept(%d) = %t", i, s.c, got)
				}
			}
		})
	}
}

func TestTheWindowKnowsItsNewestCounter(t *testing.T) {
	var w replayWindow
	for _, c := range []crypto.Counter{0, 5, 3, 5, 70_000, 1, crypto.RejectAfterMessages} {
		w.Accept(c)
	}
	if got := w.Newest(); got != 70_000 {
		t.Errorf("the newest of them is %d", got)
	}
}

// A set and a maximum are the definition of the window.
func FuzzTheWindowAgreesWithASet(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 3, 2, 1, 0})
	f.Add([]byte{0x40, 0x80, 0xc0, 0xff, 0x7f, 0x80, 0x81, 0xc1, 1})
	f.Fuzz(func(t *testing.T, program []byte) {
		var w replayWindow
		seen := map[uint64]bool{}
		var newest, c uint64
		for _, b := range program {
			step := uint64(b & 0x3f)
			switch b >> 6 {
			case 0:
				c += step
			case 1:
				c -= min(c, step)
			case 2:
				c += step * 251
			case 3:
				c -= min(c, step*251)
			}
			want := !seen[c] && (c > newest || newest-c <= windowUsable)
			if hint, got := w.Check(crypto.Counter(c)), w.Accept(crypto.Counter(c)); hint != want || got != want {
				t.Fatalf("counter %d, newest %d: check %t, accept %t, want %t", c, newest, hint, got, want)
			}
			seen[c] = true
			newest = max(newest, c)
		}
	})
}

func TestLanesThatRaceForACounterGetItOnce(t *testing.T) {
	const lanes, counters = 4, 50_000
	var w replayWindow
	accepted := make([]atomic.Int32, counters)
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(lane), 1))
			for i := range counters {
				c := i - min(i, r.IntN(64)*r.IntN(64)) // most within the window, all more than once
				for _, c := range []int{i, c} {
					if w.Accept(crypto.Counter(c)) {
						accepted[c].Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	for c := range accepted {
		if n := accepted[c].Load(); n > 1 {
			t.Fatalf("counter %d was accepted %d times", c, n)
		}
	}
	if n := accepted[counters-1].Load(); n != 1 {
		t.Fatalf("the newest counter was accepted %d times", n)
	}
}

func BenchmarkReplayWindow(b *testing.B) {
	for _, disorder := range []uint64{0, 64} {
		b.Run(fmt.Sprint("disorder=", disorder), func(b *testing.B) {
			var w replayWindow
			var c uint64
			b.ReportAllocs()
			for b.Loop() {
				w.Accept(crypto.Counter(c ^ disorder))
				c++
			}
		})
	}
}
