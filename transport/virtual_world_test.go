package transport_test

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

// The tests in the virtual_ files see Tunnels from outside: packets go in and
// come out of fake devices, datagrams cross test/memnet, and time is that of a
// testing/synctest bubble, where hours take milliseconds. What they ask for is
// the whitepaper's and, where that is silent, the kernel's behaviour.

const (
	outerPort = 51820
	innerPort = 7
	mtu       = 1420
	version   = "1.2.3-test"

	// latency is one way, on every link unless a test says otherwise.
	latency = 10 * time.Millisecond

	// slack is how late a timer may be seen at the far end of a link.
	slack = 100 * time.Millisecond

	// retryJitter is the most that is added to RekeyTimeout, so that two ends
	// that began at once do not go on so.
	retryJitter = 334 * time.Millisecond
)

// world is one bubble: a network, the ends on it, and all that was sent.
type world struct {
	t       *testing.T
	network *memnet.Network
	begin   time.Time

	// extensions is what ends are configured to speak with each other: plain
	// WireGuard, but in tests about extensions.
	extensions transport.Extensions
	log        *slog.Logger // of all ends; nil: none
	ethernet   bool         // ends that are made now are in tap mode

	mu          sync.Mutex // guards the rest
	wire        []sighting // read it through sightings
	ends        map[*memnet.Host]bool
	ciphertexts map[message][sha256.Size]byte
	handshakes  map[session][sha256.Size]byte
}

// sighting is one datagram as its sender sent it.
type sighting struct {
	at       time.Duration // since the world began
	sender   string
	from, to netip.AddrPort
	kind     crypto.MessageType
	data     []byte
}

type session struct {
	sender string
	index  crypto.Index
}

type message struct {
	session
	counter crypto.Counter
}

// inWorld runs a test in a bubble. Every datagram that an end sends in it is
// held to the rules that hold always: see world.inspect.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newWorld(t)) })
}

// newWorld is inWorld for a test that is in a bubble already.
func newWorld(t *testing.T) *world {
	w := &world{
		t: t, network: memnet.New(1), begin: time.Now(), extensions: transport.ExtensionsOff,
		ends:        make(map[*memnet.Host]bool),
		ciphertexts: make(map[message][sha256.Size]byte), handshakes: make(map[session][sha256.Size]byte),
	}
	w.network.Impair(memnet.Impairment{Delay: latency})
	w.network.Tap(func(d *memnet.Transit) bool {
		w.inspect(d)
		return true
	})
	return w
}

// inspect records a datagram and checks what must be true of each one that an
// end sends: the shape of its type, an index never given out before in a handshake message,
// and one ciphertext only under one key and counter, which would else give the
// keystream away.
func (w *world) inspect(d *memnet.Transit) {
	seen := sighting{
		at: d.At.Sub(w.begin), sender: d.Sender.Name(), from: d.From, to: d.To, data: slices.Clone(d.Data),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	kind, ok := crypto.Type(d.Data)
	if !ok && w.ends[d.Sender] {
		w.t.Errorf("at %v %s sent %d bytes of no type: %x", seen.at, seen.sender, len(d.Data), d.Data[:min(16, len(d.Data))])
		return
	}
	seen.kind = kind
	w.wire = append(w.wire, seen)
	if !w.ends[d.Sender] {
		return // a raw peer may do what it likes
	}
	switch kind {
	case crypto.TypeInitiation, crypto.TypeResponse:
		s := session{seen.sender, crypto.Sender(d.Data)}
		sum := sha256.Sum256(d.Data)
		if before, ok := w.handshakes[s]; ok && before != sum { // the same goes to several addresses
			w.t.Errorf("at %v %s used the index %08x a second time, in %v", seen.at, s.sender, s.index, kind)
		}
		w.handshakes[s] = sum
	case crypto.TypeTransport:
		m := message{session{seen.sender, crypto.Receiver(d.Data)}, crypto.MessageCounter(d.Data)}
		sum := sha256.Sum256(d.Data)
		if before, ok := w.ciphertexts[m]; ok && before != sum {
			w.t.Errorf("at %v %s sealed twice under index %08x, counter %d", seen.at, m.sender, m.index, m.counter)
		}
		w.ciphertexts[m] = sum
	}
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

// sightings returns what was sent since a time, of the given kinds (none: any),
// by sender ("": anybody).
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

// tap adds a tap that is removed when the test ends.
func (w *world) tap(see func(d *memnet.Transit, kind crypto.MessageType) bool) (remove func()) {
	return w.network.Tap(func(d *memnet.Transit) bool {
		kind, _ := crypto.Type(d.Data)
		return see(d, kind)
	})
}

// stop keeps datagrams of the given kinds (none: all) from an end off the wire
// until the returned function is called.
func (w *world) stop(from *end, kinds ...crypto.MessageType) (resume func()) {
	return w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
		return d.Sender != from.host || len(kinds) > 0 && !slices.Contains(kinds, kind)
	})
}

// story tells sightings one a line, for failures.
func story(all []sighting) string {
	var b strings.Builder
	for i, s := range all {
		if i == 40 {
			fmt.Fprintf(&b, "\n\t... and %d more", len(all)-i)
			break
		}
		fmt.Fprintf(&b, "\n\t%12v %s -> %v %v, %d bytes", s.at, s.sender, s.to, s.kind, len(s.data))
		if s.kind == crypto.TypeTransport {
			fmt.Fprintf(&b, ", index %08x, counter %d", crypto.Receiver(s.data), crypto.MessageCounter(s.data))
		}
	}
	if len(all) == 0 {
		return " nothing"
	}
	return b.String()
}

// couple makes two ends that know each other.
func (w *world) couple() (a, b *end) {
	w.t.Helper()
	a, b = w.end("a", 1), w.end("b", 2)
	a.meet(b)
	b.meet(a)
	return a, b
}

// acquainted makes two ends with a session that a began a moment ago, with
// nothing under way and no timer waiting but those of the session's age.
func (w *world) acquainted() (a, b *end) {
	w.t.Helper()
	a, b = w.couple()
	w.greet(a, b)
	return a, b
}

// greet has a begin a session with b.
func (w *world) greet(a, b *end) {
	w.t.Helper()
	a.say(b, "first")
	w.pass(4 * latency)
	b.mustHear("first")
	b.say(a, "second") // stops b's keepalive timer and a's new-handshake timer
	w.pass(4 * latency)
	a.mustHear("second")
	a.say(b, "third") // stops a's keepalive timer
	w.pass(4 * latency)
	b.mustHear("third")
	w.pass(11 * time.Second) // b's keepalive for "third"
}

// chat has both ends send a numbered packet each, every interval for d, and
// counts what arrived. No packet may arrive twice.
func (w *world) chat(a, b *end, interval, d time.Duration) (sent, atA, atB int) {
	w.t.Helper()
	type listener struct {
		*end
		seen  map[string]bool
		count *int
	}
	listeners := []listener{{a, map[string]bool{}, &atA}, {b, map[string]bool{}, &atB}}
	collect := func() {
		w.t.Helper()
		for _, l := range listeners {
			for _, text := range l.heard() {
				if l.seen[text] {
					w.t.Errorf("at %v %s was given %q twice", w.now(), l.name, text)
				}
				l.seen[text] = true
				*l.count++
			}
		}
	}
	for until := w.now() + d; w.now() < until; sent++ {
		text := fmt.Sprintf("%v number %d", w.begin.Add(w.now()).UnixNano(), sent)
		a.say(b, text)
		b.say(a, text)
		w.pass(interval)
		collect()
	}
	w.pass(15 * time.Second)
	collect()
	return sent, atA, atB
}
