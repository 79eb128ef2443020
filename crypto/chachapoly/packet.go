package chachapoly

import "unsafe"

// A Packet is one packet of a train, in its two forms.
//
// First and Rest each lie exactly where their ciphertext lies in Sealed (First at
// its beginning, Rest at len(First)), or have no byte in common with it; one may
// do this and the other that. Memory that is written has nothing in common with
// any other packet's. Seal and Open panic where a packet breaks the first rule.
type Packet struct {
	// Counter is the nonce: four zero bytes and then this, little endian.
	Counter uint64
	// The plaintext is First, then Rest, then Pad zero bytes. Seal reads First and
	// Rest; Open writes them, and drops what is behind them. Any split will do; one
	// at a multiple of 64, ChaCha20's block, is the quickest.
	First, Rest []byte
	Pad         int
	// Sealed is ciphertext and tag, len(First)+len(Rest)+Pad+TagSize bytes. Seal
	// writes it. Open reads it, and may leave anything in it.
	Sealed []byte
}

// size is that of the plaintext.
func (p *Packet) size() int { return len(p.Sealed) - TagSize }

// check panics for a packet that breaks the rules.
func (p *Packet) check() {
	if p.Pad < 0 || len(p.Sealed) != len(p.First)+len(p.Rest)+p.Pad+TagSize {
		panic("chachapoly: Sealed has not the size of plaintext and tag")
	}
	if p.size() > maxSize {
		panic("chachapoly: packet too large")
	}
	if misplaced(p.First, p.Sealed, 0) || misplaced(p.Rest, p.Sealed, len(p.First)) {
		panic("chachapoly: plaintext and ciphertext overlap, but not in place")
	}
}

// misplaced reports whether part overlaps whole anywhere but at whole[at:].
func misplaced(part, whole []byte, at int) bool {
	return overlap(part, whole) && start(part) != start(whole)+uintptr(at)
}

func overlap(a, b []byte) bool {
	return len(a) > 0 && len(b) > 0 && start(a) < start(b)+uintptr(len(b)) && start(b) < start(a)+uintptr(len(a))
}

func start(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
