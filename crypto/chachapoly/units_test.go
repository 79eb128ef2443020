package chachapoly

import (
	"encoding/binary"
	"testing"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 the parts of the AEAD, for vectors of the parts
)

// units are the two halves of a path, in the form in which RFC 8439 gives vectors of
// them: nonces that are no counters, one-time keys that no key stream made.
type units struct {
	// stream returns n bytes of ChaCha20's key stream (RFC 8439, 2.4), of block 0 at most
	// 32: one-time keys are all that it is for.
	stream func(key [32]byte, nonce [12]byte, counter uint32, n int) []byte
	// mac is Poly1305 (RFC 8439, 2.5).
	mac func(key [32]byte, msg []byte) [16]byte
}

// unitsOf has those of every path in this build.
var unitsOf = map[path]units{generic: {
	stream: func(key [32]byte, nonce [12]byte, counter uint32, n int) []byte {
		c, err := chacha20.NewUnauthenticatedCipher(key[:], nonce[:])
		if err != nil {
			panic(err)
		}
		c.SetCounter(counter)
		b := make([]byte, n)
		c.XORKeyStream(b, b)
		return b
	},
	mac: func(key [32]byte, msg []byte) (tag [16]byte) {
		poly1305.Sum(&tag, msg, &key)
		return tag
	},
}}

// seal is the whole AEAD of RFC 8439, 2.8, with any nonce and associated data, made
// of the two halves.
func (u units) seal(key [32]byte, nonce [12]byte, aad, plain []byte) (sealed []byte, tag [16]byte) {
	sealed = u.stream(key, nonce, 1, len(plain))
	for i := range sealed {
		sealed[i] ^= plain[i]
	}
	var whole []byte
	whole = append(whole, aad...)
	whole = append(whole, make([]byte, -len(aad)&15)...)
	whole = append(whole, sealed...)
	whole = append(whole, make([]byte, -len(sealed)&15)...)
	whole = binary.LittleEndian.AppendUint64(whole, uint64(len(aad)))
	whole = binary.LittleEndian.AppendUint64(whole, uint64(len(sealed)))
	return sealed, u.mac([32]byte(u.stream(key, nonce, 0, 32)), whole)
}

// eachPath runs a test for every path that this machine has, and says which it has not.
func eachPath(t *testing.T, f func(t *testing.T, p path)) {
	t.Helper()
	for p := range paths {
		t.Run(p.String(), func(t *testing.T) {
			needs(t, p)
			f(t, p)
		})
	}
}

func needs(t testing.TB, p path) {
	t.Helper()
	if !p.runs() {
		t.Skipf("this machine or this build has no %s path", p)
	}
}
