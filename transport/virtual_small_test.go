package transport_test

import (
	"testing"
	"time"
)

// Each is followed by a question of each end whether the other is there, and one of each how long the way is: eight small messages.
func TestASmallPacketNowAndThenCostsSmallMessagesOnly(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.autoCouple()
		a.say(b, "first")
		w.pass(10 * time.Second)
		begin := w.now()
		const packets = 20
		for range packets {
			a.say(b, "small")
			w.pass(4 * time.Second)
		}
		sent, bytes := w.sightings(begin, ""), 0
		for _, s := range sent {
			bytes += len(s.data)
		}
		if len(sent) > 9*packets || bytes > 9*packets*96 {
			t.Errorf("%d messages, %d bytes for %d small packets:%s", len(sent), bytes, packets, story(sent))
		}
	})
}
