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

	lower := GLOBL("lower", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(2*i))
	}
	upper := GLOBL("upper", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(2*i+1))
	}

	TEXT("keys512", 0, "func(keys *[32][32]byte, key *[36]byte, counters *[32]uint64)")
	Doc("keys512 makes the first halves of rows that have block counter 0.")
	Pragma("noescape")
	u := newUnit(sigma)
	keys, counters, zero := pointed("keys"), pointed("counters"), quads(0)
	for s := range u.states {
		c := [2]VecVirtual{ZMM(), ZMM()}
		for i := range c {
			VMOVDQU64(counters.Offset(128*s+64*i), c[i])
		}
		u.set(s, 12, [2]VecVirtual{zero, zero}, lower)
		u.set(s, 14, c, lower)
		u.set(s, 15, c, upper)
	}
	u.blocks()
	u.eachRow(func(i int, row VecVirtual) { VMOVDQU64(row.AsY(), keys.Offset(32*i)) })
	VZEROUPPER()
	RET()

	TEXT("xor512", 0, "func(key *[36]byte, counters *[16]uint64, rows *[2][32]uint64, pointers *[3][16]*byte, bounds *[3][16]int, turns, open int)")
	Doc("xor512 XORs packets with key stream, turn by turn.")
	Pragma("noescape")
	u = newUnit(sigma)
	l := newLayout()
	turns, open := Load(Param("turns"), GP64()), Load(Param("open"), GP64())
	src, dst := GP64(), GP64()
	LEAQ(l.text, src)
	LEAQ(l.sealed, dst)
	TESTQ(open, open)
	JZ(LabelRef("seal"))
	XCHGQ(src, dst)
	Label("seal")
	for s := range u.states {
		var blocks, c [2]VecVirtual
		for i := range 2 {
			blocks[i] = ZMM()
			VPSRLQ(U8(6), l.offset(2*s+i), blocks[i])
			c[i] = l.of(l.counters, l.index(2*s+i))
		}
		u.set(s, 14, c, lower)
		u.set(s, 15, c, upper)
		VMOVDQU32(halves(blocks, lower), l.blocks.Offset(64*s))
	}
	at, block := GP64(), GP64()
	XORQ(at, at)
	Label("turn")
	Comment("Block numbers")
	MOVQ(at, block)
	SHRQ(U8(6), block)
	INCQ(block)
	for s := range u.states {
		n := ZMM()
		VPBROADCASTD(block.As32(), n)
		VPADDD(l.blocks.Offset(64*s), n, n)
		m, _ := u.word(s, 12)
		VMOVDQU32(n, m)
	}
	l.layOut(at)
	u.blocks()
	u.eachRow(func(i int, row VecVirtual) {
		p, k, text := GP64(), K(), ZMM()
		MOVQ(Mem{Base: src, Disp: 8 * i}, p)
		KMOVQ(Mem{Base: src, Disp: masks + 8*i}, k)
		VMOVDQU8_Z(Mem{Base: p}, k, text)
		VPXORQ(text, row, row)
		p, k = GP64(), K()
		MOVQ(Mem{Base: dst, Disp: 8 * i}, p)
		KMOVQ(Mem{Base: dst, Disp: masks + 8*i}, k)
		VMOVDQU8(row, k, Mem{Base: p})
	})
	ADDQ(l.stride, at)
	DECQ(turns)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()
}

// layout is where the rows of a turn are. Row i is of packet rows[0][i], its block that
// is rows[1][i] bytes behind where the turn begins. Per packet there are three pointers,
// to First, Rest and Sealed, and three bounds: where First ends, where the plaintext
// ends, and where the ciphertext ends.
type layout struct {
	rows, counters, pointers, bounds Mem
	text, sealed                     Mem // in the frame: 32 addresses, 32 masks
	blocks                           Mem // in the frame: how many blocks rows are behind the first
	stride                           Register
}

const masks = 8 * 32 // where they are, behind the addresses

