package transport_test

import (
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

func TestAStormIsLimitedToTheRateAndUnicastIsNot(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.logged()
		w.ethernet, w.extensions = true, transport.ExtensionsRequired
		a, b := w.couple()
		none, limit := 0, 100
		a.configure(transport.Config{StormLimit: &none})
		b.configure(transport.Config{StormLimit: &limit})
		acquaint(w, []*end{a, b})
		w.pass(time.Second)
		for range 10 {
			for range 100 {
				a.tells(station(0), everybody, "storm")
				a.tells(station(0), station(1), "unicast")
			}
		}
		w.pass(2 * latency)
		texts := b.told()
		storm := 0
		for _, text := range texts {
			if text == "storm" {
				storm++
			}
		}
		if storm < 100 || storm > 105 || len(texts)-storm != 1000 {
			t.Errorf("%d flooded frames and %d others came, want 100 and 1000", storm, len(texts)-storm)
		}
		if n := b.peer(a.public).Drops["storm"]; n != uint64(1000-storm) {
			t.Errorf("%d counted, want %d", n, 1000-storm)
		}
		for range 300 { // at a tenth of the rate again and again
			a.tells(station(0), station(99), "calm")
			w.pass(100 * time.Millisecond)
		}
		if n := len(b.told()); n != 300 {
			t.Errorf("%d of 300 came", n)
		}
		if n := log.count("StormLimit"); n != 1 {
			t.Errorf("the log tells of it %d times", n)
		}
	})
}

func TestOurOwnStormIsLimitedToo(t *testing.T) {
	inLAN(t, 2, func(w *world, s []*end) {
		acquaint(w, s)
		w.pass(time.Second)
		for range 3000 {
			s[0].tells(station(0), everybody, "storm")
		}
		w.pass(2 * latency)
		if n := len(s[1].told()); n < transport.DefaultStormLimit || n > transport.DefaultStormLimit+50 {
			t.Errorf("%d of 3000 came, want %d", n, transport.DefaultStormLimit)
		}
		if n := s[0].tunnel.Status().Drops["storm"]; n < 900 {
			t.Errorf("%d counted", n)
		}
	})
}

func TestFramesOfOneLinkPassOnlyWhereThatIsWanted(t *testing.T) {
	bpdu := transport.MAC{0x01, 0x80, 0xc2, 0, 0, 0}
	lldp := transport.MAC{0x01, 0x80, 0xc2, 0, 0, 0x0e}
	other := transport.MAC{0x01, 0x80, 0xc2, 0, 0, 0x10}
	inLAN(t, 2, func(w *world, s []*end) {
		acquaint(w, s)
		say := func() {
			for _, to := range []transport.MAC{bpdu, lldp, other} {
				s[0].tells(station(0), to, to.String())
			}
			w.pass(2 * latency)
		}
		pass := true
		say()
		s[1].mustBeTold(other.String())
		s[0].configure(transport.Config{LinkLocalFrames: &pass})
		say()
		s[1].mustBeTold(other.String()) // the other end drops them too
		s[1].configure(transport.Config{LinkLocalFrames: &pass})
		say()
		s[1].mustBeTold(bpdu.String(), lldp.String(), other.String())
		if n, m := s[0].tunnel.Status().Drops["link_local"], s[1].peer(s[0].public).Drops["link_local"]; n != 2 || m != 2 {
			t.Errorf("%d and %d counted, want 2 and 2", n, m)
		}
	})
}

func TestWithPortSecurityNobodyClaimsAnothersAddress(t *testing.T) {
	inLAN(t, 3, func(w *world, s []*end) {
		on := true
		s[0].configure(transport.Config{PortSecurity: &on})
		s[1].configure(transport.Config{PortSecurity: &on})
		acquaint(w, s)
		for _, claimed := range []transport.MAC{station(1), station(0)} {
			s[2].tells(claimed, everybody, "it is me")
			w.pass(2 * latency)
			s[0].mustBeTold()
			s[1].mustBeTold()
		}
		if n := s[0].peer(s[2].public).Drops["claimed_address"]; n != 2 {
			t.Errorf("%d counted, want 2", n)
		}
		s[0].tells(station(0), station(1), "still there")
		w.pass(2 * latency)
		s[1].mustBeTold("still there")
		s[2].mustBeTold()
		s[0].tells(station(2), everybody, "our side may take it over")
		w.pass(2 * latency)
		s[1].mustBeTold() // where it was heard from another peer
		s[2].mustBeTold("our side may take it over")
		isOurs := func(s transport.Station) bool { return s.MAC == station(2) }
		if !slices.ContainsFunc(s[0].tunnel.Status().Ethernet.Local.Stations, isOurs) {
			t.Error("it has not been taken over")
		}
		s[1].shutDown() // says goodbye
		w.pass(2 * latency)
		s[2].told()
		s[2].tells(station(1), everybody, "it is free now")
		w.pass(2 * latency)
		s[0].mustBeTold("it is free now")
	})
}

