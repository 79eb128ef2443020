//go:build !purego

package chachapoly

import (
	"encoding/binary"
	"testing"
)

func FuzzAVX512(f *testing.F) { fuzzPath(f, avx512) }

func init() {
	unitsOf[avx512] = units{stream: keyStream512, mac: mac512}
}

// keyStream512 makes key stream with both units, 32 blocks by the first and then 32 by
// the second, and so on.
func keyStream512(key [32]byte, nonce [12]byte, counter uint32, n int) []byte {
	var s stream512
	state := [stateSize]byte(append(key[:], nonce[:4]...))
	for i := range s.counters {
		s.counters[i] = binary.LittleEndian.Uint64(nonce[4:])
		s.read[i], s.write[i] = 1<<64-1, 1<<64-1
	}
	const turn = rows512 * blockSize
	stream := make([]byte, (n/turn+1)*turn)
	for at := 0; at < n; at += turn {
		for i := range s.text {
			s.text[i] = &stream[at+i*blockSize]
		}
		block := int(counter) + at/blockSize
		if at/turn%2 == 0 {
			xorRows512(&state, &s.counters, &offsets512[5], &s.text, &s.text, block, rows512, turn, 1)
		} else {
			xorParts512(&state, &s.counters, &offsets512[5], &s.text, &s.text, block, &s.read, &s.write)
		}
	}
	return stream[:n]
}

// mac512 is Poly1305 of any message, the same in all lanes.
func mac512(key [32]byte, msg []byte) [16]byte {
	var keys [lanes512][keySize]byte
	var r multiplier512
	var acc limbs512
	var src [lanes512]*byte
	var tags [lanes512][TagSize]byte
	for i := range keys {
		keys[i] = key
	}
	clamp512(&r, &keys)
	if n := len(msg) / sumSize; n > 0 {
		for i := range src {
			src[i] = &msg[0]
		}
		absorb512(&acc, &r, &src, sumSize, n, allLanes)
		msg = msg[n*sumSize:]
	}
	if len(msg) > 0 {
		// A short block has its 1 right behind it, and not at 2^128, where the unit
		// puts one: add p - 2^128 first.
		var block [sumSize]byte
		block[copy(block[:], msg)] = 1
		for i := range src {
			src[i] = &block[0]
			acc[0][i] += 1<<44 - 5
			acc[1][i] += 1<<44 - 1
			acc[2][i] += 3<<40 - 1
		}
		absorb512(&acc, &r, &src, 0, 1, allLanes)
	}
	finish512(&tags, &acc, &keys)
	for i := range tags {
		if tags[i] != tags[0] {
			panic("lanes differ")
		}
	}
	return tags[0]
}
