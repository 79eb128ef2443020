package transport_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

// autoCouple makes two ends of which a chooses its way to b by itself, and b does not know where a is.
func (w *world) autoCouple(adjust ...func(*transport.PeerConfig)) (a, b *end) {
	w.t.Helper()
	a, b = w.end("a", 1), w.end("b", 2)
	b.listensTCP()
	a.meet(b, append([]func(*transport.PeerConfig){withTransport(transport.TransportAuto)}, adjust...)...)
	b.meet(a, withoutEndpoint, withTransport(transport.TransportAuto))
	return a, b
}

// noDataByUDP keeps transport messages of at least so many bytes off the wire.
func (w *world) noDataByUDP(least int) (again func()) {
	return w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
		return d.Stream || kind != crypto.TypeTransport || len(d.Data) < least
	})
}

// carrier is what e says packets for other go by.
func (e *end) carrier(other *end) transport.Transport { return e.peer(other.public).Carrier }

// stream has from send a numbered packet of size bytes every interval for d, as a download does whose receiver has nothing to
// say, and returns the longest time in which none came.
func (w *world) stream(from, to *end, size int, interval, d time.Duration) (pause time.Duration, sent, came, twice int) {
	w.t.Helper()
	last := w.now()
	seen := map[string]bool{}
	for until := w.now() + d; w.now() < until; sent++ {
		text := fmt.Sprint(sent, " ", w.now(), " ")
		text += strings.Repeat("x", max(0, size-len(text)))
		from.device.Inject(packet.Bare(from.inner, to.inner, 6, []byte(text)))
		w.pass(interval)
		for _, text := range to.heard() {
			if seen[text] {
				twice++
				continue
			}
			seen[text] = true
			pause = max(pause, w.now()-last)
			last = w.now()
			came++
		}
	}
	return max(pause, w.now()-last), sent, came, twice
}

func TestWhereUDPIsDroppedTheFirstPacketGoesByTCPASecondLater(t *testing.T) {
	for _, extensions := range []transport.Extensions{transport.ExtensionsOff, transport.ExtensionsAuto} {
		t.Run(extensions.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.extensions = extensions
				a, b := w.autoCouple()
				w.noUDP()
				a.say(b, "first")
				w.pass(time.Second + 5*latency)
				b.mustHear("first")
				b.say(a, "back")
				w.pass(2 * latency)
				a.mustHear("back")
				s := a.peer(b.public)
				if s.Carrier != transport.TransportTCP || s.CarrierWhy != "UDP does not get through" || s.CarrierSince.IsZero() {
					t.Errorf("by %v since %v: %s", s.Carrier, s.CarrierSince, s.CarrierWhy)
				}
				if b.carrier(a) != transport.TransportTCP {
					t.Error("b goes another way")
				}
			})
		})
	}
}

func TestWhereUDPWorksNobodyConnects(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.autoCouple()
		w.chat(a, b, 100*time.Millisecond, 10*time.Minute)
		for _, e := range []*end{a, b} {
			if n := e.tunnel.Status().Streams; n != 0 {
				t.Errorf("%s has %d connections", e.name, n)
			}
		}
		if a.carrier(b) != transport.TransportUDP {
			t.Error("not by UDP")
		}
	})
}

