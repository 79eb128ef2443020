package interop

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"stunnel/crypto"
)

func (w *world) mustSeeAt(e, other *end, want netip.AddrPort) {
	w.t.Helper()
	if got := e.state(other).endpoint; got != want {
		w.t.Fatalf("%s (%s) sees %s at %v, want %v", e.name, e.maker.name, other.name, got, want)
	}
}

func TestEachEndIsFollowedToANewAddress(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		handshakes := len(w.sightings(0, "", crypto.TypeInitiation))
		for i, move := range [][2]*end{{a, b}, {b, a}, {a, b}, {a, b}, {b, a}} {
			mover, other := move[0], move[1]
			mover.move(11 + i)
			mover.say(other, fmt.Sprint("I have moved ", i))
			w.pass(2 * latency)
			other.mustHear(fmt.Sprint("I have moved ", i))
			w.mustSeeAt(other, mover, mover.outer)
			other.say(mover, "I have seen that")
			w.pass(2 * latency)
			mover.mustHear("I have seen that")
		}
		if n := len(w.sightings(0, "", crypto.TypeInitiation)); n != handshakes {
			w.t.Errorf("moving took %d handshakes", n-handshakes)
		}
	})
}

// A keepalive is authenticated too: it moves the endpoint as data does.
func TestAKeepaliveShowsTheNewAddress(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		w.pass(15 * time.Second)
		a.move(11)
		w.pass(25 * time.Second)
		w.mustSeeAt(b, a, a.outer)
		b.move(12)
		b.say(a, "so have I")
		w.pass(11 * time.Second) // a's answer to that is a keepalive
		a.mustHear("so have I")
		w.mustSeeAt(a, b, b.outer)
	}, withKeepalive(20*time.Second))
}

func TestAHandshakeShowsTheNewAddress(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		w.pass(200 * time.Second)
		a.move(11)
		w.greet(a, b)
		w.mustSeeAt(b, a, a.outer)
		w.pass(200 * time.Second)
		b.move(12)
		w.greet(b, a)
		w.mustSeeAt(a, b, b.outer)
	})
}

func TestANATThatForgetsIsFollowedToTheNewPort(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		public := netip.MustParseAddr("203.0.113.1")
		nat := w.network.NAT(public, a.host)
		w.greet(a, b)
		var before netip.AddrPort
		for range 3 {
			now := b.state(a).endpoint
			if now.Addr() != public || now == before {
				w.t.Fatalf("b sees a at %v, before at %v", now, before)
			}
			before = now
			nat.Rebind()
			w.greet(a, b)
		}
	})
}

// What was sealed before a move and comes after it (replayed, or late) must not
// move the endpoint back.
func TestAReplayDoesNotMoveTheEndpoint(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		thief := netip.AddrPortFrom(outerAddress(66), 6666)
		for _, s := range w.sightings(0, "") {
			at := b.outer
			if s.sender == "b" {
				at = a.outer
			}
			w.network.Inject(thief, at, s.data)
		}
		w.pass(time.Second)
		w.mustSeeAt(b, a, a.outer)
		w.mustSeeAt(a, b, b.outer)
		w.greet(a, b)
	})
}
