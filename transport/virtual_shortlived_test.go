package transport_test

import (
	"testing"
	"time"

	"stunnel/test/memnet"
	"stunnel/transport"
)

// TCP ends a moment after its handshake, when none may be begun for five seconds; UDP works meanwhile.
func TestAConnectionThatEndsSoonAfterItsHandshakeLeavesUDPToBeTriedAtOnce(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.autoCouple()
		again := w.noUDP()
		a.say(b, "first")
		w.pass(1500 * time.Millisecond)
		b.mustHear("first")
		again()
		w.network.Streams(a.host, b.host, memnet.TCPRefuses)
		w.network.ResetStreams()
		begin := w.now()
		for a.carrier(b) != transport.TransportUDP || a.peer(b.public).Endpoint != b.outer || len(b.heard()) == 0 {
			if w.now()-begin > 10*time.Second {
				break
			}
			a.say(b, "x")
			w.pass(50 * time.Millisecond)
		}
		if took := w.now() - begin; took > 5*time.Second {
			t.Errorf("it took %v:%s", took, story(w.sightings(begin, "")))
		}
	})
}
