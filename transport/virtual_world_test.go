package transport_test

import (
	"context"
	"crypto/sha256"
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
	"stunnel/test/memnet/packet"
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

	mu          sync.Mutex // guards the rest
	wire        []sighting // read it through sightings
	ends        map[*memnet.Host]bool
	ciphertexts map[message][sha256.Size]byte
	sessions    map[session]bool
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
		t: t, network: memnet.New(1), begin: time.Now(),
		ends:        make(map[*memnet.Host]bool),
		ciphertexts: make(map[message][sha256.Size]byte), sessions: make(map[session]bool),
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
		if w.sessions[s] {
			w.t.Errorf("at %v %s used the index %08x a second time, in %v", seen.at, s.sender, s.index, kind)
		}
		w.sessions[s] = true
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

// end is one Tunnel with its host and device.
type end struct {
	w       *world
	name    string
	private crypto.PrivateKey
	public  crypto.PublicKey
	outer   netip.AddrPort
	inner   netip.Addr
	inner6  netip.Addr
	host    *memnet.Host
	peers   []transport.PeerConfig // as configured by meet, for a restart

	device *memnet.Device
	tunnel *transport.Tunnel
	cancel context.CancelFunc
	ended  chan error
}

func outerAddress(n int) netip.Addr  { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }
func outerAddress6(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n)) }

// end starts a tunnel number n: 192.0.2.n and 2001:db8::n outside, 10.0.0.n
// and fd00::n inside. It has no peers, is up, and ends with the test.
func (w *world) end(name string, n int) *end {
	w.t.Helper()
	private := crypto.NewPrivateKey()
	e := &end{
		w: w, name: name, private: private, public: private.Public(),
		outer:  netip.AddrPortFrom(outerAddress(n), outerPort),
		inner:  netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
		inner6: netip.MustParseAddr(fmt.Sprintf("fd00::%d", n)),
		host:   w.network.Host(name, outerAddress(n), outerAddress6(n)),
	}
	w.mu.Lock()
	w.ends[e.host] = true
	w.mu.Unlock()
	e.start(1)
	w.t.Cleanup(e.shutDown)
	return e
}

// start makes the end's Tunnel with n lanes and brings it up.
func (e *end) start(lanes int) {
	e.w.t.Helper()
	e.device = memnet.NewDevice(lanes)
	var queues []transport.Queue
	for _, q := range e.device.Queues() {
		queues = append(queues, q)
	}
	e.tunnel = transport.New(transport.Options{Queues: queues, Listen: e.listen, MTU: mtu})
	port := uint16(outerPort)
	e.configure(transport.Config{PrivateKey: &e.private, ListenPort: &port, Peers: e.peers})
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	ended := make(chan error, 1)
	e.ended = ended
	go func(t *transport.Tunnel) { ended <- t.Run(ctx) }(e.tunnel)
	if err := e.tunnel.SetUp(true); err != nil {
		e.w.t.Fatalf("%s: SetUp: %v", e.name, err)
	}
	e.w.settle()
}