// What the two of a pair of ends do while UDP is cut and comes back.
func TestUDPThatIsCutInATransferCostsLessThanFiveSecondsAndIsGoneBackTo(t *testing.T) {
	t.Parallel()
	cuts := map[string]func(w *world) func(){
		"all of it":          (*world).noUDP,
		"its data":           func(w *world) func() { return w.noDataByUDP(0) },
		"its large messages": func(w *world) func() { return w.noDataByUDP(1100) },
		"all of it, from the server": func(w *world) func() {
			return w.network.Tap(func(d *memnet.Transit) bool { return d.Stream || d.Sender.Name() != "b" })
		},
		"all of it, to the server": func(w *world) func() {
			return w.network.Tap(func(d *memnet.Transit) bool { return d.Stream || d.Sender.Name() != "a" })
		},
	}
	for name, cut := range cuts {
		for _, download := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, download=%v", name, download), func(t *testing.T) {
				inExtendedWorld(t, func(w *world) {
					a, b := w.autoCouple()
					from, to := a, b
					if download {
						from, to = b, a
					}
					a.say(b, "hello")
					w.pass(time.Second)
					b.heard()
					if pause, sent, came, twice := w.stream(from, to, 1300, 100*time.Millisecond, 20*time.Second); came != sent || twice > 0 {
						t.Fatalf("%d of %d, pause %v", came, sent, pause)
					}
					again := cut(w)
					pause, sent, came, _ := w.stream(from, to, 1300, 100*time.Millisecond, 60*time.Second)
					t.Logf("pause %v, %d of %d came", pause, came, sent)
					if pause > 5*time.Second || came < sent-25 {
						t.Errorf("pause %v, %d of %d came; a by %v, b by %v", pause, came, sent, a.carrier(b), b.carrier(a))
					}
					again()
					back := w.now()
					for from.carrier(to) != transport.TransportUDP && w.now() < back+2*time.Minute {
						from.say(to, "on")
						w.pass(200 * time.Millisecond)
					}
					if took := w.now() - back; took > time.Minute {
						t.Errorf("back on UDP after %v", took)
					}
					to.heard()
					if pause, sent, came, twice := w.stream(from, to, 1300, 50*time.Millisecond, 30*time.Second); came != sent || twice > 0 || a.carrier(b) != transport.TransportUDP {
						t.Errorf("back on UDP %d of %d came, pause %v, a by %v", came, sent, pause, a.carrier(b))
					}
					if n := a.tunnel.Status().Streams + b.tunnel.Status().Streams; n != 0 {
						t.Errorf("%d connections are open half a minute later", n)
					}
				})
			})
		}
	}
}

func TestAnIdleTunnelIsSilentOnTCPToo(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.autoCouple()
		w.noUDP()
		a.say(b, "first")
		w.pass(2 * time.Second)
		b.heard()
		w.chat(a, b, 100*time.Millisecond, 30*time.Second)
		w.pass(30 * time.Second)
		idle := w.now()
		w.pass(10 * time.Minute)
		if sent := w.sightings(idle, ""); len(sent) > 0 {
			t.Errorf("not silent:%s", story(sent))
		}
	})
}

func TestNothingIsLostWhenUDPIsGoneBackTo(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.autoCouple()
		again := w.noUDP()
		a.say(b, "first")
		w.pass(2 * time.Second)
		b.mustHear("first")
		again()
		sent, atA, atB := w.chat(a, b, 20*time.Millisecond, time.Minute)
		if atA != sent || atB != sent {
			t.Errorf("of %d each way %d and %d came", sent, atA, atB)
		}
		if a.carrier(b) != transport.TransportUDP || b.carrier(a) != transport.TransportUDP {
			t.Errorf("a by %v, b by %v", a.carrier(b), b.carrier(a))
		}
		if why := a.peer(b.public).CarrierWhy; why != "UDP works again" {
			t.Errorf("why: %s", why)
		}
	})
}

func TestAPeerThatKnowsNoProbesIsGoneBackToWhenAHandshakePasses(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.autoCouple()
		again := w.noUDP()
		a.say(b, "first")
		w.pass(2 * time.Second)
		b.mustHear("first")
		again()
		sent, atA, atB := w.chat(a, b, 100*time.Millisecond, time.Minute)
		if atA != sent || atB != sent || a.carrier(b) != transport.TransportUDP {
			t.Errorf("of %d each way %d and %d came; by %v", sent, atA, atB, a.carrier(b))
		}
	})
}

func TestBothEndsThatConnectAtOnceKeepOneConnection(t *testing.T) {
	for _, extensions := range []transport.Extensions{transport.ExtensionsOff, transport.ExtensionsAuto} {
		for offset := time.Duration(0); offset <= 60*time.Millisecond; offset += 5 * time.Millisecond {
			t.Run(fmt.Sprintf("%v %v", extensions, offset), func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.extensions = extensions
					w.noUDP()
					a, b := w.end("a", 1), w.end("b", 2)
					for _, e := range []*end{a, b} {
						e.listensTCP()
					}
					a.meet(b, withTransport(transport.TransportAuto))
					b.meet(a, withTransport(transport.TransportAuto))
					a.say(b, "from a")
					w.pass(offset)
					b.say(a, "from b")
					w.pass(2 * time.Second)
					a.mustHear("from b")
					b.mustHear("from a")
					sent, atA, atB := w.chat(a, b, 100*time.Millisecond, 30*time.Second)
					if atA != sent || atB != sent {
						t.Errorf("of %d each way %d and %d came", sent, atA, atB)
					}
					for _, e := range []*end{a, b} {
						if n := e.tunnel.Status().Streams; n != 1 {
							t.Errorf("%s has %d connections", e.name, n)
						}
					}
				})
			})
		}
	}
}

