package transport_test

import (
	"net/netip"
	"testing"
	"time"

	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

func TestPacketsGoToThePeerWithTheLongestPrefix(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, c := w.end("a", 1), w.end("b", 2), w.end("c", 3)
		a.meet(b, withAllowed("0.0.0.0/0", "::/0"))
		a.meet(c, withAllowed("10.3.0.0/16", "fd03::/16"))
		b.meet(a)
		c.meet(a)
		send := func(remote string) {
			r := netip.MustParseAddr(remote)
			local := a.inner
			if r.Is6() {
				local = a.inner6
			}
			a.device.Inject(packet.UDP(to(local), to(r), []byte(remote)))
		}
		all := []string{"10.3.0.1", "10.2.0.1", "8.8.8.8", "fd03::1", "fd04::1", "2001:db8::77"}
		for _, remote := range all {
			send(remote)
		}
		w.pass(4 * latency)
		b.mustHear("10.2.0.1", "8.8.8.8", "fd04::1", "2001:db8::77")
		c.mustHear("10.3.0.1", "fd03::1")
		// A prefix that goes to another peer goes over at once.
		a.change(transport.PeerConfig{PublicKey: b.public, AllowedIPs: []transport.AllowedIPChange{{Prefix: netip.MustParsePrefix("10.3.0.0/16")}}})
		send("10.3.0.1")
		w.pass(4 * latency)
		b.mustHear("10.3.0.1")
		c.mustHear()
	})
}

func TestAPacketForNobodyIsAnsweredByICMPAndCounted(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		at := w.now()
		before := total(a.tunnel.Status().Drops)
		a.device.Inject(packet.UDP(to(a.inner), to(netip.MustParseAddr("10.99.0.1")), []byte("x")))
		a.mustHear("icmp 3/1") // host unreachable
		w.pass(5 * time.Second)
		a.device.Inject(packet.UDP(to(a.inner6), to(netip.MustParseAddr("fd99::1")), []byte("x")))
		a.mustHear("icmp 1/3") // address unreachable
		if n := total(a.tunnel.Status().Drops) - before; n != 2 {
			t.Errorf("drops are %v", a.tunnel.Status().Drops)
		}
		b.mustHear()
		if sent := w.sightings(at, ""); len(sent) != 0 {
			t.Errorf("sent:%s", story(sent))
		}
	})
}

func TestAPacketForAPeerWithoutAnEndpointIsAnsweredByICMPAndCounted(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b, withoutEndpoint)
		a.say(b, "x")
		a.mustHear("icmp 3/1")
		if n := a.drops(); n != 1 {
			t.Errorf("%d drops: %v, %v", n, a.tunnel.Status().Drops, a.peer(b.public).Drops)
		}
		w.pass(time.Minute)
		if sent := w.sightings(0, ""); len(sent) != 0 {
			t.Errorf("sent:%s", story(sent))
		}
	})
}

func TestNoICMPIsSentAboutMulticastOrErrors(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		nobody := netip.MustParseAddr("10.99.0.1")
		a.device.Inject(
			packet.UDP(to(a.inner), to(netip.MustParseAddr("224.0.0.251")), []byte("multicast")),
			packet.UDP(to(netip.IPv4Unspecified()), to(nobody), []byte("from nowhere")),
			packet.Bare(a.inner, nobody, 1, icmp(3, 1)),
			packet.UDP(to(a.inner6), to(netip.MustParseAddr("ff02::fb")), []byte("multicast")),
			packet.UDP(to(netip.IPv6Unspecified()), to(netip.MustParseAddr("fd99::1")), []byte("from nowhere")),
		)
		a.mustHear()
		if n := a.drops(); n != 5 {
			t.Errorf("drops are %v", a.tunnel.Status().Drops)
		}
	})
}

// icmp is an ICMP error with a quoted header of zeros; its checksum is right
// for nothing, which nobody looks at before the type.
func icmp(kind, code byte) []byte {
	b := make([]byte, 36)
	b[0], b[1] = kind, code
	return b
}

func TestICMPAboutPacketsForNobodyIsRateLimited(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		for range 1000 {
			a.device.Inject(packet.UDP(to(a.inner), to(netip.MustParseAddr("10.99.0.1")), []byte("x")))
		}
		if n := len(a.heard()); n < 1 || n > 100 {
			t.Errorf("%d answers to 1000 packets", n)
		}
		if n := a.drops(); n != 1000 {
			t.Errorf("%d drops counted", n)
		}
	})
}
