package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// carry brings what the ends have sent to all others, which know by key or index what is
// for them, until nobody sends any more.
func carry(ends ...*end) {
	for busy := true; busy; {
		busy = false
		for _, e := range ends {
			sent := e.wire.sent
			e.wire.sent, e.wire.sizes = nil, nil
			for _, o := range ends {
				if o == e || len(sent) == 0 {
					continue
				}
				busy = true
				var burst []socket.Datagram
				for _, msg := range sent {
					burst = append(burst, socket.Datagram{Data: bytes.Clone(msg), Path: socket.Path{Remote: e.addr}})
				}
				o.lanes[0].in.inbound(burst, o.now())
				for len(o.handshakes) > 0 {
					o.handshake(<-o.handshakes)
				}
			}
		}
	}
}

// star are ends in tap mode: the first, which forwards, knows the others, and they know it;
// all have said hello.
func star(t testing.TB, n int) (ends []*end, clock *time.Duration) {
	clock = new(time.Duration)
	*clock = time.Hour
	for i := range n {
		ends = append(ends, newEthernetEnd(t, clock, fmt.Sprintf("192.0.2.%d:51820", 1+i)))
	}
	forward, none := true, 0
	for i, e := range ends {
		if err := e.Configure(Config{Forward: &forward, StormLimit: &none}); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			ends[0].add(t, e, fmt.Sprintf("10.0.0.%d/32", i))
			e.add(t, ends[0], "10.0.0.100/32")
		}
	}
	for _, e := range ends[1:] {
		ends[0].to(e).initiate(*clock)
		carry(ends...)
		if s := e.to(ends[0]).usable(*clock); s == nil || !s.may(extension.Frames) {
			t.Fatal("no hello after the handshake")
		}
	}
	return ends, clock
}

func (e *end) to(o *end) *peer { return e.peers.lookup(o.key.Public()) }

// tcpFrame is one of size bytes from a station to another that may be partial.
func tcpFrame(from, to byte, size int) []byte {
	f := make([]byte, size)
	copy(f, []byte{2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x08, 0x00})
	copy(f[14:], packet("10.0.0.1", "10.0.0.2", size-14))
	f[14+9] = 6
	return f
}

// broadcast has a frame go to all.
func broadcast(f []byte) []byte {
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	return f
}

// splitFrames is how a queue in tap mode gives them.
func splitFrames(all ...[]byte) (f frames) {
	for _, b := range all {
		b = append(make([]byte, FrameRoom), b...)
		n := min(64, len(b))
		f.append(b[:n:n], b[n:], false)
	}
	return f
}

func TestAPartialFrameIsFloodedToEachAsItTakesIt(t *testing.T) {
	for _, source := range []string{"our own side", "a peer"} {
		ends, clock := star(t, 5)
		h := ends[0]
		takes := []bool{true, false, true, false}
		for i, e := range ends[1:] {
			trust(t, h, e, takes[i], takes[i])
			h.to(e).sessions.current.Load().speaks.Store(uint32(understands | extension.Frames | map[bool]extension.Capabilities{true: extension.TrustedChecksums}[takes[i]]))
		}
		want := broadcast(tcpFrame(1, 0, 200))
		f := splitFrames(want, want)
		f.partial[1] = true
		from := h
		if source == "a peer" {
			from = ends[1]
			s := from.to(h).sessions.current.Load()
			s.speaks.Store(s.speaks.Load() | uint32(extension.TrustedChecksums))
		}
		from.lanes[0].outbound(f.first, f.rest, f.partial, *clock)
		carry(ends...)
		complete := bytes.Clone(want)
		copy(complete[26-FrameRoom:], completed)
		for i, e := range ends {
			if e == from {
				if len(e.stack.written) > 0 {
					t.Errorf("%s: it came back", source)
				}
				continue
			}
			partial := i > 0 && takes[i-1]
			second := complete
			if partial {
				second = want
			}
			if e == h { // completed for a peer before it was handed to our own stack
				second = complete
			}
			if len(e.stack.written) != 2 || !bytes.Equal(e.stack.written[0], want) || !bytes.Equal(e.stack.written[1], second) ||
				!slices.Equal(e.stack.partial, []bool{false, partial}) {
				t.Errorf("%s: end %d got %d frames, partial %v; want 2, the second partial: %v", source, i, len(e.stack.written), e.stack.partial, partial)
			}
		}
	}
}

