package interop

import (
	"fmt"
	"testing"
	"time"

	"stunnel/crypto"
)

// jitter is what may lie between the moments at which two ends do the same: a
// third of a second is added at random to the timers that begin a handshake.
const jitter = 334*time.Millisecond + 4*latency

func withKeepalive(d time.Duration) func(*peer) { return func(p *peer) { p.keepalive = d } }

// The traffic is dense where the sessions change.
func TestRekeyingUnderTrafficLosesNothing(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		for range 5 {
			w.traffic(a, b, 400*time.Millisecond, 118*time.Second)
			w.traffic(a, b, 5*time.Millisecond, 2*time.Second)
		}
		w.traffic(a, b, 400*time.Millisecond, 30*time.Second)
		initiations := w.sightings(0, "", crypto.TypeInitiation)
		if len(initiations) != 6 { // at 0, 120, 240, ... 600 s
			w.t.Errorf("11 minutes of traffic took these handshakes:%s", story(initiations))
		}
		for i, s := range initiations {
			if s.sender != "a" || s.at < time.Duration(i)*120*time.Second || s.at > time.Duration(i)*(120*time.Second+latency*50) {
				w.t.Errorf("rekeying number %d:%s", i, story([]sighting{s}))
			}
		}
	})
}

// Each of these plays a scenario that is long in virtual time, and compares
// what goes over the wire with what two wireguard-go send.

func TestIdlingAfterTrafficIsAsQuietAsWireGuardGo(t *testing.T) {
	for name, last := range map[string]func(w *world, a, b *end){
		"both ways": func(w *world, a, b *end) { w.traffic(a, b, 210*time.Millisecond, 5*time.Second) },
		"from a":    func(w *world, a, b *end) { w.burst(a, b) },
		"from b":    func(w *world, a, b *end) { w.burst(b, a) },
		"from a, and a word from b": func(w *world, a, b *end) {
			w.burst(a, b)
			b.say(a, "enough")
			w.pass(2 * latency)
			a.mustHear("enough")
		},
	} {
		t.Run(name, func(t *testing.T) {
			likeReference(t, jitter, func(w *world, a, b *end) {
				w.greet(a, b)
				last(w, a, b)
				w.pass(10 * time.Minute)
			})
		})
	}
}

// burst has e say a few things in a second.
func (w *world) burst(e, other *end) {
	w.t.Helper()
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprint("of a burst: ", i))
		e.say(other, want[i])
		w.pass(210 * time.Millisecond)
	}
	other.mustHear(want...)
}

func TestTheOneWayTrafficOfTheInitiatorRekeysAt120Seconds(t *testing.T) {
	likeReference(t, jitter, func(w *world, a, b *end) {
		w.greet(a, b)
		for range 800 {
			a.say(b, "only I speak")
			w.pass(630 * time.Millisecond)
		}
		if got := b.heard(); len(got) != 800 {
			w.t.Errorf("of 800 packets %d arrived", len(got))
		}
	})
}

func TestTheOneWayTrafficOfTheResponderIsRekeyedByTheInitiatorsKeepalives(t *testing.T) {
	likeReference(t, jitter, func(w *world, a, b *end) {
		w.greet(a, b)
		for range 800 {
			b.say(a, "only I speak")
			w.pass(630 * time.Millisecond)
		}
		if got := a.heard(); len(got) != 800 {
			w.t.Errorf("of 800 packets %d arrived", len(got))
		}
	})
}

// One packet in a while: passive keepalives, and sessions that are too old
// when the next one comes.
func TestSparseTrafficTakesAsManyHandshakes(t *testing.T) {
	likeReference(t, jitter, func(w *world, a, b *end) {
		for _, pause := range []time.Duration{7, 13, 61, 118, 125, 170, 178, 183, 245, 530, 600} {
			a.say(b, "I am still here")
			w.pass(pause * time.Second)
			b.say(a, "so am I")
			w.pass(pause*time.Second + 330*time.Millisecond)
			a.mustHear("so am I")
			b.mustHear("I am still here")
		}
	})
}

func TestPersistentKeepaliveForAnHour(t *testing.T) {
	for name, keepalive := range map[string][2]time.Duration{
		"of a":                  {25 * time.Second, 0},
		"of b":                  {0, 25 * time.Second},
		"of both":               {25 * time.Second, 21 * time.Second},
		"longer than a session": {200 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			likeReferenceBut(t, 2*jitter, func(w *world, a, b *end) {
				a.change(b, withKeepalive(keepalive[0]))
				w.pass(time.Second)
				b.change(a, withKeepalive(keepalive[1]))
				w.pass(time.Hour)
				if a.state(b).keepalive != keepalive[0] || b.state(a).keepalive != keepalive[1] {
					w.t.Errorf("keepalives are %v and %v", a.state(b).keepalive, b.state(a).keepalive)
				}
			}, mustNotHandshakeMore)
		})
	}
}

func TestPersistentKeepaliveBesideTraffic(t *testing.T) {
	likeReference(t, jitter, func(w *world, a, b *end) {
		w.greet(a, b)
		a.change(b, withKeepalive(25*time.Second))
		for _, pause := range []time.Duration{3, 24, 26, 60, 9, 11} {
			w.traffic(a, b, 700*time.Millisecond, 3*time.Second)
			w.pass(pause * time.Second)
		}
		a.change(b, withKeepalive(0))
		w.pass(5 * time.Minute)
	})
}

// A peer that never answers: 20 attempts, then silence until there is more to
// say.
func TestASilentPeerIsGivenUp(t *testing.T) {
	likeReference(t, 20*jitter, func(w *world, a, b *end) {
		defer w.stop("b")()
		a.say(b, "is anybody there?")
		w.pass(5 * time.Minute)
		if n := len(w.sightings(0, "a", crypto.TypeInitiation)); n != 20 {
			w.t.Errorf("%d attempts", n)
		}
		a.say(b, "and now?")
		w.pass(5 * time.Minute)
	})
}

func TestASessionWithoutRekeyEndsAt180Seconds(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		defer w.stop("", crypto.TypeResponse)()
		for w.now() < 174*time.Second {
			w.traffic(a, b, 530*time.Millisecond, 5*time.Second)
		}
		for range 80 {
			a.say(b, "until it is too old")
			b.say(a, "until it is too old")
			w.pass(530 * time.Millisecond)
		}
		sent := w.sightings(0, "", crypto.TypeTransport)
		if last := sent[len(sent)-1].at; last < 179*time.Second || last > 180*time.Second+2*latency {
			w.t.Errorf("the last data was sent at %v", last)
		}
	})
}

// When the path is cut both ends find out 15 s after data that nobody answers.
func TestACutPathIsNoticedAndHealsWhenItIsMended(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		w.traffic(a, b, 200*time.Millisecond, 10*time.Second)
		cut := w.now()
		mend := w.stop("")
		for range 60 {
			a.say(b, "lost")
			b.say(a, "lost")
			w.pass(500 * time.Millisecond)
		}
		for _, name := range []string{"a", "b"} {
			s := w.sightings(cut, name, crypto.TypeInitiation)
			if len(s) == 0 || s[0].at < cut+15*time.Second || s[0].at > cut+15*time.Second+jitter {
				w.t.Errorf("the path was cut at %v; %s sent%s", cut, name, story(s))
			}
		}
		mend()
		w.pass(6 * time.Second)
		a.heard()
		b.heard()
		w.traffic(a, b, 200*time.Millisecond, 20*time.Second)
	})
}
