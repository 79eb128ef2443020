package transport_test

import (
	"net/netip"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

// elsewhere is an address from which nobody has sent yet.
var elsewhere = netip.MustParseAddrPort("203.0.113.7:4242")

// divert makes datagrams of one kind and end come from elsewhere.
func (w *world) divert(from *end, kind crypto.MessageType) (stop func()) {
	return w.tap(func(d *memnet.Transit, k crypto.MessageType) bool {
		if d.Sender == from.host && k == kind {
			d.From = elsewhere
		}
		return true
	})
}

func TestTheEndpointFollowsAuthenticatedPackets(t *testing.T) {
	t.Run("data", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.acquainted()
			stop := w.divert(a, crypto.TypeTransport)
			a.say(b, "from elsewhere")
			w.pass(2 * latency)
			b.mustHear("from elsewhere")
			if at := b.endpoint(a); at != elsewhere {
				t.Errorf("the endpoint is %v", at)
			}
			at := w.now()
			b.say(a, "reply")
			if sent := w.sightings(at, "b"); len(sent) != 1 || sent[0].to != elsewhere {
				t.Errorf("sent:%s", story(sent))
			}
			stop()
			a.say(b, "back again")
			w.pass(2 * latency)
			if at := b.endpoint(a); at != a.outer {
				t.Errorf("after it came back the endpoint is %v", at)
			}
		})
	})
	t.Run("keepalive", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.acquainted()
			w.divert(a, crypto.TypeTransport)
			a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(time.Second)})
			w.pass(4 * latency)
			if at := b.endpoint(a); at != elsewhere {
				t.Errorf("the endpoint is %v", at)
			}
		})
	})
	t.Run("initiation", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.couple()
			w.divert(a, crypto.TypeInitiation)
			a.say(b, "x")
			w.pass(2 * latency)
			if at := b.endpoint(a); at != elsewhere {
				t.Errorf("the endpoint is %v", at)
			}
			if sent := w.sightings(0, "b"); len(sent) != 1 || sent[0].to != elsewhere {
				t.Errorf("the response must go where the initiation came from; sent:%s", story(sent))
			}
		})
	})
	t.Run("response", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.couple()
			w.divert(b, crypto.TypeResponse)
			a.say(b, "x")
			w.pass(4 * latency)
			if at := a.endpoint(b); at != elsewhere {
				t.Errorf("the endpoint is %v", at)
			}
		})
	})
}

func TestAMovingHostAndARebindingNATAreFollowed(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b)
		b.meet(a, withoutEndpoint)
		w.greet(a, b)
		for k := 3; k < 10; k++ {
			a.host.SetAddresses(outerAddress(k))
			a.say(b, "moved")
			w.pass(2 * latency)
			b.mustHear("moved")
			b.say(a, "seen")
			w.pass(2 * latency)
			a.mustHear("seen")
		}
		nat := w.network.NAT(netip.MustParseAddr("198.51.100.1"), a.host)
		for range 10 {
			a.say(b, "translated")
			w.pass(2 * latency)
			b.mustHear("translated")
			b.say(a, "seen")
			w.pass(2 * latency)
			a.mustHear("seen")
			nat.Rebind()
		}
		if n := len(w.sightings(0, "", crypto.TypeInitiation)); n != 1 {
			t.Errorf("roaming took %d initiations", n)
		}
	})
}

// After the address that it sends from is taken away, an end must find another
// way out by itself.
func TestAStickyLocalAddressIsForgottenWhenItIsGone(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		b.host.SetAddresses(outerAddress(20), outerAddress(21))
		b.outer = netip.AddrPortFrom(outerAddress(21), outerPort) // not the one it would choose itself
		a.meet(b)
		b.meet(a, withoutEndpoint)
		w.greet(a, b)
		for _, s := range w.sightings(0, "b") {
			if s.from != b.outer {
				t.Fatalf("answered from %v what had come to %v", s.from, b.outer)
			}
		}
		b.host.SetAddresses(outerAddress(20))
		b.say(a, "from what is left")
		w.pass(2 * latency)
		a.mustHear("from what is left")
		if at := a.endpoint(b); at.Addr() != outerAddress(20) {
			t.Errorf("the endpoint is %v", at)
		}
	})
}

func TestReplaysDoNotMoveTheEndpoint(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		at := w.now()
		a.say(b, "data")
		w.pass(12 * time.Second)
		b.mustHear("data")
		a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(time.Second)})
		w.pass(4 * latency)
		rx := b.peer(a.public).RxBytes
		replayed := 0
		for _, s := range w.sightings(0, "") {
			target := b
			if s.sender == "b" {
				target = a
			}
			w.network.Inject(elsewhere, target.outer, s.data)
			w.pass(latency)
			replayed++
		}
		if replayed < 8 {
			t.Fatalf("only %d datagrams to replay", replayed)
		}
		if e := b.endpoint(a); e != a.outer {
			t.Errorf("b's endpoint of a is %v", e)
		}
		if e := a.endpoint(b); e != b.outer {
			t.Errorf("a's endpoint of b is %v", e)
		}
		for _, s := range w.sightings(at, "") {
			if s.to == elsewhere {
				t.Errorf("a replay was answered by a %v", s.kind)
			}
		}
		b.mustHear()
		if now := b.peer(a.public).RxBytes; now > rx+2*crypto.KeepaliveSize {
			t.Errorf("replays were counted as received: %d bytes", now-rx)
		}
	})
}

