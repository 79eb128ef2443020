package extension

import "encoding/binary"

// HeaderSize is the size in bytes of the header in front of every kind: the kind,
// its flags, and the length of the body in two bytes.
const HeaderSize = 4

// MaxBody is the length of the longest body, in bytes.
const MaxBody = 1<<16 - 1

// A Kind is the first byte of a plaintext that is no IP packet. Its upper four bits
// are zero.
type Kind uint8

// The kinds. A receiver counts and drops all others.
const (
	KindControl  Kind = 1 + iota // hello, echo, goodbye, probe; see TypeOf
	KindFrame                    // an Ethernet frame without its check sequence
	KindFragment                 // a part of a plaintext; see Flags.Fragment
)

// Flags is the second byte of a header. What its bits mean depends on the kind.
type Flags uint8

const (
	// Wanted is set on a control message whose sender waits for an answer.
	Wanted Flags = 1 << 0
	// PartialFrame is set on a frame whose TCP or UDP checksum is partial.
	PartialFrame Flags = 1 << 0
)

// PartialBit is set in the first byte of an IP packet to say that its TCP or UDP
// checksum is partial: that what stands there is not to be looked at.
const PartialBit = 0x80

// IsPacket reports whether a plaintext that begins with this byte is an IP packet,
// with its checksum whole or partial.
func IsPacket(first byte) bool { return first&0x50 == 0x40 }

// IsPartial reports whether a plaintext that begins with this byte is an IP packet
// whose checksum is partial.
func IsPartial(first byte) bool { return first&0xd0 == 0xc0 }

// IsDivisible reports whether a plaintext that begins with this byte may be cut into
// fragments: packets and frames may, control messages and fragments may not.
func IsDivisible(first byte) bool { return IsPacket(first) || Kind(first) == KindFrame }

// Split takes the header off a plaintext and the padding off its end; body is a part
// of plaintext. ok is false for what has no header (an IP packet has none) and for a
// body that is said to be longer than what is there. An unknown kind is not refused.
func Split(plaintext []byte) (kind Kind, flags Flags, body []byte, ok bool) {
	if len(plaintext) < HeaderSize || plaintext[0]>>4 != 0 {
		return 0, 0, nil, false
	}
	n := int(binary.BigEndian.Uint16(plaintext[2:]))
	if n > len(plaintext)-HeaderSize {
		return 0, 0, nil, false
	}
	return Kind(plaintext[0]), Flags(plaintext[1]), plaintext[HeaderSize:][:n:n], true
}

// AppendHeader appends the header of a body of n bytes, which the caller puts behind
// it. n must not be more than [MaxBody].
func AppendHeader(dst []byte, kind Kind, flags Flags, n int) []byte {
	if uint(n) > MaxBody {
		panic("extension: header of a body that is too long")
	}
	return append(dst, byte(kind), byte(flags), byte(n>>8), byte(n))
}
