package interop

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
)

const (
	outerPort = 51820
	mtu       = 1420
	latency   = 10 * time.Millisecond // one way
)

// world is one bubble: a network, two ends, and all that was sent.
type world struct {
	t       *testing.T
	network *memnet.Network
	begin   time.Time

	slowHandshakes bool // see see

	mu       sync.Mutex // guards what follows
	wire     []sighting
	stopping map[*func(sighting) bool]bool
}

// sighting is one datagram as its sender sent it.
type sighting struct {
	at       time.Duration // since the world began
	sender   string
	from, to netip.AddrPort
	kind     crypto.MessageType
	data     []byte
}

// pairing says what the two ends of a world are made of. a is the end that a
// test has begin; the seed is that of the network's accidents.
type pairing struct {
	a, b maker
	seed uint64
}

func (p pairing) String() string { return p.a.name + " to " + p.b.name }

var (
	mixed = []pairing{
		{a: stunnel, b: wireguardGo}, {a: wireguardGo, b: stunnel},
		{a: extended, b: wireguardGo}, {a: wireguardGo, b: extended},
	}
	reference = pairing{a: wireguardGo, b: wireguardGo}
)

// inMixedWorlds runs a test four times: with stunnel and with wireguard-go as a,
// and with a stunnel that tries wireguard-go for extensions.
// The ends know each other's addresses and allow each other's inner addresses.
func inMixedWorlds(t *testing.T, test func(w *world, a, b *end), adjust ...func(*peer)) {
	t.Helper()
	for _, p := range mixed {
		t.Run(p.String(), func(t *testing.T) { inWorld(t, p, test, adjust...) })
	}
}

func inWorld(t *testing.T, p pairing, test func(w *world, a, b *end), adjust ...func(*peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, network: memnet.New(p.seed), begin: time.Now(), stopping: make(map[*func(sighting) bool]bool)}
		w.network.Impair(memnet.Impairment{Delay: latency})
		w.network.Tap(w.see)
		a, b := w.end("a", 1, p.a), w.end("b", 2, p.b)
		a.meet(b, adjust...)
		b.meet(a, adjust...)
		test(w, a, b)
	})
}

// see is the network's tap: it records what is sent, and stops what a test
// wants stopped.
//
// With slowHandshakes, handshake messages take a little longer than data: a
// packet that makes its sender rekey leaves at the same moment as the
// initiation, and in wireguard-go two goroutines race for which of them counts
// as the first at the receiver, and so whether that owes a keepalive.
func (w *world) see(d *memnet.Transit) bool {
	seen := sighting{
		at: d.At.Sub(w.begin), sender: d.Sender.Name(), from: d.From, to: d.To, data: slices.Clone(d.Data),
	}
	kind, ok := crypto.Type(d.Data)
	if !ok {
		w.t.Errorf("at %v %s sent %d bytes of no type", seen.at, seen.sender, len(d.Data))
	}
	seen.kind = kind
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wire = append(w.wire, seen)
	for stopped := range w.stopping {
		if (*stopped)(seen) {
			return false
		}
	}
	if w.slowHandshakes && kind != crypto.TypeTransport {
		time.AfterFunc(latency+latency/2, func() { w.network.Inject(seen.from, seen.to, seen.data) })
		return false
	}
	return true
}

// now is the time since the world began.
func (w *world) now() time.Duration { return time.Since(w.begin) }

// settle lets everything happen that happens at this moment.
func (w *world) settle() { synctest.Wait() }

// pass lets d go by and then everything settle.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// sightings returns what an end ("": anybody) has sent since a moment, of the
// given kinds (none: any).
func (w *world) sightings(since time.Duration, sender string, kinds ...crypto.MessageType) []sighting {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []sighting
	for _, s := range w.wire {
		if s.at >= since && (sender == "" || s.sender == sender) && (len(kinds) == 0 || slices.Contains(kinds, s.kind)) {
			found = append(found, s)
		}
	}
	return found
}

// stop keeps datagrams of the given kinds (none: all) from an end ("": from
// anybody) off the wire until the returned function is called.
func (w *world) stop(sender string, kinds ...crypto.MessageType) (resume func()) {
	stopped := func(s sighting) bool {
		return (sender == "" || s.sender == sender) && (len(kinds) == 0 || slices.Contains(kinds, s.kind))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping[&stopped] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.stopping, &stopped)
	}
}

// story tells sightings one a line, for failures.
func story(all []sighting) string {
	var b strings.Builder
	for i, s := range all {
		if i == 12 {
			fmt.Fprintf(&b, "\n\t... and %d more", len(all)-i)
			break
		}
		fmt.Fprintf(&b, "\n\t%12v %s -> %v %v, %d bytes", s.at, s.sender, s.to, s.kind, len(s.data))
		switch s.kind {
		case crypto.TypeInitiation, crypto.TypeResponse:
			fmt.Fprintf(&b, ", with MAC2: %v", s.hasMAC2())
		case crypto.TypeTransport:
			fmt.Fprintf(&b, ", index %08x, counter %d", crypto.Receiver(s.data), crypto.MessageCounter(s.data))
		}
	}
	if len(all) == 0 {
		return " nothing"
	}
	return b.String()
}

// hasMAC2 is of initiations and responses.
func (s sighting) hasMAC2() bool {
	return slices.ContainsFunc(s.data[len(s.data)-16:], func(b byte) bool { return b != 0 })
}

// traffic has both ends send a packet each, every interval for d, and then
// checks that each got all of the other's, once and in order.
func (w *world) traffic(a, b *end, interval, d time.Duration) {
	w.t.Helper()
	begin := w.now()
	var fromA, fromB []string
	for until := begin + d; w.now() < until; {
		text := fmt.Sprintf("packet number %d, sent at %v of this world", len(fromA), w.now())
		a.say(b, "a's "+text)
		b.say(a, "b's "+text)
		fromA, fromB = append(fromA, "a's "+text), append(fromB, "b's "+text)
		w.pass(interval)
	}
	w.pass(2 * latency)
	w.mustBeSame("b", b.heard(), fromA)
	w.mustBeSame("a", a.heard(), fromB)
}

func (w *world) mustBeSame(name string, got, want []string) {
	w.t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			w.t.Fatalf("%s heard %d of %d; the first that is not right is %q, want %q", name, len(got), len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		w.t.Fatalf("%s heard %d packets of %d", name, len(got), len(want))
	}
}

func outerAddress(n int) netip.Addr  { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }
func outerAddress6(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n)) }

// numberedAddress is an address of nobody, for who floods.
func numberedAddress(n int) netip.AddrPort {
	a := [4]byte{198, 51, 0, 0}
	binary.BigEndian.PutUint16(a[2:], uint16(n))
	return netip.AddrPortFrom(netip.AddrFrom4(a), 1000)
}