func TestForgeriesDoNotMoveTheEndpoint(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		pair := r.converse()
		good := r.seal(pair, packet.UDP(to(r.inner), to(b.inner), []byte("good")))
		initiation, _ := r.initiation()
		forge := func(msg []byte, change func([]byte)) {
			forged := append([]byte(nil), msg...)
			change(forged)
			w.network.Inject(elsewhere, b.outer, forged)
			w.settle()
		}
		for i := 8; i < len(good); i++ { // bytes 4 to 8 are the index: another session or none
			forge(good, func(f []byte) { f[i] ^= 0x40 })
		}
		forge(good, func(f []byte) { f[4] ^= 1 })
		for i := 8; i < 116; i++ { // nothing but MAC1 covers the sender's index
			forge(initiation, func(f []byte) {
				f[i] ^= 0x40
				r.jar.Stamp(f, w.now())
			})
		}
		if e := b.peer(r.public).Endpoint; e != r.outer {
			t.Errorf("the endpoint is %v", e)
		}
		for _, s := range w.sightings(0, "b") {
			if s.to == elsewhere {
				t.Errorf("a forgery was answered by a %v", s.kind)
			}
		}
		b.mustHear()
		r.send(good)
		w.pass(2 * latency)
		b.mustHear("good") // its counter was not used up by the forgeries
	})
}

func TestACookieReplyDoesNotMoveTheEndpoint(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a)
		a.device.Inject(packet.UDP(to(a.inner), to(r.inner), []byte("x")))
		msg, ok := r.next(time.Second, crypto.TypeInitiation)
		if !ok {
			t.Fatal("no initiation came")
		}
		checker := crypto.NewCookieChecker(r.identity)
		w.network.Inject(elsewhere, a.outer, checker.Reply(msg, a.outer, w.now()))
		at := w.now()
		w.pass(time.Second)
		if e := a.peer(r.public).Endpoint; e != r.outer {
			t.Errorf("the endpoint is %v", e)
		}
		if sent := w.sightings(at, "a"); len(sent) != 0 {
			t.Errorf("a cookie is for the next attempt; sent at once:%s", story(sent))
		}
		again, ok := r.next(6*time.Second, crypto.TypeInitiation)
		if !ok {
			t.Fatal("no second attempt came")
		}
		if !checker.CheckMAC1(again) || !checker.CheckMAC2(again, a.outer, w.now()) {
			t.Error("the second attempt does not show the cookie")
		}
	})
}

func TestAForgedCookieReplyIsNotBelieved(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a)
		a.device.Inject(packet.UDP(to(a.inner), to(r.inner), []byte("x")))
		msg, ok := r.next(time.Second, crypto.TypeInitiation)
		if !ok {
			t.Fatal("no initiation came")
		}
		checker := crypto.NewCookieChecker(r.identity)
		reply := checker.Reply(msg, a.outer, w.now())
		for i := 4; i < len(reply); i++ {
			forged := append([]byte(nil), reply...)
			forged[i] ^= 4
			w.network.Inject(r.outer, a.outer, forged)
		}
		again, ok := r.next(6*time.Second, crypto.TypeInitiation)
		if !ok {
			t.Fatal("no second attempt came")
		}
		for _, b := range again[132:] {
			if b != 0 {
				t.Fatalf("MAC2 is %x without any true cookie", again[132:])
			}
		}
	})
}

// An attacker who holds the handshake messages of two ends can replay them at
// will, from any address, before and after restarts of either.
func TestAnOldHandshakeReplayedAfterARestartGivesNothingAway(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		old := w.sightings(0, "")
		b.restart()
		w.pass(time.Minute)
		at := w.now()
		for _, s := range old {
			if s.to == b.outer {
				w.network.Inject(elsewhere, b.outer, s.data)
				w.pass(latency)
			}
		}
		// A restarted responder has forgotten the timestamps and answers the
		// initiation: it must not believe more than that.
		w.pass(9 * time.Second)
		b.mustHear()
		for _, s := range w.sightings(at, "b") {
			if s.kind == crypto.TypeTransport {
				t.Errorf("sent data on the word of a replay:%s", story([]sighting{s}))
			}
		}
		a.say(b, "the true one")
		w.pass(25 * time.Second)
		a.say(b, "still there")
		w.pass(time.Second)
		got := b.heard()
		if len(got) == 0 || got[len(got)-1] != "still there" {
			t.Errorf("b heard %q", got)
		}
		if e := b.endpoint(a); e != a.outer {
			t.Errorf("the endpoint is %v", e)
		}
	})
}
