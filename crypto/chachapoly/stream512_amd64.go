//go:build !purego

package chachapoly

// rows are the blocks of ChaCha20 of one turn.
const rows512, blockSize = 32, 64

// A turn512 says what the rows of a turn are.
type turn512 struct {
	words       [4][rows512]uint32 // each row's words 12 to 15: block counter, nonce
	dst, src    [rows512]*byte
	load, store [rows512]uint64 // masks: which bytes
}

// xorRows512 XORs rows of key stream with src into dst: the first rows of them, whole
// blocks, so many turns. From turn to turn src and dst advance by stride bytes, and the
// counters of all rows by stride/64.
//
//go:noescape
func xorRows512(key *[32]byte, words *[4][32]uint32, dst, src *[32]*byte, rows, stride, turns int)

// xorParts512 XORs rows of key stream with the bytes of src that load has, and zeros
// where it has none, into the bytes of dst that store has; nothing else is touched.
// The counters of all rows advance by blocks.
//
//go:noescape
func xorParts512(key *[32]byte, words *[4][32]uint32, dst, src *[32]*byte, load, store *[32]uint64, blocks int)

// nonce sets rows from first on to the nonce of a packet.
func (t *turn512) nonce(first, rows int, p *Packet) {
	for i := first; i < first+rows; i++ {
		t.words[2][i], t.words[3][i] = uint32(p.Counter), uint32(p.Counter>>32)
	}
}

// keys512 makes one-time keys (RFC 8439, 2.6): the first half of block 0.
func keys512(key *[KeySize]byte, packets []*Packet, keys *[batchSize][keySize]byte) {
	var t turn512
	for i := range t.dst {
		t.dst[i], t.src[i] = &keys[i][0], &keys[i][0]
	}
	for i, p := range packets {
		t.nonce(i, 1, p)
		t.store[i] = 1<<keySize - 1
	}
	xorParts512(key, &t.words, &t.dst, &t.src, &t.load, &t.store, 0)
}

// stream512 XORs up to 16 packets, longest first, with their key streams (RFC 8439,
// 2.8: from block 1 on): from Sealed to First and Rest, or the other way.
func stream512(key *[KeySize]byte, group []*Packet, open bool) {
	var t turn512
	each := share(rows512, len(group)) // rows for each packet
	stride := each * blockSize
	for i, p := range group {
		t.nonce(i*each, each, p)
	}
	for i := range t.words[0] {
		t.words[0][i] = uint32(1 + i%each)
	}
	active := len(group)
	for at := 0; ; {
		for active > 0 && group[active-1].size() <= at {
			active--
		}
		if active == 0 {
			break
		}
		if turns := wholeTurns(group[:active], at, stride); turns > 0 {
			t.whole(group[:active], at, each, open)
			xorRows512(key, &t.words, &t.dst, &t.src, active*each, stride, turns)
			at += turns * stride
		} else {
			t.parts(group[:active], at, each, open)
			xorParts512(key, &t.words, &t.dst, &t.src, &t.load, &t.store, each)
			at += stride
		}
	}
	if open {
		for _, p := range group {
			p.unjoin()
		}
	}
}

// wholeTurns is for how many turns from byte at on all packets have whole blocks in
// Rest for all their rows.
func wholeTurns(group []*Packet, at, stride int) int {
	turns := maxSize
	for _, p := range group {
		if len(p.First) > at {
			return 0
		}
		turns = min(turns, (len(p.First)+len(p.Rest)-at)/stride)
	}
	return turns
}

// whole lays out turns of whole blocks.
func (t *turn512) whole(group []*Packet, at, each int, open bool) {
	text, sealed := &t.src, &t.dst
	if open {
		text, sealed = sealed, text
	}
	for i, p := range group {
		for j := range each {
			from := at + j*blockSize
			text[i*each+j], sealed[i*each+j] = &p.Rest[from-len(p.First)], &p.Sealed[from]
		}
	}
}

// parts lays out a turn of blocks of any kind: in First, in Rest, short ones, padding,
// nothing at all.
func (t *turn512) parts(group []*Packet, at, each int, open bool) {
	for i := range t.dst {
		if i >= len(group)*each || at+i%each*blockSize >= group[i/each].size() {
			t.src[i], t.dst[i], t.load[i], t.store[i] = &group[0].Sealed[0], &group[0].Sealed[0], 0, 0
			continue
		}
		p, from := group[i/each], at+i%each*blockSize
		to := min(from+blockSize, p.size())
		text, n := p.block(from, to, open)
		sealed := &p.Sealed[from]
		if open {
			t.src[i], t.load[i] = sealed, lowBits(to-from)
			t.dst[i], t.store[i] = text, lowBits(n)
		} else {
			t.src[i], t.load[i] = text, lowBits(n)
			t.dst[i], t.store[i] = sealed, lowBits(to-from)
		}
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

// unjoin takes the block apart that is in First and in Rest.
func (p *Packet) unjoin() {
	cut := len(p.First)
	from := cut &^ (blockSize - 1)
	if from == cut {
		return
	}
	block := p.Sealed[from:min(from+blockSize, p.size())]
	if to := from + len(block); to > cut {
		move(p.First[from:], block[:cut-from])
		move(p.Rest, block[cut-from:])
	}
}
