package interop

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// told is what a stunnel end tells of its peer.
func (e *end) told() transport.PeerStatus {
	e.w.t.Helper()
	e.w.settle()
	return e.implementation.(*tunnel).Status().Peers[0]
}

// inExtendedWorlds runs a test with a stunnel that tries wireguard-go for
// extensions, and begins the handshake or, as b, does not.
func inExtendedWorlds(t *testing.T, test func(w *world, a, b, stunnel, other *end)) {
	t.Helper()
	for _, p := range mixed {
		if !p.extended() {
			continue
		}
		t.Run(p.String(), func(t *testing.T) {
			inWorld(t, p, func(w *world, a, b *end) {
				if a.maker.name == extended.name {
					test(w, a, b, a, b)
				} else {
					test(w, a, b, b, a)
				}
			})
		})
	}
}

func TestWireGuardGoIsToldApart(t *testing.T) {
	inExtendedWorlds(t, func(w *world, a, b, stunnel, _ *end) {
		if s := stunnel.told(); s.Software != "" {
			w.t.Errorf("before there was a session the other end is taken for %q", s.Software)
		}
		w.greet(a, b)
		w.pass(5 * time.Second)
		s := stunnel.told()
		if s.Software != "wireguard" || len(s.Announced) > 0 || s.Refused != "" || s.Downgrades > 0 || s.EchoesSent > 0 || s.RoundTrip != 0 {
			w.t.Errorf("stunnel tells of wireguard-go: %+v", s)
		}
		for reason, n := range s.Drops {
			w.t.Errorf("%d packets dropped for %s", n, reason)
		}
	})
}

func TestHellosDoNotComeOutOfWireGuardGo(t *testing.T) {
	inExtendedWorlds(t, func(w *world, a, b, stunnel, other *end) {
		w.greet(a, b)
		for range 40 {
			other.say(stunnel, "one a second, so that hello is said again")
			w.pass(time.Second)
		}
		if got := len(stunnel.heard()); got != 40 {
			w.t.Errorf("of 40 packets %d came", got)
		}
		other.mustHear()
		_, hellos := withoutHellos(w.sightings(0, stunnel.name))
		if len(hellos) < hellosASession+8 {
			w.t.Errorf("only %d hellos were said: this proves little", len(hellos))
		}
	})
}

func TestAPartialChecksumIsCompletedForWireGuardGo(t *testing.T) {
	inExtendedWorlds(t, func(w *world, a, b, stunnel, other *end) {
		w.greet(a, b)
		var want []string
		for range 50 {
			want = append(want, "whose checksum is ours to compute")
			stunnel.sayPartial(other, want[0])
			w.pass(100 * time.Millisecond)
		}
		other.mustHear(want...) // which parses them, checksum and all
	})
}

func TestAPacketTooLongForThePathIsNotCutForWireGuardGo(t *testing.T) {
	inExtendedWorlds(t, func(w *world, a, b, stunnel, other *end) {
		w.greet(a, b)
		w.pass(5 * time.Second)
		long := packetsOfEverySize(stunnel.inner, other.inner, rand.NewChaCha8([32]byte{2}))
		since := w.now()
		stunnel.device.Inject(long[len(long)-1])
		w.pass(2 * latency)
		if got := other.device.Drain(); len(got) != 1 || !bytes.Equal(got[0], long[len(long)-1]) {
			w.t.Errorf("%d packets came", len(got))
		}
		if sent := w.sightings(since, stunnel.name, crypto.TypeTransport); len(sent) != 1 {
			w.t.Errorf("one packet of %d bytes left as%s", mtu, story(sent))
		}
	})
}

// required: no inner packet goes or comes, while WireGuard's handshake is as ever.
func TestNothingPassesToWireGuardGoWhereExtensionsAreRequired(t *testing.T) {
	inExtendedWorlds(t, func(w *world, a, b, stunnel, other *end) {
		required := transport.ExtensionsRequired
		config := transport.Config{Peers: []transport.PeerConfig{{PublicKey: other.public, Extensions: &required}}}
		if err := stunnel.implementation.(*tunnel).Configure(config); err != nil {
			w.t.Fatal(err)
		}
		for range 20 {
			a.say(b, "nobody hears this")
			b.say(a, "nor this")
			w.pass(time.Second)
		}
		a.mustHear()
		b.mustHear()
		s := stunnel.told()
		// All that came, and what had waited when it was clear that no hello would come.
		if n := s.Drops["before_hello"]; s.Software != "wireguard" || s.LastHandshake.IsZero() || n < 20 || n > 24 {
			w.t.Errorf("stunnel tells %+v", s)
		}
		handshakes := w.sightings(0, "", crypto.TypeInitiation)
		if !slices.ContainsFunc(w.sightings(0, "", crypto.TypeTransport), func(s sighting) bool { return s.sender == other.name }) || len(handshakes) > 3 {
			w.t.Errorf("on the wire:%s", story(w.sightings(0, "")))
		}
	})
}
