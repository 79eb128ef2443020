package interop

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
)

func withPSK(k crypto.PresharedKey) func(*peer) { return func(p *peer) { p.psk = k } }

func TestASessionComesUpAndCarriesBothFamiliesBothWays(t *testing.T) {
	for name, adjust := range map[string][]func(*peer){
		"no PSK": nil,
		"PSK":    {withPSK(crypto.NewPresharedKey())},
	} {
		t.Run(name, func(t *testing.T) {
			inMixedWorlds(t, func(w *world, a, b *end) {
				w.greet(a, b)
				for _, e := range [][2]*end{{a, b}, {b, a}} {
					if s := e[0].state(e[1]); w.begin.Add(w.now()).Sub(s.handshake) > time.Second {
						w.t.Errorf("%s tells of a handshake at %v", e[0].name, s.handshake)
					}
				}
				if s := w.sightings(0, "", crypto.TypeInitiation, crypto.TypeResponse); len(s) != 2 {
					w.t.Errorf("one handshake took%s", story(s))
				}
			}, adjust...)
		})
	}
}

func TestASessionComesUpOverOuterIPv6(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		a.change(b, func(p *peer) { p.endpoint = b.outer6 })
		w.greet(a, b)
		if got := b.state(a).endpoint; got != a.outer6 {
			w.t.Errorf("b sees a at %v, want %v", got, a.outer6)
		}
	})
}

func TestAResponderLearnsAnEndpointThatItWasNotTold(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		b.peers[0].endpoint = netip.AddrPort{}
		b.restart()
		if got := b.state(a).endpoint; got.IsValid() {
			w.t.Fatalf("b knows already that a is at %v", got)
		}
		w.greet(a, b)
		if got := b.state(a).endpoint; got != a.outer {
			w.t.Errorf("b sees a at %v, want %v", got, a.outer)
		}
	})
}

func TestAWrongPSKNeverCompletesAndARightOneThenDoes(t *testing.T) {
	right := crypto.NewPresharedKey()
	for name, wrong := range map[string]crypto.PresharedKey{"another": crypto.NewPresharedKey(), "none": {}} {
		t.Run(name, func(t *testing.T) {
			inMixedWorlds(t, func(w *world, a, b *end) {
				b.change(a, withPSK(wrong))
				for range 12 {
					a.say(b, "under a wrong PSK")
					w.pass(5 * time.Second)
				}
				a.mustHear()
				b.mustHear()
				if !a.state(b).handshake.IsZero() || !b.state(a).handshake.IsZero() {
					w.t.Error("an end tells of a handshake")
				}
				if s := w.sightings(0, "", crypto.TypeTransport); len(s) > 0 {
					w.t.Errorf("data was sent:%s", story(s))
				}
				if len(w.sightings(0, "b", crypto.TypeResponse)) == 0 {
					w.t.Error("b has not even answered: this proves nothing about the PSK")
				}
				// The very handshake that is being tried again takes the new one.
				b.change(a, withPSK(right))
				w.pass(6 * time.Second)
				if got := b.heard(); len(got) == 0 {
					w.t.Errorf("b heard nothing 6 s after the PSK was put right; on the wire:%s", story(w.sightings(0, "")))
				}
				w.greet(a, b)
			}, withPSK(right))
		})
	}
}

func TestAPSKThatChangesHoldsFromTheNextHandshakeOn(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		k := withPSK(crypto.NewPresharedKey())
		a.change(b, k)
		b.change(a, k)
		w.traffic(a, b, 300*time.Millisecond, 5*time.Minute)
		if n := len(w.sightings(0, "", crypto.TypeInitiation)); n < 3 {
			w.t.Errorf("%d handshakes in 5 minutes of traffic", n)
		}
	})
}

// Both begin at the same moment, or nearly: their initiations cross, or the
// one's meets the other's response.
func TestBothBeginningAtOnceGetThrough(t *testing.T) {
	const oneWay = 10 * latency
	for _, behind := range []time.Duration{0, oneWay / 2, oneWay - latency/2, oneWay, oneWay + latency/2, 2 * oneWay} {
		t.Run(fmt.Sprintf("b %v behind", behind), func(t *testing.T) {
			inMixedWorlds(t, func(w *world, a, b *end) {
				w.network.Impair(memnet.Impairment{Delay: oneWay})
				a.say(b, "from a")
				w.pass(behind)
				b.say(a, "from b")
				w.pass(7 * time.Second)
				a.mustHear("from b")
				b.mustHear("from a")
				calm := w.now()
				w.traffic(a, b, 500*time.Millisecond, 30*time.Second)
				if s := w.sightings(calm, "", crypto.TypeInitiation, crypto.TypeResponse); len(s) > 0 {
					w.t.Errorf("after the crossing handshakes there were more:%s", story(s))
				}
				if s := w.sightings(0, "", crypto.TypeInitiation); len(s) > 4 {
					w.t.Errorf("crossing handshakes took%s", story(s))
				}
			})
		})
	}
}

func TestALossyNetworkDelaysButDoesNotStop(t *testing.T) {
	for seed := range uint64(8) {
		for _, p := range mixed {
			p.seed = seed
			t.Run(fmt.Sprintf("%v, seed %d", p, seed), func(t *testing.T) { inWorld(t, p, loseAThird) })
		}
	}
}

func loseAThird(w *world, a, b *end) {
	w.network.Impair(memnet.Impairment{Delay: latency, Jitter: 5 * latency, Loss: 0.3, Duplicate: 0.1})
	heard := map[string]int{}
	for i := range 300 {
		a.say(b, fmt.Sprint("a ", i))
		b.say(a, fmt.Sprint("b ", i))
		w.pass(time.Second)
		for _, text := range append(a.heard(), b.heard()...) {
			if heard[text]++; heard[text] > 1 {
				w.t.Errorf("%q came twice", text)
			}
		}
	}
	if len(heard) < 300 {
		w.t.Errorf("of 600 packets %d arrived where 70%% of datagrams do", len(heard))
	}
	w.network.Impair(memnet.Impairment{Delay: latency})
	w.pass(16 * time.Second)
	a.heard()
	b.heard()
	w.greet(a, b)
}

func TestAnEndThatWasKilledComesBack(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		for _, who := range []*end{b, a} {
			w.greet(a, b)
			w.pass(time.Second)
			who.restart()
			// The survivor finds out 15 s after data that nobody answers, the
			// one that was killed begins anew with its first packet.
			a.say(b, "lost or late")
			w.pass(17 * time.Second)
			a.heard()
			b.heard()
			w.traffic(a, b, 200*time.Millisecond, 20*time.Second)
		}
	})
}

func TestAPeerThatComesBackMayBeginItself(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		w.pass(time.Second)
		b.restart()
		b.say(a, "I am new")
		w.pass(4 * latency)
		a.mustHear("I am new")
		w.traffic(a, b, 200*time.Millisecond, 10*time.Second)
	})
}
