//go:build linux && !purego

package chachapoly

import (
	"testing"
	"unsafe"
)

func init() { unitsOf[avx2] = units{stream: keyStream256, mac: mac256} }

// rowsForAll gives few packets to AVX2 too, as long as the test runs.
func rowsForAll(t testing.TB) {
	t.Helper()
	needs(t, avx2)
	fewest, short := fewestAVX2, fewestShortAVX2
	fewestAVX2, fewestShortAVX2 = 1, 1
	t.Cleanup(func() { fewestAVX2, fewestShortAVX2 = fewest, short })
}

func FuzzAVX2(f *testing.F) {
	rowsForAll(f)
	fuzzPath(f, avx2)
}

func TestAVX2IsRightForFewPacketsToo(t *testing.T) {
	rowsForAll(t)
	for name, test := range map[string]func(*testing.T){
		"its own test": TestEveryPathPassesItsTestAtStart,
		"every length": TestEveryLengthIsSealedAndOpenedLikeXCrypto,
		"all sorts":    TestTrainsOfAllSortsAreSealedAndOpenedLikeXCrypto,
		"Wycheproof":   TestWycheproofTagsThroughTrains,
		"guards":       TestNothingIsTouchedOutsideTheSlices,
		"allocations":  TestSealAndOpenDoNotAllocate,
	} {
		t.Run(name, test)
	}
}

func TestAVX2TakesPacketsWhereTheyAreEnough(t *testing.T) {
	equal := func(n, size int) (sizes []int) {
		for range n {
			sizes = append(sizes, size)
		}
		return sizes
	}
	for _, c := range []struct {
		what  string
		sizes []int
		want  int
	}{
		{"nothing", nil, 0},
		{"five long ones", equal(5, 1420), 0},
		{"six long ones", equal(6, 1420), 6},
		{"three short ones", equal(3, 96), 0},
		{"four short ones", equal(4, 96), 4},
		{"four at the edge", equal(4, shortSize), 4},
		{"four beyond it", equal(4, shortSize+1), 0},
		{"a group and too few", equal(21, 1420), 16},
		{"a group and enough", equal(22, 1420), 22},
		{"groups and one", equal(33, 96), 32},
		{"as a train of TCP ends", append(equal(45, 1420), 700), 46},
		{"a long one and short ones", append(equal(11, 40), 9000), 0},
		{"long ones and short ones", append(equal(5, 40), equal(10, 1420)...), 15},
	} {
		var train []Packet
		for _, n := range c.sizes {
			train = append(train, Packet{First: make([]byte, n), Sealed: make([]byte, n+TagSize)})
		}
		if got := avx2Share(train); got != c.want {
			t.Errorf("%s: %d packets, want %d", c.what, got, c.want)
		}
	}
}

func TestLayoutsAreThoseOfAVX2sAssembly(t *testing.T) {
	var b blockRows
	var l sumLanes
	for what, at := range map[string][2]uintptr{
		"key":     {unsafe.Offsetof(b.key), 0},
		"words":   {unsafe.Offsetof(b.words), 32},
		"from":    {unsafe.Offsetof(b.from), 288},
		"to":      {unsafe.Offsetof(b.to), 416},
		"h":       {unsafe.Offsetof(l.h), 0},
		"r":       {unsafe.Offsetof(l.r), 320},
		"s":       {unsafe.Offsetof(l.s), 640},
		"squareR": {unsafe.Offsetof(l.squareR), 896},
		"squareS": {unsafe.Offsetof(l.squareS), 1216},
		"l.from":  {unsafe.Offsetof(l.from), 1472},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, gen/avx2 has it at %d", what, at[0], at[1])
		}
	}
}
