//go:build linux

package chachapoly

import (
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guarded returns size bytes with a page on either side that can't be touched.
func guarded(t testing.TB, size int) []byte {
	t.Helper()
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	b := m[page : page+size : page+size]
	if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNothingIsTouchedOutsideTheSlices(t *testing.T) {
	const packets, size = 18, 3 * 4096
	// One piece of memory for each slice of each packet, used at its beginning and at its end.
	pieces := make([][3][]byte, packets)
	for i := range pieces {
		for j := range pieces[i] {
			pieces[i][j] = guarded(t, size)
		}
	}
	at := func(b []byte, n int, end bool) []byte {
		if end {
			return b[len(b)-n:]
		}
		return b[:n:n]
	}
	// The guards do guard.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, beside := range []int{-1, size} {
		expectPanic(t, "a byte beside guarded memory", func() { *(*byte)(unsafe.Add(unsafe.Pointer(&pieces[0][0][0]), beside)) = 1 })
	}

	eachPath(t, func(t *testing.T, p path) {
		c := lanes([KeySize]byte{1}, p)
		train, ok := make([]Packet, packets), make([]bool, packets)
		var what string
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // of this goroutine
		defer func() {
			if r := recover(); r != nil {
				t.Fatalf("%s: %v", what, r)
			}
		}()
		try := func(n, size, spread int, end bool) {
			for i := range n {
				length := max(0, size-i*spread)
				cut := min(64, length)
				if spread > 1 {
					cut = i * length / n
				}
				train[i] = Packet{Counter: uint64(i), First: at(pieces[i][0], cut, end), Rest: at(pieces[i][1], length-cut, end),
					Sealed: at(pieces[i][2], length+TagSize, end)}
			}
			what = "Seal"
			c.Seal(train[:n])
			what = "Open"
			c.Open(train[:n], ok)
			for i := range n {
				if !ok[i] {
					t.Fatalf("packet %d of %d, %d bytes, did not open", i, n, train[i].size())
				}
			}
		}
		for _, n := range []int{1, 2, 3, 4, 8, 15, 16, 18} {
			for _, spread := range []int{0, 1, 13} {
				for length := range 330 {
					try(n, length, spread, true)
					try(n, length, spread, false)
				}
				for length := 1400; length < 1440; length++ {
					try(n, length, spread, true)
					try(n, length, spread, false)
				}
			}
		}
	})
}
