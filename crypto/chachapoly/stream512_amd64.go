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

// xor512 XORs 16 packets with their key streams, from block 1 on (RFC 8439, 2.8), in
// turns: row i has the block of packet rows[0][i] that is rows[1][i] bytes behind where
// the turn begins, and a turn is as many bytes of each packet as it has rows.
//
// pointers are to First, Rest and Sealed; bounds are where, in bytes of the packet,
// First ends, the plaintext ends and the ciphertext ends. It reads First and Rest and
// writes Sealed, or to open the other way. Nothing outside of them is touched.
//
//go:noescape
func xor512(key *[36]byte, counters *[16]uint64, rows *[2][32]uint64, pointers *[3][16]*byte, bounds *[3][16]int, turns, open int)

// A stream512 says where a group's packets are; see xor512.
type stream512 struct {
	pointers [3][groupSize]*byte
	bounds   [3][groupSize]int
	longest  int
}

// shareRows[shift] shares out rows: 1<<shift for each packet.
var shareRows = func() (rows [6][2][rows512]uint64) {
	for shift := range rows {
		for i := range rows512 {
			rows[shift][0][i], rows[shift][1][i] = uint64(i>>shift), uint64(i&(1<<shift-1)*blockSize)
		}
	}
	return rows
}()

// seal has packet i of the group sealed.
func (s *stream512) seal(i int, p *Packet) {
	if p.joined() {
		p.join()
	}
	s.open(i, p)
}

// open has packet i of the group opened.
func (s *stream512) open(i int, p *Packet) {
	i &= groupSize - 1 // which the compiler can't know
	first, rest, sealed := unsafe.SliceData(p.First), unsafe.SliceData(p.Rest), unsafe.SliceData(p.Sealed)
	cut, end := len(p.First), len(p.First)+len(p.Rest)
	if p.joined() {
		rest, cut, end = sealed, 0, p.size()
	}
	s.pointers[0][i], s.pointers[1][i], s.pointers[2][i] = first, rest, sealed
	s.bounds[0][i], s.bounds[1][i], s.bounds[2][i] = cut, end, p.size()
	s.longest = max(s.longest, p.size())
}

// pass has nothing done with packet i of the group.
func (s *stream512) pass(i int, p *Packet) {
	s.pointers[2][i] = unsafe.SliceData(p.Sealed)
	s.bounds[0][i], s.bounds[1][i], s.bounds[2][i] = 0, 0, 0
}

// xor does what is to be done with the n packets of a group.
func (s *stream512) xor(c *Cipher, n int, counters *[groupSize]uint64, open bool) {
	for i := n; i < groupSize; i++ {
		s.pointers[2][i] = s.pointers[2][0]
		s.bounds[0][i], s.bounds[1][i], s.bounds[2][i] = 0, 0, 0
	}
	shift, way := shares(rows512, n), 0
	if open {
		way = 1
	}
	if turns := (s.longest + blockSize<<shift - 1) / blockSize >> shift; turns > 0 {
		xor512(&c.state, counters, &shareRows[shift], &s.pointers, &s.bounds, turns, way)
	}
	s.longest = 0
}
