package transport_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
	"stunnel/transport/extension"
)

// connect opens a TCP connection to the target.
func (r *raw) connect() *memnet.Stream {
	r.w.t.Helper()
	s, err := r.host.Dial(context.Background(), r.target.outer, 0)
	if err != nil {
		r.w.t.Fatal(err)
	}
	return s
}

// put sends one message by a connection.
func (r *raw) put(s *memnet.Stream, msg []byte) {
	r.w.t.Helper()
	if err := s.Send(msg, len(msg)); err != nil {
		r.w.t.Fatal(err)
	}
}

// shakeBy is shake on a connection.
func (r *raw) shakeBy(s *memnet.Stream) *crypto.Keypair {
	r.w.t.Helper()
	msg, pending := r.initiation()
	r.put(s, msg)
	for {
		burst, err := s.Receive()
		if err != nil {
			r.w.t.Fatalf("%s did not respond to %s: %v; drops: %v", r.target.name, r.name, err, r.target.tunnel.Status().Drops)
		}
		for _, d := range burst {
			if kind, _ := crypto.Type(d.Data); kind != crypto.TypeResponse {
				continue
			}
			pair, err := pending.Finish(slices.Clone(d.Data), r.psk)
			if err != nil {
				r.w.t.Fatal(err)
			}
			return pair
		}
	}
}

func TestAPeerHoldsFewConnectionsHoweverManyItOpens(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		b.listensTCP()
		r := w.known("r", 3, b)
		for i := range 60 {
			s := r.connect()
			pair := r.shakeBy(s)
			switch i % 4 {
			case 0: // it stays unconfirmed
			case 1:
				r.send(r.seal(pair, nil)) // confirmed by the wrong way
			default:
				r.put(s, r.seal(pair, nil))
				w.pass(4 * latency)
				r.put(r.connect(), r.seal(pair, nil)) // on one more connection, which no session lives on
			}
			w.pass(4 * latency)
			// previous, current, two that drain, one that waits to be confirmed, and the guest
			if n := b.tunnel.Status().Streams; n > 6 {
				t.Fatalf("after %d handshakes the peer holds %d connections", i+1, n)
			}
		}
		w.pass(10 * time.Minute)
		if n := b.tunnel.Status().Streams; n != 0 {
			t.Errorf("%d connections are left of a peer that is silent", n)
		}
	})
}

func TestASessionIsConfirmedByItsOwnWayOnly(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		b.listensTCP()
		r := w.known("r", 3, b)
		confirmed := func() bool { return !b.peer(r.public).LastHandshake.IsZero() }

		s := r.connect()
		overTCP := r.shakeBy(s)
		r.send(r.seal(overTCP, nil))
		w.pass(4 * latency)
		if confirmed() {
			t.Error("a handshake by TCP was confirmed by UDP")
		}
		overUDP := r.shake()
		r.put(s, r.seal(overUDP, nil))
		w.pass(4 * latency)
		if confirmed() {
			t.Error("a handshake by UDP was confirmed by TCP")
		}
		r.put(r.connect(), r.seal(overTCP, nil))
		w.pass(4 * latency)
		if confirmed() {
			t.Error("a handshake by TCP was confirmed by another connection")
		}
		r.put(s, r.seal(overTCP, nil))
		w.pass(4 * latency)
		if !confirmed() {
			t.Error("a handshake by TCP is not confirmed by its own connection")
		}
		if p := b.peer(r.public); p.Carrier != transport.TransportTCP {
			t.Errorf("packets go by %v", p.Carrier)
		}
		r.send(r.seal(overUDP, nil))
		w.pass(4 * latency)
		if p := b.peer(r.public); p.Carrier != transport.TransportTCP {
			t.Errorf("a handshake that has lost is confirmed, and packets go by %v", p.Carrier)
		}
	})
}

func TestAProbeThatIsCopiedOntoAConnectionIsNotAnsweredThere(t *testing.T) {
	inWorld(t, func(w *world) {
		w.extensions = transport.ExtensionsAuto
		b := w.end("b", 2)
		b.listensTCP()
		r := w.known("r", 3, b)
		pair := r.converse()
		thief := w.stranger(9, b)
		probe := r.seal(pair, extension.AppendProbe(nil, extension.Probe{Token: 7, Size: 1000}))
		if err := thief.Send(probe, len(probe)); err != nil {
			t.Fatal(err)
		}
		w.pass(4 * latency)
		for _, s := range w.sightings(0, b.name) {
			if s.to == thief.Path().Remote || s.from == b.outer && s.to.Addr() == outerAddress(9) {
				t.Errorf("the thief was sent %d bytes", len(s.data))
			}
		}
		if n := b.peer(r.public).Drops["other_way"]; n != 1 {
			t.Errorf("%d probes are counted that came by another way", n)
		}
	})
}
