package transport_test

import (
	"sync/atomic"
	"testing"
	"time"

	"stunnel/transport"
)

// clocked gives an end a Tunnel that counts how often it looks at its clock:
// each wake-up does.
func (w *world) clocked(e *end) (looks *atomic.Int64) {
	w.t.Helper()
	looks = new(atomic.Int64)
	begin := time.Now()
	run := e.replace(transport.Options{Now: func() time.Duration {
		looks.Add(1)
		return time.Since(begin)
	}})
	run()
	e.configure(transport.Config{PrivateKey: &e.private, ListenPort: ptr(uint16(outerPort)), Peers: e.peers})
	if err := e.tunnel.SetUp(true); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
	return looks
}

func TestAnIdleTunnelSleeps(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		looks := w.clocked(a)
		w.greet(a, b)
		w.pass(20 * time.Minute) // all keys are gone by then
		before := looks.Load()
		w.pass(10 * time.Hour)
		if n := looks.Load() - before; n > 1 {
			t.Errorf("woke up %d times in ten hours with nothing to do", n)
		}
	})
}

func TestTimersOfABusyTunnelDoNotWakeItForEveryPacket(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		looks := w.clocked(a)
		w.greet(a, b)
		before := looks.Load()
		for range 1000 {
			a.say(b, "x")
			w.pass(10 * time.Millisecond)
		}
		// One look per burst is the least: here each packet is a burst.
		if n := looks.Load() - before; n > 1100 {
			t.Errorf("looked at the clock %d times for 1000 packets", n)
		}
	})
}
