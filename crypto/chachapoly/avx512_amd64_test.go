//go:build !purego

package chachapoly

import (
	"encoding/binary"
	"testing"
	"unsafe"
)

func FuzzAVX512(f *testing.F) { fuzzPath(f, avx512) }

func init() {
	unitsOf[avx512] = units{stream: keyStream512, mac: mac512}
}

func TestAVX512TakesPacketsWhereLanesAreQuicker(t *testing.T) {
	c := &Cipher{lanesFrom: lanesFrom512}
	for _, test := range []struct {
		long, longSize, short, shortSize int
		want                             bool
	}{
		{1, 1420, 0, 0, false},
		{2, 1420, 0, 0, true},
		{1, 9000, 0, 0, true},
		{3, 96, 0, 0, false},
		{4, 96, 0, 0, true},
		{16, 96, 0, 0, true},
		{32, 1420, 0, 0, true},
		{1, 1420, 1, 96, false},
		{1, 1420, 7, 40, false},
		{1, 1420, 15, 40, false},
		{4, 1420, 12, 40, true},
		{1, 1420, 31, 40, true},
		{17, 1420, 15, 40, true},
		{1, 9000, 3, 40, false},
		{1, 9000, 31, 40, false},
	} {
		var batch []Packet
		for range test.long {
			batch = append(batch, Packet{Sealed: make([]byte, test.longSize+TagSize)})
		}
		for range test.short {
			batch = append(batch, Packet{Sealed: make([]byte, test.shortSize+TagSize)})
		}
		if got := c.worth512(batch); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// keyStream512 makes key stream by the unit that opens, which begins with block 1, and
// half of block 0 by that for one-time keys.
func keyStream512(key [32]byte, nonce [12]byte, counter uint32, n int) []byte {
	c := &Cipher{state: [stateSize]byte(append(key[:], nonce[:4]...))}
	var counters [rows512]uint64
	for i := range counters {
		counters[i] = binary.LittleEndian.Uint64(nonce[4:])
	}
	if counter == 0 {
		var keys [rows512][keySize]byte
		keys512(&keys, &c.state, &counters)
		return keys[n%rows512][:n]
	}
	from := (int(counter) - 1) * blockSize
	stream := make([]byte, from+n)
	var s stream512
	s.open(0, &Packet{Rest: stream, Sealed: make([]byte, from+n+TagSize)})
	s.xor(c, 1, (*[groupSize]uint64)(counters[:]), true)
	return stream[from:]
}

// mac512 is Poly1305 of any message, the same in all lanes.
func mac512(key [32]byte, msg []byte) [16]byte {
	var keys [groupSize][keySize]byte
	var tags [groupSize][TagSize]byte
	var s sums512
	whole := len(msg) / sumSize
	for i := range keys {
		keys[i] = key
		s.sealed[i] = unsafe.SliceData(msg)
		s.blocks[1][i] = whole
	}
	clamp512(&s.step, &keys)
	if whole > 0 {
		absorb512(&s.acc, &s.step, &shareLanes[0], &s.sealed, &s.blocks, &s.tails, 0, whole)
	}
	if short := msg[whole*sumSize:]; len(short) > 0 {
		// A short block has its 1 right behind it, and not at 2^128, where the unit
		// puts one: add p - 2^128 first.
		for i := range keys {
			s.acc[0][i] += 1<<44 - 5
			s.acc[1][i] += 1<<44 - 1
			s.acc[2][i] += 3<<40 - 1
			s.blocks[1][i], s.blocks[2][i] = 0, 0
			s.tails[i][1][copy(s.tails[i][1][:], short)] = 1
		}
		absorb512(&s.acc, &s.step, &shareLanes[0], &s.sealed, &s.blocks, &s.tails, 0, 1)
	}
	finish512(&tags, &s.acc, &keys)
	for i := range tags {
		if tags[i] != tags[0] {
			panic("lanes differ")
		}
	}
	return tags[0]
}
