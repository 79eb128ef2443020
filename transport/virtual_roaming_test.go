package transport_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

// elsewhere is an address from which nobody has sent yet.
var elsewhere = netip.MustParseAddrPort("203.0.113.7:4242")

// divert makes datagrams of one kind and end come from elsewhere.
func (w *world) divert(from *end, kind crypto.MessageType) (stop func()) {
	return w.tap(func(d *memnet.Transit, k crypto.MessageType) bool {
		if d.Sender == from.host && k == kind {
			d.From = elsewhere
		}
		return true
	})
}

func TestTheEndpointFollowsAuthenticatedPackets(t *testing.T) {
	t.Run("data", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.acquainted()
			stop := w.divert(a, crypto.TypeTransport)
			a.say(b, "from elsewhere")
			w.pass(2 * latency)
			b.mustHear("from elsewhere")
			if at := b.endpoint(a); at != elsewhere {
				t.Errorf("the endpoint is %v", at)
			}
			at := w.now()
			b.say(a, "reply")
			if sent := w.sightings(at, "b"); len(sent) != 1 || sent[0].to != elsewhere {
				t.Errorf("sent:%s", story(sent))
			}
			stop()
			a.say(b, "back again")
			w.pass(2 * latency)
			if at := b.endpoint(a); at != a.outer {
				t.Errorf("after it came back the endpoint is %v", at)
			}
		})
	})
	t.Run("keepalive", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.acquainted()
			w.divert(a, crypto.TypeTransport)
			a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(time.Second)})
			w.pass(4 * latency)
			if at := b.endpoint(a); at != elsewhere {
				t.Errorf("the endpoint is %v", at)
			}
		})
	})
	t.Run("initiation", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.couple()
			w.divert(a, crypto.TypeInitiation)
			a.say(b, "x")
			w.pass(2 * latency)
			if at := b.endpoint(a); at != elsewhere {
				t.Errorf("the endpoint is %v", at)
			}
			if sent := w.sightings(0, "b"); len(sent) != 1 || sent[0].to != elsewhere {
				t.Errorf("the response must go where the initiation came from; sent:%s", story(sent))
			}
		})
	})
	t.Run("response", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.couple()
			w.divert(b, crypto.TypeResponse)
			a.say(b, "x")
			w.pass(4 * latency)
			if at := a.endpoint(b); at != elsewhere {
				t.Errorf("the endpoint is %v", at)
			}
		})
	})
}

func TestAMovingHostAndARebindingNATAreFollowed(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b)
		b.meet(a, withoutEndpoint)
		w.greet(a, b)
		for k := 3; k < 10; k++ {
			a.host.SetAddresses(outerAddress(k))
			a.say(b, "moved")
			w.pass(2 * latency)
			b.mustHear("moved")
			b.say(a, "seen")
			w.pass(2 * latency)
			a.mustHear("seen")
		}
		nat := w.network.NAT(netip.MustParseAddr("198.51.100.1"), a.host)
		for range 10 {
			a.say(b, "translated")
			w.pass(2 * latency)
			b.mustHear("translated")
			b.say(a, "seen")
			w.pass(2 * latency)
			a.mustHear("seen")
			nat.Rebind()
		}
		if n := len(w.sightings(0, "", crypto.TypeInitiation)); n != 1 {
			t.Errorf("roaming took %d initiations", n)
		}
	})
}

// After the address that it sends from is taken away, an end must find another
// way out by itself.
func TestAStickyLocalAddressIsForgottenWhenItIsGone(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		b.host.SetAddresses(outerAddress(20), outerAddress(21))
		b.outer = netip.AddrPortFrom(outerAddress(21), outerPort) // not the one it would choose itself
		a.meet(b)
		b.meet(a, withoutEndpoint)
		w.greet(a, b)
		for _, s := range w.sightings(0, "b") {
			if s.from != b.outer {
				t.Fatalf("answered from %v what had come to %v", s.from, b.outer)
			}
		}
		b.host.SetAddresses(outerAddress(20))
		b.say(a, "from what is left")
		w.pass(2 * latency)
		a.mustHear("from what is left")
		if at := a.endpoint(b); at.Addr() != outerAddress(20) {
			t.Errorf("the endpoint is %v", at)
		}
		b.say(a, "once more")
		w.settle()
		if n := w.network.Stats().LocalGone; n != 1 {
			t.Errorf("asked %d times for an address that is gone", n)
		}
	})
}

// An address may still be there and lead nowhere.
func TestAStickyLocalAddressIsGivenUpWhenNobodyAnswers(t *testing.T) {
	dual := func(w *world) (a, b *end) {
		a, b = w.end("a", 1), w.end("b", 2)
		b.host.SetAddresses(outerAddress(20), outerAddress(21))
		b.outer = netip.AddrPortFrom(outerAddress(21), outerPort)
		a.meet(b)
		b.meet(a, withoutEndpoint)
		w.greet(a, b)
		w.tap(func(d *memnet.Transit, _ crypto.MessageType) bool { return d.From.Addr() != outerAddress(21) })
		return a, b
	}
	t.Run("data", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := dual(w)
			b.say(a, "lost")
			w.pass(16 * time.Second)
			b.say(a, "found")
			w.pass(time.Second)
			a.mustHear("found")
		})
	})
	t.Run("a handshake", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := dual(w)
			w.pass(200 * time.Second)
			b.say(a, "found")
			w.pass(6 * time.Second)
			a.mustHear("found")
		})
	})
}

