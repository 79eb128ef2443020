package transport

import "stunnel/transport/extension"

// A partial packet is one whose TCP or UDP checksum nobody has computed: the
// local stack leaves that to its device. Between two ends that trust each other
// it stays so all the way, as the tunnel's authentication says more than a sum.
// Which packets can be partial is the queues' to say, at both ends.

// unmarkPartial takes the mark of a partial packet off a plaintext, which is not
// empty, if it has one.
func unmarkPartial(plaintext []byte) (partial bool) {
	if !extension.IsPartial(plaintext[0]) {
		return false
	}
	plaintext[0] &^= extension.PartialBit
	return true
}

// partialMark is where the mark of a partial packet is in what is sealed, or of a frame
// in its header.
func (l *lane) partialMark() (at int, bit byte) {
	if l.tunnel.lan != nil {
		return 1, byte(extension.PartialFrame)
	}
	return 0, extension.PartialBit
}

// markPartial marks the partial ones of packets that begin with first.
func (l *lane) markPartial(first [][]byte, partial []bool) {
	at, bit := l.partialMark()
	for i := range first {
		if partial[i] {
			first[i][at] |= bit
		}
	}
}

// complete computes the checksums of those that are partial, marked or not, and
// makes them packets like any other.
func (l *lane) complete(first, rest [][]byte, partial []bool) {
	at, bit := l.partialMark()
	for i := range first {
		if partial[i] {
			first[i][at] &^= bit
			l.queue.Complete(first[i], rest[i])
			partial[i] = false
		}
	}
}
