package transport

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"stunnel/crypto"
)

// waiting is a Tunnel's reassembly with fragments and a clock of the test's.
type waiting struct {
	*Tunnel
	t   testing.TB
	now time.Duration
}

func newWaiting(t testing.TB) *waiting {
	w := &waiting{t: t, now: time.Hour}
	w.Tunnel = New(Options{MTU: 1420, Now: func() time.Duration { return w.now }})
	return w
}

func (w *waiting) session() *session {
	return &session{peer: newPeer(w.Tunnel, crypto.NewPrivateKey().Public()), created: w.now}
}

// insert takes n bytes, all of them the fragment's index.
func (w *waiting) insert(s *session, id crypto.Counter, index int, last bool, n int) (packet []byte) {
	f := fragment{index: index, last: last, part: bytes.Repeat([]byte{byte(index)}, n)}
	packet, _ = w.reassembly.insert(nil, s, id, f, w.now)
	w.check()
	return packet
}

// check counts what is held anew, and compares it with the account.
func (w *waiting) check() {
	w.t.Helper()
	held := 0
	for place, p := range w.reassembly.holders {
		ofPeer := 0
		open := map[*session]int32{}
		for _, whole := range p.wholes.wholes {
			ofPeer += wholeSize
			open[whole.session]++
			for _, part := range whole.parts {
				for b := part.blocks; b != nil; b = b.next {
					ofPeer += blockSize
				}
			}
		}
		for s, n := range open {
			if n != s.open.Load() || n > maxOpenWholes {
				w.t.Fatalf("%d wholes of a session, which says %d; %d are allowed", n, s.open.Load(), maxOpenWholes)
			}
		}
		if held += ofPeer; ofPeer != p.wholes.held || len(p.wholes.wholes) == 0 || p.wholes.place != place {
			w.t.Fatalf("a peer holds %d bytes in %d wholes, its account says %d", ofPeer, len(p.wholes.wholes), p.wholes.held)
		}
	}
	if held != w.reassembly.held || held > maxReassembly {
		w.t.Fatalf("%d bytes are held, the account says %d; %d are allowed", held, w.reassembly.held, maxReassembly)
	}
	if w.reassembly.blocks > maxSpareBlocks || len(w.reassembly.spareWholes) > maxSpareWholes {
		w.t.Fatalf("%d blocks and %d wholes are spare", w.reassembly.blocks, len(w.reassembly.spareWholes))
	}
}

func TestFragmentsThatContradictEachOtherEndTheirPacket(t *testing.T) {
	type of struct {
		index int
		last  bool
		n     int
	}
	for _, c := range []struct {
		name      string
		fragments []of // the last one contradicts
	}{
		{"the same index again", []of{{1, false, 10}, {1, false, 10}}},
		{"the same index again, with another length", []of{{1, false, 10}, {1, false, 1}}},
		{"the last one again", []of{{1, true, 10}, {1, true, 10}}},
		{"a last one behind the last one", []of{{1, true, 10}, {2, true, 10}}},
		{"a last one before the last one", []of{{3, true, 10}, {2, true, 10}}},
		{"one behind the last one", []of{{1, true, 10}, {3, false, 10}}},
		{"the last one before one that is here", []of{{4, false, 10}, {3, true, 10}}},
		{"what is the last one was not", []of{{1, false, 10}, {1, true, 10}}},
		{"what was the last one is not", []of{{1, true, 10}, {1, false, 10}}},
		{"more than a packet can have", []of{{0, false, 40000}, {1, false, 25535}, {2, true, 1}}},
	} {
		w := newWaiting(t)
		s := w.session()
		other := w.insert(s, 50, 0, false, 10)
		for i, f := range c.fragments {
			if packet := w.insert(s, 100, f.index, f.last, f.n); packet != nil {
				t.Errorf("%s: a packet of %d bytes came out", c.name, len(packet))
			}
			if bad := s.peer.drops[dropBadFragment].Load(); (bad != 0) != (i == len(c.fragments)-1) {
				t.Errorf("%s: %d bad after %d fragments", c.name, bad, i+1)
			}
		}
		if w.reassembly.knows(s, 100) || !w.reassembly.knows(s, 50) || other != nil {
			t.Errorf("%s: the packet is still waited for, or another one no more", c.name)
		}
	}
}

