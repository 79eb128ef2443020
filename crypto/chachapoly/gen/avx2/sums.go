package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets in sumLanes. Limbs are words of 64 bits, in rows of 4 lanes.
const (
	sumH       = 0    // 2 groups of 5 rows
	sumR       = 320  // 2 groups of 5 rows
	sumS       = 640  // 2 groups of 4 rows
	sumSquareR = 896  // as sumR
	sumSquareS = 1216 // as sumS
	sumSource  = 1472 // 8 pointers
)

// Registers of one unit at a time.
var (
	mask, high VecVirtual // 26 ones, and 2^128 in its limb
	even, odd  VecVirtual // for load; the same ones each time, as avo takes them for alive always
)

// limbRows are the n rows of a group at an offset in sumLanes.
func limbRows(l Register, at, n, group int) (m []Mem) {
	for i := range n {
		m = append(m, Mem{Base: l, Disp: at + vector*(n*group+i)})
	}
	return m
}

// Poly1305 (RFC 8439, 2.5) in two groups of 4 lanes, each lane with an r and an h of
// its own: h = (h + block + 2^128) r modulo p = 2^130 - 5, or, two blocks at once,
// h = (h + block + 2^128) r^2 + (next + 2^128) r, which has one carry for two blocks.
//
// Numbers are in radix 2^26, five limbs in five rows. A limb of the product that
// weighs 2^130 or more comes in again at 2^130 = 5 (mod p), so it is multiplied by
// s[i] = 5 r[i] and not by r[i]:
//
//	d0 = h0 r0 + h1 s4 + h2 s3 + h3 s2 + h4 s1
//	d1 = h0 r1 + h1 r0 + h2 s4 + h3 s3 + h4 s2
//	d2 = h0 r2 + h1 r1 + h2 r0 + h3 s4 + h4 s3
//	d3 = h0 r3 + h1 r2 + h2 r1 + h3 r0 + h4 s4
//	d4 = h0 r4 + h1 r3 + h2 r2 + h3 r1 + h4 r0
//
// Bounds: limbs of h and r^2 are below 2^26 + 2^9 (see carry), h's with a block added
// below 2^27 + 2^9, those of r below 2^26; s is 5 times that. So each product is
// below 5 (2^53 + 2^38), each d, of ten products, below 2^59, and the factors fit
// VPMULUDQ's 32 bits.
func sums() {
	limb := GLOBL("limb", RODATA|NOPTR)
	DATA(0, U64(1<<26-1))
	top := GLOBL("top", RODATA|NOPTR)
	DATA(0, U64(1<<24)) // 2^128 in the last limb, which weighs 2^104
	begin := func() {
		mask, high, even, odd = YMM(), YMM(), YMM(), YMM()
		VPBROADCASTQ(limb, mask)
		VPBROADCASTQ(top, high)
	}
	clamp(begin)
	square(begin)
	blocks(begin)
	pairs(begin)
	finish(begin)
}

// blocks is h = (h + block + 2^128) r.
func blocks(begin func()) {
	TEXT("absorb256", NOSPLIT, "func(l *byte, lanes, at, n int)")
	Doc("absorb256 absorbs n blocks in each of the first lanes of l, from byte at on.")
	Pragma("noescape")
	l := Load(Param("l"), GP64())
	lanes := Load(Param("lanes"), GP64())
	at := Load(Param("at"), GP64())
	n := Load(Param("n"), GP64())
	absorb(begin, l, lanes, at, n, 1)
}

// pairs is h = (h + block + 2^128) r^2 + (next + 2^128) r.
func pairs(begin func()) {
	TEXT("absorbPairs256", NOSPLIT, "func(l *byte, lanes, n int)")
	Doc("absorbPairs256 absorbs n pairs of blocks in each of the first lanes of l.")
	Pragma("noescape")
	l := Load(Param("l"), GP64())
	lanes := Load(Param("lanes"), GP64())
	n := Load(Param("n"), GP64())
	at := GP64()
	XORQ(at, at)
	absorb(begin, l, lanes, at, n, 2)
}

