package transport

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A peer's staged packets are bounded in number and in bytes.
const (
	maxStagedPackets = 128
	maxStagedBytes   = 256 << 10
)

// staging holds a peer's packets while there is no session to send them
// under. Its lock is held while they are sent, so that a packet that comes
// meanwhile goes behind them: n is not zero before the last has left.
type staging struct {
	n  atomic.Int32 // len(packets), read without mu
	mu sync.Mutex

	packets [][]byte // guarded by mu; our own copies
	bytes   int      // guarded by mu
}

// add stages a copy of each packet, first part and rest, and returns how many
// of the oldest had to go.
func (s *staging) add(first, rest [][]byte) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range first {
		p := make([]byte, 0, len(first[i])+len(rest[i]))
		p = append(append(p, first[i]...), rest[i]...)
		s.packets = append(s.packets, p)
		s.bytes += len(p)
	}
	return s.shrink()
}

// addFirst puts packets, which become its own, before those that wait already.
func (s *staging) addFirst(packets [][]byte) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packets = append(slices.Clip(packets), s.packets...)
	for _, p := range packets {
		s.bytes += len(p)
	}
	return s.shrink()
}

// shrink drops the oldest of too many. mu is held.
func (s *staging) shrink() (dropped int) {
	for len(s.packets) > maxStagedPackets || s.bytes > maxStagedBytes {
		s.bytes -= len(s.packets[0])
		s.packets[0] = nil
		s.packets = s.packets[1:]
		dropped++
	}
	s.n.Store(int32(len(s.packets)))
	return dropped
}

// take hands all packets to send, in order, and empties the stage; send returns
// false if it could not send any, and they stay.
func (s *staging) take(send func(packets [][]byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.packets) > 0 && send(s.packets) {
		s.reset()
	}
}

// clear drops all packets and returns how many they were.
func (s *staging) clear() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.packets)
	s.reset()
	return n
}

func (s *staging) reset() {
	s.packets, s.bytes = nil, 0
	s.n.Store(0)
}
