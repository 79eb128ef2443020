package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Poly1305 (RFC 8439, 2.5) of 16 messages, or 16 parts of messages, at once: two
// groups of 8 lanes. A number modulo p = 2^130-5 is three limbs, of 44, 44 and 42
// bits and a little more, x = x0 + 2^44 x1 + 2^88 x2; limb l of all 16 lanes lies
// together in memory, [3][16]uint64.
//
// VPMADD52LUQ and VPMADD52HUQ multiply the low 52 bits of limbs, and add the low or
// the high 52 bits of the product to 64. A high half weighs 2^52 = 2^8 * 2^44.
// Limbs beyond 2^132 come back at the bottom: 2^132 = 4 * 2^130 = 20 (mod p), so
// every multiplier comes with 20 times its limbs 1 and 2. A multiplier is
// [5][16]uint64: r0, r1, r2, s1 = 20 r1, s2 = 20 r2.
//
// Bounds. What carry leaves has x0 < 2^44, x1 < 2^44 + 2^7, x2 < 2^42; the limbs of a
// block, with its top bit, are below 2^44, 2^44, 2^41. So a sum that is multiplied has
// limbs below 2^45, 2^45 + 2^7, 2^43; and a multiplier, which may be what carry left,
// 2^44, 2^44 + 2^7, 2^42, and s1 < 2^48.4, s2 < 2^46.4: all are below 2^52.

const (
	lanes     = 16
	limbBytes = 8 * lanes // from limb to limb
	group     = 64        // bytes of a limb of 8 lanes
	sumSize   = 16        // bytes of a block
)

type limbs [3]VecVirtual

type multiplier [5]VecVirtual // r0, r1, r2, s1, s2

func loadLimbs(m Mem, g int) (x limbs) {
	for l := range x {
		x[l] = ZMM()
		VMOVDQU64(m.Offset(limbBytes*l+group*g), x[l])
	}
	return x
}

func (x limbs) store(m Mem, g int) {
	for l := range x {
		VMOVDQU64(x[l], m.Offset(limbBytes*l+group*g))
	}
}

func loadMultiplier(m Mem, g int) (x multiplier) {
	for l := range x {
		x[l] = ZMM()
		VMOVDQU64(m.Offset(limbBytes*l+group*g), x[l])
	}
	return x
}

// constants that the arithmetic needs, in every quadword.
type constants struct{ zero, low44, low42, top VecVirtual }

func newConstants() constants {
	return constants{quads(0), quads(1<<44 - 1), quads(1<<42 - 1), quads(1 << 40)} // top is 2^128 in limb 2
}

func quads(v uint64) VecVirtual {
	n, x := GP64(), ZMM()
	MOVQ(U64(v), n)
	VPBROADCASTQ(n, x)
	return x
}

func pointed(name string) Mem { return Mem{Base: Load(Param(name), GP64())} }

func sums() {
	clamp()
	scale()
	absorb()
	multiply()
	finish()
}

// groups makes two masks of one, a bit for each lane.
func groups(active Register) (masks [2]Register) {
	for g := range masks {
		k := K()
		masks[g] = k
		KMOVW(active.(GPVirtual).As32(), k)
		if g == 0 {
			SHRQ(U8(8), active)
		}
	}
	return masks
}

