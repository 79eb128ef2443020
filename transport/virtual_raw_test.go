package transport_test

import (
	"net/netip"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
	"stunnel/transport/socket"
)

// raw is a peer made of package crypto and a bare socket. It sends exactly
// what a test tells it to, so it can be late, silent, confused or malicious.
type raw struct {
	w        *world
	name     string
	private  crypto.PrivateKey
	public   crypto.PublicKey
	outer    netip.AddrPort
	inner    netip.Addr
	inner6   netip.Addr
	host     *memnet.Host
	socket   *memnet.Socket
	target   *end
	identity *crypto.Identity
	remote   *crypto.Remote // the target, as this peer sees it
	jar      *crypto.CookieJar
	stamp    crypto.TAI64N
	index    crypto.Index
	psk      crypto.PresharedKey
}

// raw makes a peer number n that talks to target, which does not know it yet.
func (w *world) raw(name string, n int, target *end) *raw {
	w.t.Helper()
	private := crypto.NewPrivateKey()
	r := &raw{
		w: w, name: name, private: private, public: private.Public(),
		outer:  netip.AddrPortFrom(outerAddress(n), outerPort),
		inner:  netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
		inner6: netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(n)}),
		host:   w.network.Host(name, outerAddress(n), outerAddress6(n)),
		target: target, stamp: crypto.TAI64NFrom(time.Now()), index: crypto.Index(n) << 24,
	}
	var err error
	if r.identity, err = crypto.NewIdentity(private); err != nil {
		w.t.Fatal(err)
	}
	if r.remote, err = crypto.NewRemote(r.identity, target.public); err != nil {
		w.t.Fatal(err)
	}
	r.jar = crypto.NewCookieJar(r.remote)
	sockets, err := r.host.Listen(outerPort, 1, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	r.socket = sockets[0]
	return r
}

// known is a raw peer that its target knows.
func (w *world) known(name string, n int, target *end, adjust ...func(*transport.PeerConfig)) *raw {
	w.t.Helper()
	r := w.raw(name, n, target)
	target.meetKey(r.public, r.outer, r.inner, r.inner6, adjust...)
	return r
}

// sibling is another peer, with keys of its own, at the same address and port.
// What comes for it must be fished out of the wire's record.
func (r *raw) sibling(k int) *raw {
	r.w.t.Helper()
	s := *r
	s.private = crypto.NewPrivateKey()
	s.public = s.private.Public()
	s.index = r.index + crypto.Index(k+1)<<12
	var err error
	if s.identity, err = crypto.NewIdentity(s.private); err != nil {
		r.w.t.Fatal(err)
	}
	if s.remote, err = crypto.NewRemote(s.identity, r.target.public); err != nil {
		r.w.t.Fatal(err)
	}
	s.jar = crypto.NewCookieJar(s.remote)
	return &s
}

func (r *raw) nextIndex() crypto.Index {
	r.index++
	return r.index
}

// initiation makes the next initiation, stamped.
func (r *raw) initiation() ([]byte, *crypto.Initiator) {
	r.w.t.Helper()
	if now := crypto.TAI64NFrom(time.Now()); now.After(r.stamp) {
		r.stamp = now
	} else {
		r.stamp = r.stamp.Next()
	}
	msg, pending, err := crypto.Initiate(r.identity, r.remote, r.psk, r.nextIndex(), r.stamp)
	if err != nil {
		r.w.t.Fatal(err)
	}
	r.jar.Stamp(msg, r.w.now())
	return msg, pending
}

// send sends one datagram to the target.
func (r *raw) send(msg []byte) {
	r.w.t.Helper()
	if err := r.socket.Send(msg, max(1, len(msg)), socket.Path{Remote: r.target.outer}); err != nil {
		r.w.t.Fatal(err)
	}
}

// next waits up to d for a datagram of a kind; others are thrown away.
func (r *raw) next(d time.Duration, kind crypto.MessageType) ([]byte, bool) {
	for until := r.w.now() + d; ; {
		got, ok := r.socket.Next(until - r.w.now())
		if !ok {
			return nil, false
		}
		if k, ok := crypto.Type(got.Data); ok && k == kind {
			return got.Data, true
		}
	}
}

// shake does a whole handshake as initiator, without the confirmation that the
// first transport message is.
func (r *raw) shake() *crypto.Keypair {
	r.w.t.Helper()
	msg, pending := r.initiation()
	r.send(msg)
	response, ok := r.next(time.Second, crypto.TypeResponse)
	if !ok {
		r.w.t.Fatalf("%s did not respond to %s; drops: %v", r.target.name, r.name, r.target.tunnel.Status().Drops)
	}
	pair, err := pending.Finish(response, r.psk)
	if err != nil {
		r.w.t.Fatalf("%s's response does not open: %v", r.target.name, err)
	}
	return pair
}

// converse is shake with the confirmation.
func (r *raw) converse() *crypto.Keypair {
	r.w.t.Helper()
	pair := r.shake()
	r.send(r.seal(pair, nil))
	r.w.pass(4 * latency)
	return pair
}

// respond answers an initiation of the target's, stamped.
func (r *raw) respond(initiation []byte) ([]byte, *crypto.Keypair) {
	r.w.t.Helper()
	responder, err := crypto.Accept(r.identity, initiation, func(k crypto.PublicKey) *crypto.Remote {
		if k == r.target.public {
			return r.remote
		}
		return nil
	})
	if err != nil {
		r.w.t.Fatalf("%s's initiation does not open: %v", r.target.name, err)
	}
	msg, pair, err := responder.Respond(r.psk, r.nextIndex())
	if err != nil {
		r.w.t.Fatal(err)
	}
	r.jar.Stamp(msg, r.w.now())
	return msg, pair
}

// seal makes the next transport message of a plaintext.
func (r *raw) seal(pair *crypto.Keypair, plaintext []byte) []byte {
	r.w.t.Helper()
	counter, ok := pair.Reserve(1)
	if !ok {
		r.w.t.Fatal("no counters left")
	}
	return sealAt(pair, counter, plaintext)
}

// sealAt makes a transport message under any counter.
func sealAt(pair *crypto.Keypair, counter crypto.Counter, plaintext []byte) []byte {
	room := make([]byte, 0, len(plaintext)+crypto.TransportOverhead)
	cut := min(64, len(plaintext))
	return pair.Seal(room, counter, []crypto.Plaintext{{First: plaintext[:cut], Rest: plaintext[cut:]}})
}

// open opens one transport message; nil when it does not open.
func open(pair *crypto.Keypair, msg []byte) []byte {
	if k, ok := crypto.Type(msg); !ok || k != crypto.TypeTransport || crypto.Receiver(msg) != pair.LocalIndex() {
		return nil
	}
	plain := make([][]byte, 1)
	pair.Open([][]byte{append([]byte(nil), msg...)}, plain)
	return plain[0]
}
