package transport_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

// inExtendedWorld is inWorld with ends that speak extensions where the peer does.
func inExtendedWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	inWorld(t, func(w *world) {
		w.extensions = transport.ExtensionsAuto
		test(w)
	})
}

func withExtensions(e transport.Extensions) func(*transport.PeerConfig) {
	return func(c *transport.PeerConfig) { c.Extensions = &e }
}

// everything is what an end announces by itself.
var everything = []string{"echo", "fragments", "probes", "trusted_checksums"}

// mustSpeak fails the test unless e knows that other speaks extensions.
func (e *end) mustSpeak(other *end) {
	e.w.t.Helper()
	e.w.settle()
	s := e.peer(other.public)
	if want := "stunnel " + version; s.Software != want || !slices.Equal(s.Announced, everything) || s.Refused != "" {
		e.w.t.Fatalf("at %v %s takes %s for %q which announced %q (refused: %q), want %q and %q; on the wire:%s\ndrops: %v",
			e.w.now(), e.name, other.name, s.Software, s.Announced, s.Refused, want, everything, story(e.w.sightings(0, "")), s.Drops)
	}
}

// mustBePlain fails the test unless e takes other for a plain WireGuard.
func (e *end) mustBePlain(other *end) {
	e.w.t.Helper()
	e.w.settle()
	if s := e.peer(other.public); s.Software != "wireguard" || len(s.Announced) > 0 {
		e.w.t.Fatalf("at %v %s takes %s for %q which announced %q", e.w.now(), e.name, other.name, s.Software, s.Announced)
	}
}

func TestTwoStunnelsKnowEachOtherARoundTripAfterTheHandshake(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		a.say(b, "first")
		w.pass(4 * latency) // initiation, response, packet and hello, hello
		b.mustHear("first")
		a.mustSpeak(b)
		b.mustSpeak(a)
	})
}

func TestHelloAddsAtMostFourMessagesToAHandshake(t *testing.T) {
	count := func(e transport.Extensions) (messages int) {
		inWorld(t, func(w *world) {
			w.extensions = e
			a, b := w.couple()
			a.say(b, "first")
			w.pass(time.Second)
			b.mustHear("first")
			for _, s := range w.sightings(0, "", crypto.TypeTransport) {
				if len(s.data) > 48 && len(s.data) <= 1000 { // no echo and no reply to one, no probe of the path
					messages++
				}
			}
		})
		return messages
	}
	plain, extended := count(transport.ExtensionsOff), count(transport.ExtensionsAuto)
	if extra := extended - plain; extra < 3 || extra > 4 {
		t.Errorf("%d transport messages instead of %d: a hello each and an acknowledgement are 3 or 4", extended, plain)
	}
}

// A hello that came before the message which confirms the session would do so in its place.
func TestAResponderSaysNothingBeforeItHasOpenedAMessage(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		resume := w.stop(a, crypto.TypeTransport)
		a.say(b, "first")
		w.pass(4 * time.Second)
		if sent := w.sightings(0, "b", crypto.TypeTransport); len(sent) > 0 {
			t.Errorf("b sent under a keypair that a has not confirmed:%s", story(sent))
		}
		resume()
	})
}

func TestAHelloIsSaidAgainUntilItIsAcknowledged(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		resume := w.stop(b, crypto.TypeTransport)
		a.say(b, "first")
		w.pass(time.Minute)
		resume()
		var at []time.Duration
		sent := w.sightings(0, "a", crypto.TypeTransport)
		for _, s := range sent[1:] { // behind the packet
			if len(at) == 5 {
				break
			}
			at = append(at, s.at-sent[1].at)
		}
		want := []time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond, 1750 * time.Millisecond, 3750 * time.Millisecond}
		if !slices.Equal(at, want) {
			t.Errorf("said at %v, want %v:%s", at, want, story(sent))
		}
	})
}

