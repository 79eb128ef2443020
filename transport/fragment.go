package transport

import (
	"stunnel/crypto"
	"stunnel/transport/extension"
)

// A packet that is longer than one message to its peer may be leaves in
// fragments: parts of nearly equal length, each a message of its own, with
// counters that follow each other (docs/protocol-extensions.md). The whole is
// known by its id, the counter of its first fragment, which each of them gives:
// its own counter - index.
const (
	maxFragments = extension.MaxFragments
	maxWhole     = extension.MaxWhole
)

// What a sealer copies of the fragments of one packet: of each its header and
// what follows up to 64 bytes, of all together the first bytes that the queue
// has set aside, at most 128. That is no more than maxFirst for each message.
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

// shape is how a packet of length bytes travels: as n messages of size bytes of
// plaintext, padding included. limit is the most that a message may have, 0: the
// packet is not to be cut. n is 0 for a packet that is too large. One that would
// need more fragments than there may be goes whole, as in WireGuard: then it is for
// the networks outside to cut it.
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
	case limit <= extension.HeaderSize:
		return shape(length, mtu, 0)
	}
	most := limit - extension.HeaderSize
	if n = (length + most - 1) / most; n > maxFragments {
		return shape(length, mtu, 0)
	}
	size = extension.HeaderSize + (length+n-1)/n
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
		begin := len(l.heads)
		l.heads = extension.AppendHeader(l.heads, extension.KindFragment, extension.FragmentFlags(i, i == n-1), part)
		beside := (extension.HeaderSize+len(first)+fragmentFirst-1)&^(fragmentFirst-1) - extension.HeaderSize
		beside = min(max(beside, fragmentFirst-extension.HeaderSize), part)
		k := min(beside, len(first))
		l.heads = append(l.heads, first[:k]...)
		l.heads = append(l.heads, rest[:beside-k]...)
		first, rest = first[k:], rest[beside-k:]
		l.plain = append(l.plain, crypto.Plaintext{
			First: l.heads[begin:len(l.heads):len(l.heads)],
			Rest:  rest[:part-beside],
			Pad:   size - extension.HeaderSize - part,
		})
		rest = rest[part-beside:]
	}
}
