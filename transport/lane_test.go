package transport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport/socket"
)

// wire is a Socket that keeps what is sent; recycle reuses the memory.
type wire struct {
	sent    [][]byte
	sizes   []int // the size of each Send
	recycle bool
	err     error
	whole   bool // of the last Send
}

func (w *wire) Receive() ([]socket.Datagram, error) { panic("the test calls inbound itself") }
func (w *wire) SetMark(uint32) error                { return nil }
func (w *wire) Offer(datagram []byte, to socket.Path) bool {
	return w.Send(datagram, len(datagram), to) == nil
}
func (w *wire) Port() uint16 { return 51820 }
func (w *wire) Close() error { return nil }
func (w *wire) Send(train []byte, size int, to socket.Path) error {
	w.whole = to.Whole
	w.sizes = append(w.sizes, size)
	for len(train) > 0 {
		n := min(size, len(train))
		if w.recycle && len(w.sent) < cap(w.sent) {
			w.sent = w.sent[:len(w.sent)+1]
			last := &w.sent[len(w.sent)-1]
			*last = append((*last)[:0], train[:n]...)
		} else {
			w.sent = append(w.sent, bytes.Clone(train[:n]))
		}
		train = train[n:]
	}
	return w.err
}

// stack is a Queue that keeps what is written.
type stack struct {
	written [][]byte
	partial []bool // of written
}

func (q *stack) Read() ([][]byte, [][]byte, []bool, error)       { panic("the test calls outbound itself") }
func (q *stack) Look(func(first, rest [][]byte, partial []bool)) {}
func (q *stack) Close() error                                    { return nil }
func (q *stack) Write(packets [][]byte, partial []bool) error {
	if partial == nil {
		partial = make([]bool, len(packets))
	}
	q.written, q.partial = append(q.written, packets...), append(q.partial, partial...)
	return nil
}

// Complete writes no sum, but what a test can find.
func (q *stack) Complete(first, _ []byte) { copy(first[26:], completed) }

var completed = []byte{0xc0, 0xde}

// end is one tunnel whose goroutines do not run: the test is all of them.
type end struct {
	*Tunnel
	key   crypto.PrivateKey
	wire  *wire
	stack *stack
	addr  netip.AddrPort
}

func newEnd(t testing.TB, clock *time.Duration, addr string) *end {
	return newEndIn(t, clock, addr, false)
}

// newEthernetEnd is one in tap mode.
func newEthernetEnd(t testing.TB, clock *time.Duration, addr string) *end {
	return newEndIn(t, clock, addr, true)
}

