package transport_test

import (
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

// A host that only listens behind a NAT must speak first, whatever was missing
// when it came up.
func TestAPersistentKeepaliveBeginsWhenWhatWasMissingIsThere(t *testing.T) {
	for _, missing := range []string{"key", "endpoint"} {
		t.Run(missing, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.end("a", 1), w.end("b", 2)
				b.meet(a)
				if err := a.tunnel.SetUp(false); err != nil {
					t.Fatal(err)
				}
				if missing == "key" {
					a.configure(transport.Config{PrivateKey: &crypto.PrivateKey{}})
					a.meet(b, withKeepalive(25*time.Second))
				} else {
					a.meet(b, withKeepalive(25*time.Second), withoutEndpoint)
				}
				if err := a.tunnel.SetUp(true); err != nil {
					t.Fatal(err)
				}
				w.pass(time.Minute)
				if n := len(w.sightings(0, "a")); n != 0 {
					t.Fatalf("%d datagrams were sent without %s", n, missing)
				}
				if missing == "key" {
					a.configure(transport.Config{PrivateKey: &a.private})
				} else {
					a.change(transport.PeerConfig{PublicKey: b.public, Endpoint: &b.outer})
				}
				w.pass(time.Second)
				if n := len(w.sightings(0, "a", crypto.TypeTransport)); n != 1 {
					t.Errorf("%d transport messages within a second, want 1", n)
				}
			})
		})
	}
}

// The handshake comes from a new place, and so does what follows; then a
// packet arrives that somebody has held back on the old path.
func TestAPacketHeldBackFromTheOldSessionDoesNotMoveTheEndpointBack(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		pair := r.converse()
		w.pass(time.Second)
		held := r.seal(pair, payloadFrom(r, b, "held back"))
		stop := w.network.Tap(func(d *memnet.Transit) bool {
			if d.Sender == r.host {
				d.From = elsewhere
			}
			if d.Sender == b.host && d.To == elsewhere {
				d.To = r.outer
			}
			return true
		})
		renewed := r.shake()
		r.send(r.seal(renewed, payloadFrom(r, b, "renewed")))
		w.pass(4 * latency)
		b.mustHear("renewed")
		stop()
		w.network.Inject(r.outer, b.outer, held)
		w.pass(4 * latency)
		b.mustHear("held back") // it is genuine, so it is delivered
		if e := b.peer(r.public).Endpoint; e != elsewhere {
			t.Errorf("the endpoint is %v, want %v", e, elsewhere)
		}
	})
}