// absorb is RFC 8439, 2.5.1: acc = (acc + block) * r, step by step, a block in each lane.
//
// Lane i has a part of message lanes[0][i], which is the block lanes[1][i] behind the
// first of a step, and 1 + lanes[1][15] blocks are a step. Per message there are three
// numbers, in blocks: how much later it begins than the steps, and of its own blocks how
// many lie whole in it, and which is the last. Before it begins a lane is not active, its
// sum stays zero. Behind the whole blocks come those in tails.
func absorb() {
	TEXT("absorb512", 0, "func(acc *[3][16]uint64, r *[5][16]uint64, lanes *[2][16]uint64, sealed *[16]*byte, blocks *[3][16]int, tails *[16][2][16]byte, step, steps int)")
	Doc("absorb512 adds a block of each lane's message to its sum and multiplies, step by step.")
	Pragma("noescape")
	acc, r := pointed("acc"), pointed("r")
	way := newWay()
	steps := Load(Param("steps"), GP64())
	c := newConstants()
	var h [2]limbs
	var m [2]multiplier
	for g := range 2 {
		h[g], m[g] = loadLimbs(acc, g), loadMultiplier(r, g)
	}
	Label("run")
	n, active := way.run(steps)
	SUBQ(n, steps)
	at := GP64()
	XORQ(at, at)
	Label("step")
	for g := range 2 {
		low, high := load8(way.addresses.Offset(group*g), at)
		sum := c.split(low, high)
		VPORQ(c.top, sum[2], sum[2])
		for l := range sum {
			VPADDQ(h[g][l], sum[l], sum[l])
		}
		c.carry(c.product(sum, m[g]), h[g], active[g])
	}
	ADDQ(way.stride, at)
	DECQ(n)
	JNZ(LabelRef("step"))
	way.advance(at)
	TESTQ(steps, steps)
	JNZ(LabelRef("run"))
	for g := range 2 {
		h[g].store(acc, g)
	}
	VZEROUPPER()
	RET()
}

// way is where lanes are in their messages. Steps are taken in runs: as long as no lane
// begins, and none has its last whole block, addresses only advance.
type way struct {
	block         Mem      // in the frame: which block each lane is at
	message, tail Mem      // the address of that block in the message, and in tails
	whole         Mem      // how many blocks lie whole in the message
	addresses     Mem      // of the blocks of this step
	blocks, shift Register // of a step: how many blocks there are for a message, binary logarithm
	stride        Register // 16 times as much
}

func newWay() *way {
	w := &way{blocks: GP64(), shift: GP64(), stride: GP64()}
	for _, m := range []*Mem{&w.block, &w.message, &w.tail, &w.whole, &w.addresses} {
		*m = AllocLocal(2 * group)
	}
	lanes, sealed, blocks, step := pointed("lanes"), pointed("sealed"), pointed("blocks"), Load(Param("step"), GP64())
	MOVQ(lanes.Offset(2*limbBytes-8), w.blocks)
	POPCNTQ(w.blocks, w.shift)
	INCQ(w.blocks)
	MOVQ(w.blocks, w.stride)
	SHLQ(U8(4), w.stride)
	IMULQ(w.blocks, step)
	tails := ZMM()
	VPBROADCASTQ(Load(Param("tails"), GP64()), tails)
	VPADDQ(quads(sumSize), tails, tails)
	for g := range 2 {
		index := ZMM()
		VMOVDQU64(lanes.Offset(group*g), index)
		of := func(m Mem) VecVirtual { // what is the lanes' messages'
			x := ZMM()
			VMOVDQU64(m, x)
			VPERMT2Q(m.Offset(64), index, x)
			return x
		}
		block, bytes, tail := ZMM(), ZMM(), ZMM()
		VPBROADCASTQ(step, block)
		VPADDQ(lanes.Offset(limbBytes+group*g), block, block)
		VPSUBQ(of(blocks), block, block)
		VMOVDQU64(block, w.block.Offset(group*g))

		VPSLLQ(U8(4), block, bytes)
		message := of(sealed)
		VPADDQ(bytes, message, message)
		VMOVDQU64(message, w.message.Offset(group*g))
		VMOVDQU64(of(blocks.Offset(limbBytes)), w.whole.Offset(group*g))

		Comment("The last block is the second in tails")
		VPSUBQ(of(blocks.Offset(2*limbBytes)), block, tail)
		VPADDQ(index, tail, tail)
		VPADDQ(index, tail, tail)
		VPSLLQ(U8(4), tail, tail)
		VPADDQ(tails, tail, tail)
		VMOVDQU64(tail, w.tail.Offset(group*g))
	}
	return w
}