func TestAPlainPeerIsToldApartAndNotAskedForMoreHandshakes(t *testing.T) {
	count := func(e transport.Extensions) (handshakes int) {
		inWorld(t, func(w *world) {
			a, b := w.end("a", 1), w.end("b", 2)
			a.meet(b, withExtensions(e))
			b.meet(a) // plain
			w.chat(a, b, time.Second, time.Minute)
			w.pass(10 * time.Minute)
			if e != transport.ExtensionsOff {
				a.mustBePlain(b)
			}
			handshakes = len(w.sightings(0, "", crypto.TypeInitiation))
			if n := b.peer(a.public).Drops["extensions_off"]; e != transport.ExtensionsOff && n == 0 {
				t.Error("b was sent no hello")
			}
		})
		return handshakes
	}
	if plain, extended := count(transport.ExtensionsOff), count(transport.ExtensionsAuto); plain != extended {
		t.Errorf("%d initiations with hellos, %d without", extended, plain)
	}
}

func TestAPeerThatStaysPlainIsGreetedOnceAnHour(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b, withExtensions(transport.ExtensionsAuto))
		b.meet(a)
		greeted := func() uint64 { return b.peer(a.public).Drops["extensions_off"] }
		// One packet every two minutes: a handshake each, no data in between.
		hourly := func(hours int) (greetings []uint64) {
			for range hours {
				before := greeted()
				for range 20 {
					a.say(b, "now and then")
					w.pass(3 * time.Minute)
				}
				greetings = append(greetings, greeted()-before)
			}
			return greetings
		}
		if got, want := hourly(3), []uint64{15, 5, 5}; !slices.Equal(got, want) {
			t.Errorf("hellos in each hour: %v, want %v: three sessions of five, then one session an hour", got, want)
		}
	})
}

func TestNothingIsSentBeforeTheHelloWhereExtensionsAreRequired(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b, withExtensions(transport.ExtensionsRequired))
		b.meet(a)
		w.chat(a, b, 100*time.Millisecond, 10*time.Second)
		if got := a.peer(b.public).Drops["before_hello"]; got == 0 {
			t.Error("a took packets of a plain WireGuard")
		}
		if got := b.peer(a.public); got.RxBytes == 0 || len(b.heard()) > 0 {
			t.Error("b was sent packets, or no handshake")
		}
		b.change(transport.PeerConfig{PublicKey: a.public, Extensions: new(transport.Extensions)}) // auto
		a.say(b, "and now?")
		w.pass(5 * time.Second)
		a.mustSpeak(b)
		if got := b.heard(); !slices.Contains(got, "and now?") {
			t.Errorf("b heard %q", got)
		}
	})
}

func TestRequiredCarriesEverythingBetweenTwoThatSpeak(t *testing.T) {
	inWorld(t, func(w *world) {
		w.extensions = transport.ExtensionsRequired
		a, b := w.couple()
		sent, atA, atB := w.chat(a, b, 50*time.Millisecond, 5*time.Minute) // two rekeys
		if atB != sent || atA != sent {
			t.Errorf("%d sent by each, %d came to a, %d to b; drops %v %v", sent, atA, atB, a.peer(b.public).Drops, b.peer(a.public).Drops)
		}
	})
}

func TestADowngradeIsCountedAndToldAndUndone(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.greet(a, b)
		a.mustSpeak(b)
		b.peers[0].Extensions = new(transport.Extensions)
		*b.peers[0].Extensions = transport.ExtensionsOff
		b.restart()
		b.say(a, "plain now")
		w.pass(time.Second)
		a.mustHear("plain now")
		w.pass(5 * time.Second)
		a.mustBePlain(b)
		if n := a.peer(b.public).Downgrades; n != 1 {
			t.Errorf("%d downgrades counted, want 1", n)
		}
		*b.peers[0].Extensions = transport.ExtensionsAuto
		b.restart()
		b.say(a, "back")
		w.pass(time.Second)
		a.mustHear("back")
		a.mustSpeak(b)
		b.mustSpeak(a)
	})
}

func TestAfterARekeyNothingIsLostAndBothStillSpeak(t *testing.T) {
	t.Parallel()
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		sent, atA, atB := w.chat(a, b, 20*time.Millisecond, 9*time.Minute)
		if atB != sent || atA != sent {
			t.Errorf("%d sent by each, %d came to a, %d to b; drops %v %v", sent, atA, atB, a.peer(b.public).Drops, b.peer(a.public).Drops)
		}
		a.mustSpeak(b)
		b.mustSpeak(a)
		if a.peer(b.public).Downgrades+b.peer(a.public).Downgrades > 0 {
			t.Error("a downgrade was counted")
		}
	})
}

