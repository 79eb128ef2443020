package transport_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

// narrow lets no packet pass that is longer than mtu, whichever way.
func (w *world) narrow(mtu int) { w.network.Impair(memnet.Impairment{Delay: latency, MTU: mtu}) }

// sized is a packet from e for other that is size bytes long and must not be fragmented.
func (e *end) sized(other *end, size int, text string) []byte {
	b := packet.Sized(to(e.inner), to(other.inner), size, text)
	b[6] |= 0x40
	binary.BigEndian.PutUint16(b[10:], binary.BigEndian.Uint16(b[10:])-0x4000) // the sum, inverted, is less by as much
	return b
}

func (e *end) sized6(other *end, size int, text string) []byte {
	return packet.Sized(to(e.inner6), to(other.inner6), size, text)
}

// mustMeasure fails the test unless e knows of its path to other that it carries what it does.
func (e *end) mustMeasure(other *end, carries int) {
	e.w.t.Helper()
	e.w.settle()
	if got := e.peer(other.public).PathMTU; got > carries || got <= carries-8 {
		e.w.t.Fatalf("at %v %s knows of %d bytes that reach %s, the path carries %d; on the wire:%s", e.w.now(), e.name, got, other.name, carries,
			story(e.w.sightings(e.w.now()-time.Second, "")))
	}
}

// stream sends packets of size bytes from e to other, one every interval, and returns the longest time without one that came.
func (e *end) stream(other *end, size int, interval, d time.Duration) (pause time.Duration) {
	e.w.t.Helper()
	last := e.w.now()
	for until := last + d; e.w.now() < until; {
		e.device.Inject(e.sized(other, size, "x"))
		e.w.pass(interval)
		if len(other.heard()) > 0 {
			pause, last = max(pause, e.w.now()-last), e.w.now()
		}
	}
	return max(pause, e.w.now()-last)
}

func TestAPathThatCarriesAllIsMeasuredARoundTripBehindTheHello(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.couple()
		a.say(b, "first")
		w.pass(8 * latency) // initiation, response, hellos, probes and replies
		b.mustHear("first")
		a.mustMeasure(b, 1500)
		b.mustMeasure(a, 1500)
	})
}

func TestAPathIsMeasuredOverIPv6Too(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		w.narrow(1400)
		a, b := w.end("a", 1), w.end("b", 2)
		at := netip.AddrPortFrom(outerAddress6(2), outerPort)
		a.meetKey(b.public, at, b.inner, b.inner6)
		b.meet(a, withoutEndpoint)
		a.stream(b, 1420, 100*time.Millisecond, 12*time.Second) // and no larger one is tried yet
		a.mustMeasure(b, 1400)
		for _, s := range w.sightings(w.now()-time.Second, "a", crypto.TypeTransport) {
			if len(s.data)+48 > 1400 {
				t.Fatalf("a datagram of %d bytes on a path of 1400", len(s.data))
			}
		}
	})
}

func TestABlackHoleIsLeftWithinSecondsAndThePathUsedAgainWhenItGrows(t *testing.T) {
	for _, carries := range []int{1280, 1300, 1400, 1492} {
		t.Run(fmt.Sprint(carries), func(t *testing.T) {
			inExtendedWorld(t, func(w *world) {
				a, b := w.acquainted()
				if pause := a.stream(b, 1420, 50*time.Millisecond, 5*time.Second); pause > slack {
					t.Errorf("nothing for %v on a path that carries all", pause)
				}
				a.mustMeasure(b, 1500)
				w.narrow(carries)
				pause := a.stream(b, 1420, 50*time.Millisecond, 30*time.Second)
				t.Logf("nothing for %v after the path has become one of %d", pause, carries)
				if carries < 1480 && pause < time.Second || pause > 4*time.Second {
					t.Errorf("nothing for %v", pause)
				}
				a.mustMeasure(b, carries)
				w.narrow(0)
				if pause := a.stream(b, 1420, 50*time.Millisecond, time.Minute); pause > slack {
					t.Errorf("nothing for %v when the path grew", pause)
				}
				a.mustMeasure(b, 1500)
			})
		})
	}
}