func TestAddressesThatArePinnedComeFromTheirPeerOnly(t *testing.T) {
	inLAN(t, 3, func(w *world, s []*end) {
		acquaint(w, s)
		own := []transport.MAC{station(1), station(11)}
		s[0].change(transport.PeerConfig{PublicKey: s[1].public, MACs: &own})
		said := func() {
			t.Helper()
			s[1].tells(station(1), everybody, "one")
			s[1].tells(station(11), everybody, "eleven", 5)
			s[1].tells(station(12), everybody, "twelve")
			s[2].tells(station(1), everybody, "not one")
			s[2].tells(station(12), everybody, "another twelve")
			w.pass(10 * latency)
			got := s[0].told()
			slices.Sort(got)
			if want := []string{"another twelve", "eleven", "one"}; !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		said()
		// As wg setconf does, which does not know of them.
		peers := slices.Clone(s[0].peers)
		for i := range peers {
			peers[i].MACs, peers[i].Extensions = nil, nil
		}
		s[0].configure(transport.Config{ReplacePeers: true, Peers: peers})
		w.pass(20 * time.Second)
		if got := s[0].peer(s[1].public).Port.MACs; !slices.Equal(got, own) {
			t.Fatalf("a has the addresses %v, want %v", got, own)
		}
		s[1].tells(station(1), everybody, "again")
		s[2].tells(station(2), everybody, "again")
		w.pass(10 * time.Second)
		s[0].told()
		said()
	})
}

func TestAnAddressIsPinnedToOnePeerOnly(t *testing.T) {
	inLAN(t, 3, func(w *world, s []*end) {
		one, two, none := []transport.MAC{station(1)}, []transport.MAC{station(2)}, []transport.MAC{}
		b, c := s[1].public, s[2].public
		pins := func(peers ...transport.PeerConfig) error {
			return s[0].tunnel.Configure(transport.Config{Peers: peers})
		}
		for i, step := range []struct {
			peers []transport.PeerConfig
			right bool
		}{
			{[]transport.PeerConfig{{PublicKey: b, MACs: &one}, {PublicKey: c, MACs: &one}}, false},
			{[]transport.PeerConfig{{PublicKey: b, MACs: &one}, {PublicKey: c, MACs: &two}}, true},
			{[]transport.PeerConfig{{PublicKey: b, MACs: &one}}, true},
			{[]transport.PeerConfig{{PublicKey: b, MACs: &two}}, false},
			{[]transport.PeerConfig{{PublicKey: b, MACs: &two}, {PublicKey: c, MACs: &one}}, true},
			{[]transport.PeerConfig{{PublicKey: b, MACs: &none}, {PublicKey: c, MACs: &two}}, true},
			{[]transport.PeerConfig{{PublicKey: b, Remove: true}, {PublicKey: c, MACs: &one}}, true},
			{[]transport.PeerConfig{{PublicKey: c, MACs: &[]transport.MAC{everybody}}}, false},
		} {
			if err := pins(step.peers...); (err == nil) != step.right {
				t.Errorf("step %d: %v", i, err)
			}
		}
		if got := s[0].peer(c).Port.MACs; !slices.Equal(got, one) {
			t.Errorf("%v, want %v", got, one)
		}
	})
}

func TestAStationThatFlapsIsHeldAndReported(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.logged()
		w.ethernet, w.extensions = true, transport.ExtensionsRequired
		h := w.end("hub", 1)
		var s []*end
		for i := range 2 {
			e := w.end(string(rune('a'+i)), 2+i)
			h.meet(e)
			e.meet(h)
			s = append(s, e)
		}
		for i := range 40 {
			s[i%2].tells(station(1), everybody, "me")
			w.pass(100 * time.Millisecond)
		}
		flaps := h.peer(s[0].public).Port.Flaps + h.peer(s[1].public).Port.Flaps
		if flaps < 10 || flaps > 40 {
			t.Errorf("held %d times", flaps)
		}
		if n := log.count("comes from two sides in turn"); n != 1 {
			t.Errorf("the log tells of it %d times", n)
		}
		if n := len(h.told()); n != 40 {
			t.Errorf("%d of 40 frames came", n)
		}
		w.pass(2 * time.Minute)
		for range 3 { // now it is followed again
			for i := range 2 {
				s[i].tells(station(1), everybody, "me")
				w.pass(10 * latency)
				s[0].told()
				s[1].told()
				h.tells(station(0), station(1), "you")
				w.pass(2 * latency)
				if n := len(s[i].told()); n != 1 {
					t.Errorf("%d frames followed it", n)
				}
			}
			w.pass(time.Minute)
		}
	})
}

func TestAFloodOfAddressesFromOnePeerLeavesTheOthersAlone(t *testing.T) {
	inLAN(t, 3, func(w *world, s []*end) {
		acquaint(w, s)
		const addresses = 100_000
		for i := 0; i < addresses; i += 1000 {
			for k := range 1000 {
				s[2].tells(station(1000+i+k), station(0), "flood")
			}
			w.pass(2 * latency)
			s[0].device.Drain()
		}
		flooder := s[0].peer(s[2].public).Port
		if n := len(flooder.Stations); n != transport.DefaultMACLimit {
			t.Errorf("%d addresses learned, want %d", n, transport.DefaultMACLimit)
		}
		if n := flooder.Unlearned; n != addresses-transport.DefaultMACLimit+1 {
			t.Errorf("%d not learned, want %d", n, addresses-transport.DefaultMACLimit+1)
		}
		s[0].tells(station(0), station(1), "for b")
		s[1].tells(station(1), station(0), "for a")
		w.pass(2 * latency)
		s[1].mustBeTold("for b")
		s[0].mustBeTold("for a")
		s[2].mustBeTold()
	})
}

