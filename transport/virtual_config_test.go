package transport_test

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

func TestAPeerRemovedUnderTrafficIsGoneAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		for k := range 100 {
			a.say(b, "x")
			b.say(a, "y")
			if k == 50 {
				a.change(transport.PeerConfig{PublicKey: b.public, Remove: true})
				w.settle()
				a.heard()
			}
			w.pass(time.Millisecond)
		}
		at := w.now()
		for range 300 {
			b.say(a, "y")
			w.pass(100 * time.Millisecond)
		}
		for _, text := range a.heard() {
			if text == "y" {
				t.Fatal("a packet of a removed peer was delivered")
			}
		}
		if sent := w.sightings(at, "a"); len(sent) != 0 {
			t.Errorf("the removed peer was sent:%s", story(sent))
		}
		if n := len(a.tunnel.Status().Peers); n != 0 {
			t.Errorf("%d peers in the status", n)
		}
		if len(w.sightings(at, "b", crypto.TypeInitiation)) == 0 {
			t.Error("b did not even try")
		}
		a.say(b, "x")
		a.mustHear("icmp 3/1") // its addresses are nobody's now
		// Added again it is a new peer.
		a.change(a.peers[0])
		a.say(b, "again")
		w.pass(6 * time.Second)
		if got := b.heard(); !slices.Contains(got, "again") {
			t.Errorf("after it was added again b heard %d packets, but not the new one", len(got))
		}
	})
}

func TestRemovingAPeerWithAPendingHandshakeEndsIt(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		b.shutDown()
		a.say(b, "x")
		w.pass(time.Second)
		at := w.now()
		a.change(transport.PeerConfig{PublicKey: b.public, Remove: true})
		w.pass(time.Hour)
		if sent := w.sightings(at, ""); len(sent) != 0 {
			t.Errorf("sent:%s", story(sent))
		}
	})
}

func TestChangesToUnknownPeersDoNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		unknown := crypto.NewPrivateKey().Public()
		a.change(transport.PeerConfig{PublicKey: unknown, Remove: true})
		a.change(transport.PeerConfig{PublicKey: unknown, UpdateOnly: true, Endpoint: &elsewhere,
			PersistentKeepalive: ptr(time.Second),
			AllowedIPs:          []transport.AllowedIPChange{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}})
		if n := len(a.tunnel.Status().Peers); n != 0 {
			t.Errorf("%d peers", n)
		}
		w.pass(time.Minute)
		if sent := w.sightings(0, ""); len(sent) != 0 {
			t.Errorf("sent:%s", story(sent))
		}
	})
}

func TestWhatIsConfiguredIsToldBack(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		key, psk := crypto.NewPrivateKey().Public(), crypto.NewPresharedKey()
		mark := uint32(7)
		a.configure(transport.Config{FwMark: &mark, Peers: []transport.PeerConfig{{
			PublicKey: key, Name: ptr("laptop"), PresharedKey: &psk, Endpoint: &elsewhere,
			PersistentKeepalive: ptr(25 * time.Second),
			AllowedIPs: []transport.AllowedIPChange{
				{Prefix: netip.MustParsePrefix("10.0.0.5/24")}, {Prefix: netip.MustParsePrefix("fd00::/64")},
				{Prefix: netip.MustParsePrefix("fd00::/64"), Remove: true},
			},
		}}})
		s := a.tunnel.Status()
		if !s.PrivateKey.Equal(a.private) || s.PublicKey != a.public || s.ListenPort != outerPort || s.FwMark != 7 || !s.Up || s.MTU != mtu {
			t.Errorf("status is %+v", s)
		}
		p := a.peer(key)
		if p.Name != "laptop" || !p.PresharedKey.Equal(psk) || p.Endpoint != elsewhere || p.PersistentKeepalive != 25*time.Second || !p.LastHandshake.IsZero() {
			t.Errorf("peer is %+v", p)
		}
		if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}; !slices.Equal(p.AllowedIPs, want) {
			t.Errorf("allowed IPs are %v, want %v", p.AllowedIPs, want)
		}
		a.configure(transport.Config{ReplacePeers: true})
		if n := len(a.tunnel.Status().Peers); n != 0 {
			t.Errorf("%d peers are left", n)
		}
	})
}

