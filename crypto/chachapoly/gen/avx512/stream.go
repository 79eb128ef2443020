package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// ChaCha20 (RFC 8439, 2.3) of 32 blocks at once. Word w of the states of 16 blocks
// is one register, and there are 32 registers: two states fill them all. That is
// nearly twice as fast as one state, whose instructions wait for each other.
//
// The blocks are independent: block i of a call, its row, has a block counter and a
// nonce of its own.

type state [16]VecVirtual // word w of 16 blocks

const rowSize = 64 // bytes of a block

// stream writes the units of ChaCha20.
func stream() {
	sigma := GLOBL("sigma", RODATA|NOPTR)
	for i, w := range []uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574} {
		DATA(4*i, U32(w))
	}

	TEXT("keys512", 0, "func(keys *[32][32]byte, key *[36]byte, counters *[32]uint64)")
	Doc("keys512 makes the first halves of rows that have block counter 0.")
	Pragma("noescape")
	u := newUnit(sigma)
	keys := pointed("keys")
	zero := ZMM()
	VPXORQ(zero, zero, zero)
	for s := range u.states {
		m, _ := u.word(s, 12)
		VMOVDQU32(zero, m)
	}
	u.blocks()
	u.eachRow(func(i int, row VecVirtual) { VMOVDQU64(row.AsY(), keys.Offset(32*i)) })
	VZEROUPPER()
	RET()

	TEXT("xorRows512", 0, "func(key *[36]byte, counters *[32]uint64, offsets *[32]uint32, dst, src *[32]*byte, block, rows, stride, turns int)")
	Doc("xorRows512 XORs whole rows with key stream, turn by turn.")
	Pragma("noescape")
	u = newUnit(sigma)
	dst, src := pointed("dst"), pointed("src")
	rows, stride, turns := Load(Param("rows"), GP64()), Load(Param("stride"), GP64()), Load(Param("turns"), GP64())
	offsets, block := pointed("offsets"), Load(Param("block"), GP64())
	at := GP64()
	XORQ(at, at)
	Label("turn")
	u.count(offsets, block)
	u.blocks()
	u.eachRow(func(i int, row VecVirtual) {
		if i > 0 { // the first row is always there
			CMPQ(rows, U8(i))
			JLE(LabelRef("done"))
		}
		p := GP64()
		MOVQ(src.Offset(8*i), p)
		VPXORQ(Mem{Base: p, Index: at, Scale: 1}, row, row)
		MOVQ(dst.Offset(8*i), p)
		VMOVDQU64(row, Mem{Base: p, Index: at, Scale: 1})
	})
	Label("done")
	Comment("A turn further: stride bytes, stride/64 blocks")
	ADDQ(stride, at)
	blocks := GP64()
	MOVQ(stride, blocks)
	SHRQ(U8(6), blocks)
	ADDQ(blocks, block)
	DECQ(turns)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()

	TEXT("xorParts512", 0, "func(key *[36]byte, counters *[32]uint64, offsets *[32]uint32, dst, src *[32]*byte, block int, load, store *[32]uint64)")
	Doc("xorParts512 XORs parts of rows with key stream, one turn.")
	Pragma("noescape")
	u = newUnit(sigma)
	dst, src = pointed("dst"), pointed("src")
	load, store := pointed("load"), pointed("store")
	u.count(pointed("offsets"), Load(Param("block"), GP64()))
	u.blocks()
	u.eachRow(func(i int, row VecVirtual) {
		p, text, k := GP64(), ZMM(), K()
		MOVQ(src.Offset(8*i), p)
		KMOVQ(load.Offset(8*i), k)
		VMOVDQU8_Z(Mem{Base: p}, k, text)
		VPXORQ(text, row, row)
		MOVQ(dst.Offset(8*i), p)
		k = K()
		KMOVQ(store.Offset(8*i), k)
		VMOVDQU8(row, k, Mem{Base: p})
	})
	VZEROUPPER()
	RET()
}

// unit is what they have in common.
type unit struct {
	sigma, key   Mem
	words, spill Mem // in the frame: words 12, 14, 15 of both states; the second state
	states       [2]state
}

// newUnit begins a unit: words 14 and 15 are the halves of each row's counter.
func newUnit(sigma Mem) *unit {
	u := &unit{sigma: sigma, key: pointed("key"), words: AllocLocal(3 * 2 * 64), spill: AllocLocal(16 * rowSize)}
	counters := pointed("counters")
	for s := range u.states {
		low, high := [2]VecVirtual{ZMM(), ZMM()}, [2]VecVirtual{ZMM(), ZMM()}
		for i := range 2 {
			VMOVDQU64(counters.Offset(128*s+64*i), low[i])
			VPSRLQ(U8(32), low[i], high[i])
		}
		for w, x := range [2][2]VecVirtual{low, high} {
			m, _ := u.word(s, 14+w)
			word, second := ZMM(), YMM()
			VPMOVQD(x[0], word.AsY())
			VPMOVQD(x[1], second)
			VINSERTI64X4(U8(1), second, word, word)
			VMOVDQU32(word, m)
		}
	}
	for s := range u.states {
		for w := range u.states[s] {
			u.states[s][w] = ZMM()
		}
	}
	return u
}

