package transport

import (
	"encoding/binary"

	"stunnel/crypto"
)

// A packet that is longer than one message to its peer may be leaves in
// fragments: parts of nearly equal length, each a message of its own, with
// counters that follow each other. A fragment is four bytes, then a part:
//
//	0  kindFragment
//	1  index << 1 | last
//	2  length of the part, big endian
//
// and after the part the padding of every message. The whole is known by its
// id, the counter of its first fragment, which each of them gives: its own
// counter - index. So one fragment has one place in one whole, and no two
// overlap.
const (
	kindFrame    = 2
	kindFragment = 3

	fragmentHeader = 4
	maxFragments   = 8
	maxWhole       = 1<<16 - 1
)

// What a sealer needs in front of the fragments of one packet, per message: the
// header and what is copied beside the packet, 64 bytes each, and over all of
// them the first bytes that the queue had set aside, at most 128.
const (
	fragmentFirst = 64
	maxFirst      = 128
	headsSize     = sealerPackets * maxFirst
)

// fragment is what a fragment says.
type fragment struct {
	index int
	last  bool
	part  []byte
}

func isFragment(plaintext []byte) bool {
	return len(plaintext) > 0 && plaintext[0] == kindFragment
}

// parseFragment reads the plaintext of what isFragment; part lies in there. ok is false
// for a length that is not there, an empty part, an index that cannot be, and
// for a first part that is the last one too; the index tells which packet cannot
// become whole then, 0 if none can be meant but one that begins here.
func parseFragment(plaintext []byte) (f fragment, ok bool) {
	if len(plaintext) < fragmentHeader || plaintext[1]>>1 >= maxFragments {
		return f, false
	}
	f = fragment{index: int(plaintext[1] >> 1), last: plaintext[1]&1 != 0}
	length := int(binary.BigEndian.Uint16(plaintext[2:]))
	if length == 0 || length > len(plaintext)-fragmentHeader || f.index == 0 && f.last {
		return f, false
	}
	f.part = plaintext[fragmentHeader:][:length:length]
	return f, true
}

// divisible says whether a plaintext that begins with b may be cut: packets,
// with a whole checksum or a partial one, and frames. What two tunnels say to
// each other is never cut, a probe of the path least of all.
func divisible(b []byte) bool {
	return len(b) > 0 && (b[0]&0x50 == 0x40 || b[0] == kindFrame)
}

// shape is how a packet of length bytes travels: as n messages of size bytes of
// plaintext, padding included. limit is the most that a message may have, 0: the
// packet is not to be cut. n is 0 for a packet that is too large.
//
// All fragments of a packet have one size, whatever is left over when it is
// cut: messages of one size leave as one train.
func shape(length, mtu, limit int) (n, size int) {
	limit = min(limit, maxPacket)
	switch {
	case limit == 0 && length > maxPacket, length > maxWhole:
		return 0, 0
	case limit == 0:
		return 1, length + padding(length, mtu)
	case length <= limit:
		if size = length + padding(length, mtu); size > limit {
			size = length
		}
		return 1, size
	case limit <= fragmentHeader:
		return 0, 0
	}
	most := limit - fragmentHeader
	if n = (length + most - 1) / most; n > maxFragments {
		return 0, 0
	}
	size = fragmentHeader + (length+n-1)/n
	return n, min((size+15)&^15, limit)
}

// cut appends n fragments of a packet to l.plain, each with size bytes of
// plaintext. Only their first bytes are copied, into l.heads; the rest of each
// stays where it lies. They have 64 bytes in First, or a multiple of that while
// it takes in the packet's own first bytes.
//
// first has at most 128 bytes, or all there are.
func (l *sealer) cut(first, rest []byte, n, size int) {
	if l.heads == nil {
		l.heads = make([]byte, 0, headsSize)
	}
	if len(rest) == 0 {
		first, rest = first[:min(fragmentFirst, len(first))], first[min(fragmentFirst, len(first)):]
	}
	length := len(first) + len(rest)
	for i := range n {
		part := length / n
		if i < length%n {
			part++
		}
		flags := byte(i << 1)
		if i == n-1 {
			flags |= 1
		}
		begin := len(l.heads)
		l.heads = append(l.heads, kindFragment, flags, byte(part>>8), byte(part))
		beside := (fragmentHeader+len(first)+fragmentFirst-1)&^(fragmentFirst-1) - fragmentHeader
		beside = min(max(beside, fragmentFirst-fragmentHeader), part)
		k := min(beside, len(first))
		l.heads = append(l.heads, first[:k]...)
		l.heads = append(l.heads, rest[:beside-k]...)
		first, rest = first[k:], rest[beside-k:]
		l.plain = append(l.plain, crypto.Plaintext{
			First: l.heads[begin:len(l.heads):len(l.heads)],
			Rest:  rest[:part-beside],
			Pad:   size - fragmentHeader - part,
		})
		rest = rest[part-beside:]
	}
}