func (e *end) listen(port uint16, n int, mark uint32) ([]transport.Socket, error) {
	opened, err := e.host.Listen(port, n, mark)
	if err != nil {
		return nil, err
	}
	var sockets []transport.Socket
	for _, s := range opened {
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// shutDown ends the Tunnel and checks that it went quietly. A second one does
// nothing.
func (e *end) shutDown() {
	if e.cancel == nil {
		return
	}
	e.cancel()
	e.cancel = nil
	select {
	case err := <-e.ended:
		if err != nil {
			e.w.t.Errorf("%s: Run ended with %v", e.name, err)
		}
	case <-time.After(time.Minute):
		e.w.t.Errorf("%s: Run has not ended a minute after its context", e.name)
	}
	for i, q := range e.device.Queues() {
		if !q.Closed() {
			e.w.t.Errorf("%s: queue %d was left open", e.name, i)
		}
	}
}

// restart is a crash and a new process: same keys and peers, nothing else.
func (e *end) restart() {
	e.w.t.Helper()
	e.shutDown()
	e.start(1)
}

func (e *end) configure(c transport.Config) {
	e.w.t.Helper()
	if err := e.tunnel.Configure(c); err != nil {
		e.w.t.Fatalf("%s: Configure: %v", e.name, err)
	}
}

// change configures one peer.
func (e *end) change(c transport.PeerConfig) {
	e.w.t.Helper()
	e.configure(transport.Config{Peers: []transport.PeerConfig{c}})
}

// meet adds other as a peer, with its endpoint and its inner addresses, and
// with what the adjustments say.
func (e *end) meet(other *end, adjust ...func(*transport.PeerConfig)) {
	e.w.t.Helper()
	e.meetKey(other.public, other.outer, other.inner, other.inner6, adjust...)
}

func (e *end) meetKey(key crypto.PublicKey, at netip.AddrPort, inner, inner6 netip.Addr, adjust ...func(*transport.PeerConfig)) {
	e.w.t.Helper()
	c := transport.PeerConfig{PublicKey: key, Endpoint: &at, AllowedIPs: []transport.AllowedIPChange{
		{Prefix: netip.PrefixFrom(inner, 32)}, {Prefix: netip.PrefixFrom(inner6, 128)},
	}}
	for _, a := range adjust {
		a(&c)
	}
	e.peers = append(e.peers, c)
	e.change(c)
}

func withKeepalive(d time.Duration) func(*transport.PeerConfig) {
	return func(c *transport.PeerConfig) { c.PersistentKeepalive = &d }
}

func withPSK(k crypto.PresharedKey) func(*transport.PeerConfig) {
	return func(c *transport.PeerConfig) { c.PresharedKey = &k }
}

func withoutEndpoint(c *transport.PeerConfig) { c.Endpoint = nil }

func withAllowed(prefixes ...string) func(*transport.PeerConfig) {
	return func(c *transport.PeerConfig) {
		c.AllowedIPs = nil
		for _, p := range prefixes {
			c.AllowedIPs = append(c.AllowedIPs, transport.AllowedIPChange{Prefix: netip.MustParsePrefix(p)})
		}
	}
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

func to(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, innerPort) }

// say gives e's device a packet for other with a text in it.
func (e *end) say(other *end, text string) {
	e.device.Inject(packet.UDP(to(e.inner), to(other.inner), []byte(text)))
}

func (e *end) say6(other *end, text string) {
	e.device.Inject(packet.UDP(to(e.inner6), to(other.inner6), []byte(text)))
}

// heard returns the texts that came out of e's device since last asked. Every
// packet must be whole and unpadded. ICMP messages are told as "icmp T/C".
func (e *end) heard() []string {
	e.w.t.Helper()
	e.w.settle()
	var texts []string
	for _, b := range e.device.Drain() {
		p, err := packet.Parse(b)
		switch {
		case err != nil:
			e.w.t.Errorf("%s was given a broken packet: %v: %x", e.name, err, b[:min(len(b), 60)])
		case p.ICMP():
			texts = append(texts, fmt.Sprintf("icmp %d/%d", p.Type, p.Code))
		default:
			texts = append(texts, string(p.Payload))
		}
	}
	return texts
}

// mustHear fails the test at once unless exactly these texts came.
func (e *end) mustHear(want ...string) {
	e.w.t.Helper()
	if got := e.heard(); !slices.Equal(got, want) {
		e.w.t.Fatalf("at %v %s heard %q, want %q; on the wire:%s\ndrops: %v", e.w.now(), e.name, got, want,
			story(e.w.sightings(0, "")), e.tunnel.Status().Drops)
	}
}

// peer returns e's status of other.
func (e *end) peer(other crypto.PublicKey) transport.PeerStatus {
	e.w.t.Helper()
	for _, p := range e.tunnel.Status().Peers {
		if p.PublicKey == other {
			return p
		}
	}
	e.w.t.Fatalf("%s does not know the peer %v", e.name, other)
	return transport.PeerStatus{}
}

// endpoint returns where e sends packets for other.
func (e *end) endpoint(other *end) netip.AddrPort {
	e.w.t.Helper()
	return e.peer(other.public).Endpoint
}

// drops sums e's dropped packets, those of a peer and those of none.
func (e *end) drops() (sum uint64) {
	s := e.tunnel.Status()
	for _, n := range s.Drops {
		sum += n
	}
	for _, p := range s.Peers {
		sum += total(p.Drops)
	}
	return sum
}

func total(drops map[string]uint64) (sum uint64) {
	for _, n := range drops {
		sum += n
	}
	return sum
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