func TestSendersAreToldWhatThePathCarriesAndTheirPacketsPassAllTheSame(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.narrow(1280)
		a.stream(b, 1420, 100*time.Millisecond, 20*time.Second)
		a.mustMeasure(b, 1280)
		a.heard()
		const fits = 1280 - 28 - 32
		for _, c := range []struct {
			packet []byte
			told   string
		}{
			{a.sized(b, fits, "fits"), ""},
			{a.sized(b, fits+1, "too long"), fmt.Sprint("icmp 3/4 mtu ", fits)},
			{a.sized(b, 1420, "far too long"), fmt.Sprint("icmp 3/4 mtu ", fits)},
			{packet.Sized(to(a.inner), to(b.inner), 1420, "may be fragmented"), ""},
			{a.sized6(b, 1280, "IPv6's least"), ""},
			{a.sized6(b, 1281, "more"), "icmp 2/0 mtu 1280"},
		} {
			a.device.Inject(c.packet)
			w.pass(4 * latency)
			if got := a.heard(); c.told == "" && len(got) > 0 || c.told != "" && !slices.Equal(got, []string{c.told}) {
				t.Errorf("the sender of %q is told %q, want %q", strings.TrimRight(string(c.packet[48:64]), "\x00"), got, c.told)
			}
			if got := b.heard(); len(got) != 1 {
				t.Errorf("%d packets came, want the one", len(got))
			}
		}
		// One answer for a flow and burst, however many packets it has.
		a.device.Inject(a.sized(b, 1400, "1"), a.sized(b, 1400, "2"), a.sized6(b, 1400, "3"), a.sized6(b, 1400, "4"))
		a.mustHear(fmt.Sprint("icmp 3/4 mtu ", fits), "icmp 2/0 mtu 1280")
		if n := total(a.peer(b.public).Drops) + total(b.peer(a.public).Drops); n > 0 {
			t.Errorf("drops %v and %v", a.peer(b.public).Drops, b.peer(a.public).Drops)
		}
	})
}

// Until the search has found what passes nobody is told anything: a kernel remembers it for minutes.
func TestAnOutageTellsNoSenderToSendLess(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.acquainted()
		a.stream(b, 1420, 50*time.Millisecond, 3*time.Second)
		again := w.stop(a)
		again2 := w.stop(b)
		a.stream(b, 1420, 50*time.Millisecond, 8*time.Second)
		again()
		again2()
		a.stream(b, 1420, 50*time.Millisecond, 10*time.Second)
		a.mustMeasure(b, 1500)
		if got := a.heard(); len(got) != 0 {
			t.Errorf("the sender is told %q", got)
		}
	})
}

func TestAnIdleTunnelSendsNoProbes(t *testing.T) {
	for _, mtu := range []int{1500, 1300, 1200} {
		inExtendedWorld(t, func(w *world) {
			a, b := w.acquainted()
			w.narrow(mtu)
			a.stream(b, 1420, 100*time.Millisecond, 20*time.Second)
			w.pass(15 * time.Second) // what lingers, and WireGuard's keepalive
			at := w.now()
			w.pass(100 * time.Second)
			if sent := w.sightings(at, ""); len(sent) > 0 {
				t.Errorf("on a path of %d:%s", mtu, story(sent))
			}
		})
	}
}

func TestAPlainWireGuardIsSentNoProbes(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b, withExtensions(transport.ExtensionsAuto))
		b.meet(a)
		w.greet(a, b)
		for range 100 {
			a.device.Inject(a.sized(b, 1420, "long"))
			w.pass(100 * time.Millisecond)
		}
		if got := len(b.heard()); got != 100 || a.peer(b.public).PathMTU != 0 {
			t.Errorf("%d of 100 packets came; path MTU %d", got, a.peer(b.public).PathMTU)
		}
		for _, s := range w.sightings(0, "", crypto.TypeTransport) {
			if len(s.data) > 1420+32 {
				t.Fatalf("a message of %d bytes", len(s.data))
			}
		}
	})
}

func TestTheHostsOwnLinkIsBelievedAtOnce(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.acquainted()
		a.stream(b, 1420, 50*time.Millisecond, 3*time.Second)
		a.host.SetMTU(1350)
		w.narrow(1350)
		if pause := a.stream(b, 1420, 50*time.Millisecond, 10*time.Second); pause > 2*slack {
			t.Errorf("nothing for %v", pause)
		}
		a.mustMeasure(b, 1350)
		if n := a.peer(b.public).Drops["send_failed"]; n == 0 || n > 2 {
			t.Errorf("%d packets were not sent", n)
		}
	})
}

