package interop

import (
	"net/netip"
	"slices"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/test/memnet/packet"
)

// end is one end of a tunnel with its host and its device, whoever made it.
type end struct {
	w              *world
	name           string
	private        crypto.PrivateKey
	public         crypto.PublicKey
	outer, outer6  netip.AddrPort
	inner, inner6  netip.Addr
	host           *memnet.Host
	maker          maker
	peers          []peer // as met, for a restart
	device         *memnet.Device
	implementation implementation
}

// maker starts an implementation on an end's host and device, with the end's
// key, listening on outerPort and up.
type maker struct {
	name  string
	start func(e *end) implementation
}

// implementation is what the tests need of stunnel's and of wireguard-go's end.
type implementation interface {
	configure(p peer) // adds the peer, or changes it
	state(key crypto.PublicKey) state
	stop() // returns when every goroutine has been told to end
}

// peer is what an end is told of another. The zero PSK is none.
type peer struct {
	key       crypto.PublicKey
	endpoint  netip.AddrPort // zero: not told
	psk       crypto.PresharedKey
	keepalive time.Duration
	allowed   []netip.Prefix
}

// state is what an end tells of another.
type state struct {
	endpoint  netip.AddrPort
	handshake time.Time // zero: never
	tx, rx    uint64
	keepalive time.Duration
}

// end starts an end number n: 192.0.2.n and 2001:db8::n outside, 10.0.0.n and
// fd00::n inside. It has no peers and ends with the test.
func (w *world) end(name string, n int, m maker) *end {
	w.t.Helper()
	private := crypto.NewPrivateKey()
	e := &end{
		w: w, name: name, private: private, public: private.Public(), maker: m,
		outer:  netip.AddrPortFrom(outerAddress(n), outerPort),
		outer6: netip.AddrPortFrom(outerAddress6(n), outerPort),
		inner:  netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
		inner6: netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(n)}),
		host:   w.network.Host(name, outerAddress(n), outerAddress6(n)),
	}
	e.start()
	w.t.Cleanup(func() { e.implementation.stop() })
	return e
}

func (e *end) start() {
	e.w.t.Helper()
	e.device = memnet.NewDevice(1)
	e.implementation = e.maker.start(e)
	for _, p := range e.peers {
		e.implementation.configure(p)
	}
	e.w.settle()
}

// restart is a crash and a new process: same key and peers, nothing else.
func (e *end) restart() {
	e.w.t.Helper()
	e.implementation.stop()
	e.w.settle()
	e.start()
}

// meet tells e of other.
func (e *end) meet(other *end, adjust ...func(*peer)) {
	e.w.t.Helper()
	p := peer{key: other.public, endpoint: other.outer, allowed: []netip.Prefix{
		netip.PrefixFrom(other.inner, 32), netip.PrefixFrom(other.inner6, 128),
	}}
	for _, a := range adjust {
		a(&p)
	}
	e.peers = append(e.peers, p)
	e.implementation.configure(p)
	e.w.settle()
}

// change tells e something new of a peer that it has met.
func (e *end) change(other *end, adjust ...func(*peer)) {
	e.w.t.Helper()
	i := slices.IndexFunc(e.peers, func(p peer) bool { return p.key == other.public })
	for _, a := range adjust {
		a(&e.peers[i])
	}
	e.implementation.configure(e.peers[i])
	e.w.settle()
}

func (e *end) state(other *end) state { return e.implementation.state(other.public) }

// move gives the end's host other addresses, number n.
func (e *end) move(n int) {
	e.host.SetAddresses(outerAddress(n), outerAddress6(n))
	e.outer = netip.AddrPortFrom(outerAddress(n), outerPort)
	e.outer6 = netip.AddrPortFrom(outerAddress6(n), outerPort)
}

func to(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 7) }

// say gives e's device a packet for other with a text in it.
func (e *end) say(other *end, text string) {
	e.device.Inject(packet.UDP(to(e.inner), to(other.inner), []byte(text)))
}

// sayPartial is say by a stack that leaves the checksum to its device.
func (e *end) sayPartial(other *end, text string) {
	e.device.InjectPartial(packet.UDP(to(e.inner), to(other.inner), []byte(text)))
}

// say6 does so over IPv6.
func (e *end) say6(other *end, text string) {
	e.device.Inject(packet.UDP(to(e.inner6), to(other.inner6), []byte(text)))
}

// heard returns the texts that came out of e's device since last asked; every
// packet must be whole and unpadded.
func (e *end) heard() []string {
	e.w.t.Helper()
	e.w.settle()
	var texts []string
	for _, b := range e.device.Drain() {
		p, err := packet.Parse(b)
		if err != nil {
			e.w.t.Errorf("%s was given a broken packet: %v: %x", e.name, err, b[:min(len(b), 60)])
			continue
		}
		texts = append(texts, string(p.Payload))
	}
	return texts
}

// mustHear ends the test unless exactly these texts came.
func (e *end) mustHear(want ...string) {
	e.w.t.Helper()
	if got := e.heard(); !slices.Equal(got, want) {
		e.w.t.Fatalf("at %v %s (%s) heard %q, want %q; on the wire:%s", e.w.now(), e.name, e.maker.name, got, want,
			story(e.w.sightings(0, "")))
	}
}

// greet has a begin a session with b, and says something both ways.
func (w *world) greet(a, b *end) {
	w.t.Helper()
	a.say(b, "hello b")
	w.pass(4 * latency)
	b.mustHear("hello b")
	b.say6(a, "hello a, over IPv6")
	w.pass(4 * latency)
	a.mustHear("hello a, over IPv6")
}
