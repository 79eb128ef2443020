package transport

import (
	"sync/atomic"

	"stunnel/crypto"
)

// The replay window is the ring of RFC 6479: 8192 counters are remembered. Since the word of the ring that the newest
// counter lies in is not full yet, one word's worth less is usable: a counter may be 8128 behind the newest, which is
// the figure of the other WireGuards with their words of 64 bits.
const (
	windowSize   = 8192
	windowUsable = windowSize - 64

	blockBits = 32 // counters per word of the ring
	ringWords = windowSize / blockBits
)

// replayWindow decides which counters of one receiving key are new. It is shared by all lanes without a lock: each
// word of the ring holds 32 verdicts below and, above, which block of 32 counters they are about, so that the
// test-and-set and the clearing of an outdated block are the same compare-and-swap of one word.
//
// The zero value is a window that has seen nothing. It must not be copied.
type replayWindow struct {
	newest atomic.Uint64
	ring   [ringWords]atomic.Uint64
}

// Check says whether c may be new. It is a hint that saves opening an obvious replay; it decides nothing.
func (w *replayWindow) Check(c crypto.Counter) bool {
	if c >= crypto.RejectAfterMessages || w.tooOld(uint64(c)) {
		return false
	}
	slot, tag, bit := place(uint64(c))
	word := w.ring[slot].Load()
	return word&^verdicts != tag || word&bit == 0
}

// Accept is the decision about c, to be asked once per opened message and before anything else is done with it: of
// all calls with the same c, whatever lanes they come from, at most one is told true.
func (w *replayWindow) Accept(c crypto.Counter) bool {
	if c >= crypto.RejectAfterMessages {
		return false
	}
	// First raise newest, then mark: a word that was already taken over by a later block is then always seen together
	// with a newest that puts c out of the window (see below).
	for {
		newest := w.newest.Load()
		if uint64(c) <= newest {
			if newest-uint64(c) > windowUsable {
				return false
			}
			break
		}
		if w.newest.CompareAndSwap(newest, uint64(c)) {
			break
		}
	}
	slot, tag, bit := place(uint64(c))
	for {
		word := w.ring[slot].Load()
		marked := tag | bit
		if word&^verdicts == tag {
			if word&bit != 0 {
				return false
			}
			marked = word | bit
		} else if w.tooOld(uint64(c)) {
			// The word is about another block. Were it a later one, at least 8161 ahead, newest would have been raised
			// before, and c would end here. So what is overwritten below is an earlier block, outside of the window.
			return false
		}
		if w.ring[slot].CompareAndSwap(word, marked) {
			return true
		}
	}
}

// Newest is the highest counter accepted so far; 0 also when there is none.
func (w *replayWindow) Newest() crypto.Counter { return crypto.Counter(w.newest.Load()) }

func (w *replayWindow) tooOld(c uint64) bool {
	newest := w.newest.Load()
	return c < newest && newest-c > windowUsable
}

// verdicts are the bits of a ring word that say which counters of its block were seen. The others hold the tag: the
// block's number divided by the length of the ring, modulo 2^32. Two tags are mistaken for each other only if a peer
// leaps by a multiple of 2^45 messages within one session; then some of its own new messages may be refused, and none
// is accepted twice.
const verdicts = 1<<blockBits - 1

func place(c uint64) (slot int, tag, bit uint64) {
	block := c / blockBits
	return int(block % ringWords), block / ringWords << blockBits, 1 << (c % blockBits)
}
