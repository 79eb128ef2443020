package device

import (
	"encoding/binary"
	"math/bits"
)

// An Internet checksum (RFC 1071) is a sum of 16-bit words with end-around
// carry. The sums here are 64 bits wide, taken in the machine's byte order and
// folded at the end; the order does not matter as long as numbers are read and
// written in the same one (RFC 1071, 2.B). be16 brings in numbers that are not
// in memory.

// sum adds b, which begins at an even offset, to s. An odd last byte counts as
// if a zero followed. b is shorter than 2^19 bytes (see sumAVX2).
func sum(s uint64, b []byte) uint64 {
	if len(b) >= vectorFrom {
		s, b = sumBlocks(s, b)
	}
	// Two sums, because an addition with carry waits for the one before it; and
	// the last carry is added as a carry, one instruction where s += c is two.
	var t, c, d uint64
	for len(b) >= 64 {
		w := b[:64:64] // one bounds check for all
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(w[0:]), 0)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(w[8:]), c)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(w[16:]), c)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(w[24:]), c)
		s, _ = bits.Add64(s, 0, c) // can't carry again: a sum that carried is at most 2^64 - 2
		t, d = bits.Add64(t, binary.NativeEndian.Uint64(w[32:]), 0)
		t, d = bits.Add64(t, binary.NativeEndian.Uint64(w[40:]), d)
		t, d = bits.Add64(t, binary.NativeEndian.Uint64(w[48:]), d)
		t, d = bits.Add64(t, binary.NativeEndian.Uint64(w[56:]), d)
		t, _ = bits.Add64(t, 0, d)
		b = b[64:]
	}
	s, c = bits.Add64(s, t, 0)
	s, _ = bits.Add64(s, 0, c)
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(b), 0)
		s, _ = bits.Add64(s, 0, c)
		b = b[8:]
	}
	// At most 7 bytes are left. Their own sum can't overflow.
	t = 0
	if len(b) >= 4 {
		t = uint64(binary.NativeEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		t += uint64(binary.NativeEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		t += be16(uint16(b[0]) << 8)
	}
	s, c = bits.Add64(s, t, 0)
	s, _ = bits.Add64(s, 0, c)
	return s
}

// fold makes 16 bits of a sum, in the machine's order.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// be16 is n as if it stood in a packet.
func be16(n uint16) uint64 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return uint64(binary.NativeEndian.Uint16(b[:]))
}

// load16 and store16 access a checksum field.
func load16(b []byte) uint64     { return uint64(binary.NativeEndian.Uint16(b)) }
func store16(b []byte, v uint16) { binary.NativeEndian.PutUint16(b, v) }

// sumBehindIP is the sum of the pseudo header and of what packet, which may be
// the begin of one of length bytes, has behind an IPv4 header without options
// (start is 20) or an IPv6 header (40). Where these end their addresses do, so
// it is one sum for both.
func sumBehindIP(packet []byte, start int, protocol byte, length int) uint64 {
	addresses := start - 8
	if start == 40 {
		addresses = 8
	}
	return sum(be16(uint16(length-start))+be16(uint16(protocol)), packet[addresses:])
}

// pseudo is the sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1) of a
// segment of length bytes, at most 65,535. The packet begins with an IPv4 or
// IPv6 header.
func pseudo(packet []byte, protocol byte, length int) uint64 {
	s := be16(uint16(length)) + be16(uint16(protocol))
	if packet[0]>>4 == 4 {
		return sum(s, packet[12:20])
	}
	return sum(s, packet[8:40])
}
