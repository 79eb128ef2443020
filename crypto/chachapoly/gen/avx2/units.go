package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The units of Poly1305 that are called once for a message. For their arithmetic see sums.

// clamp prepares lanes: r as RFC 8439, 2.5 wants it, and h = 0.
func clamp(begin func()) {
	clamp := GLOBL("clamp", RODATA|NOPTR)
	DATA(0, U64(0x0ffffffc0fffffff))
	DATA(8, U64(0x0ffffffc0ffffffc))

	TEXT("clamp256", NOSPLIT, "func(l *byte, keys *byte)")
	Doc("clamp256 gives lanes their keys, each the first 16 bytes of 64, and empties them.")
	Pragma("noescape")
	l := Load(Param("l"), GP64())
	keys := Load(Param("keys"), GP64())
	at := GP64()
	XORQ(at, at)
	begin()
	high = nil // r is not a block
	for group := range 2 {
		Comment(fmt.Sprintf("Lanes %d to %d", 4*group, 4*group+3))
		lo, hi := load(keySources(keys, group), at, 0)
		t := YMM()
		VPBROADCASTQ(clamp.Offset(0), t)
		VPAND(t, lo, lo)
		VPBROADCASTQ(clamp.Offset(8), t)
		VPAND(t, hi, hi)
		zero := YMM()
		VPXOR(zero, zero, zero)
		for i := range 5 {
			storeFactor(split(lo, hi, i), i, limbRows(l, sumR, 5, group), limbRows(l, sumS, 4, group))
			VMOVDQU(zero, limbRows(l, sumH, 5, group)[i])
		}
	}
	VZEROUPPER()
	RET()
}

// square prepares lanes for pairs of blocks: r^2, with limbs as carry leaves them.
func square(begin func()) {
	TEXT("square256", NOSPLIT, "func(l *byte)")
	Doc("square256 squares the keys of lanes.")
	Pragma("noescape")
	l := Load(Param("l"), GP64())
	begin()
	for group := range 2 {
		Comment(fmt.Sprintf("Lanes %d to %d", 4*group, 4*group+3))
		r, s := limbRows(l, sumR, 5, group), limbRows(l, sumS, 4, group)
		var d [5]VecVirtual
		for _, i := range limbs {
			x := YMM()
			VMOVDQU(r[i], x)
			multiply(&d, x, i, r, s)
		}
		carry(d)
		for i := range d {
			storeFactor(d[i], i, limbRows(l, sumSquareR, 5, group), limbRows(l, sumSquareS, 4, group))
		}
	}
	VZEROUPPER()
	RET()
}

// storeFactor stores limb i of r, and of s.
func storeFactor(x VecVirtual, i int, r, s []Mem) {
	VMOVDQU(x, r[i])
	if i > 0 {
		five := YMM()
		VPSLLQ(U8(2), x, five)
		VPADDQ(x, five, five)
		VMOVDQU(five, s[i-1])
	}
}

// finish is the end of RFC 8439, 2.5: h modulo p, plus s modulo 2^128.
func finish(begin func()) {
	five := GLOBL("five", RODATA|NOPTR)
	DATA(0, U64(5))
	sign := GLOBL("sign", RODATA|NOPTR)
	DATA(0, U64(1<<63))

	TEXT("finish256", NOSPLIT, "func(tags *byte, l *byte, keys *byte)")
	Doc("finish256 makes tags of what lanes have absorbed and bytes 16 to 31 of each key.")
	Pragma("noescape")
	tags := Load(Param("tags"), GP64())
	l := Load(Param("l"), GP64())
	keys := Load(Param("keys"), GP64())
	at := GP64()
	XORQ(at, at)
	begin()
	c := YMM()
	step := func(x []VecVirtual, i int) {
		VPSRLQ(U8(26), x[i], c)
		VPAND(mask, x[i], x[i])
		VPADDQ(c, x[i+1], x[i+1])
	}
	for group := range 2 {
		Comment(fmt.Sprintf("Lanes %d to %d", 4*group, 4*group+3))
		var h, less [5]VecVirtual
		for i, limb := range limbRows(l, sumH, 5, group) {
			h[i] = YMM()
			VMOVDQU(limb, h[i])
		}

		Comment("All carries: h[4] is at most 2^26, the others below, and h below 2p")
		VPSRLQ(U8(26), h[4], c)
		VPAND(mask, h[4], h[4])
		VPADDQ(c, h[0], h[0])
		VPSLLQ(U8(2), c, c)
		VPADDQ(c, h[0], h[0])
		for i := range 4 {
			step(h[:], i)
		}

		Comment("h - p = h + 5 - 2^130, where that is not negative")
		for i := range less {
			less[i] = YMM()
		}
		VPBROADCASTQ(five, less[0])
		VPADDQ(h[0], less[0], less[0])
		for i := range 4 {
			VPSRLQ(U8(26), less[i], c)
			VPAND(mask, less[i], less[i])
			VPADDQ(c, h[i+1], less[i+1])
		}
		VPSRLQ(U8(26), less[4], c)
		VPAND(mask, less[4], less[4])
		zero := YMM()
		VPXOR(zero, zero, zero)
		VPSUBQ(c, zero, c)
		for i := range h {
			VPBLENDVB(c, less[i], h[i], h[i])
		}

		Comment("128 bits")
		lo, hi := h[0], h[3]
		VPSLLQ(U8(26), h[1], h[1])
		VPOR(h[1], lo, lo)
		VPSLLQ(U8(52), h[2], c)
		VPOR(c, lo, lo)
		VPSLLQ(U8(78-64), hi, hi)
		VPSRLQ(U8(64-52), h[2], c)
		VPOR(c, hi, hi)
		VPSLLQ(U8(104-64), h[4], c)
		VPOR(c, hi, hi)

		Comment("plus s, with a carry where the sum is below s")
		padLo, padHi := load(keySources(keys, group), at, 16)
		VPADDQ(padLo, lo, lo)
		VPADDQ(padHi, hi, hi)
		flip, sum := YMM(), YMM()
		VPBROADCASTQ(sign, flip)
		VPXOR(flip, lo, sum)
		VPXOR(flip, padLo, padLo)
		VPCMPGTQ(sum, padLo, c)
		VPSUBQ(c, hi, hi)
		for i := range 2 {
			if i == 0 {
				VPUNPCKLQDQ(hi, lo, c)
			} else {
				VPUNPCKHQDQ(hi, lo, c)
			}
			VMOVDQU(c.AsX(), Mem{Base: tags, Disp: 16 * (4*group + i)})
			VEXTRACTI128(U8(1), c, Mem{Base: tags, Disp: 16 * (4*group + i + 2)})
		}
	}
	VZEROUPPER()
	RET()
}

// keySources is where the keys of a group of lanes are.
func keySources(keys Register, group int) []Register {
	var source [4]Register
	for i := range source {
		source[i] = GP64()
		LEAQ(Mem{Base: keys, Disp: 64 * (4*group + i)}, source[i])
	}
	return source[:]
}