func newLayout() *layout {
	l := &layout{rows: pointed("rows"), counters: pointed("counters"), pointers: pointed("pointers"), bounds: pointed("bounds"),
		text: AllocLocal(2 * masks), sealed: AllocLocal(2 * masks), blocks: AllocLocal(2 * 64), stride: GP64()}
	Comment("A turn is as many bytes of each packet as the last row is behind the first, and a row")
	MOVQ(l.rows.Offset(masks+8*31), l.stride)
	ADDQ(U8(rowSize), l.stride)
	return l
}

// index and offset are of 8 rows: whose they are, and how many bytes behind the first.
func (l *layout) index(n int) VecVirtual {
	x := ZMM()
	VMOVDQU64(l.rows.Offset(64*n), x)
	return x
}

func (l *layout) offset(n int) VecVirtual {
	x := ZMM()
	VMOVDQU64(l.rows.Offset(masks+64*n), x)
	return x
}

// of gives rows what is their packets'.
func (l *layout) of(m Mem, index VecVirtual) VecVirtual {
	x := ZMM()
	VMOVDQU64(m, x)
	VPERMT2Q(m.Offset(64), index, x)
	return x
}

// layOut lays out the rows of the turn that begins at a byte.
func (l *layout) layOut(at Register) {
	from := ZMM()
	VPBROADCASTQ(at, from)
	zero, ones, size := quads(0), quads(1<<64-1), quads(rowSize)
	for n := range 4 {
		l.rows8(n, from, zero, ones, size)
	}
}

// rows8 lays out 8 rows.
func (l *layout) rows8(n int, from, zero, ones, size VecVirtual) {
	index, offset := l.index(n), l.offset(n)
	VPADDQ(from, offset, offset)
	of := func(m Mem, i int) VecVirtual { return l.of(m.Offset(128*i), index) }
	// until stores which bytes of rows are before a bound, and returns which rows have any.
	until := func(bound VecVirtual, to Mem) Register {
		bytes, any := ZMM(), K()
		VPSUBQ(offset, bound, bytes)
		VPCMPQ(U8(1), bytes, zero, any) // 0 < bytes
		VPMAXSQ(zero, bytes, bytes)
		VPMINSQ(size, bytes, bytes)
		VPSUBQ(bytes, size, bytes)
		VPSRLVQ(bytes, ones, bytes) // 64 bits less those of the bytes that are not there
		VMOVDQU64(bytes, to.Offset(masks+64*n))
		return any
	}
	// An address of nothing is that of the packet: at one that is not mapped the
	// processor is slow, even if it is not to touch it.
	address, text, rest := ZMM(), ZMM(), of(l.pointers, 1)
	sealed := of(l.pointers, 2)
	some := until(of(l.bounds, 2), l.sealed)
	VMOVDQA64(sealed, address)
	VPADDQ(offset, sealed, some, address)
	VMOVDQU64(address, l.sealed.Offset(64*n))

	some = until(of(l.bounds, 1), l.text)
	cut, before := of(l.bounds, 0), K()
	VPCMPQ(U8(1), cut, offset, some, before) // offset < cut
	VPSUBQ(cut, rest, rest)
	VMOVDQA64(sealed, text)
	VPADDQ(offset, rest, some, text)
	VPADDQ(offset, of(l.pointers, 0), before, text)
	VMOVDQU64(text, l.text.Offset(64*n))
}

// unit is what the units have in common.
type unit struct {
	sigma, key   Mem
	words, spill Mem // in the frame: words 12, 14, 15 of both states; the second state
	states       [2]state
}

func newUnit(sigma Mem) *unit {
	u := &unit{sigma: sigma, key: pointed("key"), words: AllocLocal(3 * 2 * 64), spill: AllocLocal(16 * rowSize)}
	for s := range u.states {
		for w := range u.states[s] {
			u.states[s][w] = ZMM()
		}
	}
	return u
}

// set sets a word of a state to the lower or the upper halves of quadwords.
func (u *unit) set(s, w int, x [2]VecVirtual, half Mem) {
	m, _ := u.word(s, w)
	VMOVDQU32(halves(x, half), m)
}

// halves are the lower or the upper halves of quadwords.
func halves(x [2]VecVirtual, half Mem) VecVirtual {
	indices, word := ZMM(), ZMM()
	VMOVDQU32(half, indices)
	VMOVDQA64(x[0], word)
	VPERMT2D(x[1], indices, word)
	return word
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
