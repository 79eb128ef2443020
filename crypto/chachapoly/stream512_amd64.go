//go:build !purego

package chachapoly

import "unsafe"

const (
	rows512   = 32 // blocks of ChaCha20 of a turn
	blockSize = 64 // bytes of a block
	keySize   = 32 // bytes of a one-time key: r, s
)

// keys512 makes the one-time keys of 32 packets: the first half of block 0.
//
//go:noescape
func keys512(keys *[32][32]byte, key *[36]byte, counters *[32]uint64)

// xorRows512 XORs rows of key stream with src into dst: so many of the rows, whole
// blocks, so many turns. Row i is of the packet with counters[i], and its block number
// offsets[i] + block. From turn to turn src and dst advance by stride bytes, and block
// by stride/64.
//
//go:noescape
func xorRows512(key *[36]byte, counters *[32]uint64, offsets *[32]uint32, dst, src *[32]*byte, block, rows, stride, turns int)

// xorParts512 XORs rows of key stream with the bytes of src that load has, and zeros
// where it has none, into the bytes of dst that store has. Nothing else is touched.
//
//go:noescape
func xorParts512(key *[36]byte, counters *[32]uint64, offsets *[32]uint32, dst, src *[32]*byte, block int, load, store *[32]uint64)

// A stream512 says what the rows of a turn are: packet i of a group has the rows from
// i<<shift on, for blocks that follow each other.
type stream512 struct {
	counters    [rows512]uint64
	text, seal  [rows512]*byte  // where plaintext and ciphertext of a row are
	read, write [rows512]uint64 // masks: which bytes
}

// offsets512[shift] counts the rows of each packet.
var offsets512 = func() (offsets [6][rows512]uint32) {
	for shift := range offsets {
		for i := range offsets[shift] {
			offsets[shift][i] = uint32(i & (1<<shift - 1))
		}
	}
	return offsets
}()

// xor XORs up to 16 packets, longest first, with their key streams (RFC 8439, 2.8: from
// block 1 on): from First and Rest to Sealed, or to open them the other way.
func (s *stream512) xor(key *[stateSize]byte, g group, open bool) {
	if g.len() == 0 {
		return
	}
	shift := shares(rows512, g.len())
	for i := range g.order {
		p := g.packet(i)
		for j := range 1 << shift {
			s.counters[i<<shift+j] = p.Counter
		}
	}
	offsets, stride := &offsets512[shift], blockSize<<shift
	dst, src := &s.seal, &s.text
	if open {
		dst, src = src, dst
	}
	for at := 0; ; {
		for g.len() > 0 && g.packet(g.len()-1).size() <= at {
			g = g.first(g.len() - 1)
		}
		if g.len() == 0 {
			return
		}
		if turns := wholeTurns(g, at, shift); turns > 0 {
			s.whole(g, at, shift)
			xorRows512(key, &s.counters, offsets, dst, src, at/blockSize+1, g.len()<<shift, stride, turns)
			at += turns * stride
			continue
		}
		clear(s.read[g.len()<<shift:])
		clear(s.write[g.len()<<shift:])
		for i := range g.order {
			s.parts(g.packet(i), i<<shift, 1<<shift, at, open)
		}
		xorParts512(key, &s.counters, offsets, dst, src, at/blockSize+1, &s.read, &s.write)
		if open {
			for i := range g.order {
				g.packet(i).unjoin(at, at+stride)
			}
		}
		at += stride
	}
}

// wholeTurns is for how many turns from byte at on all packets have whole blocks in
// Rest for all their rows.
func wholeTurns(g group, at int, shift uint) int {
	turns := maxSize
	for i := range g.order {
		p := g.packet(i)
		if len(p.First) > at {
			return 0
		}
		turns = min(turns, (len(p.First)+len(p.Rest)-at)/blockSize>>shift)
	}
	return turns
}

// whole lays out turns of whole blocks.
func (s *stream512) whole(g group, at int, shift uint) {
	for i := range g.order {
		p := g.packet(i)
		text, seal := unsafe.Pointer(&p.Rest[at-len(p.First)]), unsafe.Pointer(&p.Sealed[at])
		for j := range 1 << shift {
			s.text[i<<shift+j], s.seal[i<<shift+j] = (*byte)(unsafe.Add(text, j*blockSize)), (*byte)(unsafe.Add(seal, j*blockSize))
		}
	}
}

// parts lays out rows of one packet, from byte at on, of any kind: in First, in Rest,
// short ones, padding, nothing at all.
func (s *stream512) parts(p *Packet, first, rows, at int, open bool) {
	for i := first; i < first+rows; i++ {
		if at >= p.size() {
			s.text[i], s.seal[i], s.read[i], s.write[i] = &p.Sealed[0], &p.Sealed[0], 0, 0
			continue
		}
		to := min(at+blockSize, p.size())
		text, n := p.block(at, to, open)
		s.text[i], s.seal[i] = text, &p.Sealed[at]
		s.read[i], s.write[i] = lowBits(n), lowBits(to-at)
		if open {
			s.read[i], s.write[i] = s.write[i], s.read[i]
		}
		at = to
	}
}

// lowBits is a mask of n bytes, 0 to 64.
func lowBits(n int) uint64 { return ^uint64(0) >> (64 - uint(n)) }

// block finds the plaintext of bytes from to to, within a block: where it is, and how
// much of it is there, the rest being padding. Of a block that is in First and in Rest,
// the plaintext is in Sealed, in place: joined here, or to be taken apart by unjoin.
func (p *Packet) block(from, to int, open bool) (text *byte, n int) {
	cut, end := len(p.First), len(p.First)+len(p.Rest)
	switch {
	case to <= cut:
		return &p.First[from], to - from
	case from >= end:
		return &p.Sealed[from], 0
	case from >= cut:
		return &p.Rest[from-cut], min(to, end) - from
	}
	if !open {
		joined := p.Sealed[from:to]
		move(joined, p.First[from:])
		move(joined[cut-from:], p.Rest)
		clear(joined[min(end, to)-from:])
	}
	return &p.Sealed[from], to - from
}

// unjoin takes the block apart that is in First and in Rest, or in First and padding, if
// it is among the bytes from to to.
func (p *Packet) unjoin(from, to int) {
	cut := len(p.First)
	begin := cut &^ (blockSize - 1)
	if begin == cut || begin < from || begin >= to || cut >= p.size() {
		return
	}
	move(p.First[begin:], p.Sealed[begin:cut])
	move(p.Rest, p.Sealed[cut:min(begin+blockSize, p.size())])
}