func TestANewPortIsUsedAtOnceAndFollowed(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		b.configure(transport.Config{ListenPort: ptr(uint16(12345))})
		b.say(a, "from the new port")
		w.pass(4 * latency)
		a.mustHear("from the new port")
		want := netip.AddrPortFrom(b.outer.Addr(), 12345)
		if e := a.endpoint(b); e != want || b.tunnel.Status().ListenPort != 12345 {
			t.Errorf("the endpoint is %v, want %v", e, want)
		}
		a.say(b, "to the new port")
		w.pass(4 * latency)
		b.mustHear("to the new port")
	})
}

func TestAPortThatIsTakenIsAnError(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		if _, err := a.host.Listen(777, 1, 0); err != nil {
			t.Fatal(err)
		}
		if err := a.tunnel.Configure(transport.Config{ListenPort: ptr(uint16(777))}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Configure: %v", err)
		}
	})
}

func TestANewPrivateKeyEndsAllSessions(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		private := crypto.NewPrivateKey()
		a.configure(transport.Config{PrivateKey: &private})
		at := w.now()
		a.say(b, "x")
		b.say(a, "y")
		w.pass(4 * time.Second)
		a.mustHear()
		b.mustHear()
		if sent := w.sightings(at, "a", crypto.TypeTransport); len(sent) != 0 {
			t.Errorf("sent under a key that is gone:%s", story(sent))
		}
		b.configure(transport.Config{ReplacePeers: true})
		b.meetKey(private.Public(), a.outer, a.inner, a.inner6)
		w.pass(6 * time.Second)
		b.mustHear("x")
	})
}

func TestWithoutAPrivateKeyNothingIsSentOrAnswered(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		b.configure(transport.Config{PrivateKey: &crypto.PrivateKey{}})
		a.say(b, "x")
		b.say(a, "y")
		w.pass(20 * time.Second)
		if sent := w.sightings(0, "b"); len(sent) != 0 {
			t.Errorf("sent:%s", story(sent))
		}
		b.configure(transport.Config{PrivateKey: &b.private})
		w.stillWorks(a, b)
	})
}

func TestTheOwnKeyAmongThePeersGoesAwayWithIt(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		a.configure(transport.Config{PrivateKey: &b.private})
		if n := len(a.tunnel.Status().Peers); n != 0 {
			t.Errorf("%d peers", n)
		}
	})
}

func TestAnEndpointThatIsSetIsUsedForTheNextPacket(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		a.change(transport.PeerConfig{PublicKey: b.public, Endpoint: &elsewhere})
		at := w.now()
		a.say(b, "x")
		if sent := w.sightings(at, "a"); len(sent) != 1 || sent[0].to != elsewhere {
			t.Errorf("sent:%s", story(sent))
		}
	})
}

func TestConfiguringUnderTrafficIsSafe(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for k := range 300 {
				a.change(transport.PeerConfig{PublicKey: b.public, ReplaceAllowedIPs: true, AllowedIPs: a.peers[0].AllowedIPs})
				a.tunnel.SetMTU(mtu + k%3)
				_ = a.tunnel.Status()
				_ = b.tunnel.Status()
				key := crypto.NewPrivateKey().Public()
				a.change(transport.PeerConfig{PublicKey: key, Endpoint: &elsewhere, AllowedIPs: []transport.AllowedIPChange{{Prefix: netip.MustParsePrefix("10.200.0.0/16")}}})
				a.device.Inject(packet.UDP(to(a.inner), to(netip.MustParseAddr("10.200.0.1")), []byte("x")))
				time.Sleep(time.Millisecond)
				a.change(transport.PeerConfig{PublicKey: key, Remove: true})
			}
		}()
		sent := 0
		for running := true; running; sent++ {
			select {
			case <-done:
				running = false
			default:
				b.say(a, "y")
				a.say(b, "x")
				time.Sleep(300 * time.Microsecond)
			}
		}
		w.pass(time.Second)
		if got := len(b.heard()); got < sent*9/10 {
			t.Errorf("%d of %d arrived", got, sent)
		}
		w.stillWorks(a, b)
	})
}