func withEndpoints(to ...netip.AddrPort) func(*transport.PeerConfig) {
	return func(c *transport.PeerConfig) { c.Endpoint, c.Endpoints = nil, &to }
}

func TestANewAddressIsTriedAtOnceWhereTheOldOneIsSilent(t *testing.T) {
	dead := netip.AddrPortFrom(outerAddress(77), outerPort)
	for _, by := range []transport.Transport{transport.TransportUDP, transport.TransportTCP} {
		t.Run(by.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.end("a", 1), w.end("b", 2)
				b.listensTCP()
				a.meet(b, withEndpoints(dead), withTransport(by))
				b.meet(a, withoutEndpoint)
				a.say(b, "first")
				w.pass(transport.RekeyTimeout - time.Second)
				a.say(b, "second") // who asks again does not begin anew
				if n := a.missed.Load(); n != 0 {
					t.Errorf("it is missed %d times before it could have answered", n)
				}
				w.pass(2 * time.Second)
				if n := a.missed.Load(); n != 1 {
					t.Errorf("it is missed %d times", n)
				}
				a.configure(transport.Config{Peers: []transport.PeerConfig{{PublicKey: b.public, UpdateOnly: true, Endpoints: &[]netip.AddrPort{b.outer}}}})
				w.pass(600*time.Millisecond + 5*latency)
				b.mustHear("first", "second")
				if at := a.peer(b.public).Endpoint; at != b.outer {
					t.Errorf("endpoint %v", at)
				}
			})
		})
	}
}

func TestTheEndpointThatAnswersIsUsed(t *testing.T) {
	dead := netip.AddrPortFrom(outerAddress(77), outerPort)
	for _, by := range []transport.Transport{transport.TransportUDP, transport.TransportTCP} {
		t.Run(by.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.end("a", 1), w.end("b", 2)
				b.listensTCP()
				six := netip.AddrPortFrom(netip.MustParseAddr("2001:db8::99"), outerPort)
				a.meet(b, withEndpoints(dead, six, b.outer), withTransport(by))
				b.meet(a, withoutEndpoint)
				a.say(b, "first")
				w.pass(600*time.Millisecond + 5*latency)
				b.mustHear("first")
				if at := a.peer(b.public).Endpoint; at != b.outer {
					t.Errorf("endpoint %v", at)
				}
			})
		})
	}
}

func TestWhereTheEndpointInUseDiesTheOtherOneIsUsedWithinFiveSeconds(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		six := netip.AddrPortFrom(outerAddress6(2), outerPort)
		a.meet(b, withEndpoints(six, b.outer))
		b.meet(a, withoutEndpoint)
		a.say(b, "first")
		w.pass(time.Second)
		b.mustHear("first")
		if at := a.peer(b.public).Endpoint; at != six {
			t.Fatalf("endpoint %v", at)
		}
		w.stream(b, a, 100, 100*time.Millisecond, 20*time.Second)
		w.network.Tap(func(d *memnet.Transit) bool { return d.To.Addr().Is4() })
		if pause, sent, came, _ := w.stream(b, a, 100, 100*time.Millisecond, 20*time.Second); pause > 5*time.Second {
			t.Errorf("pause %v, %d of %d came", pause, came, sent)
		}
		if at := a.peer(b.public).Endpoint; at != b.outer {
			t.Errorf("endpoint %v", at)
		}
	})
}

func TestNewEndpointsDoNotMoveAWayThatWorks(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		begin := w.now()
		a.change(transport.PeerConfig{PublicKey: b.public, Endpoints: &[]netip.AddrPort{elsewhere}})
		sent, atA, atB := w.chat(a, b, time.Second, 10*time.Minute)
		if atA != sent || atB != sent {
			t.Errorf("of %d each way %d and %d came", sent, atA, atB)
		}
		for _, s := range w.sightings(begin, "a") {
			if s.to == elsewhere {
				t.Fatalf("%v to the new one at %v", s.kind, s.at)
			}
		}
	})
}

// The peer moves to another address, which a name server tells at last, and the old one answers no more.
func TestANewEndpointIsFoundWhenTheOldOneIsDead(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		b.host.SetAddresses(outerAddress(9))
		a.say(b, "lost")
		w.pass(5 * time.Second)
		moved := netip.AddrPortFrom(outerAddress(9), outerPort)
		a.change(transport.PeerConfig{PublicKey: b.public, Endpoints: &[]netip.AddrPort{moved}})
		for range 20 {
			w.pass(time.Second)
			a.say(b, "x")
		}
		w.pass(time.Second)
		if n := len(b.heard()); n < 3 {
			t.Errorf("%d packets came", n)
		}
		if at := a.peer(b.public).Endpoint; at != moved {
			t.Errorf("endpoint %v", at)
		}
	})
}

