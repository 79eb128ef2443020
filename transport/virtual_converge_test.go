package transport_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"stunnel/test/memnet"
	"stunnel/transport"
)

// fates are random events between two ends, the same for the same seed.
type fates struct {
	*world
	random *rand.Rand
	a, b   *end
	number int // of texts said
}

func (w *world) fates(seed uint64) *fates {
	f := &fates{world: w, random: rand.New(rand.NewPCG(seed, 7))}
	f.a, f.b = w.couple()
	return f
}

func (f *fates) duration(most time.Duration) time.Duration {
	return time.Duration(f.random.Int64N(int64(most)))
}

// talk has both say something every interval, for d: packets whose checksum the
// stack has left open, and some that are longer than the path.
func (f *fates) talk(interval, d time.Duration) {
	for until := f.now() + d; f.now() < until; f.number++ {
		text := fmt.Sprint("number ", f.number)
		if f.number%5 == 0 {
			text += strings.Repeat(".", 1500)
		}
		f.a.sayPartial(f.b, text)
		f.b.sayPartial(f.a, text)
		f.pass(interval)
	}
}

// mustBeOffenceless fails the test if an end got an extension that it has not
// announced, or that is none.
func (f *fates) mustBeOffenceless(e *end) {
	f.t.Helper()
	for _, p := range e.tunnel.Status().Peers {
		for _, reason := range []string{"not_announced", "untrusted_checksum", "bad_extension", "unknown_extension", "bad_packet", "before_hello"} {
			if n := p.Drops[reason]; n > 0 {
				f.t.Errorf("at %v %s had dropped %d as %s", f.now(), e.name, n, reason)
			}
		}
	}
}

// restart ends a process, by a crash or with a goodbye, and begins another one
// that speaks extensions as said.
func (f *fates) restart(e *end, as transport.Extensions, crash bool) {
	f.mustBeOffenceless(e)
	if crash {
		defer f.stop(e)()
	}
	for i := range e.peers {
		e.peers[i].Extensions = &as
	}
	e.restart()
}

func TestWhateverHappenedBothSpeakFiveSecondsAfterTheLossHasEnded(t *testing.T) {
	t.Parallel()
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			inExtendedWorld(t, func(w *world) {
				f := w.fates(uint64(seed))
				r := f.random
				for range 10 {
					e := []*end{f.a, f.b}[r.IntN(2)]
					switch r.IntN(9) {
					case 0, 1, 2:
						w.network.Impair(memnet.Impairment{
							Loss: r.Float64(), Duplicate: r.Float64() / 2, Reorder: r.Float64() / 2,
							Delay: f.duration(400 * time.Millisecond), Jitter: f.duration(200 * time.Millisecond), ReorderBy: f.duration(time.Second),
						})
					case 3:
						w.network.Impair(memnet.Impairment{Loss: 1})
					case 4: // handshakes cross
						f.restart(f.a, transport.ExtensionsAuto, true)
						f.restart(f.b, transport.ExtensionsAuto, true)
					case 5, 6:
						f.restart(e, transport.ExtensionsAuto, r.IntN(2) == 0)
					case 7:
						f.restart(e, transport.ExtensionsOff, r.IntN(2) == 0)
					case 8:
						e.change(transport.PeerConfig{PublicKey: e.peers[0].PublicKey, Extensions: new(transport.Extensions(r.IntN(2)))})
					}
					f.talk(time.Duration(10+r.IntN(200))*time.Millisecond, f.duration(40*time.Second))
				}

				// The last plain ones become what they are to be in the end.
				for _, e := range []*end{f.a, f.b} {
					e.change(transport.PeerConfig{PublicKey: e.peers[0].PublicKey, Extensions: new(transport.ExtensionsAuto)})
				}
				w.network.Impair(memnet.Impairment{Delay: latency})
				f.a.heard()
				f.b.heard()
				var atA, atB int
				for until := w.now() + time.Minute; (atA == 0 || atB == 0) && w.now() < until; {
					f.talk(20*time.Millisecond, 20*time.Millisecond)
					atA, atB = atA+len(f.a.heard()), atB+len(f.b.heard())
				}
				f.talk(50*time.Millisecond, 5*time.Second)
				f.a.mustSpeak(f.b)
				f.b.mustSpeak(f.a)
				f.mustBeOffenceless(f.a)
				f.mustBeOffenceless(f.b)
			})
		})
	}
}

// Where handshakes cross on a network that doubles and reorders, WireGuard loses
// a packet now and then, and so do we; here only one end begins them.
func TestRekeysWithExtensionsLoseNothing(t *testing.T) {
	t.Parallel()
	for seed := range 5 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inExtendedWorld(t, func(w *world) {
				f := w.fates(uint64(seed))
				w.network.Impair(memnet.Impairment{Delay: latency})
				w.greet(f.a, f.b)
				w.network.Impair(memnet.Impairment{
					Delay: f.duration(100 * time.Millisecond), Duplicate: f.random.Float64() / 2,
					Jitter: f.duration(30 * time.Millisecond), Reorder: f.random.Float64() / 4, ReorderBy: f.duration(50 * time.Millisecond),
				})
				f.talk(40*time.Millisecond, 5*time.Minute)
				w.pass(15 * time.Second)
				if atA, atB := len(f.a.heard()), len(f.b.heard()); atA != f.number || atB != f.number {
					t.Errorf("of %d each way %d and %d arrived; drops %v %v", f.number, atA, atB, f.a.peer(f.b.public).Drops, f.b.peer(f.a.public).Drops)
				}
				f.mustBeOffenceless(f.a)
				f.mustBeOffenceless(f.b)
			})
		})
	}
}

// What gets lost when a process ends, because the other end does not know, is
// lost with plain WireGuard just so.
func TestRestartsWithExtensionsLoseNoMoreThanWireGuard(t *testing.T) {
	t.Parallel()
	lost := func(t *testing.T, seed int, speak transport.Extensions) (n int) {
		inWorld(t, func(w *world) {
			w.extensions = speak
			f := w.fates(uint64(seed))
			w.network.Impair(memnet.Impairment{Delay: f.duration(100 * time.Millisecond)})
			heard := 0
			for range 6 {
				e, crash, as := []*end{f.a, f.b}[f.random.IntN(2)], f.random.IntN(2) == 0, speak
				if f.random.IntN(3) == 0 {
					as = transport.ExtensionsOff
				}
				f.talk(20*time.Millisecond, time.Second+f.duration(60*time.Second))
				w.pass(2 * time.Second) // what is on its way arrives
				heard += len(f.a.heard()) + len(f.b.heard())
				f.restart(e, as, crash)
			}
			f.talk(20*time.Millisecond, 10*time.Second)
			w.pass(15 * time.Second)
			heard += len(f.a.heard()) + len(f.b.heard())
			n = 2*f.number - heard
		})
		return n
	}
	sum := 0
	for seed := range 5 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			plain, extended := lost(t, seed, transport.ExtensionsOff), lost(t, seed, transport.ExtensionsAuto)
			sum += plain
			if extended > plain {
				t.Errorf("%d packets lost with extensions, %d without", extended, plain)
			}
		})
	}
	if sum == 0 {
		t.Error("no restart lost anything: this test shows nothing")
	}
}
