package transport_test

import (
	"bytes"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// replies are the answers to probes among the messages that come within a second.
func (r *raw) replies(pair *crypto.Keypair) (plaintexts [][]byte) {
	for {
		m, ok := r.next(time.Second, crypto.TypeTransport)
		if !ok {
			return plaintexts
		}
		plain := open(pair, m)
		if _, _, body, ok := extension.Split(plain); ok {
			if typ, _ := extension.TypeOf(body); typ == extension.TypeProbeReply {
				plaintexts = append(plaintexts, plain)
			}
		}
	}
}

func TestAProbeIsAnsweredByItsSizeAndNoByteMore(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a, withExtensions(transport.ExtensionsAuto))
		pair := r.converse() // no hello of r's has proved it: plain WireGuard so far
		for _, size := range []int{16, 17, 31, 1420, 1421, 1433, 8977, 65000} {
			for _, full := range []bool{false, true} {
				probe := extension.Probe{Token: extension.Token(size) << 32, Size: size, Full: full}
				r.send(r.seal(pair, extension.AppendProbe(nil, probe)))
				got := r.replies(pair)
				if want := extension.AppendProbeReply(nil, probe); len(got) != 1 || !bytes.Equal(got[0], want) {
					t.Errorf("a probe of %d bytes, full %v, got %d replies, want one of %d bytes; drops %v", size, full, len(got), len(want), a.peer(r.public).Drops)
				}
			}
		}
	})
}

func TestAProbeIsAnsweredUnderItsSessionAndOnItsWay(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a, withExtensions(transport.ExtensionsAuto))
		old := r.converse()
		r.converse()
		sockets, err := r.host.Listen(4000, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := *r
		elsewhere.socket = sockets[0]
		probe := r.seal(old, extension.AppendProbe(nil, extension.Probe{Token: 5, Size: 1000, Full: true}))
		elsewhere.send(probe)
		if got := elsewhere.replies(old); len(got) != 1 {
			t.Errorf("%d replies where the probe came from, under its session", len(got))
		}
		if path := a.peer(r.public).Endpoint; path != r.outer {
			t.Errorf("a probe under an old session has moved the endpoint to %v", path)
		}
		if err := elsewhere.socket.Send(probe, len(probe), socket.Path{Remote: a.outer}); err != nil {
			t.Fatal(err)
		}
		if got := elsewhere.replies(old); len(got) != 0 {
			t.Errorf("%d replies to a probe that was sent again", len(got))
		}
	})
}

func TestOnlyAnEndThatSpeaksExtensionsAnswersProbes(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a)
		pair := r.converse()
		r.send(r.seal(pair, extension.AppendProbe(nil, extension.Probe{Token: 5, Size: 1000})))
		if got := r.replies(pair); len(got) != 0 {
			t.Errorf("%d replies of one whose extensions are off", len(got))
		}
		if drops := a.peer(r.public).Drops; drops["extensions_off"] != 1 {
			t.Errorf("drops %v", drops)
		}
	})
}