func TestAPeerThatMovesIsMeasuredAnew(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.narrow(1400)
		b.stream(a, 1420, 50*time.Millisecond, 20*time.Second)
		b.mustMeasure(a, 1400)
		b.heard()
		a.host.SetAddresses(outerAddress(77))
		w.narrow(0)
		a.say(b, "here I am")
		w.pass(4 * latency)
		b.mustHear("here I am")
		b.say(a, "I see")
		w.pass(4 * latency)
		b.mustMeasure(a, 1500)
	})
}

func TestFramesAreCutByWhatThePathCarries(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ethernet, w.extensions = true, transport.ExtensionsAuto
		a, b := w.couple()
		w.narrow(1280)
		text := strings.Repeat("frame ", 248)
		came := 0
		for range 200 {
			a.tells(transport.MAC{2, 1}, transport.MAC{2, 2}, text)
			w.pass(100 * time.Millisecond)
			came += len(b.told())
		}
		a.mustMeasure(b, 1280)
		if came < 150 {
			t.Errorf("%d of 200 frames came", came)
		}
		for _, s := range w.sightings(w.now()-time.Second, "a", crypto.TypeTransport) {
			if len(s.data)+28 > 1280 {
				t.Fatalf("a datagram of %d bytes on a path of 1280", len(s.data))
			}
		}
	})
}

func TestTheDeviceIsToldWhatFitsTheWidestPathOnceAllAreMeasured(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.acquainted()
		a.stream(b, 1420, 50*time.Millisecond, time.Second)
		if got := a.fitted(); !slices.Equal(got, []int{1500 - 60}) {
			t.Fatalf("on a path that carries 1500 the device is told %v", got)
		}
		c := w.end("c", 3)
		a.meet(c)
		c.meet(a)
		w.greet(a, c)
		a.stream(c, 1420, 50*time.Millisecond, time.Second)
		if got := a.fitted(); len(got) != 0 {
			t.Errorf("another such path, and the device is told %v", got)
		}
		w.network.Link(a.host, b.host, memnet.Impairment{Delay: latency, MTU: 1400})
		a.stream(b, 1420, 50*time.Millisecond, 20*time.Second)
		a.mustMeasure(b, 1400)
		if got := a.fitted(); len(got) != 0 {
			t.Errorf("the narrower of two paths, and the device is told %v", got)
		}
		w.network.Link(a.host, c.host, memnet.Impairment{Delay: latency, MTU: 1300})
		a.stream(c, 1420, 50*time.Millisecond, 20*time.Second)
		a.mustMeasure(c, 1300)
		if got := a.fitted(); len(got) != 1 || got[0] > 1400-60 || got[0] <= 1400-60-8 {
			t.Errorf("both are narrow, and the device is told %v", got)
		}
		a.heard()
		d := w.end("d", 4)
		a.meet(d)
		d.meet(a, withExtensions(transport.ExtensionsOff))
		w.greet(a, d)
		w.network.Link(a.host, b.host, memnet.Impairment{Delay: latency})
		a.stream(b, 1420, 50*time.Millisecond, 40*time.Second)
		a.mustMeasure(b, 1500)
		if got := a.fitted(); len(got) != 0 {
			t.Errorf("one peer is a plain WireGuard, and the device is told %v", got)
		}
	})
}

// What is short passes and what is long never does: it is known soon, also at the end that has nothing long to send, and
// packets of all lengths pass in parts.
func TestAPathThatIsTooNarrowIsKnownAsThat(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		log := &bytes.Buffer{}
		w.log = slog.New(slog.NewTextHandler(log, nil))
		a, b := w.couple()
		w.narrow(1200)
		a.say(b, "short")
		w.pass(5 * time.Second)
		if n := strings.Count(log.String(), "packets of 1280 bytes do not reach the peer by UDP"); n != 2 {
			t.Errorf("5 s after the first packet %d of 2 ends know that the path is too narrow", n)
		}
		b.heard()
		for length := 1100; length <= 1420; length += 20 {
			a.device.Inject(a.sized(b, length, "long"))
			w.pass(10 * time.Millisecond)
		}
		w.pass(time.Second)
		if n := len(b.heard()); n != 17 || a.peer(b.public).PathMTU != 0 {
			t.Errorf("%d of 17 packets came, %d bytes are known to pass; drops %v", n, a.peer(b.public).PathMTU, b.peer(a.public).Drops)
		}
		if got := a.heard(); len(got) != 0 {
			t.Errorf("the sender is told %q", got)
		}
	})
}
