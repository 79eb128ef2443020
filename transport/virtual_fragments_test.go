package transport_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

// long is a text that no path of these tests carries in one message.
func long(text string, n int) string { return text + strings.Repeat(" and more", n) }

func TestOnThePathALostFragmentCostsItsPacketAndNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		w.extensions = transport.ExtensionsAuto
		a, b := w.acquainted()
		a.tunnel.Carry(300)
		number, losing := 0, -1 // of the messages of the packet that is under way
		w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
			if d.Sender != a.host || kind != crypto.TypeTransport || len(d.Data) < 64 {
				return true // a keepalive or an echo is shorter than any packet
			}
			number++
			return number-1 != losing
		})
		random := rand.New(rand.NewPCG(4, 5))
		lost, messages := uint64(0), 0
		var want []string
		for k := range 400 {
			text := long(fmt.Sprint(k), k%230) // up to 2100 bytes
			number, losing = 0, -1
			if k%3 == 0 {
				losing = random.IntN(1 + k%230*9/290)
			}
			a.say(b, text)
			w.pass(time.Millisecond)
			if messages = max(messages, number); losing < 0 || losing >= number {
				want = append(want, text)
			} else if number > 1 {
				lost++
			}
			if k%7 == 6 {
				w.pass(time.Second) // at most three have lost something since the last time
				b.mustHear(want...)
				want = nil
			}
		}
		w.pass(2 * time.Second)
		b.mustHear(want...)
		if drops := b.peer(a.public).Drops; lost == 0 || messages < 7 || drops["fragment_missing"] != lost || total(drops) != lost {
			t.Errorf("%d packets have lost a fragment, drops %v; the longest had %d", lost, drops, messages)
		}
		if n := b.tunnel.Reassembling(); n != 0 {
			t.Errorf("%d bytes still wait", n)
		}
	})
}

func TestAnIdlePeerHoldsNoFragmentsForLongerThanASecond(t *testing.T) {
	for name, end := range map[string]func(w *world, b *end){
		"its time is over":    func(w *world, _ *end) { w.pass(time.Second) },
		"the tunnel is down":  func(_ *world, b *end) { b.tunnel.SetUp(false) },
		"the peer is removed": func(_ *world, b *end) { b.configure(transport.Config{ReplacePeers: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.extensions = transport.ExtensionsAuto
				a, b := w.acquainted()
				a.tunnel.Carry(300)
				sent := 0
				w.tap(func(d *memnet.Transit, _ crypto.MessageType) bool {
					sent++
					return sent != 2
				})
				a.say(b, long("something", 50))
				w.pass(latency)
				for range 9 {
					if b.tunnel.Reassembling() == 0 {
						t.Fatalf("at %v nothing waits any more", w.now())
					}
					w.pass(100 * time.Millisecond)
				}
				end(w, b)
				w.settle()
				if n := b.tunnel.Reassembling(); n != 0 {
					t.Errorf("%d bytes still wait", n)
				}
				b.mustHear()
			})
		})
	}
}

// The timer that has dropped one packet goes on for the next.
func TestEachPacketWaitsForItsFragmentsOnItsOwn(t *testing.T) {
	inWorld(t, func(w *world) {
		w.extensions = transport.ExtensionsAuto
		a, b := w.acquainted()
		a.tunnel.Carry(300)
		sent := 0
		w.tap(func(d *memnet.Transit, _ crypto.MessageType) bool {
			if d.Sender != a.host || len(d.Data) < 200 {
				return true
			}
			sent++
			return sent%2 == 1 // the second of the two fragments is lost
		})
		held := []int{b.tunnel.Reassembling()}
		for range 4 {
			a.say(b, strings.Repeat("x", 450))
			w.pass(400 * time.Millisecond)
			held = append(held, b.tunnel.Reassembling())
		}
		for range 4 {
			w.pass(400 * time.Millisecond)
			held = append(held, b.tunnel.Reassembling())
		}
		one := held[1]
		if want := []int{0, one, 2 * one, 2 * one, 2 * one, one, 0, 0, 0}; one == 0 || !slices.Equal(held, want) {
			t.Errorf("every 400 ms %v bytes are held, want %v", held, want)
		}
	})
}

func TestABadLinkCostsPacketsInFragmentsWhatItLosesForHours(t *testing.T) {
	t.Parallel()
	for _, loss := range []float64{0, 0.1} {
		t.Run(fmt.Sprintf("%.0f%%", loss*100), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.extensions = transport.ExtensionsAuto
				a, b := w.acquainted() // a message that overtakes the first handshake's is nobody's
				a.tunnel.Carry(600)
				b.tunnel.Carry(500)
				w.network.Impair(memnet.Impairment{
					Loss: loss, Duplicate: 0.05, Delay: 20 * time.Millisecond, Jitter: 300 * time.Millisecond,
				})
				ends := []*end{a, b}
				seen := []map[string]bool{{}, {}}
				sent := 0
				collect := func() {
					for i, e := range ends {
						for _, text := range e.heard() {
							if seen[i][text] {
								t.Fatalf("at %v %s was given a packet twice", w.now(), e.name)
							}
							seen[i][text] = true
						}
					}
				}
				for w.now() < time.Hour {
					text := long(fmt.Sprint(sent), 100) // two fragments there, two back
					a.say(b, text)
					b.say(a, text)
					sent++
					w.pass(700 * time.Millisecond)
					collect()
				}
				w.pass(20 * time.Second)
				collect()
				// Both fragments must come; another percent is grace.
				least := int(float64(sent) * ((1-loss)*(1-loss) - 0.01))
				if loss == 0 {
					least = sent
				}
				if len(seen[0]) < least || len(seen[1]) < least {
					t.Errorf("of %d packets each way %d and %d arrived, at least %d should have; drops %v and %v", sent, len(seen[0]), len(seen[1]), least, a.peer(b.public).Drops, b.peer(a.public).Drops)
				}
				if n := a.tunnel.Reassembling() + b.tunnel.Reassembling(); n != 0 {
					t.Errorf("%d bytes still wait", n)
				}
			})
		})
	}
}