// What was under way on the old path when a peer moved comes late and is
// genuine, but it says where the peer was.
func TestAPacketDelayedOnTheOldPathDoesNotMoveTheEndpointBack(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		pair := r.converse()
		late := r.seal(pair, payloadFrom(r, b, "late"))
		w.network.Inject(elsewhere, b.outer, r.seal(pair, payloadFrom(r, b, "moved")))
		b.mustHear("moved")
		w.network.Inject(r.outer, b.outer, late)
		b.mustHear("late")
		if e := b.peer(r.public).Endpoint; e != elsewhere {
			t.Errorf("the endpoint is %v", e)
		}

		last := r.seal(pair, payloadFrom(r, b, "last of the old session"))
		w.pass(time.Second)
		renewed := r.shake()
		w.network.Inject(elsewhere, b.outer, r.seal(renewed, payloadFrom(r, b, "renewed")))
		b.mustHear("renewed")
		w.network.Inject(r.outer, b.outer, last)
		b.mustHear("last of the old session")
		if e := b.peer(r.public).Endpoint; e != elsewhere {
			t.Errorf("after a renewal the endpoint is %v", e)
		}
	})
}

func TestAStickyLocalAddressIsGivenUpWhenTheWayLeadsElsewhere(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		b.host.SetAddresses(outerAddress(20), outerAddress(21))
		b.outer = netip.AddrPortFrom(outerAddress(21), outerPort)
		a.meet(b)
		b.meet(a, withoutEndpoint)
		w.greet(a, b)
		var from netip.Addr
		w.tap(func(d *memnet.Transit, _ crypto.MessageType) bool {
			if d.From.Addr() == outerAddress(20) || d.From.Addr() == outerAddress(21) {
				from = d.From.Addr()
			}
			return true
		})
		var link atomic.Int64
		way := func(remote netip.Addr, mark uint32) int {
			if remote != a.outer.Addr() || mark != 0 {
				t.Errorf("asked for %v with mark %d", remote, mark)
			}
			return int(link.Load())
		}
		b.way.Store(&way)
		says := func(want netip.Addr, when string) {
			t.Helper()
			b.say(a, when)
			w.pass(time.Second)
			a.mustHear(when)
			if from != want {
				t.Errorf("%s: sent from %v, want %v", when, from, want)
			}
		}
		b.tunnel.Reroute()
		says(outerAddress(21), "no way is known")
		link.Store(memnet.Interface)
		b.tunnel.Reroute()
		says(outerAddress(21), "by the same interface")
		a.say(b, "under way to the old address")
		link.Store(memnet.Interface + 1)
		b.tunnel.Reroute()
		w.pass(time.Second)
		b.mustHear("under way to the old address")
		says(outerAddress(20), "by another")
		link.Store(memnet.Interface)
		b.tunnel.Reroute()
		a.change(transport.PeerConfig{PublicKey: b.public, Endpoint: &b.outer})
		a.say(b, "to the old address")
		w.pass(time.Second)
		b.mustHear("to the old address")
		says(outerAddress(21), "by the first again")
	})
}

// Two uplinks, the questions come in by one of them, and the default route leads out by the other: nothing changes with that.
func TestAStickyLocalAddressStaysWhereTheWayHasAlwaysLedElsewhere(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		b.host.SetAddresses(outerAddress(20), outerAddress(21))
		b.outer = netip.AddrPortFrom(outerAddress(21), outerPort)
		var link atomic.Int64
		link.Store(memnet.Interface + 1)
		way := func(netip.Addr, uint32) int { return int(link.Load()) }
		b.way.Store(&way)
		a.meet(b)
		b.meet(a, withoutEndpoint)
		w.greet(a, b)
		var from netip.Addr
		w.tap(func(d *memnet.Transit, _ crypto.MessageType) bool {
			if d.From.Addr() == outerAddress(20) || d.From.Addr() == outerAddress(21) {
				from = d.From.Addr()
			}
			return true
		})
		for _, step := range []struct {
			what string
			link int64
			want netip.Addr
		}{
			{"as from the beginning", memnet.Interface + 1, outerAddress(21)},
			{"there is no way for a moment", 0, outerAddress(21)},
			{"by the interface of the questions", memnet.Interface, outerAddress(21)},
			{"by a third", memnet.Interface + 2, outerAddress(20)},
		} {
			link.Store(step.link)
			b.tunnel.Reroute()
			b.say(a, step.what)
			w.pass(time.Second)
			a.mustHear(step.what)
			if from != step.want {
				t.Errorf("%s: sent from %v, want %v", step.what, from, step.want)
			}
		}
	})
}
