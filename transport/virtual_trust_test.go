package transport_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
	"stunnel/transport/extension"
)

// isHello says whether a datagram may be one of the ends' hellos, by its size.
func isHello(d *memnet.Transit, kind crypto.MessageType) bool {
	return kind == crypto.TypeTransport && len(d.Data) == 80
}

// mustGetPartial fails the test unless all of n packets that a sends, a second
// apart, arrive.
func (b *end) mustGetPartial(a *end, n int) {
	b.w.t.Helper()
	lost := 0
	for i := range n {
		a.sayPartial(b, fmt.Sprint(i))
		b.w.pass(time.Second)
		if len(b.heard()) == 0 {
			lost++
		}
	}
	if lost > 0 {
		b.w.t.Errorf("%d of %d packets lost; drops %v", lost, n, b.peer(a.public).Drops)
	}
}

func (b *end) distrust() {
	b.w.t.Helper()
	no := false
	b.configure(transport.Config{TrustedChecksums: &no})
}

// A packet that is under way while its kind is taken back was sent in good faith.
func TestTakingTrustBackLosesNothing(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.greet(a, b)
		number := 0
		talk := func(d time.Duration) {
			for until := w.now() + d; w.now() < until; number++ {
				a.sayPartial(b, fmt.Sprint("packet ", number))
				w.pass(time.Millisecond)
			}
		}
		talk(time.Second)
		if b.device.Partial() < number-2*int(latency/time.Millisecond) {
			t.Errorf("%d of %d packets came partial", b.device.Partial(), number)
		}
		b.distrust()
		talk(time.Second)
		before := b.device.Partial()
		talk(time.Second)
		w.pass(time.Second)
		if got := len(b.heard()); got != number {
			t.Errorf("%d of %d packets came", got, number)
		}
		if b.device.Partial() != before {
			t.Error("partial packets still come")
		}
	})
}

// wg setconf removes all peers and adds them again: what b says then counts as
// new, however much it has said before.
func TestTrustIsTakenBackByAnEndThatHasForgottenItsPeer(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.greet(a, b)
		for range 4 {
			a.say(b, "time for a rekey")
			w.pass(130 * time.Second)
		}
		b.configure(transport.Config{ReplacePeers: true, Peers: b.peers})
		w.pass(time.Second)
		a.say(b, "still here")
		w.pass(time.Second)
		b.heard()
		b.distrust()
		w.pass(5 * time.Second)
		b.mustGetPartial(a, 300)
	})
}

// b has been heard but has not heard a yet.
func TestTrustIsTakenBackBeforeTheOthersHelloHasCome(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		resume := w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool { return d.Sender != a.host || !isHello(d, kind) })
		b.say(a, "first")
		w.pass(time.Second)
		a.mustHear("first")
		b.distrust()
		w.pass(100 * time.Millisecond)
		resume()
		w.pass(4 * time.Second)
		b.mustGetPartial(a, 100)
	})
}

// What b was told before it switched extensions off it cannot know in this session.
func TestSwitchingExtensionsOffLosesNothing(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.greet(a, b)
		off := transport.ExtensionsOff
		b.change(transport.PeerConfig{PublicKey: a.public, Extensions: &off})
		before := b.device.Partial()
		b.mustGetPartial(a, 10)
		if b.device.Partial() == before {
			t.Error("no packet came partial: this test shows nothing")
		}
		w.pass(3 * time.Minute) // another session
		before = b.device.Partial()
		b.mustGetPartial(a, 10)
		if b.device.Partial() != before {
			t.Error("partial packets come under a session that began with extensions off")
		}
	})
}

// Somebody in the middle who drops what has a hello's size can make of two
// stunnels two WireGuards, with a warning; when he goes they find each other.
func TestHellosThatWereKeptAwayForMinutesAreMadeUpForAtOnce(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.greet(a, b)
		talk := func(seconds int) {
			for range seconds {
				a.say(b, "x")
				b.say(a, "y")
				w.pass(time.Second)
			}
		}
		resume := w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool { return !isHello(d, kind) })
		talk(500)
		a.mustBePlain(b)
		if a.peer(b.public).Downgrades != 1 || b.peer(a.public).Downgrades != 1 {
			t.Errorf("%d and %d downgrades counted, want 1 each", a.peer(b.public).Downgrades, b.peer(a.public).Downgrades)
		}
		resume()
		talk(5)
		a.mustSpeak(b)
		b.mustSpeak(a)
	})
}

func TestAPeerCannotFillTheLog(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		var log bytes.Buffer
		w.log = slog.New(slog.NewTextHandler(&log, nil))
		a := w.end("a", 1)
		r := w.known("r", 9, a, withExtensions(transport.ExtensionsAuto))
		pair := r.converse()
		before := strings.Count(log.String(), "\n")
		for i := range 1000 {
			hello := extension.Hello{Instance: 5, Sequence: extension.Sequence(i + 1), Mode: extension.Mode(i % 2), Version: fmt.Sprint("v", i)}
			r.send(r.seal(pair, hello.Append(nil)))
			w.pass(time.Millisecond)
		}
		if n := strings.Count(log.String(), "\n") - before; n < 1 || n > 6 {
			t.Errorf("%d lines in the log for 1000 different hellos in a second", n)
		}
	})
}

func TestAnEchoIsNotAnsweredUnderASessionThatIsNotProved(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a, withExtensions(transport.ExtensionsAuto))
		pair := r.converse()
		replies := func() (n int) {
			r.send(r.seal(pair, extension.AppendEcho(nil, 7)))
			for {
				m, ok := r.next(time.Second, crypto.TypeTransport)
				if !ok {
					return n
				}
				if _, _, body, ok := extension.Split(open(pair, m)); ok {
					if typ, _ := extension.TypeOf(body); typ == extension.TypeEchoReply {
						n++
					}
				}
			}
		}
		if n := replies(); n != 0 {
			t.Errorf("%d replies before the hello", n)
		}
		hello := extension.Hello{Instance: 5, Sequence: 1, Version: "1"}
		r.send(r.seal(pair, hello.Append(nil)))
		if n := replies(); n != 1 {
			t.Errorf("%d replies behind the hello, want 1", n)
		}
	})
}
