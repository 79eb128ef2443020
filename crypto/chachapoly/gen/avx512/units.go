package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The units of Poly1305 that are called once or a few times for a message.

const keySize = 32 // bytes of a one-time key: r, s

// clamp is RFC 8439, 2.5, first half: r of the one-time key.
func clamp() {
	TEXT("clamp512", NOSPLIT, "func(r *[5][16]uint64, keys *[16][32]byte)")
	Doc("clamp512 makes multipliers of one-time keys, one for each lane.")
	Pragma("noescape")
	r, keys := pointed("r"), pointed("keys")
	c := newConstants()
	clampLow, clampHigh := quads(0x0ffffffc0fffffff), quads(0x0ffffffc0ffffffc)
	for g := range 2 {
		low, high := keyHalves(keys, g, 0)
		VPANDQ(clampLow, low, low)
		VPANDQ(clampHigh, high, high)
		x := c.split(low, high)
		x.store(r, g)
		x.storeScaled(r, g)
	}
	VZEROUPPER()
	RET()
}

// keyHalves loads 16 bytes, at an offset, of each key of 8 lanes.
func keyHalves(keys Mem, g, offset int) (low, high VecVirtual) {
	return pairs8(func(i int) Mem { return keys.Offset((8*g+i)*keySize + offset) })
}

// scale makes a multiplier of limbs, which are what carry leaves.
func scale() {
	TEXT("scale512", NOSPLIT, "func(r *[5][16]uint64, x *[3][16]uint64)")
	Doc("scale512 makes multipliers of numbers.")
	Pragma("noescape")
	r, x := pointed("r"), pointed("x")
	for g := range 2 {
		h := loadLimbs(x, g)
		h.store(r, g)
		h.storeScaled(r, g)
	}
	VZEROUPPER()
	RET()
}

// storeScaled stores 20 times limbs 1 and 2, below 2^48.4 and 2^46.4.
func (x limbs) storeScaled(r Mem, g int) {
	for l := 1; l < 3; l++ {
		five, s := ZMM(), ZMM()
		VPSLLQ(U8(2), x[l], five)
		VPADDQ(x[l], five, five)
		VPSLLQ(U8(2), five, s)
		VMOVDQU64(s, r.Offset(limbBytes*(2+l)+group*g))
	}
}

// multiply is absorb without a message: what makes powers of r.
func multiply() {
	TEXT("multiply512", NOSPLIT, "func(x *[3][16]uint64, r *[5][16]uint64, active int)")
	Doc("multiply512 multiplies the active lanes' numbers.")
	Pragma("noescape")
	x, r := pointed("x"), pointed("r")
	masks := groups(Load(Param("active"), GP64()))
	c := newConstants()
	for g := range 2 {
		h := loadLimbs(x, g)
		c.carry(c.product(h, loadMultiplier(r, g)), h, masks[g])
		h.store(x, g)
	}
	VZEROUPPER()
	RET()
}

// finish is RFC 8439, 2.5, the end: acc modulo p, plus s, modulo 2^128. Limbs may have
// grown to 2^50 before, as they do when lanes are added up.
func finish() {
	TEXT("finish512", NOSPLIT, "func(tags *[16][16]byte, acc *[3][16]uint64, keys *[16][32]byte)")
	Doc("finish512 makes tags of sums and one-time keys.")
	Pragma("noescape")
	tags, acc, keys := pointed("tags"), pointed("acc"), pointed("keys")
	c := newConstants()
	five, limit, ones := quads(5), quads(1<<42), quads(1<<64-1)
	for g := range 2 {
		h := loadLimbs(acc, g)
		up := ZMM()

		Comment("All carries: limbs 0 and 1 below 2^44, limb 2 at most 2^42, the number below 2p")
		c.shift(h, 0)
		c.shift(h, 1)
		VPSRLQ(U8(42), h[2], up)
		VPANDQ(c.low42, h[2], h[2])
		VPADDQ(up, h[0], h[0])
		VPSLLQ(U8(2), up, up)
		VPADDQ(up, h[0], h[0])
		c.shift(h, 0)
		c.shift(h, 1)

		Comment("Less p where that is not negative: plus 5, less 2^130")
		less := limbs{ZMM(), ZMM(), ZMM()}
		VPADDQ(five, h[0], less[0])
		VMOVDQA64(h[1], less[1])
		VPSUBQ(limit, h[2], less[2])
		c.shift(less, 0)
		c.shift(less, 1)
		positive := K()
		VPMOVQ2M(less[2], positive)
		KNOTB(positive, positive)
		for l := range h {
			VMOVDQA64(less[l], positive, h[l])
		}

		Comment("128 bits, and s")
		low, high, x := ZMM(), ZMM(), ZMM()
		VPSLLQ(U8(44), h[1], low)
		VPORQ(h[0], low, low)
		VPSRLQ(U8(20), h[1], high)
		VPSLLQ(U8(24), h[2], x)
		VPORQ(x, high, high)
		sLow, sHigh := keyHalves(keys, g, 16)
		VPADDQ(sLow, low, low)
		VPADDQ(sHigh, high, high)
		carried := K()
		VPCMPUQ(U8(1), sLow, low, carried) // low < sLow
		VPSUBQ(ones, high, carried, high)

		even, odd := ZMM(), ZMM()
		VPUNPCKLQDQ(high, low, even)
		VPUNPCKHQDQ(high, low, odd)
		for i := range 8 {
			from := even
			if i%2 == 1 {
				from = odd
			}
			VEXTRACTI64X2(U8(i/2), from, tags.Offset(16*(8*g+i)))
		}
	}
	VZEROUPPER()
	RET()
}

// shift carries from a limb of 44 bits to the next.
func (c constants) shift(h limbs, l int) {
	up := ZMM()
	VPSRLQ(U8(44), h[l], up)
	VPANDQ(c.low44, h[l], h[l])
	VPADDQ(up, h[l+1], h[l+1])
}
