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
// a sum that is still zero is not active.

const (
	lanes512 = 16
	allLanes = 1<<lanes512 - 1
	sumSize  = 16 // bytes of a block of Poly1305
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

// absorb512 does acc = (acc + block + 2^128) * r for the lanes that have a bit in active:
// so many blocks, from src on, stride bytes apart. Of the other lanes blocks are read too.
//
//go:noescape
func absorb512(acc *[3][16]uint64, r *[5][16]uint64, src *[16]*byte, stride, blocks, active int)

// multiply512 does x = x * r for the lanes that have a bit in active.
//
//go:noescape
func multiply512(x *[3][16]uint64, r *[5][16]uint64, active int)

// finish512 makes tags: acc modulo 2^130-5, plus the second halves of one-time keys,
// modulo 2^128. The limbs of acc are below 2^50.
//
//go:noescape
func finish512(tags *[16][16]byte, acc *[3][16]uint64, keys *[16][32]byte)

// A sums512 is the sums of a group's messages: message i has the lanes from i<<shift on.
type sums512 struct {
	messages   [lanes512]message512
	acc        limbs512
	step, last multiplier512 // of every step but the last, and of that
}

// A message512 is one message's way through the lanes.
type message512 struct {
	text   []byte
	blocks int // with the last one, of lengths
	start  int // the step in which it begins
	absent int // lanes that have no block in that step
}

// tags makes the tags of up to 16 sealed packets, longest first.
func (s *sums512) tags(tags *[groupSize][TagSize]byte, g group, keys *[groupSize][keySize]byte) {
	shift := shares(lanes512, g.len())
	messages, steps := s.messages[:g.len()], 0
	for i := range g.order {
		p := g.packet(i)
		m := &messages[i]
		m.text = p.Sealed[:p.size()]
		m.blocks = (len(m.text)+sumSize-1)/sumSize + 1
		n := (m.blocks + 1<<shift - 1) >> shift
		if i == 0 {
			steps = n
		}
		m.start, m.absent = steps-n, n<<shift-m.blocks
	}
	s.acc = limbs512{}
	if shift == 0 {
		clamp512(&s.step, keys)
		s.sum(&s.step, messages, steps, shift)
	} else {
		s.powers(keys, shift)
		s.sum(&s.last, messages, steps, shift)
		s.fold(shift)
	}
	finish512(tags, &s.acc, keys)
}

// powers makes r^k, for k lanes of each message, and r^(k-j) for lane j.
func (s *sums512) powers(keys *[groupSize][keySize]byte, shift uint) {
	var spread [lanes512][keySize]byte
	for i := range spread {
		spread[i] = keys[i>>shift]
	}
	clamp512(&s.step, &spread)
	power, product, k := limbs512(s.step[:3]), limbs512{}, 1<<shift
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
	scale512(&s.last, &product)
}

// sum takes the messages, longest first, through steps of a block for each lane.
func (s *sums512) sum(last *multiplier512, messages []message512, steps int, shift uint) {
	var blocks [lanes512][sumSize]byte // those that do not lie whole in their messages
	var src [lanes512]*byte
	begun := 0 // messages that have begun
	for at := 0; at < steps; {
		next := steps // when the next message begins
		for ; begun < len(messages); begun++ {
			if start := messages[begun].start; start > at {
				next = start
				break
			}
		}
		if n := directSteps(messages[:begun], at, next, shift); n > 0 {
			direct(&src, messages[:begun], at, shift)
			absorb512(&s.acc, &s.step, &src, sumSize<<shift, n, 1<<(begun<<shift)-1)
			at += n
			continue
		}
		for i := range src {
			src[i] = &blocks[i][0]
		}
		active := copied(&blocks, messages[:begun], at, shift)
		if at++; at < steps {
			absorb512(&s.acc, &s.step, &src, 0, 1, active)
		} else {
			absorb512(&s.acc, last, &src, 0, 1, active)
		}
	}
}

// first is which block the first lane has in a step, below zero where it has none.
func (m *message512) first(at int, shift uint) int { return (at-m.start)<<shift - m.absent }

// directSteps is for how many steps from at on, up to next, all blocks of all lanes lie
// whole in their messages.
func directSteps(messages []message512, at, next int, shift uint) int {
	n := next - at
	for i := range messages {
		m := &messages[i]
		first := m.first(at, shift)
		if first < 0 {
			return 0
		}
		n = min(n, (len(m.text)/sumSize-first)>>shift)
	}
	return n
}

// direct points lanes into their messages; those of none read the first one's again.
func direct(src *[lanes512]*byte, messages []message512, at int, shift uint) {
	for i := range messages {
		m := &messages[i]
		text := unsafe.Pointer(&m.text[m.first(at, shift)*sumSize])
		for j := range 1 << shift {
			src[i<<shift+j] = (*byte)(unsafe.Add(text, j*sumSize))
		}
	}
	for i := len(messages) << shift; i < lanes512; i++ {
		src[i] = src[0]
	}
}

// copied copies blocks of all lanes, and returns which lanes have one.
func copied(blocks *[lanes512][sumSize]byte, messages []message512, at int, shift uint) (active int) {
	for i := range messages {
		m := &messages[i]
		for j := range 1 << shift {
			if b := m.first(at, shift) + j; b >= 0 {
				active |= 1 << (i<<shift + j)
				m.block(&blocks[i<<shift+j], b)
			}
		}
	}
	return active
}

// block copies a block, padded with zeros; or the last one, which has the lengths.
func (m *message512) block(to *[sumSize]byte, b int) {
	*to = [sumSize]byte{}
	if b == m.blocks-1 {
		binary.LittleEndian.PutUint64(to[8:], uint64(len(m.text)))
		return
	}
	copy(to[:], m.text[b*sumSize:])
}

// fold adds up the lanes of each message, and leaves their sums in the first lanes.
func (s *sums512) fold(shift uint) {
	for l := range s.acc {
		for i := range lanes512 >> shift {
			sum := uint64(0)
			for _, limb := range s.acc[l][i<<shift:][:1<<shift] {
				sum += limb
			}
			s.acc[l][i] = sum
		}
	}
}
