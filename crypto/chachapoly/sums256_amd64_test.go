//go:build !purego

package chachapoly

import (
	"encoding/binary"
	"math/big"
	"math/bits"
	"strings"
	"testing"
	"unsafe"
)

// mac256 has the message in the last lane, and with other keys in the others.
func mac256(key [32]byte, msg []byte) (tag [16]byte) {
	const lane = lanes256 - 1
	var l sumLanes
	var keys [lanes256][blockSize]byte
	for i := range keys {
		copy(keys[i][:], key[:])
		keys[i][0] ^= byte(i ^ lane)
	}
	clamp256(&l, &keys)
	absorb := func(b []byte, blocks int) {
		for i := range l.from {
			l.from[i] = unsafe.SliceData(b)
		}
		if blocks > 0 {
			absorb256(&l, lanes256, 0, blocks)
		}
	}
	absorb(msg, len(msg)/sumSize)
	if last := msg[len(msg)/sumSize*sumSize:]; len(last) > 0 {
		// The AEAD has whole blocks only, for which 2^128 is added: so p - 2^128
		// comes in beforehand.
		for j, limb := range [5]uint64{mask26 - 4, mask26, mask26, mask26, mask26 - 1<<24} {
			l.h[lane/4][j][lane%4] += limb
		}
		var block [sumSize]byte
		block[copy(block[:], last)] = 1
		absorb(block[:], 1)
	}
	var tags [lanes256][TagSize]byte
	finish256(&tags, &l, &keys)
	return tags[lane]
}

// setTwin stores limbs of r in a lane, and of s.
func setTwin(limbs [5]uint64, r *[5]limbs256, s *[4]limbs256, i int) {
	for j, limb := range limbs {
		r[j][i] = limb
		if j > 0 {
			s[j-1][i] = 5 * limb
		}
	}
}

// clampTwin is clamp256 lane by lane.
func clampTwin(l *sumLanes, keys *[lanes256][blockSize]byte) {
	for lane := range keys {
		group, i := lane/4, lane%4
		lo := binary.LittleEndian.Uint64(keys[lane][0:]) & 0x0ffffffc0fffffff
		hi := binary.LittleEndian.Uint64(keys[lane][8:]) & 0x0ffffffc0ffffffc
		setTwin(limbsOf(lo, hi), &l.r[group], &l.s[group], i)
		for j := range l.h[group] {
			l.h[group][j][i] = 0
		}
	}
}

// squareTwin is square256 lane by lane.
func squareTwin(t *testing.T, l *sumLanes) {
	t.Helper()
	for lane := range lanes256 {
		group, i := lane/4, lane%4
		var r, d [5]uint64
		for j := range r {
			r[j] = l.r[group][j][i]
		}
		multiplyTwin(&d, r, &l.r[group], &l.s[group], i)
		carryTwin(t, &d)
		setTwin(d, &l.squareR[group], &l.squareS[group], i)
	}
}

// absorbTwin is absorb256 and absorbPairs256 lane by lane.
func absorbTwin(t *testing.T, l *sumLanes, lanes, at, n, together int) {
	t.Helper()
	for lane := range (lanes + 3) / 4 * 4 {
		group, i := lane/4, lane%4
		b := unsafe.Slice(l.from[lane], at+n*together*sumSize)[at:]
		next := func() (m [5]uint64) {
			m = limbsOf(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]))
			m[4] |= 1 << 24
			b = b[sumSize:]
			return m
		}
		for len(b) > 0 {
			h := next()
			for j := range h {
				h[j] += l.h[group][j][i]
			}
			limbsBelow(t, h, 1<<27+1<<9)
			var d [5]uint64
			if together == 2 {
				multiplyTwin(&d, h, &l.squareR[group], &l.squareS[group], i)
				multiplyTwin(&d, next(), &l.r[group], &l.s[group], i)
			} else {
				multiplyTwin(&d, h, &l.r[group], &l.s[group], i)
			}
			carryTwin(t, &d)
			for j := range d {
				l.h[group][j][i] = d[j]
			}
		}
	}
}

