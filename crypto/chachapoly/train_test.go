package chachapoly

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// A place says how First and Rest lie to Sealed.
type place int

const (
	apart place = iota
	inPlace
	firstApart
	restApart
	places
)

// A memory is a piece of memory in which a train of packets lies at odd addresses,
// with other bytes between them: all of it is compared, so that nothing can be
// written where nothing should be.
type memory struct {
	random *rand.Rand
	bytes  []byte
	used   int
}

func newMemory(random *rand.Rand, size int) *memory {
	m := &memory{random: random, bytes: make([]byte, size)}
	m.fill(m.bytes)
	return m
}

func (m *memory) fill(b []byte) {
	for i := range b {
		b[i] = byte(m.random.Uint32())
	}
}

// take gives n bytes somewhere behind what was taken before.
func (m *memory) take(n int) []byte {
	m.used += m.random.IntN(70)
	b := m.bytes[m.used : m.used+n : m.used+n]
	m.used += n
	return b
}

// packet lays out a packet of so many bytes, padding included.
func (m *memory) packet(size, pad int, how place) Packet {
	pad = min(pad, size)
	size -= pad
	cut := min(size, 64)
	if m.random.IntN(2) == 0 {
		cut = m.random.IntN(size + 1)
	}
	p := Packet{Counter: m.counter(), Pad: pad, Sealed: m.take(size + pad + TagSize)}
	p.First, p.Rest = p.Sealed[:cut:cut], p.Sealed[cut:size:size]
	if how == apart || how == firstApart {
		p.First = m.take(cut)
	}
	if how == apart || how == restApart {
		p.Rest = m.take(size - cut)
	}
	return p
}

// counter is often near the edges of 32 and 64 bits.
func (m *memory) counter() uint64 {
	near := uint64(m.random.IntN(80))
	return [...]uint64{m.random.Uint64(), near, 1<<32 - 40 + near, 1<<63 - 40 + near, -near}[m.random.IntN(5)]
}

// in returns what is at b's place in a copy of the memory.
func (m *memory) in(other, b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	at := int(start(b) - start(m.bytes))
	return other[at : at+len(b)]
}

// differential seals and opens a train in m by a path and compares verdicts and all
// the memory with what x/crypto makes of each packet.
type differential struct {
	*memory
	cipher    *Cipher
	reference cipher.AEAD
}

func newDifferential(t testing.TB, p path, m *memory) *differential {
	t.Helper()
	var key [KeySize]byte
	m.fill(key[:])
	reference, err := chacha20poly1305.New(key[:])
	if err != nil {
		t.Fatal(err)
	}
	return &differential{m, lanes(key, p), reference}
}

// lanes is a Cipher that takes lanes however few the packets are.
func lanes(key [KeySize]byte, p path) *Cipher {
	c := newCipher(key, p)
	c.lanesFrom = 0
	return c
}

func nonceOf(counter uint64) []byte {
	return binary.LittleEndian.AppendUint64(make([]byte, 4), counter)
}

func plaintextOf(p *Packet) []byte {
	return append(append(bytes.Clone(p.First), p.Rest...), make([]byte, p.Pad)...)
}

func (d *differential) seal(t testing.TB, train []Packet) {
	t.Helper()
	want := bytes.Clone(d.bytes)
	for i := range train {
		p := &train[i]
		copy(d.in(want, p.Sealed), d.reference.Seal(nil, nonceOf(p.Counter), plaintextOf(p), nil))
	}
	d.cipher.Seal(train)
	d.compare(t, "Seal", train, want)
}

// open opens a train of which each packet is corrupted with the given chance in 256.
func (d *differential) open(t testing.TB, train []Packet, chance int) {
	t.Helper()
	for i := range train {
		p := &train[i]
		if d.random.IntN(256) >= chance {
			continue
		}
		switch d.random.IntN(4) {
		case 0: // anywhere
			p.Sealed[d.random.IntN(len(p.Sealed))] ^= 1 << d.random.IntN(8)
		case 1: // in the tag
			p.Sealed[p.size()+d.random.IntN(TagSize)] ^= 1 << d.random.IntN(8)
		case 2: // all of it
			d.fill(p.Sealed)
		case 3:
			p.Counter ^= 1 << d.random.IntN(64)
		}
	}
	plain, good, ok := make([][]byte, len(train)), make([]bool, len(train)), make([]bool, len(train))
	for i := range train {
		p := &train[i]
		ok[i] = d.random.IntN(2) == 0 // what was there counts for nothing
		var err error
		plain[i], err = d.reference.Open(nil, nonceOf(p.Counter), p.Sealed, nil)
		if good[i] = err == nil; !good[i] {
			plain[i] = make([]byte, p.size())
		}
	}
	want := bytes.Clone(d.bytes)
	d.cipher.Open(train, ok)
	for i := range train {
		p := &train[i]
		if ok[i] != good[i] {
			t.Fatalf("packet %d of %d, %d bytes: opened is %v", i, len(train), p.size(), ok[i])
		}
		copy(d.in(want, p.Sealed), p.Sealed) // anything may be left in it
		n := copy(d.in(want, p.First), plain[i])
		copy(d.in(want, p.Rest), plain[i][n:])
	}
	d.compare(t, "Open", train, want)
}

func (d *differential) compare(t testing.TB, what string, train []Packet, want []byte) {
	t.Helper()
	if bytes.Equal(d.bytes, want) {
		return
	}
	for i := range train {
		p := &train[i]
		for name, b := range map[string][]byte{"First": p.First, "Rest": p.Rest, "Sealed": p.Sealed} {
			if w := d.in(want, b); !bytes.Equal(b, w) {
				at := 0
				for b[at] == w[at] {
					at++
				}
				t.Errorf("%s: packet %d of %d, First %d, Rest %d, Pad %d: %s differs from byte %d on", what, i, len(train), len(p.First), len(p.Rest), p.Pad, name, at)
			}
		}
	}
	for i := range want {
		if d.bytes[i] != want[i] {
			t.Fatalf("%s: byte %d of the memory is %#02x, want %#02x", what, i, d.bytes[i], want[i])
		}
	}
}