// run begins a run, of at most so many steps: how many they are, and which lanes are
// active in them.
func (w *way) run(steps Register) (n Register, active [2]Register) {
	var waits [2]Register
	left, last := [2]VecVirtual{ZMM(), ZMM()}, ZMM()
	VPBROADCASTQ(w.blocks, last)
	VPSUBQ(quads(1), last, last)
	for g := range 2 {
		block, bound, address := ZMM(), ZMM(), ZMM()
		waiting, whole := K(), K()
		VMOVDQU64(w.block.Offset(group*g), block)
		VMOVDQU64(w.whole.Offset(group*g), bound)
		VMOVDQU64(w.tail.Offset(group*g), address)
		VPCMPQ(U8(1), bound, block, whole) // block < bound
		VPMOVQ2M(block, waiting)           // block < 0
		VMOVDQU64(w.message.Offset(group*g), whole, address)
		VMOVDQU64(address, w.addresses.Offset(group*g))

		Comment("Blocks until a lane begins, or has no whole ones any more; or only this step")
		VMOVDQA64(quads(1), left[g])
		VPSUBQ(block, bound, whole, left[g])
		VPSUBQ(block, quads(0), waiting, left[g])
		VPADDQ(last, left[g], left[g])
		k := K()
		KNOTB(waiting, k)
		active[g], waits[g] = k, waiting
	}
	Comment("The least of all, in steps")
	least, x := left[0], ZMM()
	VPMINUQ(left[1], least, least)
	VEXTRACTI64X4(U8(1), least, x.AsY())
	VPMINUQ(x.AsY(), least.AsY(), least.AsY())
	VEXTRACTI64X2(U8(1), least.AsY(), x.AsX())
	VPMINUQ(x.AsX(), least.AsX(), least.AsX())
	VPSHUFD(U8(0xee), least.AsX(), x.AsX())
	VPMINUQ(x.AsX(), least.AsX(), least.AsX())
	n = GP64()
	VMOVQ(least.AsX(), n)
	SHRXQ(w.shift, n, n)
	CMPQ(n, steps)
	CMOVQGT(steps, n)

	// Lanes that wait read along with the last lane of the first message, which does not.
	address := GP64()
	MOVQ(Mem{Base: w.addresses.Base, Disp: w.addresses.Disp - 8, Index: w.blocks, Scale: 8}, address)
	for g := range 2 {
		x := ZMM()
		VMOVDQU64(w.addresses.Offset(group*g), x)
		VPBROADCASTQ(address, waits[g], x)
		VMOVDQU64(x, w.addresses.Offset(group*g))
	}
	return n, active
}

// advance goes on by so many bytes of each message.
func (w *way) advance(bytes Register) {
	x := ZMM()
	VPBROADCASTQ(bytes, x)
	for g := range 2 {
		for _, m := range []Mem{w.message, w.tail} {
			y := ZMM()
			VPADDQ(m.Offset(group*g), x, y)
			VMOVDQU64(y, m.Offset(group*g))
		}
	}
	VPSRLQ(U8(4), x, x)
	for g := range 2 {
		y := ZMM()
		VPADDQ(w.block.Offset(group*g), x, y)
		VMOVDQU64(y, w.block.Offset(group*g))
	}
}

// load8 loads 16 bytes behind each of 8 addresses.
func load8(addresses Mem, at Register) (low, high VecVirtual) {
	return pairs8(func(i int) Mem {
		p := GP64()
		MOVQ(addresses.Offset(8*i), p)
		return Mem{Base: p, Index: at, Scale: 1}
	})
}

// pairs8 loads 16 bytes for each of 8 lanes, and returns their low and high halves.
func pairs8(from func(i int) Mem) (low, high VecVirtual) {
	both := [2]VecVirtual{ZMM(), ZMM()} // even lanes, odd lanes
	for i := range 8 {
		if z := both[i%2]; i < 2 {
			VBROADCASTI64X2(from(i), z) // in all quarters
		} else {
			VINSERTI64X2(U8(i/2), from(i), z, z)
		}
	}
	low, high = ZMM(), ZMM()
	VPUNPCKLQDQ(both[1], both[0], low)
	VPUNPCKHQDQ(both[1], both[0], high)
	return low, high
}

