package chachapoly

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
)

// A path is a way to do the work. The best is the last.
type path uint8

const (
	generic path = iota // x/crypto, packet by packet
	avx2                // lanes of AVX2
	avx512              // lanes of AVX-512 with IFMA
	paths
)

var pathNames = [paths]string{"generic", "avx2", "avx512"}

func (p path) String() string { return pathNames[p] }

// pathVariable is the environment variable that forces a path.
const pathVariable = "STUNNEL_AEAD"

// inUse is the path of every Cipher that New returns. Constant after start.
var inUse, fault = choose(os.Getenv(pathVariable), path.runs, path.test)

// Path names the path in use: generic (x/crypto), avx2 or avx512.
func Path() string { return inUse.String() }

// Fault tells what is wrong with the choice of the path, and nil if nothing is: a
// path failed its test at start and is not used, which means that the processor or
// this program is broken, or STUNNEL_AEAD names a path that cannot be had.
func Fault() error { return fault }

// choose takes the best path that runs here and passes its test, or the one that
// forced names, if that does.
func choose(forced string, runs func(path) bool, test func(path) error) (path, error) {
	best, faults := paths-1, []error(nil)
	if forced != "" {
		named := path(slices.Index(pathNames[:], forced) & 0xff)
		if named < paths && runs(named) {
			best = named
		} else {
			faults = append(faults, fmt.Errorf("%s=%q: no such path on this machine or in this build", pathVariable, forced))
		}
	}
	for p := best; p > generic; p-- {
		if !runs(p) {
			continue
		}
		err := test(p)
		if err == nil {
			return p, errors.Join(faults...)
		}
		faults = append(faults, fmt.Errorf("the %s path of ChaCha20-Poly1305 is not used: %w", p, err))
	}
	return generic, errors.Join(faults...)
}

// testSizes are of packets that meet every kind of block, the first eight long enough
// for AVX2's pairs of blocks (squareFrom). The test seals and opens as many of them as
// testTrains say, which meet every way of sharing lanes out.
var testSizes = [...]int{300, 320, 257, 256, 255, 241, 224, 208, 96, 0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 192, 255, 256, 257, 320, 1, 300}

var testTrains = [...]int{1, 2, 3, 4, 6, 8, 16, len(testSizes)}

// test compares the path with x/crypto, in about a tenth of a millisecond. The error says
// at which step it differed.
func (p path) test() error {
	var key [KeySize]byte
	for i := range key {
		key[i] = byte(3*i + 1)
	}
	c, reference := newCipher(key, p), newCipher(key, generic)
	c.lanesFrom = 0
	for _, n := range testTrains {
		got, want := testTrain(n), testTrain(n)
		c.Seal(got)
		reference.Seal(want)
		for i := range got {
			if !bytes.Equal(got[i].Sealed, want[i].Sealed) {
				return fmt.Errorf("it sealed packet %d of %d otherwise than x/crypto", i, n)
			}
		}
		forged := n / 2
		got[forged].Sealed[len(got[forged].Sealed)-1] ^= 0x80
		plain, ok := testTrain(n), make([]bool, n)
		for i := range got {
			clear(got[i].First)
			clear(got[i].Rest)
		}
		c.Open(got, ok)
		for i := range got {
			if ok[i] != (i != forged) {
				return fmt.Errorf("its verdict on packet %d of %d was wrong", i, n)
			}
			if ok[i] && (!bytes.Equal(got[i].First, plain[i].First) || !bytes.Equal(got[i].Rest, plain[i].Rest)) {
				return fmt.Errorf("it opened packet %d of %d otherwise than x/crypto", i, n)
			}
		}
	}
	return nil
}

// testTrain makes n packets.
func testTrain(n int) []Packet {
	train := make([]Packet, n)
	for i := range train {
		text := make([]byte, testSizes[i])
		for j := range text {
			text[j] = byte(j*j + 7*i)
		}
		cut := min(64, len(text))
		train[i] = Packet{Counter: uint64(i) << 29, First: text[:cut], Rest: text[cut:], Pad: i % 3, Sealed: make([]byte, len(text)+i%3+TagSize)}
	}
	return train
}
