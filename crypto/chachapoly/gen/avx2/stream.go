package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets in blockRows. A row is a block of ChaCha20.
const (
	rowsKey    = 0   // 8 words of 32 bits, the same for all rows
	rowsWords  = 32  // words 12 to 15 of the states, each of all rows
	rowsSource = 288 // 16 pointers
	rowsTarget = 416 // 16 pointers
)

const (
	blockSize = 64 // bytes
	vector    = 32 // bytes of a register
	sets      = 2  // of 8 rows
)

var ymm = [16]VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15}

// ChaCha20 (RFC 8439, 2.3) of 16 rows, in two sets of 8: a register has one word of the
// states of a set. Two sets, because the instructions of a quarter round wait for each
// other so long that those of another set find room.
//
// The states take 32 registers, and there are 16. Word b of a quarter round is the last
// that it makes and the first that the next one wants: these 8 stay in Y0 to Y7. Words
// a, c and d live on the stack. When their turn comes they have been there for longer
// than a store takes until it can be loaded, and as operands in memory they cost no
// instructions but the stores.
func stream() {
	rotate16 := rotation("rotate16", 16)
	rotate8 := rotation("rotate8", 8)
	sigma := GLOBL("sigma", RODATA|NOPTR) // "expand 32-byte k", words 0 to 3
	for i, word := range []uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574} {
		DATA(4*i, U32(word))
	}
	one := GLOBL("one", RODATA|NOPTR)
	DATA(0, U32(1))

	TEXT("xorRows256", 0, "func(b *byte, rows, turns int)")
	Doc("xorRows256 does so many turns of blocks, in each of the first so many rows.")
	Pragma("noescape")
	rowsOf := Load(Param("b"), GP64())
	rows := Load(Param("rows"), GP64())
	turns := Load(Param("turns"), GP64())
	at := GP64() // of the block in each row's run
	XORQ(at, at)
	stack := GP64()
	LEAQ(AllocLocal(sets*16*vector+vector), stack)
	ADDQ(I8(vector-1), stack)
	ANDQ(I8(-vector), stack)

	state := func(set, word int) Mem { return Mem{Base: stack, Disp: vector * (16*set + word)} }
	// constant is a word that all rows begin with alike.
	constant := func(word int) Mem {
		if word < 4 {
			return sigma.Offset(4 * word)
		}
		return Mem{Base: rowsOf, Disp: rowsKey + 4*(word-4)}
	}
	// own is a word that each row begins with its own of.
	own := func(set, word int) Mem {
		return Mem{Base: rowsOf, Disp: rowsWords + vector*(sets*(word-12)+set)}
	}
	// b is where word b of a quarter round stays.
	b := func(set, word int) VecPhysical { return ymm[4*set+word-4] }

	Label("turn")
	t := Y15
	for word := range 12 {
		if word/4 == 1 {
			VPBROADCASTD(constant(word), b(0, word))
			VMOVDQA(b(0, word), b(1, word))
			continue
		}
		VPBROADCASTD(constant(word), t)
		for set := range sets {
			VMOVDQA(t, state(set, word))
		}
	}
	for set := range sets {
		for word := 12; word < 16; word++ {
			VMOVDQU(own(set, word), t)
			VMOVDQA(t, state(set, word))
		}
	}

	masks := [2]VecPhysical{Y14, Y15}
	VMOVDQU(rotate16, masks[0])
	VMOVDQU(rotate8, masks[1])
	rounds := GP32()
	MOVL(U32(10), rounds)
	Label("rounds")
	// half is one half of the quarter rounds of a set, of diagonals if skew is 1: step by
	// step in all four, so that each instruction has three others to wait beside.
	half := func(set, skew, half int) {
		word := func(letter, i int) int { return 4*letter + (i+letter*skew)%4 }
		b := func(i int) VecPhysical { return b(set, word(1, i)) }
		// Words a, d, c by turns, and then what the rotation of b needs.
		x := func(i int) VecPhysical { return ymm[8+i] }
		each := func(step func(i int)) {
			for i := range 4 {
				step(i)
			}
		}
		each(func(i int) {
			a := state(set, word(0, i))
			VPADDD(a, b(i), x(i))
			VMOVDQA(x(i), a)
		})
		each(func(i int) { VPXOR(state(set, word(3, i)), x(i), x(i)) })
		each(func(i int) {
			VPSHUFB(masks[half], x(i), x(i))
			VMOVDQA(x(i), state(set, word(3, i)))
		})
		each(func(i int) {
			c := state(set, word(2, i))
			VPADDD(c, x(i), x(i))
			VMOVDQA(x(i), c)
		})
		each(func(i int) { VPXOR(x(i), b(i), b(i)) })
		n := [2]uint8{12, 7}[half]
		each(func(i int) {
			VPSLLD(U8(n), b(i), x(i))
			VPSRLD(U8(32-n), b(i), b(i))
		})
		each(func(i int) { VPOR(x(i), b(i), b(i)) })
	}
	for skew, name := range []string{"Columns", "Diagonals"} {
		for part := range 2 {
			for set := range sets {
				Comment(fmt.Sprintf("%s, half %d, rows %d to %d", name, part, 8*set, 8*set+7))
				half(set, skew, part)
			}
		}
	}
	DECL(rounds)
	JNE(LabelRef("rounds"))
	for word := 4; word < 8; word++ {
		for set := range sets {
			VMOVDQA(b(set, word), state(set, word))
		}
	}

	p := GP64()
	for set := range sets {
		CMPQ(rows, U8(8*set))
		JLE(LabelRef("next"))
		for half := range 2 {
			Comment(fmt.Sprintf("Words %d to %d of rows %d to %d", 8*half, 8*half+7, 8*set, 8*set+7))
			x, y := ymm[0:8], ymm[8:16]
			for i := range 8 {
				word := 8*half + i
				if word < 12 {
					VPBROADCASTD(constant(word), x[i])
				} else {
					VMOVDQU(own(set, word), x[i])
				}
				VPADDD(state(set, word), x[i], x[i])
			}
			transpose(x, y)
			end := fmt.Sprintf("end%d%d", set, half)
			for i := range 8 {
				row := 8*set + i
				if i > 0 {
					CMPQ(rows, U8(row))
					JLE(LabelRef(end))
				}
				MOVQ(Mem{Base: rowsOf, Disp: rowsSource + 8*row}, p)
				VPXOR(Mem{Base: p, Index: at, Scale: 1, Disp: vector * half}, y[i], y[i])
				MOVQ(Mem{Base: rowsOf, Disp: rowsTarget + 8*row}, p)
				VMOVDQU(y[i], Mem{Base: p, Index: at, Scale: 1, Disp: vector * half})
			}
			Label(end)
		}
	}
	Label("next")
	VPBROADCASTD(one, t)
	for set := range sets {
		VPADDD(own(set, 12), t, Y0)
		VMOVDQU(Y0, own(set, 12))
	}
	ADDQ(U8(blockSize), at)
	DECQ(turns)
	JNE(LabelRef("turn"))
	VZEROUPPER()
	RET()
}

