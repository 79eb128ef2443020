package transport

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// trust makes what a sends under its session go partial, and b take it or not,
// which a has acknowledged.
func trust(t *testing.T, a, b *end, partialOut, partialIn bool) {
	t.Helper()
	speaks := understands
	if partialOut {
		speaks |= extension.TrustedChecksums
	}
	a.peers.lookup(b.key.Public()).sessions.current.Load().speaks.Store(uint32(speaks))
	if err := b.Configure(Config{TrustedChecksums: &partialIn}); err != nil {
		t.Fatal(err)
	}
	toA := b.peers.lookup(a.key.Public())
	toA.hellos.takenBack = 0
	toA.open()
}

// halfPartial are 20 packets of several sizes, of which every other one is
// partial; as they are read, and as they are to arrive: partial, or completed.
func halfPartial(trusted bool) (first, rest [][]byte, partial []bool, arriving [][]byte) {
	for i := range 20 {
		p := packet("10.0.0.1", "10.0.0.2", 40+70*i)
		arriving = append(arriving, p)
		f, r, _ := split(bytes.Clone(p))
		first, rest, partial = append(first, f...), append(rest, r...), append(partial, i%2 == 0)
		if i%2 == 0 && !trusted {
			copy(p[26:], completed)
		}
	}
	return first, rest, partial, arriving
}

func TestPacketsGoPartialOnlyToAPeerThatTrusts(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		a, b, clock := shook(t)
		trust(t, a, b, trusted, true)
		first, rest, partial, want := halfPartial(trusted)
		wantPartial := make([]bool, len(partial))
		if trusted {
			copy(wantPartial, partial)
		}
		a.lanes[0].outbound(first, rest, partial, *clock)
		a.pass(b)
		if !slices.EqualFunc(b.stack.written, want, bytes.Equal) || !slices.Equal(b.stack.partial, wantPartial) {
			t.Errorf("trusted %v: %d packets arrived, or differ; partial %v, want %v", trusted, len(b.stack.written), b.stack.partial, wantPartial)
		}
	}
}

func TestAPartialPacketIsMarkedInTheFirstByteOfItsPlaintext(t *testing.T) {
	a, b, clock := shook(t)
	trust(t, a, b, true, true)
	p4, p6 := packet("10.0.0.1", "10.0.0.2", 100), packet("10.0.0.1", "10.0.0.2", 100)
	p6[0] = 0x6f // goes to nobody by its address, so send.go is called directly
	for _, p := range [][]byte{p4, p6} {
		for _, isPartial := range []bool{false, true} {
			first, rest, _ := split(bytes.Clone(p))
			toB := a.peers.lookup(b.key.Public())
			a.lanes[0].sendOrStage(toB, a.lanes[0].sealer, a.wire, first, rest, []bool{isPartial}, *clock)
			msg := a.wire.sent[0]
			a.wire.sent = nil
			s := b.indices.lookup(crypto.Receiver(msg)).session
			plain := make([][]byte, 1)
			s.Open([][]byte{msg}, plain)
			want := p[0]
			if isPartial {
				want |= 0x80
			}
			if got := plain[0]; got == nil || got[0] != want || !bytes.Equal(got[1:100], p[1:]) {
				t.Errorf("version %d, partial %v: % x", p[0]>>4, isPartial, got)
			}
		}
	}
}

func TestPartialPacketsAreCheckedLikeAnyOther(t *testing.T) {
	good := packet("10.0.0.1", "10.0.0.2", 200)
	liar := packet("10.0.0.1", "10.0.0.2", 200)
	liar[2], liar[3] = 0x13, 0x88
	for _, c := range []struct {
		name      string
		packet    []byte
		first     byte // instead of the packet's
		accepting bool
		drop      dropReason
	}{
		{"good", good, 0xc5, true, dropReasons},
		{"not agreed", good, 0xc5, false, dropUntrustedChecksum},
		{"not agreed, IPv6", good, 0xe0, false, dropUntrustedChecksum},
		{"another's source", packet("10.0.0.9", "10.0.0.2", 200), 0xc5, true, dropBadSource},
		{"another's source, IPv6", good, 0xe0, true, dropBadSource},
		{"a length that lies", liar, 0xc5, true, dropBadPacket},
		{"cut short", good[:19], 0xc5, true, dropBadPacket},
		{"8x", good, 0x85, true, dropBadPacket},
		{"Dx", good, 0xd5, true, dropBadPacket},
		{"Fx", good, 0xf5, true, dropBadPacket},
	} {
		a, b, clock := shook(t)
		trust(t, a, b, true, c.accepting)
		p := bytes.Clone(c.packet)
		p[0] = c.first
		first, rest, partial := split(p)
		a.lanes[0].sendOrStage(a.peers.lookup(b.key.Public()), a.lanes[0].sealer, a.wire, first, rest, partial, *clock)
		a.pass(b)
		drops := &b.peers.lookup(a.key.Public()).drops
		if c.drop == dropReasons {
			if len(b.stack.written) != 1 || !b.stack.partial[0] || !bytes.Equal(b.stack.written[0], c.packet) {
				t.Errorf("%s: % x, partial %v", c.name, b.stack.written, b.stack.partial)
			}
			continue
		}
		if len(b.stack.written) != 0 || drops[c.drop].Load() != 1 {
			t.Errorf("%s: %d delivered, drops %v", c.name, len(b.stack.written), drops.counts())
		}
	}
}

