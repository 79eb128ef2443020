package transport

import (
	"slices"
	"sync"
	"time"
	"unsafe"

	"stunnel/crypto"
)

// Bounds of what waits for the rest of its fragments: how many packets under
// one session, for how long from the first fragment, and how much memory in the
// whole tunnel, bookkeeping included.
const (
	maxOpenWholes  = 8
	reassemblyTime = time.Second
	maxReassembly  = 16 << 20

	maxSpareBlocks = 256
	maxSpareWholes = 64
)

// reassembly keeps fragments whose packet is not whole yet, of all sessions of
// a tunnel: those that did not come one after the other in one run of messages
// (gather.go has those that did). Lanes share it, so its lock is a leaf that is
// taken for one fragment at a time.
type reassembly struct {
	mu          sync.Mutex // guards what follows, and every peer's openWholes
	held        int        // bytes in use, of all holders
	holders     []*peer    // peers with open wholes
	spareBlocks *block
	blocks      int // spare ones
	spareWholes []*whole
}

// openWholes are those of one peer's sessions.
type openWholes struct {
	wholes []*whole // oldest first
	held   int      // bytes in use
	place  int      // in reassembly.holders, while there are wholes
}

// whole is a packet of which some fragments have come.
type whole struct {
	session *session
	id      crypto.Counter // of its first fragment
	begun   time.Duration
	have    uint8 // bit i: part i is here
	last    int   // index of the last part; -1: not known
	length  int   // of the parts that are here
	parts   [maxFragments]part
}

// part is what one fragment carried.
type part struct {
	blocks *block
	length int
}

// block is a piece of memory; a part has a list of them. With the word that the
// allocator puts in front of what has pointers it takes blockSize bytes.
type block struct {
	next *block
	data [blockSize - 2*unsafe.Sizeof(uintptr(0))]byte
}

const (
	blockSize = 1 << 10
	blockData = len(block{}.data)
	wholeSize = int(unsafe.Sizeof(whole{}))
)

// insert takes in a copy of f, a fragment of the packet known as id. If that is
// whole now it is appended to dst; else what is returned is nil. began says that
// it is a packet not heard of before, and that sweep should be called in time.
func (r *reassembly) insert(dst []byte, s *session, id crypto.Counter, f fragment, now time.Duration) (packet []byte, began bool) {
	p := s.peer
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(p, now)
	need := blockSize * ((len(f.part) + blockData - 1) / blockData)
	for r.held+need+wholeSize > maxReassembly {
		r.evict()
	}
	i := p.find(s, id)
	if i >= 0 && !p.wholes.wholes[i].fits(f) {
		r.drop(p, i, dropBadFragment)
		return nil, false
	}
	if i < 0 {
		if s.open.Load() == maxOpenWholes {
			r.drop(p, p.oldest(s), dropReassemblyFull)
		}
		i, began = r.begin(s, id, now), true
	}
	w := p.wholes.wholes[i]
	r.store(w, f)
	if w.last < 0 || w.have != 1<<(w.last+1)-1 {
		return nil, began
	}
	packet = w.appendTo(dst)
	r.remove(p, i)
	return packet, began
}

// contradict drops the packet known as id, if there is one: a fragment of it
// cannot be true.
func (r *reassembly) contradict(s *session, id crypto.Counter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := s.peer.find(s, id); i >= 0 {
		r.remove(s.peer, i)
	}
}

// knows says whether fragments of the packet known as id are here.
func (r *reassembly) knows(s *session, id crypto.Counter) bool {
	if s.open.Load() == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.peer.find(s, id) >= 0
}

// sweep drops what p's sessions have waited for too long, and returns when the
// next packet's time is over; never: there is none.
func (r *reassembly) sweep(p *peer, now time.Duration) (next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(p, now)
	if len(p.wholes.wholes) == 0 {
		return never
	}
	return p.wholes.wholes[0].begun + reassemblyTime
}

// forget drops what s has; nobody uses it any more.
func (r *reassembly) forget(s *session) {
	if s.open.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for s.open.Load() > 0 {
		r.drop(s.peer, s.peer.oldest(s), dropFragmentMissing)
	}
}

// What follows is called with mu held.

// expire drops those of p's wholes whose time is over.
func (r *reassembly) expire(p *peer, now time.Duration) {
	for len(p.wholes.wholes) > 0 && now-p.wholes.wholes[0].begun >= reassemblyTime {
		r.drop(p, 0, dropFragmentMissing)
	}
}

