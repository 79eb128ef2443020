package transport_test

import (
	"net/netip"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

func TestTheFirstPacketMakesASessionAndDataGoesBothWays(t *testing.T) {
	for _, c := range []struct {
		name   string
		adjust func(w *world, a, b *end)
	}{
		{"over IPv4", func(w *world, a, b *end) {}},
		{"over IPv6", func(w *world, a, b *end) {
			a.outer = netip.AddrPortFrom(outerAddress6(1), outerPort)
			b.outer = netip.AddrPortFrom(outerAddress6(2), outerPort)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.end("a", 1), w.end("b", 2)
				c.adjust(w, a, b)
				psk := crypto.NewPresharedKey()
				a.meet(b, withPSK(psk))
				b.meet(a, withPSK(psk))
				a.say(b, "one")
				a.say6(b, "two")
				w.pass(4 * latency)
				b.mustHear("one", "two")
				b.say(a, "three")
				b.say6(a, "four")
				w.pass(2 * latency)
				a.mustHear("three", "four")

				seen := w.sightings(0, "")
				want := []crypto.MessageType{crypto.TypeInitiation, crypto.TypeResponse,
					crypto.TypeTransport, crypto.TypeTransport, crypto.TypeTransport, crypto.TypeTransport}
				if len(seen) != len(want) {
					t.Fatalf("on the wire:%s", story(seen))
				}
				for i := range want {
					if seen[i].kind != want[i] {
						t.Errorf("datagram %d is a %v, want a %v", i, seen[i].kind, want[i])
					}
				}
				tx, rx := uint64(0), uint64(0)
				for _, s := range seen {
					if s.sender == "a" {
						tx += uint64(len(s.data))
					} else {
						rx += uint64(len(s.data))
					}
				}
				for _, p := range []struct {
					transport.PeerStatus
					tx, rx uint64
				}{{a.peer(b.public), tx, rx}, {b.peer(a.public), rx, tx}} {
					if p.TxBytes != p.tx || p.RxBytes != p.rx {
						t.Errorf("counted %d bytes sent and %d received, want %d and %d", p.TxBytes, p.RxBytes, p.tx, p.rx)
					}
					if age := time.Since(p.LastHandshake); age < 0 || age > time.Second {
						t.Errorf("the last handshake was %v ago", age)
					}
					if total(p.Drops) != 0 {
						t.Errorf("dropped %v", p.Drops)
					}
				}
			})
		})
	}
}

func TestAllLanesCarryTraffic(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.shutDown()
		a.start(4)
		a.meet(b)
		b.meet(a, withAllowed("10.1.0.0/16"))
		a.change(transport.PeerConfig{PublicKey: b.public, AllowedIPs: []transport.AllowedIPChange{{Prefix: netip.MustParsePrefix("10.2.0.0/16")}}})
		flowOf := func(k int, text string) []byte {
			return packet.UDP(to(netip.AddrFrom4([4]byte{10, 1, 0, byte(k)})), to(netip.AddrFrom4([4]byte{10, 2, 0, byte(k)})), []byte(text))
		}
		a.device.Inject(flowOf(0, "wake"))
		w.pass(4 * latency)
		b.mustHear("wake")
		for k := range 100 {
			a.device.Inject(flowOf(k, "x"))
		}
		w.pass(2 * latency)
		if got := b.heard(); len(got) != 100 {
			t.Errorf("%d of 100 arrived", len(got))
		}
	})
}

func TestAnInitiatorWithNothingToSayConfirmsWithAKeepalive(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(time.Minute)})
		w.pass(4 * latency)
		seen := w.sightings(0, "")
		if len(seen) != 3 || seen[0].kind != crypto.TypeInitiation || seen[1].kind != crypto.TypeResponse || len(seen[2].data) != crypto.KeepaliveSize || seen[2].sender != "a" {
			t.Errorf("on the wire:%s", story(seen))
		}
		b.say(a, "now I may")
		w.pass(2 * latency)
		a.mustHear("now I may")
	})
}

func ptr[T any](v T) *T { return &v }

func TestAResponderSendsNoDataBeforeTheKeyIsConfirmed(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		pair := r.shake()
		at := w.now()
		b.device.Inject(packet.UDP(to(b.inner), to(r.inner), []byte("staged")))
		w.pass(4 * time.Second)
		if early := w.sightings(at, "b", crypto.TypeTransport); len(early) > 0 {
			t.Fatalf("sent before it knew that the initiator has the key:%s", story(early))
		}
		r.send(r.seal(pair, nil))
		msg, ok := r.next(time.Second, crypto.TypeTransport)
		if !ok {
			t.Fatalf("nothing came after the confirmation; on the wire:%s", story(w.sightings(0, "")))
		}
		if p, err := packet.Parse(trimmed(open(pair, msg))); err != nil || string(p.Payload) != "staged" {
			t.Errorf("received %q, %v", p.Payload, err)
		}
		if age := time.Since(b.peer(r.public).LastHandshake); age > time.Second {
			t.Errorf("the last handshake was %v ago: it is complete when it is confirmed", age)
		}
	})
}

