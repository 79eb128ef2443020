//go:build !purego

package chachapoly

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// rows256 are the blocks of ChaCha20 of one turn.
const rows256 = 16

// blockRows is what xorRows256 works on, at offsets that gen/avx2 knows.
type blockRows struct {
	key      [8]uint32
	words    [4][rows256]uint32 // each row's words 12 to 15: block counter, nonce
	from, to [rows256]*byte
}

// xorRows256 XORs key stream with the block at from, to the block at to, which may be the
// same place, in each of the first so many rows; and so on with the blocks behind these,
// turns > 0 times. The block counters of all rows are counted on.
//
//go:noescape
func xorRows256(b *blockRows, rows, turns int)

// A stream256 gives rows to runs of blocks, each of one packet. When all rows have one,
// they take as many turns as the shortest has blocks.
type stream256 struct {
	blockRows
	used    int          // rows that have a run: the first ones
	left    [rows256]int // blocks of each
	unequal int          // 0 if they all have as many
}

func (s *stream256) setKey(key *[KeySize]byte) {
	for i := range s.key {
		s.key[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
}

// add has n blocks, from one of that number on, enciphered or deciphered by the next
// flush at the latest.
func (s *stream256) add(nonce uint64, block int, to, from *byte, n int) {
	if s.used == rows256 {
		s.work()
	}
	i := s.used & (rows256 - 1)
	s.words[0][i], s.words[2][i], s.words[3][i] = uint32(block), uint32(nonce), uint32(nonce>>32)
	point(&s.to[i], to)
	point(&s.from[i], from)
	s.left[i] = n
	s.unequal |= n ^ s.left[0]
	s.used = i + 1
}

// flush does all that was added.
func (s *stream256) flush() {
	for s.used > 0 {
		for s.used < rows256 && s.share() {
		}
		s.work()
	}
}

// work ends at least one run.
func (s *stream256) work() {
	used := s.used
	s.used = 0
	if s.unequal == 0 {
		xorRows256(&s.blockRows, used, s.left[0])
		return
	}
	s.unequal = 0
	n := slices.Min(s.left[:used])
	xorRows256(&s.blockRows, used, n)
	for i := range used {
		if left := s.left[i] - n; left > 0 {
			s.copyRun(s.used, i, n)
			s.left[s.used] = left
			s.unequal |= left ^ s.left[0]
			s.used++
		}
	}
}

// share gives the second half of the longest run to a row that has none. It reports
// whether it has found anything to share.
func (s *stream256) share() bool {
	longest := 0
	for i, left := range s.left[:s.used] {
		if left > s.left[longest] {
			longest = i
		}
	}
	n := s.left[longest]
	if n < 2 {
		return false
	}
	row, half := s.used, n/2
	s.copyRun(row, longest, n-half)
	s.words[0][row] += uint32(n - half)
	s.left[longest], s.left[row] = n-half, half
	s.unequal = 1 // if they are equal now, it makes no difference
	s.used++
	return true
}

// copyRun gives a row what another one has, but for the first n blocks.
func (s *stream256) copyRun(to, from, n int) {
	for i := range s.words {
		s.words[i][to] = s.words[i][from]
	}
	s.from[to] = beyond(s.from[from], n*blockSize)
	s.to[to] = beyond(s.to[from], n*blockSize)
}

// beyond is n bytes behind p.
func beyond(p *byte, n int) *byte { return (*byte)(unsafe.Add(unsafe.Pointer(p), n)) }

// point makes a pointer that is on the stack point to p. The compiler takes what is
// stored behind a pointer for escaped, and would have all packets on the heap; but what
// is pointed to from here outlives the call that it is for, and the pointer does not. As
// it is on the stack, the garbage collector need not be told either.
func point[T any](to **T, p *T) { *(*uintptr)(unsafe.Pointer(to)) = uintptr(unsafe.Pointer(p)) }
