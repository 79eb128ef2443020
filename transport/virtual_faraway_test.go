package transport_test

import (
	"fmt"
	"testing"
	"time"

	"stunnel/test/memnet"
	"stunnel/transport"
)

// farAway is how long a message takes over a satellite and a mobile network behind it.
const farAway = 400 * time.Millisecond

func TestAPeerThatIsFarAwayIsNotTakenForDead(t *testing.T) {
	for _, oneWay := range []time.Duration{200 * time.Millisecond, farAway, 600 * time.Millisecond} {
		for name, talk := range map[string]func(w *world, a, b *end){
			"it sends":    func(w *world, a, b *end) { w.stream(b, a, 500, 100*time.Millisecond, 3*time.Minute) },
			"it receives": func(w *world, a, b *end) { w.stream(a, b, 500, 100*time.Millisecond, 3*time.Minute) },
			"now and then": func(w *world, a, b *end) {
				for range 20 {
					a.say(b, "there?")
					w.pass(10 * time.Second)
				}
			},
			"the network changes": func(w *world, a, b *end) {
				for range 20 {
					a.say(b, "there?")
					w.pass(5 * time.Second)
					a.tunnel.NetworkChanged("an address")
					b.tunnel.NetworkChanged("an address")
					w.pass(5 * time.Second)
				}
			},
		} {
			t.Run(fmt.Sprintf("%v, %s", oneWay, name), func(t *testing.T) {
				inWorld(t, func(w *world) {
					log := w.logged()
					w.extensions = transport.ExtensionsAuto
					a, b := w.autoCouple()
					w.network.Impair(memnet.Impairment{Delay: oneWay})
					a.say(b, "first")
					w.pass(10 * time.Second)
					talk(w, a, b)
					if n := log.count("now over"); n > 0 {
						t.Errorf("the way was left:\n%s", log.text.String())
					}
				})
			})
		}
	}
}

func TestUDPIsGoneBackToHoweverFarAwayThePeerIs(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.autoCouple()
		w.network.Impair(memnet.Impairment{Delay: farAway})
		again := w.noUDP()
		a.say(b, "first")
		w.pass(10 * time.Second)
		if a.carrier(b) != transport.TransportTCP {
			t.Fatal("not by TCP")
		}
		again()
		w.chat(a, b, 200*time.Millisecond, 90*time.Second)
		if a.carrier(b) != transport.TransportUDP {
			t.Errorf("still by %v", a.carrier(b))
		}
	})
}
