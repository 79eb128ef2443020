package transport_test

import (
	"fmt"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

func TestBothEndsInitiatingAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond, 700 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.network.Impair(memnet.Impairment{Delay: delay})
				a, b := w.couple()
				a.say(b, "from a")
				b.say(a, "from b")
				w.pass(20 * time.Second)
				b.mustHear("from a")
				a.mustHear("from b")
				if n := len(w.sightings(0, "", crypto.TypeInitiation)); n > 4 {
					t.Errorf("%d initiations", n)
				}
				sent, atA, atB := w.chat(a, b, 100*time.Millisecond, 10*time.Minute)
				if atA != sent || atB != sent {
					t.Errorf("of %d each way, %d and %d arrived", sent, atA, atB)
				}
				// One handshake in 120 s, where ends that cross now and then need two.
				if n := len(w.sightings(0, "", crypto.TypeInitiation)); n > 4+2*6 {
					t.Errorf("%d initiations in ten minutes", n)
				}
			})
		})
	}
}

// Both ends of a crossing may also come out with a session of their own each:
// the later one's confirmation decides. Whatever they settle on, the other's
// data must open.
func TestCrossingHandshakesSettleWhateverTheirOffset(t *testing.T) {
	for offset := time.Duration(0); offset <= 120*time.Millisecond; offset += 15 * time.Millisecond {
		t.Run(offset.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.couple()
				w.network.Link(a.host, b.host, memnet.Impairment{Delay: 50 * time.Millisecond})
				w.network.Link(b.host, a.host, memnet.Impairment{Delay: 20 * time.Millisecond})
				a.say(b, "from a")
				w.pass(offset)
				b.say(a, "from b")
				w.pass(15 * time.Second)
				b.mustHear("from a")
				a.mustHear("from b")
				for k := range 10 {
					text := fmt.Sprint("after ", k)
					a.say(b, text)
					b.say(a, text)
					w.pass(200 * time.Millisecond)
					a.mustHear(text)
					b.mustHear(text)
				}
			})
		})
	}
}

func TestARestartedPeerIsFoundAgain(t *testing.T) {
	t.Run("when it speaks first", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.acquainted()
			b.restart()
			b.say(a, "I am new")
			w.pass(4 * latency)
			a.mustHear("I am new")
			a.say(b, "welcome")
			w.pass(2 * latency)
			b.mustHear("welcome")
		})
	})
	t.Run("when it listens only", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.acquainted()
			b.restart()
			b.heard()
			begin := w.now()
			for w.now() < begin+20*time.Second {
				a.say(b, "are you there")
				w.pass(100 * time.Millisecond)
			}
			got := b.heard()
			if len(got) < 30 || len(got) > 60 {
				t.Errorf("heard %d of 200 packets; the session should have been renewed after 15 s", len(got))
			}
			if n := len(w.sightings(begin, "a", crypto.TypeInitiation)); n != 1 {
				t.Errorf("%d initiations", n)
			}
		})
	})
	t.Run("when it was the initiator", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.acquainted()
			a.restart()
			a.say(b, "I am new")
			w.pass(4 * latency)
			b.mustHear("I am new")
		})
	})
}

// The responder may not send before the initiator has shown that it has the
// key. If that confirmation is lost, the responder has to begin a handshake of
// its own, but not within RekeyTimeout of its response.
func TestALostConfirmationIsMadeUpFor(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		resume := w.stop(a, crypto.TypeTransport)
		a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(time.Hour)})
		w.pass(time.Second)
		resume()
		b.say(a, "waiting")
		w.pass(3 * time.Second)
		a.mustHear()
		if early := w.sightings(0, "b", crypto.TypeInitiation); len(early) != 0 {
			t.Errorf("b initiated right after its response:%s", story(early))
		}
		w.pass(4 * time.Second)
		a.mustHear("waiting")
	})
}

// Whoever copies every datagram and sends it first, from many places at once,
// makes all lanes decide about the same counter at the same time.
func TestLanesDecideAboutAReplayTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		b.shutDown()
		b.start(4)
		a.meet(b)
		b.meet(a)
		w.greet(a, b)
		w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
			if d.Sender == a.host && kind == crypto.TypeTransport {
				for k := range 8 {
					w.network.Inject(attacker(k%4), b.outer, d.Data) // each copy twice, in one burst too
				}
			}
			return true
		})
		seen := map[string]bool{}
		for k := range 2000 {
			a.say(b, fmt.Sprint(k))
			if k%20 == 0 {
				w.pass(time.Millisecond)
			}
		}
		w.pass(time.Second)
		for _, text := range b.heard() {
			if seen[text] {
				t.Errorf("%s was delivered twice", text)
			}
			seen[text] = true
		}
		if len(seen) != 2000 {
			t.Errorf("%d of 2000 were delivered", len(seen))
		}
	})
}

// The session that both still send under is neither end's own in the crossing
// that follows an outage.
func TestDataUnderWayWhenHandshakesCrossIsNotLost(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.network.Impair(memnet.Impairment{Delay: 700 * time.Millisecond})
		repairA, repairB := w.stop(a, crypto.TypeTransport), w.stop(b, crypto.TypeTransport)
		at := w.now()
		a.say(b, "lost")
		b.say(a, "lost")
		w.pass(15*time.Second + retryJitter)
		repairA()
		repairB()
		if began := w.sightings(at, "", crypto.TypeInitiation); len(began) != 2 || began[0].sender == began[1].sender {
			t.Fatalf("both should have initiated:%s", story(began))
		}
		sent, atA, atB := w.chat(a, b, 20*time.Millisecond, 20*time.Second)
		if atA != sent || atB != sent {
			t.Errorf("of %d each way, %d and %d arrived", sent, atA, atB)
		}
	})
}
