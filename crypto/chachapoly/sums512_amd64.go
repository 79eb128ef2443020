//go:build !purego

package chachapoly

import "encoding/binary"

// Poly1305 in 16 lanes: a message in each, or with fewer messages a part in each. With
// k lanes for a message, lane j has its blocks j, j+k, j+2k and so on: Horner's rule
// with r^k for r. The last multiplication of lane j is by r^(k-j), which brings
// every block to its power, and then the lanes of a message are added up.
//
// All lanes end together, at the block with the lengths (RFC 8439, 2.8). Shorter
// messages begin later, and so do lanes that would otherwise begin with a block less:
// a sum that is still zero is not active.

const (
	lanes512  = 16
	sumSize   = 16 // bytes of a block of Poly1305
	allLanes  = 1<<lanes512 - 1
	topOfSeal = 8 // where in the last block the length is
)

type (
	limbs512      [3][lanes512]uint64 // numbers modulo 2^130-5, in limbs of 44, 44 and 42 bits
	multiplier512 [5][lanes512]uint64 // r0, r1, r2, 20 r1, 20 r2
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

// A message512 is one message's way through the lanes.
type message512 struct {
	text   []byte
	blocks int // with the last one, of lengths
	absent int // lanes without a block in the first step
	start  int // the step in which it begins
}

// sums512 makes the tags of up to 16 sealed packets, longest first.
func sums512(tags *[groupSize][TagSize]byte, group []*Packet, keys *[groupSize][keySize]byte) {
	var messages [groupSize]message512
	each := share(lanes512, len(group))
	for i, p := range group {
		text := p.Sealed[:p.size()]
		blocks := (len(text)+sumSize-1)/sumSize + 1
		messages[i] = message512{text: text, blocks: blocks, absent: -blocks & (each - 1), start: (blocks + each - 1) / each}
	}
	steps := messages[0].start
	for i := range group {
		messages[i].start = steps - messages[i].start
	}
	var acc limbs512
	var step, last multiplier512
	if each == 1 {
		clamp512((*[5][16]uint64)(&step), keys)
		sum512(&acc, &step, &step, messages[:len(group)], steps, each)
	} else {
		powers512(&step, &last, keys, each)
		sum512(&acc, &step, &last, messages[:len(group)], steps, each)
		acc.fold(each)
	}
	finish512(tags, (*[3][16]uint64)(&acc), keys)
}

// powers512 makes r^k, for k lanes of each message, and r^(k-j) for lane j.
func powers512(step, last *multiplier512, keys *[groupSize][keySize]byte, k int) {
	var spread [lanes512][keySize]byte
	for i := range spread {
		spread[i] = keys[i/k]
	}
	clamp512((*[5][16]uint64)(step), &spread)
	power, product := limbs512(step[:3]), limbs512{}
	for i := range product[0] {
		product[0][i] = 1
	}
	for bit := 1; ; bit *= 2 {
		active := 0
		for i := range lanes512 {
			if (k-i%k)&bit != 0 {
				active |= 1 << i
			}
		}
		multiply512((*[3][16]uint64)(&product), (*[5][16]uint64)(step), active)
		if bit == k {
			break
		}
		multiply512((*[3][16]uint64)(&power), (*[5][16]uint64)(step), allLanes)
		scale512((*[5][16]uint64)(step), (*[3][16]uint64)(&power))
	}
	scale512((*[5][16]uint64)(last), (*[3][16]uint64)(&product))
}

// sum512 takes the messages, longest first, through steps of a block for each lane; the
// multiplier of the last step is last.
func sum512(acc *limbs512, step, last *multiplier512, messages []message512, steps, each int) {
	var src [lanes512]*byte
	var blocks [lanes512][sumSize]byte
	begun := 0 // messages that have begun
	for at := 0; at < steps; {
		for begun < len(messages) && messages[begun].start <= at {
			begun++
		}
		next := steps // when the next message begins
		if begun < len(messages) {
			next = messages[begun].start
		}
		if n := directSteps(messages[:begun], at, next, each); n > 0 {
			for i := range src {
				m := &messages[0]
				if i < begun*each {
					m = &messages[i/each]
				}
				src[i] = &m.text[m.first(at, i%each, each)*sumSize]
			}
			absorb512((*[3][16]uint64)(acc), (*[5][16]uint64)(step), &src, each*sumSize, n, 1<<(begun*each)-1)
			at += n
			continue
		}
		active := 0
		for i := range src {
			src[i] = &blocks[i][0]
			if i < begun*each {
				m := &messages[i/each]
				if b := m.first(at, i%each, each); b >= 0 {
					active |= 1 << i
					m.block(&blocks[i], b)
				}
			}
		}
		if at == steps-1 {
			step = last
		}
		absorb512((*[3][16]uint64)(acc), (*[5][16]uint64)(step), &src, 0, 1, active)
		at++
	}
}

// first is which block lane j has in a step, below zero where it is absent.
func (m *message512) first(at, j, each int) int { return (at-m.start)*each - m.absent + j }

// directSteps is for how many steps from at on, up to next, all blocks of all lanes lie
// whole in their messages.
func directSteps(messages []message512, at, next, each int) int {
	n := next - at
	for i := range messages {
		m := &messages[i]
		first := m.first(at, 0, each)
		if first < 0 {
			return 0
		}
		n = min(n, (len(m.text)/sumSize-first)/each)
	}
	return n
}

// block copies a block, padded with zeros; or the last one, which has the lengths.
func (m *message512) block(to *[sumSize]byte, b int) {
	*to = [sumSize]byte{}
	if b == m.blocks-1 {
		binary.LittleEndian.PutUint64(to[topOfSeal:], uint64(len(m.text)))
		return
	}
	copy(to[:], m.text[b*sumSize:])
}

// fold adds up the lanes of each message, and leaves their sums in the first lanes.
func (x *limbs512) fold(each int) {
	for l := range x {
		for i := range lanes512 / each {
			sum := uint64(0)
			for _, limb := range x[l][i*each:][:each] {
				sum += limb
			}
			x[l][i] = sum
		}
	}
}
