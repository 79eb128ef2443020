// Program gen writes ../checksum_amd64.s: the Internet checksum (RFC 1071) in
// AVX2. `go generate ./device` runs it; a test of package device wants that
// what is checked in is what it writes.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

const (
	block = 32 // bytes of a register
	turn  = 4  // blocks of a turn of the unrolled loop, each with sums of its own, so that no addition waits for the last
)

// The 64-bit words of b are summed without regard to carries, modulo 2^64, and
// their high halves a second time, alone. A high half weighs 2^32, and 2^32 is 1
// modulo 2^16-1, so with W the sum of the words and H that of the high halves
//
//	sum = (W - 2^32 H) + H
//
// where the brackets hold the sum of the low halves. That is three additions or
// shifts for each 32 bytes; unpacking both halves would be four.
//
// Bounds: H and the sum of the low halves stay below 2^64, and their sum below
// 2^49, for b shorter than 2^19 bytes; packets are shorter than 2^16. All else is
// right modulo 2^64, whatever W has lost.
func main() {
	ConstraintExpr("!purego")
	TEXT("sumAVX2", NOSPLIT, "func(s uint64, b []byte) uint64")
	Doc("sumAVX2 adds b to s. The last len(b)%32 bytes are not read.")
	Pragma("noescape")

	at := Load(Param("b").Base(), GP64())
	n := Load(Param("b").Len(), GP64())

	var whole, high [turn]VecVirtual
	for i := range turn {
		whole[i], high[i] = YMM(), YMM()
		VPXOR(whole[i], whole[i], whole[i])
		VPXOR(high[i], high[i], high[i])
	}
	add := func(i int) {
		word := YMM()
		VMOVDQU(Mem{Base: at, Disp: i * block}, word)
		VPADDQ(word, whole[i], whole[i])
		VPSRLQ(U8(32), word, word)
		VPADDQ(word, high[i], high[i])
	}

	JMP(LabelRef("turns"))
	Label("turn")
	for i := range turn {
		add(i)
	}
	ADDQ(U32(turn*block), at)
	Label("turns")
	SUBQ(U32(turn*block), n)
	JGE(LabelRef("turn"))
	ADDQ(U32(turn*block), n)

	JMP(LabelRef("blocks"))
	Label("block")
	add(0)
	ADDQ(U8(block), at)
	Label("blocks")
	SUBQ(U8(block), n)
	JGE(LabelRef("block"))

	Comment("One word of each: W and H")
	for n := turn / 2; n > 0; n /= 2 {
		for i := range n {
			VPADDQ(whole[i+n], whole[i], whole[i])
			VPADDQ(high[i+n], high[i], high[i])
		}
	}
	pair, other := YMM(), XMM()
	// whole's two pairs beside high's: (w0+w1, h0+h1) in each half
	VPUNPCKLQDQ(high[0], whole[0], pair)
	VPUNPCKHQDQ(high[0], whole[0], whole[0])
	VPADDQ(whole[0], pair, pair)
	VEXTRACTI128(U8(1), pair, other)
	VPADDQ(other, pair.AsX(), pair.AsX())
	w, h, low := GP64(), GP64(), GP64()
	VMOVQ(pair.AsX(), w)
	VPEXTRQ(U8(1), pair.AsX(), h)
	VZEROUPPER()

	Comment("s + W - 2^32 H + H, with end-around carry")
	MOVQ(h, low)
	SHLQ(U8(32), low)
	SUBQ(low, w)
	ADDQ(h, w)
	s := Load(Param("s"), GP64())
	ADDQ(w, s)
	ADCQ(U8(0), s)
	Store(s, ReturnIndex(0))
	RET()
	Generate()
}
