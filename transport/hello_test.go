package transport

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"stunnel/transport/extension"
)

func TestAPathThatCarriesNextToNothingIsNoReasonToCut(t *testing.T) {
	for _, mtu := range []int{68, 79, 80, 81, 144} {
		a, b, clock := shook(t)
		p := a.toward(b)
		a.pathMTU = func(netip.Addr, uint32) int { return mtu }
		p.measurePath(netip.MustParseAddrPort("[2001:db8::1]:1"))
		p.usable(*clock).speaks.Store(uint32(extension.Fragments | understands))
		a.wire.sent = nil
		p.sendKeepalive(*clock)
		if want := max(0, mtu-80); want < leastCarried && p.carries.Load() != 0 || len(a.wire.sent) != 1 {
			t.Errorf("on a path of %d a message may have %d, and a keepalive is %d messages", mtu, p.carries.Load(), len(a.wire.sent))
		}
	}
}

// The session may come between the look for one and the sending.
func TestStagedPacketsWaitForTheHelloThatIsRequiredWhenASessionComesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := new(time.Duration)
		*clock = time.Hour
		a, b := newEnd(t, clock, "192.0.2.1:51820"), newEnd(t, clock, "192.0.2.2:51820")
		toB, toA := a.add(t, b, "10.0.0.2/32"), b.add(t, a, "10.0.0.1/32")
		toA.policy.Store(uint32(ExtensionsOff)) // b is a plain WireGuard
		toB.policy.Store(uint32(ExtensionsRequired))
		toB.initiate(*clock)
		first, rest, _ := split(packet("10.0.0.1", "10.0.0.2", 200))
		toB.staging.add(first, rest)
		a.pass(b)

		// No session is there when sendNow begins to look for one; the response
		// brings it while sendStaged holds what is staged.
		sent := true
		toB.staging.take(func(packets [][]byte) bool {
			b.pass(a)
			sent = toB.sendNow(packets, *clock)
			return sent
		})
		a.pass(b)
		if sent || len(b.stack.written) > 0 {
			t.Errorf("required, and %d packets went to a plain WireGuard", len(b.stack.written))
		}
	})
}

func TestTheNewestHelloHoldsForAllSessionsThatAreProved(t *testing.T) {
	a, b, clock := shook(t)
	p := a.toward(b)
	hear := func(s *session, n extension.Sequence, c extension.Capabilities) {
		_, flags, body, _ := extension.Split((&extension.Hello{Instance: 9, Sequence: n, Capabilities: c, Version: "1"}).Append(nil))
		p.hearHello(s, flags, body, *clock)
	}
	older := p.usable(*clock)
	hear(older, 1000, extension.TrustedChecksums)
	*clock += 10 * time.Second
	p.initiate(*clock)
	a.pass(b)
	b.pass(a)
	newer := p.usable(*clock)
	if newer == older {
		t.Fatal("no new session")
	}
	hear(newer, 1001, extension.TrustedChecksums)
	hear(older, 1002, 0)
	if newer.may(extension.TrustedChecksums) {
		t.Error("what the newest hello has not may still be sent, under a session newer than the one it came under")
	}
}
