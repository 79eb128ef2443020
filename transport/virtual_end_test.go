package transport_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
	"stunnel/transport/socket"
)

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

	portTCP  uint16 // on which it listens
	ethernet bool   // tap mode
	device   *memnet.Device
	tunnel   *transport.Tunnel
	cancel   context.CancelFunc
	ended    chan error

	way    atomic.Pointer[func(remote netip.Addr, mark uint32) int] // Options.Way; nil: none is known
	fits   []int                                                    // what Options.Fits was told; guarded by w.mu
	missed atomic.Int32                                             // times that it was told of a peer which does not answer
}

func outerAddress(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }

func outerAddress6(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n)) }

// end starts a tunnel number n: 192.0.2.n and 2001:db8::n outside, 10.0.0.n
// and fd00::n inside. It has no peers, is up, and ends with the test.
func (w *world) end(name string, n int) *end {
	w.t.Helper()
	private := crypto.NewPrivateKey()
	e := &end{
		w: w, name: name, private: private, public: private.Public(), ethernet: w.ethernet,
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

// wayTo is what the host's routes say; nothing unless a test sets way.
func (e *end) wayTo(remote netip.Addr, mark uint32) int {
	if way := e.way.Load(); way != nil {
		return (*way)(remote, mark)
	}
	return 0
}

// start makes the end's Tunnel with n lanes and brings it up.
func (e *end) start(lanes int) {
	e.w.t.Helper()
	e.device = memnet.NewDevice(lanes)
	if e.ethernet {
		e.device = memnet.NewEthernet(lanes)
	}
	var queues []transport.Queue
	for _, q := range e.device.Queues() {
		queues = append(queues, q)
	}
	e.tunnel = transport.New(transport.Options{
		Queues: queues, Listen: e.listen, ListenTCP: e.listenTCP, Dial: e.dial,
		Ethernet: e.ethernet, MTU: mtu, Version: version, Log: e.w.log, Fits: e.fit, Way: e.wayTo,
		Unanswered: func(crypto.PublicKey) { e.missed.Add(1) },
	})
	port := uint16(outerPort)
	e.configure(transport.Config{PrivateKey: &e.private, ListenPort: &port, ListenTCP: &e.portTCP, Peers: e.peers})
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

func (e *end) listenTCP(port uint16, mark uint32) (transport.Listener, error) {
	return e.host.ListenTCP(port, mark)
}

func (e *end) dial(ctx context.Context, remote netip.AddrPort, mark uint32) (socket.Stream, error) {
	return e.host.Dial(ctx, remote, mark)
}

// listensTCP opens its TCP port, the same number as the UDP one.
func (e *end) listensTCP() {
	e.w.t.Helper()
	e.portTCP = outerPort
	e.configure(transport.Config{ListenTCP: &e.portTCP})
}

func (e *end) fit(mtu int) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.fits = append(e.fits, mtu)
}

// fitted is what Options.Fits was told since last asked.
func (e *end) fitted() (fits []int) {
	e.w.settle()
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	fits, e.fits = e.fits, nil
	return fits
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
	status := e.tunnel.Status()
	for _, p := range append(status.Peers, transport.PeerStatus{Drops: status.Drops}) {
		for reason, n := range p.Drops {
			if strings.Trim(reason, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || reason == "" || n == 0 {
				e.w.t.Errorf("%s counts %d drops as %q", e.name, n, reason)
			}
		}
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
	extensions := e.w.extensions
	c := transport.PeerConfig{PublicKey: key, Endpoint: &at, Extensions: &extensions, AllowedIPs: []transport.AllowedIPChange{
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

func withTransport(t transport.Transport) func(*transport.PeerConfig) {
	return func(c *transport.PeerConfig) { c.Transport = &t }
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

func to(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, innerPort) }

// say gives e's device a packet for other with a text in it.
func (e *end) say(other *end, text string) {
	e.device.Inject(packet.UDP(to(e.inner), to(other.inner), []byte(text)))
}

// sayPartial is say by a stack that leaves the checksum to its device.
func (e *end) sayPartial(other *end, text string) {
	e.device.InjectPartial(packet.UDP(to(e.inner), to(other.inner), []byte(text)))
}

func (e *end) say6(other *end, text string) {
	e.device.Inject(packet.UDP(to(e.inner6), to(other.inner6), []byte(text)))
}

// heard returns the texts that came out of e's device since last asked. Every
// packet must be whole and unpadded. ICMP messages are told as "icmp T/C",
// with what fits if they are about that.
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
			text := fmt.Sprintf("icmp %d/%d", p.Type, p.Code)
			if p.Type == 3 && p.Code == 4 || p.Type == 2 {
				text += fmt.Sprint(" mtu ", binary.BigEndian.Uint16(p.Payload[6:]))
			}
			texts = append(texts, text)
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
