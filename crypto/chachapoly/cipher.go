package chachapoly

import (
	"crypto/cipher"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	KeySize = chacha20poly1305.KeySize  // bytes of a key
	TagSize = chacha20poly1305.Overhead // bytes that sealing adds

	stateSize = KeySize + 4 // bytes of what all blocks under a key start with
	maxSize   = 1 << 30     // bytes of a plaintext, far below ChaCha20's 2^32 blocks
)

// A Cipher is ChaCha20-Poly1305 under one key. It is safe for concurrent use.
type Cipher struct {
	state [stateSize]byte // the key and the first bytes of nonces, which are zero
	aead  cipher.AEAD     // x/crypto's
	path  path

	lanesFrom int // what a batch must be worth for lanes; see worth512. For tests: 0
}

// New returns the Cipher of a key.
func New(key [KeySize]byte) *Cipher { return newCipher(key, inUse) }

func newCipher(key [KeySize]byte, p path) *Cipher {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic(err) // the key has the right size
	}
	c := &Cipher{aead: aead, path: p, lanesFrom: p.lanesFrom()}
	copy(c.state[:], key[:])
	return c
}

// Seal seals every packet of a train: reads First and Rest, writes Sealed. It does
// not allocate. Counters must never have been used under this key before; a
// plaintext that is not in place is left as it was.
func (c *Cipher) Seal(train []Packet) {
	for i := range train {
		train[i].check()
	}
	c.seal(train)
}

// Open opens every packet of a train: reads Sealed, writes First and Rest, and ok[i]
// for train[i]; len(ok) is at least len(train). First and Rest of a packet that is
// not authentic are zeroed, and its neighbours are not concerned. It does not allocate.
func (c *Cipher) Open(train []Packet, ok []bool) {
	ok = ok[:len(train)]
	for i := range train {
		train[i].check()
		if overlap(train[i].First, train[i].Rest) {
			panic("chachapoly: First and Rest overlap")
		}
	}
	c.open(train, ok)
}

// Format hides the key from every verb of package fmt.
func (Cipher) Format(s fmt.State, _ rune) { io.WriteString(s, "(hidden)") }