// count sets word 12 of all rows, the block counter.
func (u *unit) count(offsets Mem, block Register) {
	first := ZMM()
	VPBROADCASTD(block.(GPVirtual).As32(), first)
	for s := range u.states {
		m, _ := u.word(s, 12)
		counters := ZMM()
		VPADDD(offsets.Offset(64*s), first, counters)
		VMOVDQU32(counters, m)
	}
}

// word is where word w of a state's blocks is at the start (RFC 8439, 2.3): a
// constant, the key or the same word of all nonces, or what is each block's own.
func (u *unit) word(s, w int) (m Mem, all bool) {
	switch {
	case w < 4:
		return u.sigma.Offset(4 * w), true
	case w < 12:
		return u.key.Offset(4 * (w - 4)), true
	case w == 13:
		return u.key.Offset(32), true
	}
	return u.words.Offset(128*[16]int{12: 0, 14: 1, 15: 2}[w] + 64*s), false
}

// blocks leaves the key stream in states: 20 rounds and the addition of the start.
func (u *unit) blocks() {
	for s := range u.states {
		for w, x := range u.states[s] {
			if m, all := u.word(s, w); all {
				VPBROADCASTD(m, x)
			} else {
				VMOVDQU32(m, x)
			}
		}
	}
	loop, n := unique("rounds"), GP64()
	MOVQ(U32(10), n)
	Label(loop)
	for _, quarters := range [2][4][4]int{
		{{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15}}, // columns
		{{0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}}, // diagonals
	} {
		for s := range u.states {
			u.states[s].round(quarters)
		}
	}
	DECQ(n)
	JNZ(LabelRef(loop))
	for s := range u.states {
		for w, x := range u.states[s] {
			if m, all := u.word(s, w); all {
				VPADDD_BCST(m, x, x)
			} else {
				VPADDD(m, x, x)
			}
		}
	}
}

// round is four quarter rounds (RFC 8439, 2.1) beside each other.
func (x *state) round(quarters [4][4]int) {
	each := func(f func(a, b, c, d VecVirtual)) {
		for _, q := range quarters {
			f(x[q[0]], x[q[1]], x[q[2]], x[q[3]])
		}
	}
	add := func(a, b VecVirtual) { VPADDD(b, a, a) }
	xor := func(a, b VecVirtual) { VPXORD(b, a, a) }
	for _, n := range [2][2]uint64{{16, 12}, {8, 7}} {
		each(func(a, b, c, d VecVirtual) { add(a, b) })
		each(func(a, b, c, d VecVirtual) { xor(d, a) })
		each(func(a, b, c, d VecVirtual) { VPROLD(U8(n[0]), d, d) })
		each(func(a, b, c, d VecVirtual) { add(c, d) })
		each(func(a, b, c, d VecVirtual) { xor(b, c) })
		each(func(a, b, c, d VecVirtual) { VPROLD(U8(n[1]), b, b) })
	}
}

// eachRow turns the states from a register per word into a register per block, and
// gives the rows in their order. The second state waits in memory: the transposition
// needs registers.
func (u *unit) eachRow(f func(i int, row VecVirtual)) {
	for w, x := range u.states[1] {
		VMOVDQU32(x, u.spill.Offset(rowSize*w))
	}
	for i, row := range u.states[0].transposed() {
		f(i, row)
	}
	var second state
	for w := range second {
		second[w] = ZMM()
		VMOVDQU32(u.spill.Offset(rowSize*w), second[w])
	}
	for i, row := range second.transposed() {
		f(16+i, row)
	}
}

// transposed makes rows of words: first of 32-bit words, then of pairs of them, in
// each quarter of a register; then quarters change their places.
func (x *state) transposed() (rows state) {
	var t state // quarter q of t[4i+j] has words 4i to 4i+3 of block 4q+j
	for i := 0; i < 16; i += 4 {
		ab, AB, cd, CD := ZMM(), ZMM(), ZMM(), ZMM()
		VPUNPCKLDQ(x[i+1], x[i], ab)
		VPUNPCKHDQ(x[i+1], x[i], AB)
		VPUNPCKLDQ(x[i+3], x[i+2], cd)
		VPUNPCKHDQ(x[i+3], x[i+2], CD)
		for j := range 4 {
			t[i+j] = ZMM()
		}
		VPUNPCKLQDQ(cd, ab, t[i])
		VPUNPCKHQDQ(cd, ab, t[i+1])
		VPUNPCKLQDQ(CD, AB, t[i+2])
		VPUNPCKHQDQ(CD, AB, t[i+3])
	}
	for j := range 4 {
		low, high := [2]VecVirtual{ZMM(), ZMM()}, [2]VecVirtual{ZMM(), ZMM()} // quarters 0 and 1, 2 and 3
		for i := range 2 {
			VSHUFI32X4(U8(0x44), t[8*i+4+j], t[8*i+j], low[i])
			VSHUFI32X4(U8(0xee), t[8*i+4+j], t[8*i+j], high[i])
		}
		for q, pair := range [4][2]VecVirtual{low, low, high, high} {
			rows[4*q+j] = ZMM()
			VSHUFI32X4(U8([2]uint8{0x88, 0xdd}[q%2]), pair[1], pair[0], rows[4*q+j])
		}
	}
	return rows
}
