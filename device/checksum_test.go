package device

import (
	"encoding/binary"
	"testing"
)

// plainSum is RFC 1071 word by word, not inverted.
func plainSum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
		s = s>>16 + s&0xffff
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// plain is what sum gives, in the order of RFC 1071.
func plain(s uint64) uint16 {
	var b [2]byte
	store16(b[:], fold(s))
	return binary.BigEndian.Uint16(b[:])
}

// sameSum takes both zeros of one's complement for the same.
func sameSum(a, b uint16) bool { return a%0xffff == b%0xffff }

func FuzzSumIsThatOfRFC1071(f *testing.F) {
	f.Add([]byte{}, uint16(0), uint16(0))
	f.Add([]byte{0xff}, uint16(0xffff), uint16(0xffff))
	ones := make([]byte, 200)
	for i := range ones {
		ones[i] = 0xff
	}
	f.Add(ones, uint16(1), uint16(64))
	f.Add(ones[:129], uint16(0xffff), uint16(63))
	f.Fuzz(func(t *testing.T, b []byte, start, cut uint16) {
		want := uint32(plainSum(b)) + uint32(start)
		whole := plain(sum(be16(start), b))
		if !sameSum(whole, uint16(want>>16+want&0xffff)) {
			t.Fatalf("sum of %d bytes from %#x: %#04x, want %#04x", len(b), start, whole, want)
		}
		at := int(cut) % (len(b) + 1) &^ 1
		if got := plain(sum(sum(be16(start), b[:at]), b[at:])); !sameSum(got, whole) {
			t.Fatalf("in two parts at %d: %#04x, want %#04x", at, got, whole)
		}
		// From a sum that is about to overflow.
		big := sum(^uint64(0)-uint64(start), b)
		var le [8]byte
		binary.NativeEndian.PutUint64(le[:], ^uint64(0)-uint64(start))
		both := uint32(plainSum(b)) + uint32(plainSum(le[:]))
		if got := plain(big); !sameSum(got, uint16(both>>16+both&0xffff)) {
			t.Fatalf("from 2^64-1-%d: %#04x, want %#04x", start, got, both)
		}
	})
}

func TestSumOfEveryLength(t *testing.T) {
	b := make([]byte, 300)
	for i := range b {
		b[i] = byte(i*7 + 0xe0)
	}
	for n := range b {
		if got, want := plain(sum(0, b[:n])), plainSum(b[:n]); !sameSum(got, want) {
			t.Errorf("%d bytes: %#04x, want %#04x", n, got, want)
		}
	}
}