func TestEchoesTellRoundTripAndLossWhileThereIsTraffic(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.chat(a, b, 100*time.Millisecond, 2*time.Minute)
		s := a.peer(b.public)
		if s.RoundTrip != 2*latency || s.EchoesLost != 0 || s.EchoesSent < 10 {
			t.Errorf("round trip %v, %d of %d echoes lost", s.RoundTrip, s.EchoesLost, s.EchoesSent)
		}
		lossy := memnet.Impairment{Delay: latency, Loss: 0.5}
		w.network.Impair(lossy)
		for range 600 {
			a.say(b, "noise")
			w.pass(100 * time.Millisecond)
		}
		if s := a.peer(b.public); s.EchoesLost < 5 || s.EchoesLost >= s.EchoesSent {
			t.Errorf("%d of %d echoes lost where three quarters should", s.EchoesLost, s.EchoesSent)
		}
		w.network.Impair(memnet.Impairment{Delay: latency})
		w.pass(30 * time.Second)
		idle := w.now()
		w.pass(10 * time.Minute)
		if sent := w.sightings(idle, "", crypto.TypeTransport); len(sent) > 0 {
			t.Errorf("an idle tunnel is not silent:%s", story(sent))
		}
		if s := a.peer(b.public); s.EchoesSent != 0 || s.RoundTrip != 0 {
			t.Errorf("after ten silent minutes: %d echoes, round trip %v", s.EchoesSent, s.RoundTrip)
		}
	})
}

func TestAGoodbyeEndsTheSessionsAtTheOtherEnd(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.greet(a, b)
		b.shutDown()
		w.pass(2 * latency)
		if a.peer(b.public).Goodbye.IsZero() {
			t.Fatal("a does not know that b went down")
		}
		since := w.now()
		a.say(b, "still there?")
		w.pass(latency)
		if sent := w.sightings(since, "a"); len(sent) != 1 || sent[0].kind != crypto.TypeInitiation {
			t.Errorf("for a packet after the goodbye a sent%s\nwant an initiation", story(sent))
		}
		b.start(1)
		w.pass(6 * time.Second)
		b.mustHear("still there?")
		if at := a.peer(b.public).Goodbye; !at.IsZero() {
			t.Errorf("a still says that b went down at %v", at)
		}
	})
}

// Whoever holds a goodbye back must not end what began after it.
func TestAGoodbyeThatComesLateEndsNoNewerSession(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.greet(a, b)
		var goodbye *memnet.Transit
		hold := w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
			if d.Sender != b.host || kind != crypto.TypeTransport {
				return true
			}
			held := *d
			held.Data = slices.Clone(d.Data)
			goodbye = &held
			return false
		})
		b.restart()
		hold()
		if goodbye == nil {
			t.Fatal("b said no goodbye")
		}
		b.say(a, "I am back")
		w.pass(time.Second)
		a.mustHear("I am back")
		w.network.Inject(goodbye.From, goodbye.To, goodbye.Data)
		w.pass(time.Second)
		since := w.now()
		a.say(b, "good")
		w.pass(time.Second)
		b.mustHear("good")
		if made := w.sightings(since, "", crypto.TypeInitiation); len(made) > 0 {
			t.Errorf("the session was lost:%s", story(made))
		}
	})
}

func TestExtensionsMayBeSwitchedWhileTheTunnelRuns(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.greet(a, b)
		a.mustSpeak(b)
		no := false
		b.configure(transport.Config{TrustedChecksums: &no})
		w.pass(time.Second)
		if got, want := a.peer(b.public).Announced, everything[:3]; !slices.Equal(got, want) {
			t.Errorf("without trusted checksums b announces %q, want %q", got, want)
		}
		off := transport.ExtensionsOff
		b.change(transport.PeerConfig{PublicKey: a.public, Extensions: &off})
		if got := b.peer(a.public).Software; got != "" {
			t.Errorf("b, switched off, takes a for %q", got)
		}
		for i := range 3 {
			a.say(b, fmt.Sprint("packet ", i))
		}
		w.pass(time.Second)
		b.mustHear("packet 0", "packet 1", "packet 2")
	})
}
