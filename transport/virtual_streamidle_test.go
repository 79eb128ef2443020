package transport_test

import (
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
)

func TestAnIdleTunnelOverTCPGoesSilent(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.tcpCouple()
		w.network.Impair(memnet.Impairment{Delay: 5 * latency}) // so a has its keys a little later than b, and forgets them later
		a.say(b, "first")
		w.pass(50 * latency)
		b.mustHear("first")
		w.network.Impair(memnet.Impairment{Delay: latency})
		w.pass(5 * time.Minute) // four minutes later the keys go, first at one end
		since := w.now()
		w.pass(time.Hour)
		if sent := w.sightings(since, ""); len(sent) > 0 {
			t.Errorf("an idle tunnel sends:%s", story(sent))
		}
		for _, e := range []*end{a, b} {
			if n := e.tunnel.Status().Streams; n != 0 {
				t.Errorf("%s has %d connections open", e.name, n)
			}
		}
	})
}

// dials counts the TCP connections that an end opens.
func TestOneConnectionIsMadeHoweverManyPacketsWaitForIt(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.tcpCouple()
		for range 50 {
			a.say(b, "waits")
			w.pass(latency / 5)
		}
		w.pass(10 * latency)
		b.heard()
		if n := b.tunnel.Status().Strangers; n != 0 {
			t.Errorf("%d connections were opened and closed without a word", n)
		}
	})
}

func TestAServerThatRefusesIsNotDialledForEachPacket(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		b.listensTCP()
		a.meet(b, withTransport(1)) // whom b does not know
		for range 500 {
			a.say(b, "waits")
			w.pass(20 * time.Millisecond)
		}
		tries := len(w.sightings(0, a.name, crypto.TypeInitiation))
		if n := b.tunnel.Status().Strangers; n > uint64(tries) {
			t.Errorf("in 10 s %d connections were opened, and %d initiations sent", n, tries)
		}
	})
}