func TestALaterHandshakeTakesThePlaceOfAnUnconfirmedOne(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		first := r.shake()
		w.pass(time.Second)
		second := r.shake()
		r.send(r.seal(first, payloadFrom(r, b, "under the first")))
		w.pass(2 * latency)
		b.mustHear()
		r.send(r.seal(second, payloadFrom(r, b, "under the second")))
		w.pass(2 * latency)
		b.mustHear("under the second")
	})
}

// trimmed cuts the padding off an IPv4 packet.
func trimmed(b []byte) []byte {
	if len(b) < 20 {
		return b
	}
	return b[:min(len(b), int(b[2])<<8|int(b[3]))]
}

func TestAnInitiatorConfirmsAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a)
		a.device.Inject(packet.UDP(to(a.inner), to(r.inner), []byte("hello")))
		msg, ok := r.next(time.Second, crypto.TypeInitiation)
		if !ok {
			t.Fatal("no initiation came")
		}
		response, pair := r.respond(msg)
		answered := w.now()
		r.send(response)
		got, ok := r.next(time.Second, crypto.TypeTransport)
		if !ok || w.now() != answered+2*latency {
			t.Fatalf("the first transport message came after %v (%v)", w.now()-answered, ok)
		}
		if p, err := packet.Parse(trimmed(open(pair, got))); err != nil || string(p.Payload) != "hello" {
			t.Errorf("received %q, %v", p.Payload, err)
		}
	})
}

func TestDifferentPresharedKeysMakeNoSession(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b, withPSK(crypto.NewPresharedKey()))
		b.meet(a)
		a.say(b, "lost")
		w.pass(4 * time.Second)
		b.mustHear()
		if n := len(w.sightings(0, "", crypto.TypeTransport)); n != 0 {
			t.Errorf("%d transport messages were sent", n)
		}
		// What was staged goes out when the keys agree, by the next attempt.
		b.change(transport.PeerConfig{PublicKey: a.public, PresharedKey: a.peers[0].PresharedKey})
		w.pass(2 * time.Second)
		b.mustHear("lost")
	})
}

func TestAnInitiationIsAnsweredOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		msg, _ := r.initiation()
		r.send(msg)
		if _, ok := r.next(time.Second, crypto.TypeResponse); !ok {
			t.Fatal("no response to the first")
		}
		for _, wait := range []time.Duration{0, time.Second, time.Minute, time.Hour} {
			w.pass(wait)
			r.send(msg)
			if _, ok := r.next(time.Second, crypto.TypeResponse); ok {
				t.Errorf("a replay was answered %v later", wait)
			}
		}
		if b.drops() == 0 {
			t.Error("no drop was counted")
		}
	})
}

func TestAnInitiationWithAnEarlierTimestampIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		early, _ := r.initiation()
		w.pass(time.Second)
		late, _ := r.initiation()
		r.send(late)
		if _, ok := r.next(time.Second, crypto.TypeResponse); !ok {
			t.Fatal("no response")
		}
		w.pass(time.Second)
		r.send(early)
		if _, ok := r.next(time.Second, crypto.TypeResponse); ok {
			t.Error("an initiation that was made earlier was answered")
		}
	})
}

func TestInitiationsCloserThan20MillisecondsAreDropped(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		answers := func(n int, gap time.Duration) (count int) {
			for range n {
				msg, _ := r.initiation()
				r.send(msg)
				w.pass(gap)
			}
			w.pass(time.Second)
			for {
				if _, ok := r.next(0, crypto.TypeResponse); !ok {
					return count
				}
				count++
			}
		}
		if n := answers(10, 25*time.Millisecond); n != 10 {
			t.Errorf("%d of 10 at 40 per second were answered", n)
		}
		if n := answers(20, 2*time.Millisecond); n < 1 || n > 4 {
			t.Errorf("%d of 20 at 500 per second were answered", n)
		}
	})
}

func TestAPeerWithOurOwnKeyIsPassedOver(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		a.change(transport.PeerConfig{PublicKey: a.public, Endpoint: &a.outer,
			AllowedIPs: []transport.AllowedIPChange{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}})
		if n := len(a.tunnel.Status().Peers); n != 0 {
			t.Errorf("%d peers", n)
		}
	})
}

func TestLowOrderPeersGetNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		for i, k := range []crypto.PublicKey{{}, {1}} {
			inner := netip.AddrFrom4([4]byte{10, 9, 0, byte(i)})
			// An error and a peer that never works are both right.
			_ = a.tunnel.Configure(transport.Config{Peers: []transport.PeerConfig{{
				PublicKey: k, Endpoint: ptr(netip.AddrPortFrom(outerAddress(99), 1)),
				AllowedIPs: []transport.AllowedIPChange{{Prefix: netip.PrefixFrom(inner, 32)}},
			}}})
			a.device.Inject(packet.UDP(to(a.inner), to(inner), []byte("x")))
		}
		w.pass(10 * time.Second)
		if got := w.sightings(0, "a"); len(got) != 0 {
			t.Errorf("sent:%s", story(got))
		}
	})
}