func TestAChangedNetworkIsTriedAtOnce(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.autoCouple()
		w.chat(a, b, time.Second, 20*time.Second)
		w.pass(time.Minute)
		w.noUDP()
		a.host.SetAddresses(outerAddress(8), outerAddress6(8))
		begin := w.now()
		for range 20 {
			a.tunnel.NetworkChanged("the default route")
			w.pass(10 * time.Millisecond)
		}
		w.pass(1500 * time.Millisecond)
		if a.carrier(b) != transport.TransportTCP {
			t.Errorf("by %v after %v:%s", a.carrier(b), w.now()-begin, story(w.sightings(begin, "")))
		}
		b.say(a, "found without a word of its own")
		w.pass(2 * latency)
		a.mustHear("found without a word of its own")
	})
}

func TestChangesOfTheWayAreToldOnceEachWithTheReason(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.logged()
		w.extensions = transport.ExtensionsAuto
		a, b := w.autoCouple()
		w.chat(a, b, 200*time.Millisecond, 10*time.Second)
		again := w.noUDP()
		w.chat(a, b, 200*time.Millisecond, time.Minute)
		again()
		w.chat(a, b, 200*time.Millisecond, time.Minute)
		for what, want := range map[string]int{
			"now over TCP": 2, "nothing came back over UDP for ": 1, "the peer has come by it": 2,
			"now over UDP": 2, "UDP works again": 1,
		} {
			if n := log.count(what); n != want {
				t.Errorf("%q is told %d times, want %d:\n%s", what, n, want, log.text.String())
			}
		}
	})
}

// Only what a sends is lost: b is heard all the time, and asks.
func TestAWayThatIsCutInOneDirectionIsFoundWhoeverHasSomethingToSay(t *testing.T) {
	for _, talks := range []string{"a", "b", "both"} {
		t.Run(talks, func(t *testing.T) {
			inExtendedWorld(t, func(w *world) {
				a, b := w.end("a", 1), w.end("b", 2)
				six := netip.AddrPortFrom(outerAddress6(2), outerPort)
				a.meet(b, withEndpoints(six, b.outer))
				b.meet(a, withoutEndpoint)
				a.say(b, "first")
				w.pass(time.Second)
				talk := func(d time.Duration) {
					for until := w.now() + d; w.now() < until; {
						if talks != "b" {
							a.say(b, "x")
						}
						if talks != "a" {
							b.say(a, "y")
						}
						w.pass(200 * time.Millisecond)
					}
				}
				talk(10 * time.Second)
				w.network.Tap(func(d *memnet.Transit) bool { return d.To.Addr() != six.Addr() })
				talk(5 * time.Second)
				if at := a.peer(b.public).Endpoint; at != b.outer {
					t.Errorf("endpoint %v", at)
				}
			})
		})
	}
}

func TestWhoeverIsTriedInVainIsShownAsSilent(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		w.chat(a, b, time.Second, 20*time.Second)
		says := func(seconds int) {
			for range seconds {
				a.say(b, "something")
				w.pass(time.Second)
			}
		}
		is := func(when string, silent bool) {
			t.Helper()
			s := a.peer(b.public)
			if got := s.Silent(time.Now()); got != silent {
				t.Errorf("%s: silent %v since %v, want %v; it is %v", when, got, s.UnansweredSince, silent, time.Now())
			}
		}
		is("with a session", false)
		again := w.noUDP()
		cut := time.Now()
		says(9)
		is("cut 9 s ago", false)
		says(9)
		is("cut 18 s ago", true)
		if since := a.peer(b.public).UnansweredSince; since.Before(cut) || since.After(cut.Add(5*time.Second)) {
			t.Errorf("since %v, and it was cut at %v", since, cut)
		}
		again()
		b.say(a, "under the session that there is")
		w.pass(2 * latency)
		is("not cut any more", false)
		says(7)
		if since := a.peer(b.public).UnansweredSince; !since.IsZero() {
			t.Errorf("since %v, after a handshake", since)
		}
		w.noUDP()
		says(3)
		w.pass(10 * time.Minute)
		is("at rest", false)
	})
}