func TestTheLargestPacketComesOutOfFragments(t *testing.T) {
	w := newWaiting(t)
	s := w.session()
	var want []byte
	for index := range maxFragments {
		want = append(want, bytes.Repeat([]byte{byte(index)}, 8192-index/7)...)
	}
	for _, index := range []int{7, 0, 3, 1, 2, 6, 5} {
		w.insert(s, 9, index, index == 7, 8192-index/7)
	}
	if got := w.insert(s, 9, 4, false, 8192); len(want) != maxWhole || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came of %d", len(got), len(want))
	}
	if w.reassembly.held != 0 {
		t.Errorf("%d bytes are held", w.reassembly.held)
	}
}

func TestANinthUnfinishedPacketOfASessionEndsTheOldest(t *testing.T) {
	w := newWaiting(t)
	s := w.session()
	sibling := &session{peer: s.peer}
	w.insert(sibling, 0, 0, false, 100)
	for id := range crypto.Counter(maxOpenWholes) {
		w.insert(s, 10*id, 0, false, 100)
		w.now += time.Millisecond
	}
	if s.peer.drops[dropReassemblyFull].Load() != 0 {
		t.Fatal("eight are too many")
	}
	w.insert(s, 80, 0, false, 100)
	if w.insert(s, 0, 1, true, 100) != nil {
		t.Error("the oldest is still there")
	}
	// That began it anew, and ended the second.
	if n := s.peer.drops[dropReassemblyFull].Load(); n != 2 {
		t.Errorf("%d were given up, want 2", n)
	}
	for id := crypto.Counter(2); id <= maxOpenWholes; id++ {
		if w.insert(s, 10*id, 1, true, 100) == nil {
			t.Errorf("the packet %d of the younger ones is gone", id)
		}
	}
	if w.insert(sibling, 0, 1, true, 100) == nil {
		t.Error("the packet of the peer's other session is gone")
	}
}

func TestAPacketWaitsASecondForItsFragments(t *testing.T) {
	w := newWaiting(t)
	s := w.session()
	for _, c := range []struct {
		wait time.Duration
		want bool
	}{{0, true}, {reassemblyTime - 1, true}, {reassemblyTime, false}, {3 * reassemblyTime / 2, false}} {
		w.insert(s, 1, 0, false, 100)
		w.now += c.wait / 2
		w.insert(s, 1, 1, false, 100) // does not prolong it
		w.now += c.wait - c.wait/2
		if got := w.insert(s, 1, 2, true, 100) != nil; got != c.want {
			t.Errorf("%v after the first fragment the last one completes: %v", c.wait, got)
		}
		w.now += time.Minute
		if next := w.reassembly.sweep(s.peer, w.now); next != never || w.reassembly.held != 0 {
			t.Errorf("%d bytes are still held, the next is due at %v", w.reassembly.held, next)
		}
	}
	if n := s.peer.drops[dropFragmentMissing].Load(); n != 4 { // the last one, late, began one of its own
		t.Errorf("%d packets missed a fragment, want 4", n)
	}
}

func TestSweepTellsWhenTheNextPacketIsDue(t *testing.T) {
	w := newWaiting(t)
	s, other := w.session(), w.session()
	begin := w.now
	w.insert(other, 1, 0, false, 1)
	w.now = begin + 100*time.Millisecond
	w.insert(s, 1, 0, false, 1)
	w.now = begin + 300*time.Millisecond
	w.insert(&session{peer: s.peer}, 1, 0, false, 1)
	for _, c := range []struct{ at, want time.Duration }{
		{1099 * time.Millisecond, begin + 1100*time.Millisecond},
		{1100 * time.Millisecond, begin + 1300*time.Millisecond},
		{1300 * time.Millisecond, never},
	} {
		if next := w.reassembly.sweep(s.peer, begin+c.at); next != c.want {
			t.Errorf("after %v: %v, want %v", c.at, next, c.want)
		}
		w.check()
	}
	if !w.reassembly.knows(other, 1) {
		t.Error("another peer's was swept too")
	}
}

