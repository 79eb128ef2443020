package transport_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
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

// replace makes the end's Tunnel anew, unconfigured and down, where a test needs
// other options or another order of calls than start has.
func (e *end) replace(o transport.Options) (run func()) {
	e.w.t.Helper()
	e.shutDown()
	e.device = memnet.NewDevice(1)
	o.Queues, o.Listen, o.MTU = []transport.Queue{e.device.Queues()[0]}, e.listen, mtu
	e.tunnel = transport.New(o)
	return func() {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		e.cancel, e.ended = cancel, ended
		go func(t *transport.Tunnel) { ended <- t.Run(ctx) }(e.tunnel)
		e.w.settle()
	}
}

// A clock that was set back must not lock a peer out that remembers the
// timestamps of before.
func TestTimestampsGoOnWhenTheClockIsSetBack(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		var back atomic.Int64
		run := a.replace(transport.Options{Wall: func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }})
		run()
		a.configure(transport.Config{PrivateKey: &a.private, ListenPort: ptr(uint16(outerPort)), Peers: a.peers})
		if err := a.tunnel.SetUp(true); err != nil {
			t.Fatal(err)
		}
		a.say(b, "before")
		w.pass(4 * latency)
		b.mustHear("before")
		back.Store(int64(100 * 24 * time.Hour))
		for range 5 {
			w.pass(200 * time.Second)
			a.say(b, "after")
			w.pass(4 * latency)
			b.mustHear("after")
		}
	})
}

// Sessions age while a machine sleeps: Go's clock stands still then, the one
// that a Tunnel is given does not.
func TestASessionThatAgedInSuspendIsNotUsed(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		var slept atomic.Int64
		begin := time.Now()
		run := a.replace(transport.Options{Now: func() time.Duration { return time.Since(begin) + time.Duration(slept.Load()) }})
		run()
		a.configure(transport.Config{PrivateKey: &a.private, ListenPort: ptr(uint16(outerPort)), Peers: a.peers})
		if err := a.tunnel.SetUp(true); err != nil {
			t.Fatal(err)
		}
		w.greet(a, b)
		slept.Store(int64(8 * time.Hour))
		at := w.now()
		a.say(b, "good morning")
		w.pass(4 * latency)
		b.mustHear("good morning")
		if first := w.sightings(at, "a"); first[0].kind != crypto.TypeInitiation {
			t.Errorf("after 8 hours the first message is a %v", first[0].kind)
		}
	})
}
