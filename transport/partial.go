package transport

// A partial packet is one whose TCP or UDP checksum nobody has computed: the
// local stack leaves that to its device. Between two ends that trust each other
// it stays so all the way, as the tunnel's authentication says more than a sum.
// Which packets can be partial is the queues' to say, at both ends.

// partialMark is set in the first byte of a partial packet's plaintext: 4x and
// 6x become Cx and Ex, which are no IP packets for whoever does not know.
const partialMark = 0x80

// unmarkPartial takes the mark off a plaintext, not empty, that has it.
func unmarkPartial(plaintext []byte) (partial bool) {
	switch plaintext[0] >> 4 {
	case 4 | partialMark>>4, 6 | partialMark>>4:
		plaintext[0] &^= partialMark
		return true
	}
	return false
}

// markPartial marks the partial ones of packets that begin with first.
func markPartial(first [][]byte, partial []bool) {
	for i := range first {
		if partial[i] {
			first[i][0] |= partialMark
		}
	}
}

// complete computes the checksums of those that are partial, marked or not, and
// makes them packets like any other.
func (l *lane) complete(first, rest [][]byte, partial []bool) {
	for i := range first {
		if partial[i] {
			first[i][0] &^= partialMark
			l.queue.Complete(first[i], rest[i])
			partial[i] = false
		}
	}
}
