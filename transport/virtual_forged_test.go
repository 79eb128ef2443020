package transport_test

import (
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

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

func TestAStrangerIsNotAnswered(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.raw("stranger", 9, b)
		msg, _ := r.initiation()
		r.send(msg)
		w.pass(10 * time.Second)
		if got := w.sightings(0, "b"); len(got) != 0 {
			t.Errorf("answered with:%s", story(got))
		}
		if b.drops() != 1 {
			t.Errorf("drops are %v", b.tunnel.Status().Drops)
		}
	})
}

func TestAForgedResponseDoesNotSpoilAPendingHandshake(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a)
		a.device.Inject(packet.UDP(to(a.inner), to(r.inner), []byte("hello")))
		msg, ok := r.next(time.Second, crypto.TypeInitiation)
		if !ok {
			t.Fatal("no initiation came")
		}
		response, pair := r.respond(msg)
		for name, forge := range map[string]func([]byte){
			"low-order ephemeral":  func(b []byte) { clear(b[12:44]) },
			"ephemeral of order 1": func(b []byte) { clear(b[12:44]); b[12] = 1 },
			"other ephemeral":      func(b []byte) { b[20] ^= 1 },
			"wrong tag":            func(b []byte) { b[50] ^= 1 },
			"wrong MAC1":           func(b []byte) {},
		} {
			forged := append([]byte(nil), response...)
			forge(forged)
			r.jar.Stamp(forged, w.now()) // anybody who knows the public key can
			if name == "wrong MAC1" {
				forged[70] ^= 1
			}
			w.network.Inject(r.outer, a.outer, forged)
			w.settle()
		}
		if n := len(w.sightings(0, "a", crypto.TypeTransport)); n != 0 {
			t.Fatalf("%d transport messages after forged responses", n)
		}
		r.send(response)
		got, ok := r.next(time.Second, crypto.TypeTransport)
		if !ok || open(pair, got) == nil {
			t.Error("the true response was not accepted any more")
		}
	})
}