// split makes limbs of 128 bits.
func (c constants) split(low, high VecVirtual) limbs {
	x := limbs{ZMM(), ZMM(), ZMM()}
	VPANDQ(c.low44, low, x[0])
	VPSHRDQ(U8(44), high, low, x[1])
	VPANDQ(c.low44, x[1], x[1])
	VPSRLQ(U8(24), high, x[2])
	return x
}

// products are three limbs' worth of products: low halves, and high halves that weigh
// 2^8 times the next limb.
type products struct{ low, high limbs }

// product multiplies limb by limb:
//
//	limb 0: h0 r0 + h1 s2 + h2 s1
//	limb 1: h0 r1 + h1 r0 + h2 s2
//	limb 2: h0 r2 + h1 r1 + h2 r0
//
// A low half is below 2^52, three of them below 2^53.6. Three high halves are, by the
// bounds of their factors and divided by 2^52, in limb 0 below 2^37 + 2^39.5 + 2^39.5,
// in limb 1 below 2^37.1 + 2^37.1 + 2^37.5, in limb 2 below 2^35 + 2^37.1 + 2^35: below
// 2^41, 2^39 and 2^38.
func (c constants) product(h limbs, m multiplier) products {
	r0, r1, r2, s1, s2 := m[0], m[1], m[2], m[3], m[4]
	var p products
	for l := range p.low {
		p.low[l], p.high[l] = ZMM(), ZMM()
		VMOVDQA64(c.zero, p.low[l])
		VMOVDQA64(c.zero, p.high[l])
	}
	for i, row := range [3][3]VecVirtual{{r0, r1, r2}, {s2, r0, r1}, {s1, s2, r0}} {
		for l, x := range row {
			VPMADD52LUQ(x, h[i], p.low[l])
		}
		for l, x := range row {
			VPMADD52HUQ(x, h[i], p.high[l])
		}
	}
	return p
}

// carry makes limbs of a product again, in the lanes of the mask, and leaves the other
// lanes of h as they were.
//
//	limb 0 < 2^53.6; its carry < 2^10
//	limb 1 < 2^53.6 + 2^(41+8) + 2^10 < 2^54; its carry < 2^10
//	limb 2 < 2^53.6 + 2^(39+8) + 2^10 < 2^54; above 2^42: < 2^12 + 2^(38+10) < 2^48.1
//	limb 0 < 2^44 + 5 * 2^48.1 < 2^51; its carry < 2^7
func (c constants) carry(p products, h limbs, mask Register) {
	up, x := ZMM(), ZMM()
	VPSRLQ(U8(44), p.low[0], up)
	VPANDQ(c.low44, p.low[0], p.low[0])

	VPSLLQ(U8(8), p.high[0], x)
	VPADDQ(x, p.low[1], p.low[1])
	VPADDQ(up, p.low[1], p.low[1])
	VPSRLQ(U8(44), p.low[1], up)
	VPANDQ(c.low44, p.low[1], p.low[1])

	VPSLLQ(U8(8), p.high[1], x)
	VPADDQ(x, p.low[2], p.low[2])
	VPADDQ(up, p.low[2], p.low[2])
	VPSRLQ(U8(42), p.low[2], up)
	VPSLLQ(U8(10), p.high[2], x)
	VPADDQ(x, up, up)
	VPANDQ(c.low42, p.low[2], mask, h[2])

	Comment("2^130 = 5")
	VPADDQ(up, p.low[0], p.low[0])
	VPSLLQ(U8(2), up, up)
	VPADDQ(up, p.low[0], p.low[0])
	VPSRLQ(U8(44), p.low[0], up)
	VPANDQ(c.low44, p.low[0], mask, h[0])
	VPADDQ(up, p.low[1], mask, h[1])
}
