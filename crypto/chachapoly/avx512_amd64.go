//go:build !purego

package chachapoly

import "encoding/binary"

//go:generate go run -C gen ./avx512 -out ../avx512_amd64.s -pkg chachapoly

// The AVX-512 path takes up to 32 packets at a time, longest first, so that those of
// about a length come together. Their one-time keys are made in one turn of ChaCha20, a
// packet in each row. All else is done by groups of up to 16 packets: ChaCha20 in rows
// (stream512), Poly1305 in lanes (sums512). A group of less than 16 gives every packet
// more rows and lanes.
//
// Sealing is ChaCha20, then Poly1305 of the ciphertext. Opening is the other way
// round: what is not authentic is never deciphered.
const (
	batchSize = rows512
	groupSize = lanes512
)

// A work512 is what Seal and Open have on their stack. It has no pointers to the train,
// which the compiler would have allocated then, but indices.
type work512 struct {
	order    [batchSize]uint8 // of packets in the train, longest first
	counters [batchSize]uint64
	keys     [batchSize][keySize]byte
	tags     [groupSize][TagSize]byte
	stream   stream512
	sums     sums512
}

func (c *Cipher) sealAVX512(train []Packet) {
	for len(train) > 0 {
		n := min(len(train), batchSize)
		if batch := train[:n]; c.worth512(batch) {
			c.sealBatch512(batch)
		} else {
			c.sealGeneric(batch)
		}
		train = train[n:]
	}
}

func (c *Cipher) openAVX512(train []Packet, ok []bool) {
	for len(train) > 0 {
		n := min(len(train), batchSize)
		if batch := train[:n]; c.worth512(batch) {
			c.openBatch512(batch, ok)
		} else {
			c.openGeneric(batch, ok)
		}
		train, ok = train[n:], ok[n:]
	}
}

// worth512 reports whether lanes are quicker than x/crypto: that takes about 0.45 ns for
// a byte and 200 for a packet, and lanes 900 whatever they do, and 0.19 for a byte of as
// many packets as the rows are shared out to, all as long as the longest. Only the first
// group counts: if another has long packets, all of the first are as long. Measured, on
// Zen 5.
func (c *Cipher) worth512(batch []Packet) bool {
	if c.lanesFrom == 0 {
		return true
	}
	longest, worth := 0, 450*len(batch)-c.lanesFrom
	for i := range batch {
		n := len(batch[i].Sealed)
		longest, worth = max(longest, n), worth+n
	}
	slots := lanes512 >> shares(lanes512, min(len(batch), groupSize))
	return worth >= slots*longest*3/7
}

const lanesFrom512 = 2000

func (c *Cipher) sealBatch512(batch []Packet) {
	var w work512
	w.take(c, batch)
	for i := 0; i < len(batch); i += groupSize {
		group := w.order[i:min(i+groupSize, len(batch))]
		w.sums.begin(batch[group[0]].size(), len(group))
		for j, index := range group {
			w.stream.seal(j, &batch[index])
			w.sums.message(j, batch[index].Sealed)
		}
		w.stream.xor(c, len(group), w.groupCounters(i), false)
		for j, index := range group {
			w.sums.tail(j, batch[index].Sealed)
		}
		w.sums.finish(&w.tags, w.groupKeys(i))
		for j, index := range group {
			p := &batch[index]
			*(*[TagSize]byte)(p.Sealed[p.size():]) = w.tags[j]
		}
	}
}

func (c *Cipher) openBatch512(batch []Packet, ok []bool) {
	var w work512
	w.take(c, batch)
	for i := 0; i < len(batch); i += groupSize {
		group := w.order[i:min(i+groupSize, len(batch))]
		w.sums.begin(batch[group[0]].size(), len(group))
		for j, index := range group {
			w.sums.message(j, batch[index].Sealed)
			w.sums.tail(j, batch[index].Sealed)
		}
		w.sums.finish(&w.tags, w.groupKeys(i))
		for j, index := range group {
			p := &batch[index]
			same := sameTag(&w.tags[j], (*[TagSize]byte)(p.Sealed[p.size():]))
			if ok[index] = same; same {
				w.stream.open(j, p)
			} else {
				p.zero()
				w.stream.pass(j, p)
			}
		}
		w.stream.xor(c, len(group), w.groupCounters(i), true)
		for _, index := range group {
			if p := &batch[index]; ok[index] && p.joined() {
				p.part()
			}
		}
	}
}

// sameTag compares in constant time, 8 bytes at a time.
func sameTag(a, b *[TagSize]byte) bool {
	low := binary.LittleEndian.Uint64(a[:8]) ^ binary.LittleEndian.Uint64(b[:8])
	high := binary.LittleEndian.Uint64(a[8:]) ^ binary.LittleEndian.Uint64(b[8:])
	return low|high == 0
}

// take takes up to 32 packets, longest first, and makes their one-time keys (RFC 8439,
// 2.6). Packets that are in this order already, as nearly all are, are gone through once.
func (w *work512) take(c *Cipher, train []Packet) {
	for i := range train {
		at := i
		for ; at > 0 && len(train[w.order[at-1]].Sealed) < len(train[i].Sealed); at-- {
			w.order[at] = w.order[at-1]
		}
		w.order[at] = uint8(i)
	}
	for i := range train {
		w.counters[i] = train[w.order[i]].Counter
	}
	keys512(&w.keys, &c.state, &w.counters)
}

// groupCounters and groupKeys are of the group that begins at packet i of the batch.
func (w *work512) groupCounters(i int) *[groupSize]uint64 {
	return (*[groupSize]uint64)(w.counters[i:])
}

func (w *work512) groupKeys(i int) *[groupSize][keySize]byte {
	return (*[groupSize][keySize]byte)(w.keys[i:])
}

// shares is the binary logarithm of how many of all rows or lanes each of n packets,
// at least one, gets.
func shares(all, n int) uint {
	shift := uint(0)
	for ; 2*n <= all; all /= 2 {
		shift++
	}
	return shift
}

// joined reports whether a block is in First and in Rest. Such a packet is sealed and
// opened in Sealed: copied there before, or from there after.
func (p *Packet) joined() bool { return len(p.First)%blockSize != 0 && len(p.Rest) > 0 }

func (p *Packet) join() {
	move(p.Sealed, p.First)
	move(p.Sealed[len(p.First):], p.Rest)
	clear(p.Sealed[len(p.First)+len(p.Rest) : p.size()])
}

func (p *Packet) part() {
	move(p.First, p.Sealed)
	move(p.Rest, p.Sealed[len(p.First):])
}
