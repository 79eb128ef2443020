package chachapoly

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 8439)) }

func TestEveryLengthIsSealedAndOpenedLikeXCrypto(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		for how := range places {
			for n := range 400 {
				d := newDifferential(t, p, newMemory(random(uint64(n)), 1<<12))
				train := []Packet{d.packet(n, n%5, how), d.packet(n, 0, how)}
				d.seal(t, train)
				d.open(t, train, 64)
			}
		}
	})
}

func TestEveryNumberOfPacketsIsSealedAndOpenedLikeXCrypto(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		for _, size := range []int{0, 16, 96, 100, 1420} {
			for n := range 68 {
				d := newDifferential(t, p, newMemory(random(uint64(n)), 1<<18))
				train := make([]Packet, n)
				for i := range train {
					train[i] = d.packet(size, 0, place(i)%places)
				}
				if n > 3 { // as a train ends
					train[n-1] = d.packet(size/2, 3, apart)
				}
				d.seal(t, train)
				d.open(t, train, 64)
			}
		}
	})
}

func TestTrainsOfAllSortsAreSealedAndOpenedLikeXCrypto(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		for seed := range uint64(300) {
			mixed(t, p, random(seed), uint8(seed), uint16(seed*7), 2000)
		}
	})
}

func TestLargePacketsAreSealedAndOpenedLikeXCrypto(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		for seed := range uint64(10) {
			mixed(t, p, random(seed), 5, 60000, 5500)
		}
	})
}

// mixed seals and opens a train of up to 64 packets of base to base+spread bytes.
func mixed(t testing.TB, p path, r *rand.Rand, packets uint8, base uint16, spread int) {
	t.Helper()
	n := int(packets)%64 + 1
	largest := int(base) + spread
	d := newDifferential(t, p, newMemory(r, n*(2*largest+TagSize+3*70)))
	train := make([]Packet, n)
	for i := range train {
		size := int(base)
		if spread > 0 {
			size += r.IntN(spread + 1)
		}
		train[i] = d.packet(size, r.IntN(20), place(r.IntN(int(places))))
	}
	d.seal(t, train)
	d.open(t, train, r.IntN(257))
}

// fuzzPath is one path's fuzz target: 1 to 64 packets of 0 to 2,000 bytes, equal or
// not, with random splits, padding, places, counters and forgeries.
func fuzzPath(f *testing.F, p path) {
	needs(f, p)
	f.Add(uint64(1), uint8(0), uint16(0), uint16(0))
	f.Add(uint64(2), uint8(15), uint16(1420), uint16(0))
	f.Add(uint64(3), uint8(63), uint16(0), uint16(2000))
	f.Add(uint64(4), uint8(45), uint16(96), uint16(1))
	f.Fuzz(func(t *testing.T, seed uint64, packets uint8, base, spread uint16) {
		base %= 2001
		mixed(t, p, random(seed), packets, base, int(spread)%(2001-int(base)))
	})
}

func FuzzGeneric(f *testing.F) { fuzzPath(f, generic) }

func TestAPacketThatBreaksTheRulesPanicsBeforeAnythingIsWritten(t *testing.T) {
	memory := make([]byte, 200)
	sealed := memory[50:166]
	for name, p := range map[string]Packet{
		"Sealed is too small":               {First: make([]byte, 64), Rest: make([]byte, 37), Sealed: sealed},
		"Sealed is too large":               {First: make([]byte, 64), Rest: make([]byte, 35), Sealed: sealed},
		"no room for a tag":                 {Sealed: make([]byte, TagSize-1)},
		"negative padding":                  {First: make([]byte, 64), Rest: make([]byte, 37), Pad: -1, Sealed: sealed},
		"First a byte before its place":     {First: memory[49:113], Rest: make([]byte, 36), Sealed: sealed},
		"First a byte behind its place":     {First: memory[51:115], Rest: make([]byte, 36), Sealed: sealed},
		"First over Rest's place":           {First: memory[120:184], Rest: make([]byte, 36), Sealed: sealed},
		"Rest a byte before its place":      {First: make([]byte, 64), Rest: memory[113:149], Sealed: sealed},
		"Rest at First's place":             {First: make([]byte, 64), Rest: memory[50:86], Sealed: sealed},
		"Rest over the tag":                 {First: make([]byte, 64), Rest: memory[165:], Pad: 1, Sealed: sealed},
		"Rest ends in Sealed":               {First: make([]byte, 64), Rest: memory[15:51], Sealed: sealed},
		"larger than ChaCha20's blocks are": {Pad: maxSize + 1},
	} {
		train := []Packet{{Sealed: make([]byte, TagSize)}, p}
		c := New([KeySize]byte{1})
		expectPanic(t, "Seal: "+name, func() { c.Seal(train) })
		expectPanic(t, "Open: "+name, func() { c.Open(train, make([]bool, 2)) })
		if len(bytes.Trim(memory, "\x00")) != 0 || len(bytes.Trim(train[0].Sealed, "\x00")) != 0 {
			t.Fatalf("%s: something was written", name)
		}
	}
	both := make([]byte, 80)
	expectPanic(t, "Open into one memory twice", func() {
		New([KeySize]byte{1}).Open([]Packet{{First: both[:50], Rest: both[40:], Sealed: make([]byte, 90+TagSize)}}, make([]bool, 1))
	})
	expectPanic(t, "fewer verdicts than packets", func() { New([KeySize]byte{1}).Open(make([]Packet, 2), make([]bool, 1)) })
}

func expectPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}

func TestSealAndOpenDoNotAllocate(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		if p == generic && xcryptoAllocates() {
			t.Skip("x/crypto allocates where it has no assembly: run the test on amd64 without the tag purego")
		}
		for _, n := range []int{1, 3, 16, 46} {
			c := lanes([KeySize]byte{1}, p)
			train, ok := benchmarkTrain(n, 1420), make([]bool, n)
			if got := testing.AllocsPerRun(50, func() { c.Seal(train) }); got != 0 {
				t.Errorf("Seal of a train of %d: %v allocations", n, got)
			}
			if got := testing.AllocsPerRun(50, func() { c.Open(train, ok) }); got != 0 {
				t.Errorf("Open of a train of %d: %v allocations", n, got)
			}
		}
	})
}

func xcryptoAllocates() bool {
	aead, err := chacha20poly1305.New(make([]byte, KeySize))
	if err != nil {
		panic(err)
	}
	b, nonce := make([]byte, TagSize), make([]byte, chacha20poly1305.NonceSize)
	return testing.AllocsPerRun(10, func() { aead.Seal(b[:0], nonce, nil, nil) }) > 0
}

func TestTheKeyIsNotPrinted(t *testing.T) {
	c := New([KeySize]byte(bytes.Repeat([]byte{0xab}, KeySize)))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, c); got != "(hidden)" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestThePathIsTheBestThatRunsAndPassesItsTest(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		forced string
		runs   []path
		broken []path
		want   path
		fault  string
	}{
		{"", []path{generic, avx2, avx512}, nil, avx512, ""},
		{"", []path{generic, avx2}, nil, avx2, ""},
		{"", []path{generic}, nil, generic, ""},
		{"generic", []path{generic, avx2, avx512}, nil, generic, ""},
		{"avx2", []path{generic, avx2, avx512}, nil, avx2, ""},
		{"avx512", []path{generic, avx2, avx512}, nil, avx512, ""},
		{"avx512", []path{generic, avx2}, nil, avx2, `STUNNEL_AEAD="avx512": no such path`},
		{"AVX-512", []path{generic, avx2}, nil, avx2, `STUNNEL_AEAD="AVX-512": no such path`},
		{"", []path{generic, avx2, avx512}, []path{avx512}, avx2, "the avx512 path of ChaCha20-Poly1305 is not used: broken"},
		{"", []path{generic, avx2, avx512}, []path{avx2, avx512}, generic, "the avx2 path"},
		{"avx2", []path{generic, avx2, avx512}, []path{avx2}, generic, "the avx2 path"},
	} {
		in := func(list []path, p path) bool { return bytes.Contains(asBytes(list), asBytes([]path{p})) }
		got, fault := choose(c.forced, func(p path) bool { return in(c.runs, p) }, func(p path) error {
			if in(c.broken, p) {
				return broken
			}
			return nil
		})
		if got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		if c.fault == "" && fault != nil || c.fault != "" && (fault == nil || !strings.Contains(fault.Error(), c.fault)) {
			t.Errorf("%+v: the fault is %v", c, fault)
		}
	}
}

func asBytes(list []path) (b []byte) {
	for _, p := range list {
		b = append(b, byte(p))
	}
	return b
}

func TestEveryPathPassesItsTestAtStart(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		if err := p.test(); err != nil {
			t.Error(err)
		}
	})
}