func TestStagedPacketsAreComplete(t *testing.T) {
	clock := new(time.Duration)
	*clock = time.Hour
	a, b := newEnd(t, clock, "192.0.2.1:51820"), newEnd(t, clock, "192.0.2.2:51820")
	a.add(t, b, "10.0.0.2/32")
	b.add(t, a, "10.0.0.1/32")
	trust := true
	if err := b.Configure(Config{TrustedChecksums: &trust}); err != nil {
		t.Fatal(err)
	}
	first, rest, partial, want := halfPartial(false)
	a.lanes[0].outbound(first, rest, partial, *clock)
	a.peers.lookup(b.key.Public()).initiate(*clock)
	a.pass(b)
	b.pass(a)
	a.pass(b)
	if !slices.EqualFunc(b.stack.written, want, bytes.Equal) || slices.Contains(b.stack.partial, true) {
		t.Errorf("%d packets arrived, or differ; partial %v", len(b.stack.written), b.stack.partial)
	}
}

// A session whose counters end in the middle of a burst has marked what it
// could not send any more.
func TestWhatASessionCouldNotSendIsStagedComplete(t *testing.T) {
	a, b, clock := shook(t)
	trust(t, a, b, true, true)
	toB := a.peers.lookup(b.key.Public())
	s := toB.sessions.current.Load()
	for left := uint64(crypto.RejectAfterMessages-s.Sent()) - 10; left > 0; {
		n := min(left, math.MaxInt)
		if _, ok := s.Reserve(int(n)); !ok {
			t.Fatal("the counters have ended")
		}
		left -= n
	}
	first, rest, partial, want := halfPartial(false)
	a.lanes[0].outbound(first, rest, partial, *clock)
	if !slices.EqualFunc(toB.staging.packets, want, bytes.Equal) {
		t.Errorf("%d packets are staged, or differ", len(toB.staging.packets))
	}
}

func TestARefusedPacketIsQuotedComplete(t *testing.T) {
	a, _, clock := shook(t)
	p := packet("10.0.0.1", "10.7.7.7", 100)
	first, rest, _ := split(p)
	a.lanes[0].outbound(first, rest, []bool{true}, *clock)
	if len(a.stack.written) != 1 || a.stack.partial[0] {
		t.Fatalf("%d answers, partial %v", len(a.stack.written), a.stack.partial)
	}
	if quote := a.stack.written[0][ipv4HeaderSize+icmpHeaderSize:]; !bytes.Equal(quote[26:28], completed) {
		t.Errorf("the answer quotes % x", quote[:28])
	}
}

func TestNoAllocationPerPartialPacket(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		t.Run(fmt.Sprintf("trusted=%v", trusted), func(t *testing.T) {
			a, b, clock := shook(t)
			trust(t, a, b, trusted, true)
			var packets [][]byte
			for range 46 {
				packets = append(packets, packet("10.0.0.1", "10.0.0.2", 1420))
			}
			first, rest, partial := split(packets...)
			a.wire.recycle = true
			a.wire.sent, a.wire.sizes = make([][]byte, 0, 64), make([]int, 0, 64)
			burst := make([]socket.Datagram, 0, 64)
			b.stack.written, b.stack.partial = make([][]byte, 0, 64), make([]bool, 0, 64)
			run := func() {
				for i := range partial {
					first[i][0], partial[i] = 0x45, true
				}
				a.wire.sent, a.wire.sizes, burst = a.wire.sent[:0], a.wire.sizes[:0], burst[:0]
				b.stack.written, b.stack.partial = b.stack.written[:0], b.stack.partial[:0]
				a.lanes[0].outbound(first, rest, partial, *clock)
				for _, msg := range a.wire.sent {
					burst = append(burst, socket.Datagram{Data: msg, Path: socket.Path{Remote: a.addr}})
				}
				b.lanes[0].in.inbound(burst, *clock)
				if len(b.stack.written) != len(packets) || b.stack.partial[7] != trusted {
					t.Fatalf("%d packets arrived, partial %v", len(b.stack.written), b.stack.partial)
				}
			}
			run()
			if n := testing.AllocsPerRun(100, run); n != 0 {
				t.Errorf("%v allocations per burst of %d packets, both ways; want 0", n, len(packets))
			}
		})
	}
}