// rotation is a byte shuffle that rotates words to the left by n bits.
func rotation(name string, n int) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range vector / 4 {
		var word uint32
		for j := range 4 {
			from := 4*(i%4) + (j+4-n/8)%4
			word |= uint32(from) << (8 * j)
		}
		DATA(4*i, U32(word))
	}
	return m
}

// transpose makes of x, 8 registers with one word of 8 rows each, y, 8 registers with 8
// words of one row each. It loses x.
func transpose(x, y []VecPhysical) {
	for i := 0; i < 8; i += 2 {
		VPUNPCKLDQ(x[i+1], x[i], y[i])
		VPUNPCKHDQ(x[i+1], x[i], y[i+1])
	}
	// y[i], y[i+1]: words i, i+1 of rows 0, 1, 4, 5, and of rows 2, 3, 6, 7
	for i := 0; i < 8; i += 4 {
		for j := range 2 {
			VPUNPCKLQDQ(y[i+2+j], y[i+j], x[i+2*j])
			VPUNPCKHQDQ(y[i+2+j], y[i+j], x[i+2*j+1])
		}
	}
	// x[i+j]: words i to i+3 of rows j, j+4
	for j := range 4 {
		VPERM2I128(U8(0x20), x[4+j], x[j], y[j])
		VPERM2I128(U8(0x31), x[4+j], x[j], y[4+j])
	}
}
