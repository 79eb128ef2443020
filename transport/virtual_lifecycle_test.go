package transport_test

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

func TestDownClosesTheSocketsAndForgetsTheSessions(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		if err := b.tunnel.SetUp(false); err != nil {
			t.Fatal(err)
		}
		at := w.now()
		a.say(b, "lost")
		b.say(a, "lost")
		w.pass(time.Second)
		b.mustHear()
		if sent := w.sightings(at, "b"); len(sent) != 0 || b.tunnel.Status().Up {
			t.Errorf("down, but sent:%s", story(sent))
		}
		if n := w.network.Stats().Unreachable; n == 0 {
			t.Error("the port is still open")
		}
		if err := b.tunnel.SetUp(true); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		again := w.now()
		b.say(a, "hello again")
		w.pass(4 * latency)
		a.mustHear("hello again")
		if first := w.sightings(again, "b"); first[0].kind != crypto.TypeInitiation {
			t.Errorf("the first message after down and up is a %v", first[0].kind)
		}
	})
}

func TestWhatWaitsWhenTheTunnelGoesDownIsNotSentLater(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		resume := w.stop(a)
		a.say(b, "yesterday's")
		w.pass(time.Second)
		for _, up := range []bool{false, true} {
			if err := a.tunnel.SetUp(up); err != nil {
				t.Fatal(err)
			}
		}
		resume()
		a.say(b, "today's")
		w.pass(4 * latency) // the limit of one initiation in 5 s begins anew as well
		b.mustHear("today's")
	})
}

func TestDownAndUpHundredTimesLeavesItWorking(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		for range 100 {
			for _, up := range []bool{false, true} {
				if err := b.tunnel.SetUp(up); err != nil {
					t.Fatal(err)
				}
			}
			a.say(b, "x")
			b.say(a, "y")
			w.pass(time.Millisecond)
		}
		w.stillWorks(a, b)
	})
}

func TestALostDeviceEndsTheTunnelWithItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.acquainted()
		gone := errors.New("deleted from outside")
		a.device.Break(gone)
		select {
		case err := <-a.ended:
			if !errors.Is(err, gone) {
				t.Errorf("Run ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("Run goes on without a device")
		}
		a.cancel()
		a.cancel = nil
		b.say(a, "x")
		w.pass(time.Second)
		if w.network.Stats().Unreachable == 0 {
			t.Error("the port is still open")
		}
	})
}

func TestATunnelThatWasNeverUpSendsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		if err := a.tunnel.SetUp(false); err != nil {
			t.Fatal(err)
		}
		a.say(b, "x")
		a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(time.Second)})
		w.pass(time.Minute)
		if sent := w.sightings(0, "a"); len(sent) != 0 {
			t.Errorf("sent:%s", story(sent))
		}
		if err := a.tunnel.SetUp(true); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		if sent := w.sightings(0, "a", crypto.TypeInitiation); len(sent) == 0 {
			t.Error("a persistent keepalive starts when the tunnel comes up")
		}
	})
}

func TestTwentyEndsTalkToEachOther(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var ends []*end
		for k := range 20 {
			ends = append(ends, w.end(string(rune('a'+k)), k+1))
		}
		for _, a := range ends {
			for _, b := range ends {
				if a != b {
					a.meet(b)
				}
			}
		}
		w.network.Impair(memnet.Impairment{Delay: latency, Jitter: latency, Loss: 0.02})
		heard := map[string]int{}
		rounds := 0
		for ; rounds < 60; rounds++ {
			for _, a := range ends {
				for _, b := range ends {
					if a != b {
						a.say(b, a.name+b.name)
					}
				}
			}
			w.pass(5 * time.Second)
			for _, e := range ends {
				for _, text := range e.heard() {
					heard[text]++
				}
			}
		}
		if len(heard) != 20*19 {
			t.Errorf("%d pairs of %d talked", len(heard), 20*19)
		}
		for pair, n := range heard {
			if n < rounds*8/10 || n > rounds {
				t.Errorf("%s: %d of %d arrived", pair, n, rounds)
			}
		}
	})
}

func TestATunnelMayBeConfiguredAndUpBeforeItRuns(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		run := a.replace(transport.Options{})
		a.configure(transport.Config{PrivateKey: &a.private, ListenPort: ptr(uint16(outerPort)), Peers: a.peers})
		if err := a.tunnel.SetUp(true); err != nil {
			t.Fatal(err)
		}
		if s := a.tunnel.Status(); !s.Up || s.ListenPort != outerPort {
			t.Errorf("before Run the status is %+v", s)
		}
		run()
		a.say(b, "x")
		w.pass(4 * latency)
		b.mustHear("x")
	})
}

func TestATunnelThatIsUpBeforeItsKeyIsSetWorksAfterwards(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		run := a.replace(transport.Options{})
		run()
		if err := a.tunnel.SetUp(true); err != nil {
			t.Fatal(err)
		}
		if p := a.tunnel.Status().ListenPort; p == 0 {
			t.Error("up without a port of its own")
		}
		a.configure(transport.Config{Peers: a.peers})
		a.configure(transport.Config{PrivateKey: &a.private})
		a.say(b, "x")
		w.pass(4 * latency)
		b.mustHear("x")
	})
}

func TestAPortThatIsTakenKeepsTheTunnelDownUntilItIsFree(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		if err := a.tunnel.SetUp(false); err != nil {
			t.Fatal(err)
		}
		squatter, err := a.host.Listen(outerPort, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.tunnel.SetUp(true); !errors.Is(err, syscall.EADDRINUSE) || a.tunnel.Status().Up {
			t.Errorf("SetUp: %v", err)
		}
		if err := squatter[0].Close(); err != nil {
			t.Fatal(err)
		}
		if err := a.tunnel.SetUp(true); err != nil {
			t.Fatal(err)
		}
		w.stillWorks(a, b)
	})
}

func TestAHostWithoutANetworkGoesOnWhenItIsBack(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		a.host.SetAddresses()
		for range 60 {
			a.say(b, "into the void")
			b.say(a, "into the void")
			w.pass(time.Second)
		}
		a.host.SetAddresses(outerAddress(30))
		w.pass(6 * time.Second)
		a.heard()
		b.heard()
		a.say(b, "back")
		b.say(a, "welcome")
		w.pass(6 * time.Second)
		if got := b.heard(); !slices.Contains(got, "back") {
			t.Errorf("b heard %q", got)
		}
		if got := a.heard(); !slices.Contains(got, "welcome") {
			t.Errorf("a heard %q", got)
		}
	})
}