// cable connects the sides of two ends outside of the tunnel, for frames that may pass,
// and counts those. So a loop is made: what comes out at one end goes in at the other.
func cable(w *world, a, b *end, d time.Duration, passes func(frame []byte) bool) (passed int) {
	carry := func(from, to *end) {
		for _, f := range from.device.Drain() {
			if passes(f) {
				to.device.Inject(f)
				passed++
			}
		}
	}
	for until := w.now() + d; w.now() < until; {
		w.pass(time.Millisecond)
		carry(a, b)
		carry(b, a)
	}
	return passed
}

func isProbe(f []byte) bool { return f[12] == probeType>>8 && f[13] == probeType&0xff }

func TestALoopStopsFloodingAndIsReported(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.logged()
		w.ethernet, w.extensions = true, transport.ExtensionsRequired
		a, b := w.couple()
		acquaint(w, []*end{a, b})
		any := func([]byte) bool { return true }
		noProbe := func(f []byte) bool { return !isProbe(f) }
		for range 50 {
			a.tells(station(0), everybody, "round and round")
			b.tells(station(0), everybody, "round and round") // the cable brings it
		}
		if n := cable(w, a, b, time.Second, noProbe); n < 1000 {
			t.Fatalf("this is no loop: %d frames went round", n)
		}
		cable(w, a, b, 3*time.Second, any)
		for _, e := range []*end{a, b} {
			if s := e.tunnel.Status().Peers[0].Port; !s.Loop {
				t.Errorf("%s does not see the loop", e.name)
			}
		}
		if n := cable(w, a, b, 10*time.Second, any); n > 20 {
			t.Errorf("%d frames went round afterwards", n)
		}
		if n := log.count("a loop: "); n != 2 {
			t.Errorf("the log tells of it %d times, want once from each end", n)
		}
	})
}

func TestWhileThereIsALoopUnicastGoesOnAndAfterItAllDoes(t *testing.T) {
	inLAN(t, 2, func(w *world, s []*end) {
		acquaint(w, s)
		a, b := s[0], s[1]
		said := func(want ...string) {
			t.Helper()
			a.tells(station(0), station(1), "unicast")
			a.tells(station(0), everybody, "broadcast")
			w.pass(2 * latency)
			b.mustBeTold(want...)
		}
		said("unicast", "broadcast")
		for _, hold := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
			cable(w, a, b, 5*time.Second, isProbe)
			said("unicast")
			w.pass(hold - 4*time.Second)
			said("unicast")
			w.pass(5 * time.Second)
			said("unicast", "broadcast")
		}
		if n := a.tunnel.Status().Peers[0].Drops["loop"]; n == 0 {
			t.Error("no frame counted")
		}
	})
}

func TestALoopOnOurOwnSideIsSeen(t *testing.T) {
	inLAN(t, 2, func(w *world, s []*end) {
		acquaint(w, s)
		cable(w, s[0], s[0], 3*time.Second, isProbe)
		if !s[0].tunnel.Status().Ethernet.Local.Loop {
			t.Error("the loop is not seen")
		}
	})
}

func TestAnOldProbeAndAForgedOneStopNothing(t *testing.T) {
	inLAN(t, 2, func(w *world, s []*end) {
		acquaint(w, s)
		w.pass(5 * time.Second)
		var probes [][]byte
		for _, f := range s[0].device.Drain() {
			if isProbe(f) {
				probes = append(probes, f)
			}
		}
		if len(probes) < 2 {
			t.Fatalf("%d probes in 5 s", len(probes))
		}
		newest := probes[len(probes)-1]
		w.pass(1100 * time.Millisecond)
		forged := slices.Clone(newest)
		forged[30] ^= 1
		s[0].device.Inject(probes[0], forged)
		s[1].device.Inject(newest, forged)
		w.pass(2 * latency)
		if st := s[0].tunnel.Status(); st.Ethernet.Local.Loop || st.Peers[0].Port.Loop {
			t.Error("flooding has stopped")
		}
	})
}

func TestNoProbeIsSentWhereNobodyIsThere(t *testing.T) {
	inLAN(t, 2, func(w *world, s []*end) {
		acquaint(w, s)
		resume := w.stop(s[1])
		defer resume()
		s[1].shutDown()
		w.pass(transport.RejectAfterTime)
		s[0].device.Drain()
		w.pass(10 * time.Minute)
		if n := len(s[0].device.Drain()); n != 0 {
			t.Errorf("%d frames came out", n)
		}
		if sent := w.sightings(w.now()-5*time.Minute, "a", crypto.TypeTransport); len(sent) > 0 {
			t.Errorf("a still sends:%s", story(sent))
		}
	})
}