// evict drops the oldest whole of the peer that holds most.
func (r *reassembly) evict() {
	most := r.holders[0]
	for _, p := range r.holders {
		if p.wholes.held > most.wholes.held {
			most = p
		}
	}
	r.drop(most, 0, dropReassemblyMemory)
}

// find returns the place of a whole among those of its peer; -1: it is not there.
func (p *peer) find(s *session, id crypto.Counter) int {
	return slices.IndexFunc(p.wholes.wholes, func(w *whole) bool { return w.id == id && w.session == s })
}

// oldest is the place of the oldest whole of s, which has one.
func (p *peer) oldest(s *session) int {
	return slices.IndexFunc(p.wholes.wholes, func(w *whole) bool { return w.session == s })
}

// begin makes a whole without parts and returns its place.
func (r *reassembly) begin(s *session, id crypto.Counter, now time.Duration) int {
	p := s.peer
	var w *whole
	if n := len(r.spareWholes); n > 0 {
		w, r.spareWholes = r.spareWholes[n-1], r.spareWholes[:n-1]
	} else {
		w = new(whole)
	}
	w.session, w.id, w.begun, w.last = s, id, now, -1
	if len(p.wholes.wholes) == 0 {
		p.wholes.place = len(r.holders)
		r.holders = append(r.holders, p)
	}
	p.wholes.wholes = append(p.wholes.wholes, w)
	s.open.Add(1)
	r.charge(p, wholeSize)
	return len(p.wholes.wholes) - 1
}

// store takes in a fragment that fits.
func (r *reassembly) store(w *whole, f fragment) {
	end := &w.parts[f.index].blocks
	for rest := f.part; len(rest) > 0; {
		b := r.spareBlocks
		if b != nil {
			r.spareBlocks, b.next = b.next, nil
			r.blocks--
		} else {
			b = new(block)
		}
		rest = rest[copy(b.data[:], rest):]
		*end, end = b, &b.next
		r.charge(w.session.peer, blockSize)
	}
	w.parts[f.index].length = len(f.part)
	w.length += len(f.part)
	w.have |= 1 << f.index
	if f.last {
		w.last = f.index
	}
}

// drop removes a whole that will not be completed.
func (r *reassembly) drop(p *peer, i int, why dropReason) {
	p.drops.add(why, 1)
	r.remove(p, i)
}

// remove takes the whole at a place out and keeps some of its memory for the next.
func (r *reassembly) remove(p *peer, i int) {
	w := p.wholes.wholes[i]
	p.wholes.wholes = slices.Delete(p.wholes.wholes, i, i+1)
	w.session.open.Add(-1)
	freed := wholeSize
	for i := range w.parts {
		for b := w.parts[i].blocks; b != nil; {
			next := b.next
			if r.blocks < maxSpareBlocks {
				b.next, r.spareBlocks = r.spareBlocks, b
				r.blocks++
			}
			b, freed = next, freed+blockSize
		}
	}
	r.charge(p, -freed)
	if len(p.wholes.wholes) == 0 {
		end := len(r.holders) - 1
		r.holders[p.wholes.place] = r.holders[end]
		r.holders[p.wholes.place].wholes.place = p.wholes.place
		r.holders[end] = nil
		r.holders = r.holders[:end]
	}
	*w = whole{}
	if len(r.spareWholes) < maxSpareWholes {
		r.spareWholes = append(r.spareWholes, w)
	}
}

// charge enters bytes taken, or given back, in the account.
func (r *reassembly) charge(p *peer, n int) {
	r.held += n
	p.wholes.held += n
}

// fits says whether f can be a part of w beside those that are here.
func (w *whole) fits(f fragment) bool {
	switch {
	case w.have>>f.index&1 != 0, w.length+len(f.part) > maxWhole:
		return false
	case f.last:
		return w.last < 0 && w.have>>f.index == 0
	}
	return w.last < 0 || f.index < w.last
}

// appendTo appends all parts in their order.
func (w *whole) appendTo(dst []byte) []byte {
	for _, p := range w.parts[:w.last+1] {
		for b, left := p.blocks, p.length; left > 0; b = b.next {
			n := min(left, blockData)
			dst, left = append(dst, b.data[:n]...), left-n
		}
	}
	return dst
}