func TestPartialFramesAreCheckedBeforeAnybodyBelievesThem(t *testing.T) {
	good := tcpFrame(1, 2, 200)
	change := func(at int, to ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], to)
		return b
	}
	for _, c := range []struct {
		name  string
		frame []byte
		flags extension.Flags
		opens bool
		drop  dropReason
	}{
		{"good", good, extension.PartialFrame, true, dropReasons},
		{"not agreed", good, extension.PartialFrame, false, dropUntrustedChecksum},
		{"a length that lies", change(16, 1, 1), extension.PartialFrame, true, dropBadFrame},
		{"options", change(14, 0x46), extension.PartialFrame, true, dropBadFrame},
		{"a fragment", change(20, 0x20), extension.PartialFrame, true, dropBadFrame},
		{"ARP", change(12, 0x08, 0x06), extension.PartialFrame, true, dropBadFrame},
		{"complete, whatever it says", change(16, 1, 1), 0, true, dropReasons},
		{"from a group", change(6, 3), 0, true, dropBadFrame},
		{"from nobody", change(6, 0, 0, 0, 0, 0, 0), 0, true, dropBadFrame},
		{"13 bytes", good[:13], 0, true, dropBadFrame},
		{"ends in its tag", append(bytes.Clone(good[:12]), 0x81, 0, 0, 7), 0, true, dropBadFrame},
	} {
		ends, clock := star(t, 2)
		a, b := ends[1], ends[0]
		if err := b.Configure(Config{TrustedChecksums: &c.opens}); err != nil {
			t.Fatal(err)
		}
		fromA := b.to(a)
		fromA.hellos.takenBack = 0
		fromA.open()
		a.wire.sent, b.wire.sent = nil, nil
		plain := extension.AppendHeader(nil, extension.KindFrame, c.flags, len(c.frame))
		a.to(b).sendNow([][]byte{append(plain, c.frame...)}, *clock)
		a.pass(b)
		if c.drop == dropReasons {
			if len(b.stack.written) != 1 || b.stack.partial[0] != (c.flags != 0) || !bytes.Equal(b.stack.written[0], c.frame) {
				t.Errorf("%s: %d delivered, drops %v", c.name, len(b.stack.written), fromA.drops.counts())
			}
			continue
		}
		if len(b.stack.written) != 0 || fromA.drops[c.drop].Load() != 1 {
			t.Errorf("%s: %d delivered, drops %v", c.name, len(b.stack.written), fromA.drops.counts())
		}
	}
}

func TestAFrameLongerThanOneMessageMayBeIsCountedAndNotSent(t *testing.T) {
	ends, clock := star(t, 2)
	a := ends[1]
	f := splitFrames(broadcast(tcpFrame(1, 0, 70_000)))
	a.lanes[0].outbound(f.first, f.rest, f.partial, *clock)
	if n := a.to(ends[0]).drops[dropTooLarge].Load(); n != 1 || len(a.wire.sent) > 0 {
		t.Errorf("%d counted, %d messages", n, len(a.wire.sent))
	}
}

// The hub takes a burst for one station behind each of two peers, floods some, and relays.
func TestNoAllocationPerFrame(t *testing.T) {
	for _, c := range []struct {
		name string
		to   byte // a station, 0: all
		size int
	}{
		{"unicast", 2, 1420}, {"unicast in fragments", 2, 1518}, {"broadcast", 0, 300}, {"unicast over a hub", 3, 1420}, {"broadcast over a hub", 4, 300},
	} {
		t.Run(c.name, func(t *testing.T) {
			ends, clock := star(t, 3)
			h, a, b := ends[0], ends[1], ends[2]
			for i, e := range []*end{a, h, b} { // stations 1, 2, 3
				f := splitFrames(broadcast(tcpFrame(byte(1+i), 0, 100)))
				e.lanes[0].outbound(f.first, f.rest, f.partial, *clock)
				carry(ends...)
			}
			var all [][]byte
			for range 46 {
				f := tcpFrame(1, c.to, c.size)
				if c.to == 0 || c.to == 4 {
					broadcast(f)
				}
				all = append(all, f)
			}
			f := splitFrames(all...)
			for _, e := range ends {
				e.wire.recycle = true
				e.wire.sent, e.wire.sizes = make([][]byte, 0, 256), make([]int, 0, 256)
				e.stack.written, e.stack.partial = make([][]byte, 0, 256), make([]bool, 0, 256)
			}
			burst := make([]socket.Datagram, 0, 256)
			pass := func(from, to *end) {
				burst = burst[:0]
				for _, msg := range from.wire.sent {
					burst = append(burst, socket.Datagram{Data: msg, Path: socket.Path{Remote: from.addr}})
				}
				to.stack.written, to.stack.partial = to.stack.written[:0], to.stack.partial[:0]
				to.wire.sent, to.wire.sizes = to.wire.sent[:0], to.wire.sizes[:0]
				to.lanes[0].in.inbound(burst, *clock)
			}
			overHub := c.to > 2
			run := func() {
				a.wire.sent, a.wire.sizes = a.wire.sent[:0], a.wire.sizes[:0]
				a.lanes[0].outbound(f.first, f.rest, f.partial, *clock)
				pass(a, h)
				reached := h
				if overHub {
					pass(h, b)
					reached = b
				}
				if len(reached.stack.written) != len(all) {
					t.Fatalf("%d frames arrived, want %d; drops %v %v", len(reached.stack.written), len(all), h.to(a).drops.counts(), b.drops.counts())
				}
			}
			run()
			if n := testing.AllocsPerRun(100, run); n != 0 {
				t.Errorf("%v allocations per burst of %d frames; want 0", n, len(all))
			}
		})
	}
}