func newEndIn(t testing.TB, clock *time.Duration, addr string, ethernet bool) *end {
	e := &end{key: crypto.NewPrivateKey(), wire: &wire{}, stack: &stack{}, addr: netip.MustParseAddrPort(addr)}
	e.Tunnel = New(Options{
		Queues: []Queue{e.stack},
		Listen: func(uint16, int, uint32) ([]Socket, error) { return []Socket{e.wire}, nil },
		MTU:    1420, Ethernet: ethernet,
		Now: func() time.Duration { return *clock },
	})
	if err := e.Configure(Config{PrivateKey: &e.key}); err != nil {
		t.Fatal(err)
	}
	if err := e.SetUp(true); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *end) add(t testing.TB, other *end, prefix string) *peer {
	err := e.Configure(Config{Peers: []PeerConfig{{
		PublicKey: other.key.Public(), Endpoint: &other.addr,
		AllowedIPs: []AllowedIPChange{{Prefix: netip.MustParsePrefix(prefix)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return e.peers.lookup(other.key.Public())
}

// pass carries what e has sent to other, and does other's handshake work.
func (e *end) pass(other *end) {
	burst := make([]socket.Datagram, len(e.wire.sent))
	for i, msg := range e.wire.sent {
		burst[i] = socket.Datagram{Data: msg, Path: socket.Path{Remote: e.addr}}
	}
	e.wire.sent, e.wire.sizes = nil, nil
	other.lanes[0].in.inbound(burst, other.now())
	for len(other.handshakes) > 0 {
		other.handshake(<-other.handshakes)
	}
}

// shook are two ends with a session that both have confirmed.
func shook(t testing.TB) (a, b *end, clock *time.Duration) {
	clock = new(time.Duration)
	*clock = time.Hour
	a, b = newEnd(t, clock, "192.0.2.1:51820"), newEnd(t, clock, "192.0.2.2:51820")
	toB := a.add(t, b, "10.0.0.2/32")
	toA := b.add(t, a, "10.0.0.1/32")
	toB.initiate(*clock)
	a.pass(b)
	b.pass(a)
	a.pass(b)
	if toB.usable(*clock) == nil || toA.usable(*clock) == nil {
		t.Fatal("no session after the handshake")
	}
	return a, b, clock
}

// packet is an IPv4 packet of size bytes.
func packet(source, destination string, size int) []byte {
	p := make([]byte, size)
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[2:], uint16(size))
	p[9] = 17
	copy(p[12:], netip.MustParseAddr(source).AsSlice())
	copy(p[16:], netip.MustParseAddr(destination).AsSlice())
	for i := ipv4HeaderSize; i < size; i++ {
		p[i] = byte(i * 7)
	}
	return p
}

// split is how a queue gives packets.
func split(packets ...[]byte) (first, rest [][]byte, partial []bool) {
	for _, p := range packets {
		n := min(64, len(p))
		first, rest = append(first, p[:n]), append(rest, p[n:])
	}
	return first, rest, make([]bool, len(packets))
}

func TestABurstArrivesAsItWasSent(t *testing.T) {
	a, b, clock := shook(t)
	var packets [][]byte
	for _, size := range []int{20, 63, 64, 65, 100, 1419, 1420, 1420, 1420, 700, 700, 1420, 9000} {
		packets = append(packets, packet("10.0.0.1", "10.0.0.2", size))
	}
	first, rest, partial := split(packets...)
	a.lanes[0].outbound(first, rest, partial, *clock)
	for _, size := range a.wire.sizes {
		if size > 16+1424+16 && size != 9000+32 {
			t.Errorf("a message of %d bytes", size)
		}
	}
	a.pass(b)
	if !slices.EqualFunc(b.stack.written, packets, bytes.Equal) {
		t.Errorf("%d packets arrived, or differ; %d were sent; drops %v", len(b.stack.written), len(packets), b.Status().Peers[0].Drops)
	}
}

func TestEqualPacketsLeaveAsOneTrain(t *testing.T) {
	a, _, clock := shook(t)
	big := packet("10.0.0.1", "10.0.0.2", 1420)
	var packets [][]byte
	for range 40 {
		packets = append(packets, big)
	}
	packets = append(packets, big[:0:0])
	packets[40] = packet("10.0.0.1", "10.0.0.2", 500) // a shorter one may end a train
	first, rest, partial := split(packets...)
	a.lanes[0].outbound(first, rest, partial, *clock)
	if len(a.wire.sizes) != 1 || len(a.wire.sent) != 41 {
		t.Errorf("%d sends of %d messages, want 1 of 41", len(a.wire.sizes), len(a.wire.sent))
	}
	small := packet("10.0.0.1", "10.0.0.2", 64)
	packets = packets[:0]
	for range 100 {
		packets = append(packets, small)
	}
	first, rest, partial = split(packets...)
	a.wire.sent, a.wire.sizes = nil, nil
	a.lanes[0].outbound(first, rest, partial, *clock)
	if len(a.wire.sizes) != 2 || len(a.wire.sent) != 100 {
		t.Errorf("%d sends of %d messages, want 2 (64 and 36) of 100", len(a.wire.sizes), len(a.wire.sent))
	}
}

// Every mask of good, forged, replayed and odd messages in one burst gives
// what opening them one by one would.
func TestABurstIsJudgedMessageByMessage(t *testing.T) {
	a, b, clock := shook(t)
	const n = 64
	var packets [][]byte
	for i := range n {
		p := packet("10.0.0.1", "10.0.0.2", 200)
		p[30] = byte(i)
		packets = append(packets, p)
	}
	wrongSource := packet("10.0.0.9", "10.0.0.2", 200)
	liar := packet("10.0.0.1", "10.0.0.2", 200)
	binary.BigEndian.PutUint16(liar[2:], 5000)
	for round := range 50 {
		sending := slices.Clone(packets)
		var want [][]byte
		for i := range sending {
			switch (i*31 + round*17) % 7 {
			case 3:
				sending[i] = wrongSource
			case 5:
				sending[i] = liar
			}
		}
		first, rest, partial := split(sending...)
		a.lanes[0].outbound(first, rest, partial, *clock)
		var burst []socket.Datagram
		for i, msg := range a.wire.sent {
			msg = bytes.Clone(msg)
			forged := (i*13+round*5)%6 == 2
			if forged {
				msg[16+(i*round)%(len(msg)-16)] ^= 1 << (i % 8)
			}
			burst = append(burst, socket.Datagram{Data: msg, Path: socket.Path{Remote: a.addr}})
			if (i+round)%5 == 0 { // a copy right behind, forged or not
				burst = append(burst, socket.Datagram{Data: bytes.Clone(msg), Path: socket.Path{Remote: a.addr}})
			}
			if !forged && &sending[i][0] == &packets[i][0] {
				want = append(want, packets[i])
			}
		}
		a.wire.sent = nil
		b.stack.written = nil
		b.lanes[0].in.inbound(burst, *clock)
		if !slices.EqualFunc(b.stack.written, want, bytes.Equal) {
			t.Fatalf("round %d: %d packets delivered, want %d", round, len(b.stack.written), len(want))
		}
	}
}

func TestNoAllocationPerPacket(t *testing.T) {
	a, b, clock := shook(t)
	var packets [][]byte
	for range 46 {
		packets = append(packets, packet("10.0.0.1", "10.0.0.2", 1420))
	}
	first, rest, partial := split(packets...)
	a.wire.recycle = true
	a.wire.sent = make([][]byte, 0, 64)
	a.wire.sizes = make([]int, 0, 64)
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

func TestPaddingNeverExceedsTheMTU(t *testing.T) {
	for _, c := range []struct{ length, mtu, want int }{
		{0, 1420, 0}, {1, 1420, 15}, {16, 1420, 0}, {17, 1420, 15}, {1408, 1420, 0}, {1409, 1420, 0}, {1420, 1420, 0},
		{1280, 1300, 0}, {1279, 1300, 1}, {1299, 1300, 0}, {1421, 1420, 15}, {100, 0, 12},
	} {
		if got := padding(c.length, c.mtu); got != c.want {
			t.Errorf("padding(%d, %d) = %d, want %d", c.length, c.mtu, got, c.want)
		}
	}
}

func TestKeysOfARetiredSessionAreWipedByTheLastUser(t *testing.T) {
	a, b, _ := shook(t)
	s := a.peers.lookup(b.key.Public()).sessions.current.Load()
	if !s.acquire() {
		t.Fatal("a live session cannot be acquired")
	}
	s.retire()
	if s.wiped.Load() {
		t.Error("wiped while in use")
	}
	if s.acquire() {
		t.Error("a retired session was acquired")
	}
	s.release()
	if !s.wiped.Load() {
		t.Error("not wiped after the last use")
	}
}

func TestStagedPacketsAreBoundedInNumberAndBytes(t *testing.T) {
	var s staging
	for range 200 {
		first, rest, _ := split(packet("10.0.0.1", "10.0.0.2", 100))
		s.add(first, rest)
	}
	if n := s.n.Load(); n != maxStagedPackets {
		t.Errorf("%d packets staged, want %d", n, maxStagedPackets)
	}
	s.clear()
	dropped := 0
	for range 10 {
		first, rest, _ := split(packet("10.0.0.1", "10.0.0.2", 60000))
		dropped += s.add(first, rest)
	}
	if s.bytes > maxStagedBytes || dropped != 10-maxStagedBytes/60000 {
		t.Errorf("%d bytes staged, %d packets dropped", s.bytes, dropped)
	}
}

func BenchmarkOutbound(b *testing.B) {
	a, _, clock := shook(b)
	var packets [][]byte
	for range 46 {
		packets = append(packets, packet("10.0.0.1", "10.0.0.2", 1420))
	}
	first, rest, partial := split(packets...)
	a.wire.recycle = true
	a.wire.sent, a.wire.sizes = make([][]byte, 0, 64), make([]int, 0, 64)
	b.SetBytes(46 * 1420)
	b.ReportAllocs()
	for b.Loop() {
		a.wire.sent, a.wire.sizes = a.wire.sent[:0], a.wire.sizes[:0]
		a.lanes[0].outbound(first, rest, partial, *clock)
	}
}
