//go:build !purego

package chachapoly

import (
	"encoding/binary"
	"unsafe"
)

// Poly1305 in 16 lanes: a message in each, or with fewer messages a part in each. With
// k lanes for a message, lane j has its blocks j, j+k, j+2k and so on: Horner's rule
// with r^k for r. The last multiplication of lane j is by r^(k-j), which brings
// every block to its power, and then the lanes of a message are added up.
//
// All lanes end together, at the block with the lengths (RFC 8439, 2.8). Shorter
// messages begin later, and so do lanes that would otherwise begin with a block less:
// a sum that is still zero stays as it is.

const (
	lanes512 = 16
	allLanes = 1<<lanes512 - 1
	sumSize  = 16      // bytes of a block of Poly1305
	never    = 1 << 30 // when lanes without a message begin
)

type (
	limbs512      = [3][lanes512]uint64 // numbers modulo 2^130-5, in limbs of 44, 44 and 42 bits
	multiplier512 = [5][lanes512]uint64 // r0, r1, r2, 20 r1, 20 r2
)

// clamp512 makes multipliers of the first halves of one-time keys (RFC 8439, 2.5).
//
//go:noescape
func clamp512(r *[5][16]uint64, keys *[16][32]byte)

// scale512 makes multipliers of numbers as multiply512 leaves them.
//
//go:noescape
func scale512(r *[5][16]uint64, x *[3][16]uint64)

// absorb512 does acc = (acc + block + 2^128) * r in all lanes that have a block, for so
// many steps, of which step is the first. Lane i has message lanes[0][i], and in it
// the block lanes[1][i] behind the first of a step.
//
// blocks are three numbers for each message: at which block of the steps it begins, how
// many blocks lie whole in sealed, and which is the last one. That is the second of its
// tails; the first is the one before, if that does not lie whole in sealed. The first
// message is the longest, so that none of its lanes waits for its first block: lanes that
// do wait read what its last one reads, and nothing in front of a message is touched.
//
//go:noescape
func absorb512(acc *[3][16]uint64, r *[5][16]uint64, lanes *[2][16]uint64, sealed *[16]*byte, blocks *[3][16]int, tails *[16][2][16]byte, step, steps int)

// multiply512 does x = x * r for the lanes that have a bit in active.
//
//go:noescape
func multiply512(x *[3][16]uint64, r *[5][16]uint64, active int)

// finish512 makes tags: acc modulo 2^130-5, plus the second halves of one-time keys,
// modulo 2^128. The limbs of acc are below 2^50.
//
//go:noescape
func finish512(tags *[16][16]byte, acc *[3][16]uint64, keys *[16][32]byte)

// A sums512 is the sums of a group's messages; see absorb512.
type sums512 struct {
	acc    limbs512
	step   multiplier512 // of every step, but the last where messages have several lanes
	sealed [groupSize]*byte
	blocks [3][groupSize]int
	tails  [groupSize][2][sumSize]byte
	steps  int  // of all
	shift  uint // binary logarithm of how many lanes each has
}

// shareLanes[shift] shares out lanes: 1<<shift for each message.
var shareLanes = func() (lanes [5][2][lanes512]uint64) {
	for shift := range lanes {
		for i := range lanes512 {
			lanes[shift][0][i], lanes[shift][1][i] = uint64(i>>shift), uint64(i&(1<<shift-1))
		}
	}
	return lanes
}()

// begin shares out the lanes to n messages, of which the longest has so many bytes.
func (s *sums512) begin(longest, n int) {
	s.shift = shares(lanes512, n)
	s.steps = (lastBlock(longest) + 1<<s.shift) >> s.shift
	for i := n; i < groupSize; i++ {
		s.blocks[0][i] = never
	}
}

// lastBlock is the one with the lengths, behind those of a message of n bytes.
func lastBlock(n int) int { return int(uint(n+sumSize-1) / sumSize) }

// message says what packet i of the group has sealed, with room for the tag: where it
// is, and how long, but not what it is.
func (s *sums512) message(i int, sealed []byte) {
	i &= groupSize - 1 // which the compiler can't know
	n := len(sealed) - TagSize
	last := lastBlock(n)
	s.sealed[i] = unsafe.SliceData(sealed)
	s.blocks[0][i], s.blocks[1][i], s.blocks[2][i] = s.steps<<s.shift-last-1, int(uint(n)/sumSize), last
	binary.LittleEndian.PutUint64(s.tails[i][1][8:], uint64(n))
}

// tail copies what is behind the whole blocks of message i.
func (s *sums512) tail(i int, sealed []byte) {
	n := len(sealed) - TagSize
	if short := uint(n) % sumSize; short > 0 {
		to := &s.tails[i&(groupSize-1)][0]
		*to = [sumSize]byte{}
		copy(to[:], sealed[n-int(short):n])
	}
}

// finish makes the tags.
func (s *sums512) finish(tags *[groupSize][TagSize]byte, keys *[groupSize][keySize]byte) {
	s.acc = limbs512{}
	lanes := &shareLanes[s.shift]
	if s.shift == 0 {
		clamp512(&s.step, keys)
		absorb512(&s.acc, &s.step, lanes, &s.sealed, &s.blocks, &s.tails, 0, s.steps)
	} else {
		var last multiplier512
		s.powers(&last, keys)
		if s.steps > 1 {
			absorb512(&s.acc, &s.step, lanes, &s.sealed, &s.blocks, &s.tails, 0, s.steps-1)
		}
		absorb512(&s.acc, &last, lanes, &s.sealed, &s.blocks, &s.tails, s.steps-1, 1)
		s.fold()
	}
	finish512(tags, &s.acc, keys)
}

// powers makes r^k, for k lanes of each message, and r^(k-j) for lane j.
func (s *sums512) powers(last *multiplier512, keys *[groupSize][keySize]byte) {
	var spread [lanes512][keySize]byte
	for i := range spread {
		spread[i] = keys[i>>s.shift]
	}
	clamp512(&s.step, &spread)
	power, product, k := limbs512(s.step[:3]), limbs512{}, 1<<s.shift
	for i := range product[0] {
		product[0][i] = 1
	}
	for bit := 1; ; bit *= 2 {
		active := 0
		for i := range lanes512 {
			if (k-i&(k-1))&bit != 0 {
				active |= 1 << i
			}
		}
		multiply512(&product, &s.step, active)
		if bit == k {
			break
		}
		multiply512(&power, &s.step, allLanes)
		scale512(&s.step, &power)
	}
	scale512(last, &product)
}

// fold adds up the lanes of each message, and leaves their sums in the first lanes.
func (s *sums512) fold() {
	for l := range s.acc {
		for i := range lanes512 >> s.shift {
			sum := uint64(0)
			for _, limb := range s.acc[l][i<<s.shift:][:1<<s.shift] {
				sum += limb
			}
			s.acc[l][i] = sum
		}
	}
}