// absorb is the loop of both, n times. Blocks are at a place in each lane's message.
func absorb(begin func(), l, lanes, at, n Register, blocks int) {
	var source [8]Register
	for lane := range source {
		source[lane] = GP64()
		MOVQ(Mem{Base: l, Disp: sumSource + 8*lane}, source[lane])
	}
	begin()
	Label("turn")
	for group := range 2 {
		Comment(fmt.Sprintf("Lanes %d to %d", 4*group, 4*group+3))
		if group == 1 {
			CMPQ(lanes, U8(4*group))
			JLE(LabelRef("next"))
		}
		h := limbRows(l, sumH, 5, group)
		r, s := limbRows(l, sumR, 5, group), limbRows(l, sumS, 4, group)
		var d [5]VecVirtual
		if blocks == 2 {
			lo, hi := load(source[4*group:], at, 16)
			for _, i := range limbs {
				multiply(&d, split(lo, hi, i), i, r, s)
			}
			r, s = limbRows(l, sumSquareR, 5, group), limbRows(l, sumSquareS, 4, group)
		}
		lo, hi := load(source[4*group:], at, 0)
		for _, i := range limbs {
			m := split(lo, hi, i)
			VPADDQ(h[i], m, m)
			multiply(&d, m, i, r, s)
		}
		carry(d)
		for i := range d {
			VMOVDQU(d[i], h[i])
		}
	}
	Label("next")
	ADDQ(U8(16*blocks), at)
	DECQ(n)
	JNE(LabelRef("turn"))
	VZEROUPPER()
	RET()
}

// load is the low and the high halves of a block of each of four lanes.
func load(source []Register, at Register, disp int) (lo, hi VecVirtual) {
	block := func(lane int) Mem { return Mem{Base: source[lane], Index: at, Scale: 1, Disp: disp} }
	lo, hi = YMM(), YMM()
	VMOVDQU(block(0), even.AsX())
	VINSERTI128(U8(1), block(2), even, even)
	VMOVDQU(block(1), odd.AsX())
	VINSERTI128(U8(1), block(3), odd, odd)
	VPUNPCKLQDQ(odd, even, lo)
	VPUNPCKHQDQ(odd, even, hi)
	return lo, hi
}

// split is limb i of a block, with 2^128 added.
func split(lo, hi VecVirtual, i int) VecVirtual {
	m := YMM()
	switch i {
	case 0:
		VPAND(mask, lo, m)
	case 1:
		VPSRLQ(U8(26), lo, m)
		VPAND(mask, m, m)
	case 2:
		t := YMM()
		VPSRLQ(U8(52), lo, m)
		VPSLLQ(U8(64-52), hi, t)
		VPOR(t, m, m)
		VPAND(mask, m, m)
	case 3:
		VPSRLQ(U8(78-64), hi, m)
		VPAND(mask, m, m)
	case 4:
		VPSRLQ(U8(104-64), hi, m)
		if high != nil {
			VPOR(high, m, m)
		}
	}
	return m
}

// limbs is the order in which limbs are multiplied: those that carry has done with first
// come first.
var limbs = [5]int{2, 0, 3, 1, 4}

// multiply adds limb i of a number, multiplied by r, to the limbs d. s is without s[0].
func multiply(d *[5]VecVirtual, x VecVirtual, i int, r, s []Mem) {
	for k := range d {
		var factor Mem
		if k >= i {
			factor = r[k-i]
		} else {
			factor = s[k-i+5-1]
		}
		product := YMM()
		VPMULUDQ(factor, x, product)
		if d[k] == nil {
			d[k] = product
			continue
		}
		VPADDQ(product, d[k], d[k])
	}
}

// carry brings limbs below 2^59 down: d[1] and d[4] below 2^26 + 2^9, the others
// below 2^26. Two chains of carries, from d[0] and d[3], run beside each other.
func carry(d [5]VecVirtual) {
	c := YMM()
	out := func(i int) {
		VPSRLQ(U8(26), d[i], c)
		VPAND(mask, d[i], d[i])
	}
	step := func(i int) {
		out(i)
		VPADDQ(c, d[i+1], d[i+1])
	}
	step(0)
	step(3)
	step(1)
	out(4) // comes in at 5 times 2^0
	VPADDQ(c, d[0], d[0])
	VPSLLQ(U8(2), c, c)
	VPADDQ(c, d[0], d[0])
	step(2)
	step(0)
	step(3)
}
