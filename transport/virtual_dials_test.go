package transport_test

import (
	"net/netip"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

// A hub whose way out is dead tries thousands of peers at once, and goes on to do so, but not with a descriptor for each.
func TestConnectionsThatComeAboutAreBoundedAndOthersHaveTheirTurn(t *testing.T) {
	inWorld(t, func(w *world) {
		const peers = 1500
		hub := w.end("hub", 1)
		last := w.end("last", 2)
		last.listensTCP()
		last.meet(hub, withoutEndpoint)
		tcp := withTransport(transport.TransportTCP)
		for i := range peers {
			n := [4]byte{198, 18, byte(i >> 8), byte(i)}
			inner := netip.AddrFrom4([4]byte{10, 1, n[2], n[3]})
			six := netip.AddrFrom16([16]byte{0: 0xfd, 13: 1, 14: n[2], 15: n[3]})
			hub.meetKey(crypto.NewPrivateKey().Public(), netip.AddrPortFrom(netip.AddrFrom4(n), outerPort), inner, six, tcp)
			hub.device.Inject(packet.UDP(to(hub.inner), to(inner), []byte("x")))
		}
		w.pass(time.Second)
		if n := hub.tunnel.Dials(); n < 1000 || n > 1024 {
			t.Errorf("%d connections come about", n)
		}
		hub.meet(last, tcp)
		hub.say(last, "in its turn")
		w.pass(20 * time.Second)
		last.mustHear("in its turn")
		w.pass(5 * time.Minute)
		if n := hub.tunnel.Dials(); n != 0 {
			t.Errorf("%d connections still come about when all peers were given up", n)
		}
	})
}
