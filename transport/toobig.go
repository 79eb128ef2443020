package transport

import (
	"bytes"
	"net/netip"
	"time"
)

// answerTooBig tells the senders of packets in a run for p that are longer than what the path carries, once that is measured:
// one of each flow, within a rate. The packets go all the same, in fragments of ours. So nothing is lost where the sender
// does not listen, or somebody keeps the answer from it.
func (l *lane) answerTooBig(p *peer, first, rest [][]byte, partial []bool, now time.Duration) {
	told := int(p.probes.told.Load())
	if told == 0 {
		return
	}
	if s := p.usable(now); s == nil || !s.probed() {
		return
	}
	last := []byte(nil)
	for i, b := range first {
		if length := len(b) + len(rest[i]); !isTooBig(b, length, told) || isSameFlow(b, last) {
			continue
		}
		if !l.tunnel.refusals.Allow(now) {
			return
		}
		last = b
		l.complete(first[i:i+1], rest[i:i+1], partial[i:i+1])
		packet := append(append([]byte(nil), b...), rest[i]...)
		if answer := tooBig(nil, packet, told, netip.Addr{}, netip.Addr{}); answer != nil {
			l.deliver([][]byte{answer}, nil)
		}
	}
}

// isSameFlow says whether the packets that begin with a and b go between the same ports, if they have ports and no options.
func isSameFlow(a, b []byte) bool {
	begin, end := 12, 24
	if a[0]>>4 == 6 {
		begin, end = 8, 44
	}
	return len(a) >= end && len(b) >= end && a[0] == b[0] && bytes.Equal(a[begin:end], b[begin:end])
}
