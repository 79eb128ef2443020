package transport_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// logged has ends that are made from now on log into what is returned.
func (w *world) logged() *journal {
	j := new(journal)
	w.log = slog.New(slog.NewTextHandler(j, nil))
	return j
}

// journal is a log that many may write to.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

// count is how many lines have a text in them.
func (j *journal) count(what string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, what) {
			n++
		}
	}
	return n
}

// mixed makes a in tap mode and b in tun mode, each other's peers, b with this policy.
func mixed(t *testing.T, policy transport.Extensions, test func(w *world, a, b *end, log *journal)) {
	t.Helper()
	inWorld(t, func(w *world) {
		log := w.logged()
		w.ethernet = true
		a := w.end("a", 1)
		w.ethernet = false
		b := w.end("b", 2)
		a.meet(b, withExtensions(transport.ExtensionsRequired))
		b.meet(a, withExtensions(policy))
		test(w, a, b, log)
	})
}

// nothingCarried has both ends send what they carry for a while and fails the test if
// anything of that reaches the other, leaves in a message of its size, or is kept.
func nothingCarried(w *world, a, b *end) {
	w.t.Helper()
	const size = 700
	since := w.now()
	for range 300 {
		a.tells(station(0), everybody, strings.Repeat("x", size))
		b.say(a, strings.Repeat("y", size))
		w.pass(100 * time.Millisecond)
	}
	a.mustBeTold()
	b.mustHear()
	for _, m := range w.sightings(since, "a", crypto.TypeTransport) {
		if len(m.data) > size {
			w.t.Fatalf("at %v a message of %d bytes left a", m.at, len(m.data))
		}
	}
	if n := a.tunnel.Staged(); n != 0 {
		w.t.Errorf("a keeps %d frames", n)
	}
}

func TestTapAgainstTunIsSaidAtBothEndsAndCarriesNothing(t *testing.T) {
	for _, policy := range []transport.Extensions{transport.ExtensionsAuto, transport.ExtensionsRequired} {
		mixed(t, policy, func(w *world, a, b *end, log *journal) {
			a.tells(station(0), everybody, "before the handshake")
			b.say(a, "before the handshake")
			w.pass(10 * time.Second)
			nothingCarried(w, a, b)
			if n := b.tunnel.Staged(); n != 0 {
				t.Errorf("b keeps %d packets", n)
			}
			for _, m := range w.sightings(w.now()-10*time.Second, "b", crypto.TypeTransport) {
				if len(m.data) > 700 {
					t.Errorf("a packet left b, which knows that a carries frames")
					break
				}
			}
			if why := a.peer(b.public).Refused; why != "the peer is in tun mode, this end in tap mode" {
				t.Errorf("a says %q", why)
			}
			if why := b.peer(a.public).Refused; why != "the peer is in tap mode, this end in tun mode" {
				t.Errorf("b says %q", why)
			}
			for _, why := range []string{"the peer is in tun mode, this end in tap mode", "the peer is in tap mode, this end in tun mode"} {
				if n := log.count(why); n != 1 {
					t.Errorf("the log says %d times: %s", n, why)
				}
			}
			if n := a.peer(b.public).Drops["other_mode"]; n < 300 {
				t.Errorf("%d frames counted", n)
			}
		})
	}
}

func TestAPeerThatChangesItsModeIsSpokenTo(t *testing.T) {
	mixed(t, transport.ExtensionsAuto, func(w *world, a, b *end, _ *journal) {
		nothingCarried(w, a, b)
		*b.peers[0].Extensions = transport.ExtensionsRequired
		b.ethernet = true
		b.restart()
		for i := 0; len(b.told()) == 0; i++ {
			if i == 30 {
				t.Fatalf("nothing has come for %d s; a says %q", i, a.peer(b.public).Refused)
			}
			a.tells(station(0), everybody, "hello")
			w.pass(time.Second)
		}
		if why := a.peer(b.public).Refused; why != "" {
			t.Errorf("a still says %q", why)
		}
	})
}

func TestTapAgainstAPlainWireGuardIsSaidAndCarriesNothing(t *testing.T) {
	mixed(t, transport.ExtensionsOff, func(w *world, a, b *end, log *journal) {
		a.tells(station(0), everybody, "before the handshake")
		w.pass(10 * time.Second)
		nothingCarried(w, a, b)
		w.pass(10 * time.Minute)
		nothingCarried(w, a, b)
		if why := a.peer(b.public).Refused; !strings.Contains(why, "plain WireGuard") {
			t.Errorf("a says %q", why)
		}
		if n := log.count("plain WireGuard, which carries no frames"); n != 1 {
			t.Errorf("the log says %d times that it is a plain WireGuard", n)
		}
		if n := a.peer(b.public).Drops["no_frame"]; n == 0 {
			t.Error("packets of the plain end are not counted")
		}
	})
}

func TestExtensionsCannotBeOffInTapMode(t *testing.T) {
	inLAN(t, 2, func(w *world, s []*end) {
		off := transport.ExtensionsOff
		err := s[0].tunnel.Configure(transport.Config{Peers: []transport.PeerConfig{{PublicKey: s[1].public, Extensions: &off}}})
		if err == nil {
			t.Error("no error")
		}
		acquaint(w, s)
	})
}
