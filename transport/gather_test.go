package transport

import (
	"bytes"
	"slices"
	"testing"

	"stunnel/transport/socket"
)

// burst is msgs as a socket of the other end gives them.
func (e *end) burst(msgs [][]byte) []socket.Datagram {
	burst := make([]socket.Datagram, len(msgs))
	for i, msg := range msgs {
		burst[i] = socket.Datagram{Data: bytes.Clone(msg), Path: socket.Path{Remote: e.addr}}
	}
	return burst
}

// takes has an end receive messages in bursts of n, and checks that exactly the
// packets come out, in order.
func (e *end) takes(t *testing.T, from *end, msgs [][]byte, n int, packets [][]byte) {
	t.Helper()
	e.stack.written = nil
	got := [][]byte{}
	for part := range slices.Chunk(msgs, n) {
		e.lanes[0].inbound(from.burst(part), e.now())
		for _, p := range e.stack.written {
			got = append(got, bytes.Clone(p))
		}
		e.stack.written = nil
	}
	if !slices.EqualFunc(got, packets, bytes.Equal) {
		t.Errorf("bursts of %d: %d packets arrived, or differ; %d were sent; drops %v", n, len(got), len(packets), e.Status().Peers[0].Drops)
	}
	if held := e.reassembly.held; held != 0 {
		t.Errorf("bursts of %d: %d bytes are still held", n, held)
	}
}

func TestPacketsInFragmentsArriveAsTheyWereSentHoweverTheyAreReceived(t *testing.T) {
	a, b, clock := shook(t)
	a.toward(b).carry(700)
	var packets [][]byte
	for _, size := range []int{20, 700, 701, 1420, 5568, 64, 1392, 1393, 3000, 3000, 2999} {
		packets = append(packets, packet("10.0.0.1", "10.0.0.2", size))
	}
	for _, n := range []int{1, 2, 3, 5, 100} {
		first, rest, partial := split(packets...)
		a.lanes[0].outbound(first, rest, partial, *clock)
		b.takes(t, a, a.wire.sent, n, packets)
		a.wire.sent = nil
	}
}
