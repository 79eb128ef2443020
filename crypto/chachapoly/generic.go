package chachapoly

import (
	"encoding/binary"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// nonces are for calls through an interface, which would have a local variable
// allocated each time.
var nonces = sync.Pool{New: func() any { return new([chacha20poly1305.NonceSize]byte) }}

// sealGeneric seals packet by packet with x/crypto.
func (c *Cipher) sealGeneric(train []Packet) {
	nonce := nonces.Get().(*[chacha20poly1305.NonceSize]byte)
	for i := range train {
		p := &train[i]
		binary.LittleEndian.PutUint64(nonce[4:], p.Counter)
		text := p.Sealed[:p.size()]
		move(text, p.First)
		move(text[len(p.First):], p.Rest)
		clear(text[len(p.First)+len(p.Rest):])
		assertInPlace(c.aead.Seal(text[:0], nonce[:], text, nil), p.Sealed)
	}
	nonces.Put(nonce)
}

// openGeneric opens packet by packet with x/crypto, in Sealed.
func (c *Cipher) openGeneric(train []Packet, ok []bool) {
	nonce := nonces.Get().(*[chacha20poly1305.NonceSize]byte)
	for i := range train {
		p := &train[i]
		binary.LittleEndian.PutUint64(nonce[4:], p.Counter)
		text, err := c.aead.Open(p.Sealed[:0], nonce[:], p.Sealed, nil)
		if ok[i] = err == nil; !ok[i] {
			p.zero()
			continue
		}
		assertInPlace(text, p.Sealed)
		move(p.First, text)
		move(p.Rest, text[len(p.First):])
	}
	nonces.Put(nonce)
}

// move copies as much as both have, unless it is there already.
func move(to, from []byte) {
	if start(to) != start(from) {
		copy(to, from)
	}
}

// zero leaves nothing where the plaintext would be.
func (p *Packet) zero() {
	clear(p.First)
	clear(p.Rest)
}

// assertInPlace guards against an AEAD that found the capacity too small and
// allocated in silence: its result would be lost.
func assertInPlace(result, sealed []byte) {
	if start(result) != start(sealed) {
		panic("chachapoly: x/crypto moved its result elsewhere")
	}
}
