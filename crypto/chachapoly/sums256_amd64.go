//go:build !purego

package chachapoly

import (
	"math"
	"unsafe"
)

const (
	lanes256 = 8

	// squareFrom is from how many blocks on pairs of them are worth the squaring of
	// keys. Measured on a Zen 5, cycles for 8 lanes with squares : without: 8 blocks
	// 520:511, 12 blocks 729:758, 88 blocks 4724:5427.
	squareFrom = 12
)

// limbs256 is a limb of 26 bits of four lanes.
type limbs256 [4]uint64

// sumLanes is what the units of Poly1305 work on, at offsets that gen/avx2 knows: two
// groups of four lanes.
type sumLanes struct {
	h       [2][5]limbs256 // what was absorbed: limbs below 2^26 + 2^9
	r       [2][5]limbs256
	s       [2][4]limbs256 // 5 r, without the first limb
	squareR [2][5]limbs256 // of r^2
	squareS [2][4]limbs256
	from    [lanes256]*byte
}

// clamp256 gives every lane its r (RFC 8439, 2.5), and h = 0.
//
//go:noescape
func clamp256(l *sumLanes, keys *[lanes256][blockSize]byte)

// square256 prepares every lane for pairs of blocks.
//
//go:noescape
func square256(l *sumLanes)

// absorb256 absorbs n > 0 blocks, from byte at on, in the first so many lanes, and in
// those of the same group.
//
//go:noescape
func absorb256(l *sumLanes, lanes, at, n int)

// absorbPairs256 absorbs n > 0 pairs of blocks likewise, with one carry for each pair.
//
//go:noescape
func absorbPairs256(l *sumLanes, lanes, n int)

// finish256 makes the tags of what the lanes have absorbed, which stays as it is.
//
//go:noescape
func finish256(tags *[lanes256][TagSize]byte, l *sumLanes, keys *[lanes256][blockSize]byte)

// A sums256 has a message in each lane.
type sums256 struct {
	sumLanes
	squared bool          // square256 was called
	used    int           // lanes that have a message: the first ones
	left    [lanes256]int // blocks at from; 0 when the lane is done
	// The second part of each message, with no blocks once it has begun.
	then [lanes256]struct {
		from   *byte
		blocks int
	}
}

// add gives a lane a message of two parts, both of whole blocks. One of them may be empty.
func (s *sums256) add(first, second []byte) {
	i := s.used
	s.used++
	point(&s.from[i], unsafe.SliceData(first))
	point(&s.then[i].from, unsafe.SliceData(second))
	s.left[i], s.then[i].blocks = len(first)/sumSize, len(second)/sumSize
	if s.left[i] == 0 {
		s.begin(i)
	}
}

// begin goes on to the second part.
func (s *sums256) begin(i int) {
	then := &s.then[i]
	s.from[i], s.left[i], then.blocks = then.from, then.blocks, 0
}

// work makes the tags of the messages that were added. The first halves of keys are r
// and s.
func (s *sums256) work(keys *[lanes256][blockSize]byte, tags *[lanes256][TagSize]byte) {
	clamp256(&s.sumLanes, keys)
	s.squared = false
	for running := s.used; running > 0; {
		// All lanes absorb as many blocks as the shortest part has.
		n, shortest := math.MaxInt, 0
		for i, left := range s.left[:s.used] {
			if left > 0 && left < n {
				n, shortest = left, i
			}
		}
		if running < lanes256 {
			s.idle(shortest)
		}
		s.absorb(n)
		var ended uint8
		for i, left := range s.left[:s.used] {
			switch left -= n; {
			case left > 0:
				s.left[i], s.from[i] = left, beyond(s.from[i], n*sumSize)
			case left < 0: // done before
			case s.then[i].blocks > 0:
				s.begin(i)
			default:
				s.left[i] = 0
				ended |= 1 << i
				running--
			}
		}
		if ended != 0 {
			s.end(ended, keys, tags)
		}
	}
	s.used = 0
}

// idle lets the lanes that are done read what another one does. Nobody wants what they
// make of it.
func (s *sums256) idle(other int) {
	for i := range s.from {
		if i >= s.used || s.left[i] == 0 {
			s.from[i] = s.from[other]
		}
	}
}

// absorb absorbs n blocks in every lane that has a message.
func (s *sums256) absorb(n int) {
	if n >= squareFrom && !s.squared {
		square256(&s.sumLanes)
		s.squared = true
	}
	pairs := 0
	if s.squared && n > 1 {
		pairs = n / 2
		absorbPairs256(&s.sumLanes, s.used, pairs)
	}
	if n > 2*pairs {
		absorb256(&s.sumLanes, s.used, 2*pairs*sumSize, n-2*pairs)
	}
}

// end makes the tags of those lanes that have a bit in ended.
func (s *sums256) end(ended uint8, keys *[lanes256][blockSize]byte, tags *[lanes256][TagSize]byte) {
	if ended == 1<<s.used-1 { // mostly
		finish256(tags, &s.sumLanes, keys)
		return
	}
	var all [lanes256][TagSize]byte
	finish256(&all, &s.sumLanes, keys)
	for i := range all {
		if ended>>i&1 == 1 {
			tags[i] = all[i]
		}
	}
}