func TestUnfinishedPacketsEndWithTheirSession(t *testing.T) {
	w := newWaiting(t)
	s := w.session()
	s.Keypair = new(crypto.Keypair)
	sibling := &session{peer: s.peer}
	w.insert(sibling, 1, 0, false, 100)
	for id := range crypto.Counter(3) {
		w.insert(s, 10*id, 0, false, 100)
	}
	if !s.acquire() {
		t.Fatal("a live session cannot be acquired")
	}
	s.retire()
	if s.open.Load() != 3 {
		t.Error("they ended while the session was in use")
	}
	s.release()
	if w.check(); s.open.Load() != 0 || w.reassembly.held != wholeSize+blockSize {
		t.Errorf("%d are open, %d bytes held", s.open.Load(), w.reassembly.held)
	}
	if n := s.peer.drops[dropFragmentMissing].Load(); n != 3 {
		t.Errorf("%d packets missed a fragment, want 3", n)
	}
}

// Thousands of keypairs, each with as many unfinished packets as it may have.
func TestTenThousandUnfinishedPacketsTakeBoundedMemory(t *testing.T) {
	for _, c := range []struct {
		name           string
		fragments, len int
	}{{"large", 7, 1200}, {"tiny", 1, 1}, {"tiny and many", 7, 1}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWaiting(t)
			sessions := make([]*session, 10_000/maxOpenWholes)
			for i := range sessions {
				sessions[i] = w.session()
			}
			part := make([]byte, c.len)
			before, most := inUse(), 0
			for id := range crypto.Counter(maxOpenWholes) {
				for _, s := range sessions {
					for index := range c.fragments {
						w.reassembly.insert(nil, s, 100*id, fragment{index: index, part: part}, w.now)
					}
					most = max(most, w.reassembly.held)
				}
			}
			w.check()
			used := int(inUse() - before)
			runtime.KeepAlive(sessions)
			t.Logf("%d bytes held at the most, %d in use at the end", most, used)
			open, dropped := 0, 0
			for _, s := range sessions {
				open += int(s.open.Load())
				dropped += int(s.peer.drops[dropReassemblyMemory].Load())
			}
			if need := 10_000 * (wholeSize + c.fragments*blockSize*((c.len+blockData-1)/blockData)); need < maxReassembly {
				if dropped != 0 || open != 10_000 {
					t.Errorf("%d of 10,000 are left, %d were dropped, and there was room", open, dropped)
				}
			} else if most > maxReassembly || most < maxReassembly-maxWhole || dropped == 0 {
				t.Errorf("%d bytes were held at the most, %d packets dropped for it", most, dropped)
			}
			// Besides: the lists of each peer and of all of them.
			if limit := maxReassembly + maxReassembly/16; used > limit {
				t.Errorf("%d bytes are in use, more than %d", used, limit)
			}
			w.now += reassemblyTime
			for _, s := range sessions {
				w.reassembly.sweep(s.peer, w.now)
			}
			w.check()
			if w.reassembly.held != 0 {
				t.Errorf("%d bytes are held a second later", w.reassembly.held)
			}
			if used := int(inUse() - before); used > maxSpareBlocks*blockSize+maxReassembly/16 {
				t.Errorf("%d bytes are in use a second later", used)
			}
		})
	}
}

func TestMemoryIsTakenFromThePeerThatHoldsMost(t *testing.T) {
	w := newWaiting(t)
	modest := w.session()
	w.insert(modest, 0, 0, false, 1000)
	w.insert(modest, 10, 0, false, 1000)
	greedy := w.session().peer
	for w.reassembly.held < maxReassembly-10*maxWhole {
		s := &session{peer: greedy}
		for id := range crypto.Counter(maxOpenWholes) {
			f := fragment{part: make([]byte, 60_000)}
			w.reassembly.insert(nil, s, 10*id, f, w.now)
		}
	}
	others := w.session().peer
	for range 20 {
		s := &session{peer: others}
		w.insert(s, 0, 0, false, 60_000)
	}
	if n := others.drops[dropReassemblyMemory].Load() + modest.peer.drops[dropReassemblyMemory].Load(); n != 0 {
		t.Errorf("%d packets were taken from peers that held little", n)
	}
	if n := greedy.drops[dropReassemblyMemory].Load(); n == 0 || w.reassembly.held < maxReassembly-maxWhole {
		t.Errorf("%d packets were taken from the peer that held most, and %d bytes are held", n, w.reassembly.held)
	}
	if w.insert(modest, 0, 1, true, 10) == nil || w.insert(modest, 10, 1, true, 10) == nil {
		t.Error("the modest peer's packets are gone")
	}
}
