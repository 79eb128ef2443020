//go:build !purego

package device

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// vectorsFrom makes sum take vectors from n bytes on, as long as the test runs.
func vectorsFrom(t testing.TB, n int) {
	t.Helper()
	if !cpu.X86.HasAVX2 {
		t.Skip("this processor has no AVX2: run the test on one that has (Haswell, Excavator or newer)")
	}
	was := vectorFrom
	vectorFrom = n
	t.Cleanup(func() { vectorFrom = was })
}

// differs compares vectors from 32 bytes on with none, and both with RFC 1071.
func differs(t *testing.T, start uint64, b []byte) {
	t.Helper()
	vectorFrom = 32
	vector := plain(sum(start, b))
	vectorFrom = math.MaxInt
	inGo := plain(sum(start, b))
	var first [8]byte
	binary.NativeEndian.PutUint64(first[:], start)
	want := uint32(plainSum(b)) + uint32(plainSum(first[:]))
	if !sameSum(vector, inGo) || !sameSum(inGo, uint16(want>>16+want&0xffff)) {
		t.Fatalf("%d bytes from %#x: AVX2 %#04x, Go %#04x, RFC 1071 %#x", len(b), start, vector, inGo, want)
	}
}

func FuzzVectorsSumLikeGo(f *testing.F) {
	vectorsFrom(f, 32)
	f.Add(make([]byte, 32), uint64(0), uint16(0))
	f.Add([]byte{0xff, 0xfe}, ^uint64(0), uint16(0xffff))
	f.Add([]byte{1, 0, 0xff}, uint64(1), uint16(1421))
	f.Fuzz(func(t *testing.T, pattern []byte, start uint64, length uint16) {
		differs(t, start, pattern)
		if len(pattern) == 0 {
			return
		}
		// The pattern again and again, up to the longest packet there is.
		long := make([]byte, length)
		for i := 0; i < len(long); i += copy(long[i:], pattern) {
		}
		differs(t, start, long)
	})
}

func TestVectorsSumLikeGoAtEveryLengthAndAlignment(t *testing.T) {
	vectorsFrom(t, 32)
	source := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 64+65535)
	source.Read(b)
	for from := range 64 {
		for n := range 201 {
			differs(t, source.Uint64(), b[from:from+n])
		}
	}
	r := rand.New(source)
	for range 2000 {
		from := r.IntN(64)
		differs(t, source.Uint64(), b[from:from+r.IntN(65536)])
	}
	for i := range b {
		b[i] = 0xff // the largest sums, and carries everywhere
	}
	for _, n := range []int{31, 32, 33, 127, 128, 129, 1419, 1420, 65534, 65535} {
		for _, start := range []uint64{0, 1, math.MaxUint64 - 1, math.MaxUint64} {
			differs(t, start, b[:n])
			differs(t, start, b[1:1+n])
		}
	}
}

func TestSumReadsNothingOutsideItsSlice(t *testing.T) {
	vectorsFrom(t, 32)
	page := unix.Getpagesize()
	size := (65535 + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	b := m[page : page+size : page+size]
	if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	n := 0
	defer func() {
		if r := recover(); r != nil {
			t.Fatalf("%d bytes beside a page that can't be read: %v", n, r)
		}
	}()
	// The guards do guard.
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the page behind can be read")
			}
		}()
		sum(0, m[page:page+size+1])
	}()
	for _, vectorFrom = range []int{32, math.MaxInt} {
		for n = range 1500 {
			sum(0, b[:n])
			sum(0, b[size-n:])
		}
		for n = size - 300; n <= size; n++ {
			sum(0, b[:n])
			sum(0, b[size-n:])
		}
	}
}

func TestSumDoesNotAllocate(t *testing.T) {
	vectorsFrom(t, 32)
	b := make([]byte, 1423)
	if n := testing.AllocsPerRun(100, func() { sum(0, b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkSum has each length in Go and in vectors, of a packet that is in the
// cache and of one that is not: `benchstat -col /path`.
func BenchmarkSum(b *testing.B) {
	var arena []byte
	for _, memory := range []string{"warm", "cold"} {
		for _, n := range []int{64, 512, 1420, 9000, 65000} {
			for path, from := range map[string]int{"go": math.MaxInt, "avx2": 32} {
				b.Run(fmt.Sprintf("memory=%s/bytes=%d/path=%s", memory, n, path), func(b *testing.B) {
					vectorsFrom(b, from)
					if arena == nil {
						arena = make([]byte, 256<<20) // more than any cache holds
						for i := range arena {
							arena[i] = byte(i)
						}
					}
					b.SetBytes(int64(n))
					slots := uint64(1)
					if memory == "cold" {
						slots = uint64(len(arena)-n) / 64
					}
					random := rand.Uint32() // another way through the arena each time
					for b.Loop() {
						random = random*1664525 + 1013904223
						at := int(uint64(random) * slots >> 32 * 64)
						sum(0, arena[at:at+n])
					}
				})
			}
		}
	}
}