const mask26 = 1<<26 - 1

func limbsOf(lo, hi uint64) [5]uint64 {
	return [5]uint64{lo & mask26, lo >> 26 & mask26, (lo>>52 | hi<<12) & mask26, hi >> 14 & mask26, hi >> 40}
}

func multiplyTwin(d *[5]uint64, h [5]uint64, r *[5]limbs256, s *[4]limbs256, i int) {
	for j := range h {
		for k := range d {
			if k >= j {
				d[k] += h[j] * r[k-j][i]
			} else {
				d[k] += h[j] * s[k-j+4][i]
			}
		}
	}
}

func carryTwin(t *testing.T, d *[5]uint64) {
	t.Helper()
	limbsBelow(t, *d, 1<<59)
	for _, j := range []int{0, 3, 1, 4, 2, 0, 3} {
		c := d[j] >> 26
		d[j] &= mask26
		if j == 4 {
			c *= 5
		}
		d[(j+1)%5] += c
	}
	limbsBelow(t, *d, 1<<26, 1<<26+1<<9, 1<<26, 1<<26, 1<<26+1<<9)
}

// limbsBelow asserts the bounds that gen/avx2/sums.go tells.
func limbsBelow(t *testing.T, limbs [5]uint64, bound ...uint64) {
	t.Helper()
	for i, limb := range limbs {
		if limb >= bound[min(i, len(bound)-1)] {
			t.Fatalf("limb %d of %#x is not below %#x", i, limbs, bound)
		}
	}
}

var p1305 = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))

// inLane is the number of the limbs in a lane, modulo p.
func inLane(rows *[2][5]limbs256, lane int) *big.Int {
	n := new(big.Int)
	for j := 4; j >= 0; j-- {
		n.Lsh(n, 26).Add(n, new(big.Int).SetUint64(rows[lane/4][j][lane%4]))
	}
	return n.Mod(n, p1305)
}

func TestLanesOfAVX2DoWhatTheirTwinsAndLargeNumbersDo(t *testing.T) {
	needs(t, avx2)
	r := random(2)
	for round := range 200 {
		m := newMemory(r, 1<<12)
		blocks, at, lanes := 1+round%9, round%2*32, 1+r.IntN(lanes256)
		var keys [lanes256][blockSize]byte
		for lane := range keys {
			m.fill(keys[lane][:])
			if r.IntN(3) == 0 {
				copy(keys[lane][:], strings.Repeat("\xff", 16))
			}
		}
		var got, want sumLanes
		m.fill(unsafe.Slice((*byte)(unsafe.Pointer(&got.h)), unsafe.Sizeof(got.h)))
		clamp256(&got, &keys)
		square256(&got)
		clampTwin(&want, &keys)
		squareTwin(t, &want)
		if got != want {
			t.Fatalf("round %d: they prepare keys otherwise", round)
		}
		var numbers [lanes256]*big.Int
		for lane := range lanes256 {
			b := m.take(at + blocks*sumSize)
			if r.IntN(3) == 0 {
				copy(b, strings.Repeat("\xff", len(b)))
			}
			got.from[lane] = &b[0]
			for j := range 5 {
				most := uint64(mask26)
				if j == 1 || j == 4 {
					most += 1 << 9
				}
				if r.IntN(2) == 0 {
					most = r.Uint64N(most + 1)
				}
				got.h[lane/4][j][lane%4] = most
			}
			if blocks%2 == 1 {
				b = b[at:]
			} else {
				b = b[:blocks*sumSize]
			}
			n := inLane(&got.h, lane)
			if lane/4 > (lanes-1)/4 {
				b = nil
			}
			for ; len(b) > 0; b = b[sumSize:] {
				n.Add(n, new(big.Int).Lsh(big.NewInt(1), 128))
				n.Add(n, littleEndian(b[:sumSize]))
				n.Mul(n, inLane(&got.r, lane)).Mod(n, p1305)
			}
			numbers[lane] = n
		}
		want = got
		if blocks%2 == 0 {
			absorbPairs256(&got, lanes, blocks/2)
			absorbTwin(t, &want, lanes, 0, blocks/2, 2)
		} else {
			absorb256(&got, lanes, at, blocks)
			absorbTwin(t, &want, lanes, at, blocks, 1)
		}
		if got != want {
			t.Fatalf("round %d: they differ", round)
		}
		for lane, n := range numbers {
			if inLane(&got.h, lane).Cmp(n) != 0 {
				t.Fatalf("round %d, lane %d: wrong modulo p", round, lane)
			}
		}
	}
}

