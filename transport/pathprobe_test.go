package transport

import (
	"testing"
	"time"

	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// knows makes e know that its path to other carries 1500 bytes, and both ends know probes.
func (e *end) knows(t *testing.T, other *end, now time.Duration) {
	t.Helper()
	p := e.toward(other)
	p.sessions.current.Load().speaks.Store(uint32(understands | extension.Fragments | extension.Probes))
	p.measurePath(other.addr)
	p.changePath(func() {
		token, size := p.probes.search.ask(now, true, true, drawToken)
		if !p.probes.search.reply(token, size, now) {
			t.Fatal("the reply to a probe is none")
		}
	})
	if p.probes.passes.Load() != 1500 {
		t.Fatalf("%d bytes are known to pass", p.probes.passes.Load())
	}
}

func TestNoAllocationPerPacketOnAPathThatIsMeasured(t *testing.T) {
	a, b, clock := shook(t)
	a.knows(t, b, *clock)
	b.knows(t, a, *clock)
	var packets [][]byte
	for range 46 {
		packets = append(packets, packet("10.0.0.1", "10.0.0.2", 1420))
	}
	first, rest, partial := split(packets...)
	a.wire.recycle = true
	a.wire.sent, a.wire.sizes = make([][]byte, 0, 64), make([]int, 0, 64)
	burst := make([]socket.Datagram, 0, 64)
	b.stack.written = make([][]byte, 0, 64)
	run := func() {
		a.wire.sent, a.wire.sizes, burst = a.wire.sent[:0], a.wire.sizes[:0], burst[:0]
		b.stack.written, b.stack.partial = b.stack.written[:0], b.stack.partial[:0]
		a.lanes[0].outbound(first, rest, partial, *clock)
		for _, msg := range a.wire.sent {
			burst = append(burst, socket.Datagram{Data: msg, Path: socket.Path{Remote: a.addr}})
		}
		b.lanes[0].in.inbound(burst, *clock)
		if len(b.stack.written) != len(packets) {
			t.Fatalf("%d packets arrived, want %d", len(b.stack.written), len(packets))
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations per burst of %d packets, both ways; want 0", n, len(packets))
	}
}

// A message under a session that is not proved, or of a handshake, may be cut on the way as any WireGuard's.
func TestOnlyWhatIsKnownToPassIsSentWhole(t *testing.T) {
	a, b, clock := shook(t)
	p := a.toward(b)
	send := func() bool {
		a.wire.whole = false
		p.sendKeepalive(*clock)
		return a.wire.whole
	}
	if send() {
		t.Error("to a plain WireGuard")
	}
	p.sessions.current.Load().speaks.Store(uint32(understands | extension.Fragments | extension.Probes))
	if send() {
		t.Error("before anything is measured")
	}
	a.knows(t, b, *clock)
	if !send() {
		t.Error("a path that is measured is not sent whole messages")
	}
	a.wire.whole = false
	*clock += 10 * time.Second
	p.initiate(*clock)
	if a.wire.whole {
		t.Error("an initiation")
	}
	p.sessions.current.Load().speaks.Store(0) // it is a plain WireGuard now
	if send() {
		t.Error("to a peer that has become plain")
	}
}
