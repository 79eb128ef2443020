package transport_test

import (
	"fmt"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

// The operator of b mends its file and starts it anew: a, which waits for a hello,
// must find out as soon as it would without.
func TestARestartedPeerIsFoundWhereExtensionsAreRequired(t *testing.T) {
	for _, e := range []transport.Extensions{transport.ExtensionsAuto, transport.ExtensionsRequired} {
		inWorld(t, func(w *world) {
			a, b := w.end("a", 1), w.end("b", 2)
			a.meet(b, withExtensions(e))
			b.meet(a) // plain
			a.say(b, "x")
			w.pass(10 * time.Second)
			*b.peers[0].Extensions = transport.ExtensionsAuto
			b.restart()
			since := w.now()
			for i := 0; len(b.heard()) == 0; i++ {
				if w.now()-since > 30*time.Second {
					t.Fatalf("%v: nothing has come for %v", e, w.now()-since)
				}
				a.say(b, fmt.Sprint(i))
				w.pass(time.Second)
			}
		})
	}
}

func TestPacketsThatWaitForAHelloInVainAreGivenUp(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b, withExtensions(transport.ExtensionsRequired), withKeepalive(25*time.Second))
		b.meet(a) // plain
		a.say(b, "old")
		w.pass(5 * time.Hour)
		b.change(transport.PeerConfig{PublicKey: a.public, Extensions: new(transport.Extensions)}) // auto
		w.pass(5 * time.Minute)
		b.mustHear()
		if n := a.peer(b.public).Drops["before_hello"]; n != 1 {
			t.Errorf("%d dropped, want 1", n)
		}
	})
}

// What comes before the hello is data all the same, in fragments too: it shows
// that our own hello may have been lost.
func TestDataBeforeTheHelloMakesUpForLostOnes(t *testing.T) {
	for _, carry := range []int{0, 300} {
		inWorld(t, func(w *world) {
			w.extensions = transport.ExtensionsRequired
			a, b := w.couple()
			w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
				return d.Sender != b.host || kind != crypto.TypeTransport || len(d.Data) < 80 || w.now() > 5*time.Second
			})
			b.say(a, "x")
			w.pass(100 * time.Millisecond)
			b.tunnel.Carry(carry)
			for len(a.heard()) == 0 {
				if w.now() > 15*time.Second {
					t.Fatalf("messages of %d bytes: at %v nothing has come", carry, w.now())
				}
				b.say(a, long("text", 50))
				w.pass(100 * time.Millisecond)
			}
		})
	}
}

func TestPacketsForWhichEightFragmentsAreTooFewComeAsWithWireGuard(t *testing.T) {
	for _, e := range []transport.Extensions{transport.ExtensionsOff, transport.ExtensionsAuto} {
		inWorld(t, func(w *world) {
			w.extensions = e
			a, b := w.acquainted()
			for range 10 {
				a.device.Inject(packet.Sized(to(a.inner), to(b.inner), 12000, "big"))
			}
			w.pass(time.Second)
			if n := len(b.device.Drain()); n != 10 {
				t.Errorf("%v: %d of 10 packets of 12,000 bytes came; drops %v", e, n, a.peer(b.public).Drops)
			}
		})
	}
}

// Nobody is there to answer.
func TestNobodyKnocksAfterAGoodbye(t *testing.T) {
	t.Run("with data just before it", func(t *testing.T) {
		inExtendedWorld(t, func(w *world) {
			a, b := w.couple()
			w.greet(a, b)
			w.pass(20 * time.Second)
			b.say(a, "last words")
			w.settle()
			b.shutDown()
			since := w.now()
			w.pass(5 * time.Minute)
			if made := w.sightings(since, "a", crypto.TypeInitiation); len(made) > 0 {
				t.Errorf("a knocked:%s", story(made))
			}
		})
	})
	t.Run("with a rekey going on", func(t *testing.T) {
		inExtendedWorld(t, func(w *world) {
			a, b := w.couple()
			w.greet(a, b)
			w.pass(121*time.Second - w.now())
			resume := w.stop(a, crypto.TypeInitiation)
			a.say(b, "time for a rekey")
			w.pass(time.Second)
			resume()
			b.heard()
			b.shutDown()
			since := w.now()
			w.pass(5 * time.Minute)
			if made := w.sightings(since, "a", crypto.TypeInitiation); len(made) > 0 {
				t.Errorf("a knocked:%s", story(made))
			}
		})
	})
}