func BenchmarkOutboundFrames(b *testing.B) {
	ends, clock := star(b, 2)
	h, a := ends[0], ends[1]
	there := splitFrames(broadcast(tcpFrame(2, 0, 100)))
	h.lanes[0].outbound(there.first, there.rest, there.partial, *clock)
	carry(ends...)
	var all [][]byte
	for range 46 {
		all = append(all, tcpFrame(1, 2, 1420))
	}
	f := splitFrames(all...)
	a.wire.recycle = true
	a.wire.sent, a.wire.sizes = make([][]byte, 0, 64), make([]int, 0, 64)
	b.SetBytes(46 * 1420)
	b.ReportAllocs()
	for b.Loop() {
		a.wire.sent, a.wire.sizes = a.wire.sent[:0], a.wire.sizes[:0]
		a.lanes[0].outbound(f.first, f.rest, f.partial, *clock)
	}
	if binary.BigEndian.Uint16(f.first[0][2:]) != 1420 {
		b.Error("the header is not as long as the frame")
	}
}

func TestALaneWhoseTimeIsBehindFloodsNothingMore(t *testing.T) {
	ends, clock := star(t, 2)
	n := ends[0].lan
	n.setStormLimit(DefaultStormLimit)
	if got := n.mayFlood(n.local, 3000, *clock+10*time.Millisecond); got != DefaultStormLimit {
		t.Errorf("%d may be flooded, want %d", got, DefaultStormLimit)
	}
	f := splitFrames(broadcast(tcpFrame(1, 0, 100)))
	ends[0].lanes[0].outbound(f.first, f.rest, f.partial, *clock) // it began before the other lane
	if dropped := ends[0].drops[dropStorm].Load(); dropped != 1001 || len(ends[0].wire.sent) > 0 {
		t.Errorf("%d dropped, %d sent; want 1001 and none", dropped, len(ends[0].wire.sent))
	}
	if got := n.mayFlood(n.local, 100, *clock+20*time.Millisecond); got != 20 {
		t.Errorf("%d may be flooded 10 ms later, want 20", got)
	}
}

func TestAGoodbyeBehindFramesLeavesNoStationOfTheirs(t *testing.T) {
	ends, clock := star(t, 2)
	h, a := ends[0], ends[1]
	frame := broadcast(tcpFrame(1, 0, 100))
	a.to(h).sendNow([][]byte{
		append(extension.AppendHeader(nil, extension.KindFrame, 0, len(frame)), frame...),
		extension.AppendGoodbye(nil, extension.GoingDown, a.to(h).instance),
	}, *clock)
	a.pass(h)
	if len(h.stack.written) != 1 || h.to(a).sessions.current.Load() != nil {
		t.Fatalf("%d frames came, and the goodbye was not heard", len(h.stack.written))
	}
	if n := h.lan.table.Stations(); n != 0 {
		t.Errorf("%d stations are known, want 0", n)
	}
}

func TestWithPortSecurityOurOwnSideMayHaveMoreStationsThanThereIsRoomFor(t *testing.T) {
	ends, clock := star(t, 2)
	on, one := true, 1
	for _, e := range ends {
		if err := e.Configure(Config{PortSecurity: &on, MACLimit: &one}); err != nil {
			t.Fatal(err)
		}
	}
	f := splitFrames(broadcast(tcpFrame(1, 0, 100)), broadcast(tcpFrame(2, 0, 100)))
	ends[1].lanes[0].outbound(f.first, f.rest, f.partial, *clock)
	if n := len(ends[1].wire.sent); n != 2 {
		t.Errorf("%d frames of our own side left, want 2", n)
	}
	ends[1].pass(ends[0])
	if n := len(ends[0].stack.written); n != 1 {
		t.Errorf("%d frames of the peer came, want 1", n)
	}
}

func TestAnAddressIsPinnedToOnePeerOnly(t *testing.T) {
	ends, _ := star(t, 3)
	h, a, b := ends[0], ends[1], ends[2]
	one, none := []MAC{{2, 0, 0, 0, 0, 1}}, []MAC{}
	give := func(e *end, macs []MAC) PeerConfig { return PeerConfig{PublicKey: e.key.Public(), MACs: &macs} }
	for _, c := range []struct {
		name  string
		peers []PeerConfig
		ok    bool
	}{
		{"to one", []PeerConfig{give(a, one)}, true},
		{"to it again", []PeerConfig{give(a, one)}, true},
		{"to another", []PeerConfig{give(b, one)}, false},
		{"from one to the other", []PeerConfig{give(b, one), give(a, none)}, true},
		{"to both", []PeerConfig{give(b, one), give(a, one)}, false},
		{"when its peer is removed", []PeerConfig{{PublicKey: b.key.Public(), Remove: true}, give(a, one)}, true},
	} {
		if err := h.Configure(Config{Peers: c.peers}); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
