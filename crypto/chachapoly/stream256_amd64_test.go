//go:build !purego

package chachapoly

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"testing"
	"unsafe"
)

// keyStream256 makes key stream of any nonce.
func keyStream256(key [32]byte, nonce [12]byte, counter uint32, n int) []byte {
	var s stream256
	s.setKey(&key)
	for i := range s.words[1] {
		s.words[1][i] = binary.LittleEndian.Uint32(nonce[:4])
	}
	b := make([]byte, wholeBlocks(n)+blockSize)
	s.add(binary.LittleEndian.Uint64(nonce[4:]), int(counter), &b[0], &b[0], len(b)/blockSize)
	s.flush()
	return b[:n]
}

// xorRowsTwin is xorRows256 row by row.
func xorRowsTwin(b *blockRows, rows, turns int) {
	for turn := range turns {
		for i := range rows {
			start := [16]uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}
			copy(start[4:], b.key[:])
			for j := range b.words {
				start[12+j] = b.words[j][i]
			}
			x := start
			quarter := func(a, b, c, d int) {
				for _, n := range [2][2]int{{16, 12}, {8, 7}} {
					x[a] += x[b]
					x[d] = bits.RotateLeft32(x[d]^x[a], n[0])
					x[c] += x[d]
					x[b] = bits.RotateLeft32(x[b]^x[c], n[1])
				}
			}
			for range 10 {
				for skew := range 2 {
					for j := range 4 {
						quarter(j, 4+(j+skew)%4, 8+(j+2*skew)%4, 12+(j+3*skew)%4)
					}
				}
			}
			from := unsafe.Slice(b.from[i], (turn+1)*blockSize)[turn*blockSize:]
			to := unsafe.Slice(b.to[i], (turn+1)*blockSize)[turn*blockSize:]
			for j := range x {
				binary.LittleEndian.PutUint32(to[4*j:], binary.LittleEndian.Uint32(from[4*j:])^(x[j]+start[j]))
			}
		}
		for i := range b.words[0] {
			b.words[0][i]++
		}
	}
}

func TestRowsOfAVX2DoWhatTheirTwinDoes(t *testing.T) {
	needs(t, avx2)
	r := random(1)
	var key [KeySize]byte
	for rows := 1; rows <= rows256; rows++ {
		for turns := 1; turns < 5; turns++ {
			for _, inPlace := range []bool{false, true} {
				m := newMemory(r, 1<<14)
				m.fill(key[:])
				twin := bytes.Clone(m.bytes)
				var s stream256
				s.setKey(&key)
				got := &s.blockRows
				want := blockRows{key: got.key}
				for i := range rows256 {
					for j := range got.words {
						got.words[j][i] = r.Uint32()
					}
					if i%3 == 0 {
						got.words[0][i] = -uint32(r.IntN(4)) // counted on beyond 2^32
					}
					if i >= rows {
						continue // idle rows have no memory at all
					}
					from := m.take(turns * blockSize)
					to := from
					if !inPlace {
						to = m.take(turns * blockSize)
					}
					got.from[i], got.to[i] = &from[0], &to[0]
					want.from[i], want.to[i] = &m.in(twin, from)[0], &m.in(twin, to)[0]
				}
				want.words = got.words
				xorRows256(got, rows, turns)
				xorRowsTwin(&want, rows, turns)
				if !bytes.Equal(m.bytes, twin) || got.words != want.words || got.key != want.key {
					t.Fatalf("%d rows, %d turns, in place %v: they differ", rows, turns, inPlace)
				}
			}
		}
	}
}

func TestRunsOfEqualAndOfAnyLengthsAreDoneToTheirEnds(t *testing.T) {
	needs(t, avx2)
	r := random(4)
	key := [KeySize]byte{1, 2, 3}
	for runs := range 40 {
		for most := 1; most < 12; most++ {
			for _, equal := range []bool{true, false} {
				var s stream256
				s.setKey(&key)
				texts := make([][]byte, runs)
				for i := range texts {
					n := most
					if !equal {
						n = 1 + r.IntN(most)
					}
					texts[i] = make([]byte, n*blockSize)
					s.add(uint64(i), i, &texts[i][0], &texts[i][0], n)
				}
				s.flush()
				for i, text := range texts {
					if want := unitsOf[generic].stream(key, [12]byte{4: byte(i)}, uint32(i), len(text)); !bytes.Equal(text, want) {
						t.Fatalf("run %d of %d, equal %v, %d blocks: wrong", i, runs, equal, len(text)/blockSize)
					}
				}
			}
		}
	}
}