func littleEndian(b []byte) *big.Int {
	n := new(big.Int)
	for i := len(b) - 1; i >= 0; i-- {
		n.Lsh(n, 8).Add(n, big.NewInt(int64(b[i])))
	}
	return n
}

// finishTwin is finish256 lane by lane, by 64 bits.
func finishTwin(tags *[lanes256][TagSize]byte, l *sumLanes, keys *[lanes256][blockSize]byte) {
	for lane := range tags {
		group, i := lane/4, lane%4
		h := &l.h[group]
		// h = lo + 2^64 hi + 2^128 top. The limbs may be a little above 2^26, so they
		// are added; top is at most 4.
		lo, c := bits.Add64(h[0][i]+h[1][i]<<26, h[2][i]<<52, 0)
		hi, c := bits.Add64(h[2][i]>>12+h[3][i]<<14, h[4][i]<<40, c)
		top := h[4][i]>>24 + c
		// Below 2^130 + 5, as 2^130 = 5
		lo, c = bits.Add64(lo, top>>2*5, 0)
		hi, c = bits.Add64(hi, 0, c)
		top = top&3 + c
		// h - p = h + 5 - 2^130, if that is not negative
		lessLo, c := bits.Add64(lo, 5, 0)
		lessHi, c := bits.Add64(hi, 0, c)
		if (top+c)>>2 > 0 {
			lo, hi = lessLo, lessHi
		}
		lo, c = bits.Add64(lo, binary.LittleEndian.Uint64(keys[lane][16:]), 0)
		hi, _ = bits.Add64(hi, binary.LittleEndian.Uint64(keys[lane][24:]), c)
		binary.LittleEndian.PutUint64(tags[lane][0:], lo)
		binary.LittleEndian.PutUint64(tags[lane][8:], hi)
	}
}

func TestTagsOfAVX2AreWhatTheTwinAndLargeNumbersMake(t *testing.T) {
	needs(t, avx2)
	r := random(3)
	const most = 1<<26 + 1<<9 - 1
	special := []uint64{0, 1, 4, 5, 6, mask26 - 5, mask26 - 4, mask26 - 3, mask26, mask26 + 1, most}
	for round := range 10000 {
		var l sumLanes
		var keys [lanes256][blockSize]byte
		for lane := range keys {
			for j := range 5 {
				limb := special[r.IntN(len(special))]
				if lane%2 == 0 && j > 0 {
					limb = mask26 // p and its neighbours
				}
				if lane%4 == 3 {
					limb = r.Uint64N(most + 1)
				}
				l.h[lane/4][j][lane%4] = limb
			}
			for i := range keys[lane] {
				keys[lane][i] = byte(r.Uint32() | -(r.Uint32() >> 31)) // often 255
			}
		}
		var got, want [lanes256][TagSize]byte
		finish256(&got, &l, &keys)
		finishTwin(&want, &l, &keys)
		if got != want {
			t.Fatalf("round %d, %#x: they differ", round, l.h)
		}
		for lane := range got {
			n := inLane(&l.h, lane)
			n.Add(n, littleEndian(keys[lane][16:32]))
			if n.Sub(n, littleEndian(got[lane][:])); n.TrailingZeroBits() < 128 && n.Sign() != 0 {
				t.Fatalf("round %d, lane %d, %#x: tag %x", round, lane, l.h, got[lane])
			}
		}
	}
}
