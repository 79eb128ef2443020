//go:build !purego

package chachapoly

import "encoding/binary"

//go:generate go run -C gen ./avx512 -out ../avx512_amd64.s -pkg chachapoly

// The AVX-512 path takes up to 32 packets at a time, longest first. Their one-time
// keys are made in one turn of ChaCha20, a packet in each row. All else is done by
// groups of up to 16 packets: ChaCha20 in rows (stream512), Poly1305 in lanes
// (sums512). A group of less than 16 gives every packet more rows and lanes.
//
// Sealing is ChaCha20, then Poly1305 of the ciphertext. Opening is the other way
// round: what is not authentic is never deciphered.
const (
	batchSize = 32
	groupSize = 16
)

// A batch512 is what is sealed or opened in one go.
type batch512 struct {
	packets [batchSize]*Packet
	index   [batchSize]uint8 // of packets[i] in the train
	keys    [batchSize][keySize]byte
}

const keySize = 32 // bytes of a one-time key: r, s

func (c *Cipher) sealAVX512(train []Packet) {
	var b batch512
	var tags [groupSize][TagSize]byte
	for len(train) > 0 {
		n := min(len(train), batchSize)
		b.take(train[:n])
		keys512(&c.key, b.packets[:n], &b.keys)
		for i := 0; i < n; i += groupSize {
			group := b.packets[i:min(i+groupSize, n)]
			stream512(&c.key, group, false)
			sums512(&tags, group, (*[groupSize][keySize]byte)(b.keys[i:]))
			for j, p := range group {
				*(*[TagSize]byte)(p.Sealed[p.size():]) = tags[j]
			}
		}
		train = train[n:]
	}
}

func (c *Cipher) openAVX512(train []Packet, ok []bool) {
	var b batch512
	var tags [groupSize][TagSize]byte
	var good [groupSize]*Packet
	for len(train) > 0 {
		n := min(len(train), batchSize)
		b.take(train[:n])
		keys512(&c.key, b.packets[:n], &b.keys)
		for i := 0; i < n; i += groupSize {
			group := b.packets[i:min(i+groupSize, n)]
			sums512(&tags, group, (*[groupSize][keySize]byte)(b.keys[i:]))
			opened := good[:0]
			for j, p := range group {
				same := sameTag(&tags[j], (*[TagSize]byte)(p.Sealed[p.size():]))
				if ok[b.index[i+j]] = same; same {
					opened = append(opened, p)
				} else {
					p.zero()
				}
			}
			if len(opened) > 0 {
				stream512(&c.key, opened, true)
			}
		}
		train, ok = train[n:], ok[n:]
	}
}

// sameTag compares in constant time, 8 bytes at a time.
func sameTag(a, b *[TagSize]byte) bool {
	low := binary.LittleEndian.Uint64(a[:8]) ^ binary.LittleEndian.Uint64(b[:8])
	high := binary.LittleEndian.Uint64(a[8:]) ^ binary.LittleEndian.Uint64(b[8:])
	return low|high == 0
}

// take takes packets into the batch, longest first. A train that is in this order
// already, as nearly all are, is gone through once.
func (b *batch512) take(train []Packet) {
	for i := range train {
		p, at := &train[i], i
		for ; at > 0 && len(b.packets[at-1].Sealed) < len(p.Sealed); at-- {
			b.packets[at], b.index[at] = b.packets[at-1], b.index[at-1]
		}
		b.packets[at], b.index[at] = p, uint8(i)
	}
}

// share is how many of the rows or lanes each of n packets gets, a power of two.
func share(all, n int) int {
	for ; n > 1; n = (n + 1) / 2 {
		all /= 2
	}
	return all
}
