package transport_test

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"stunnel/test/memnet"
	"stunnel/transport"
)

// Whatever a network does, and an administrator, for a day: when it is over everything works, and nothing is left behind.
func TestThousandsOfChangesLeaveNothingBehind(t *testing.T) {
	inExtendedWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		for _, e := range []*end{a, b} {
			e.listensTCP()
		}
		a.meet(b, withTransport(transport.TransportAuto))
		b.meet(a, withTransport(transport.TransportAuto))
		w.chat(a, b, time.Second, 5*time.Second)
		w.pass(10 * time.Minute)
		before := runtime.NumGoroutine()
		random := rand.New(rand.NewPCG(7, 1))
		udp := func() {}
		changes := 3000
		if testing.Short() {
			changes = 300
		}
		for range changes {
			e, other := a, b
			if random.IntN(2) == 0 {
				e, other = b, a
			}
			switch random.IntN(10) {
			case 0:
				udp()
				udp = w.noUDP()
			case 1:
				udp()
				udp = func() {}
			case 2:
				w.network.ResetStreams()
			case 3:
				fate := memnet.TCPFate(random.IntN(3))
				w.network.Streams(a.host, b.host, fate)
				w.network.Streams(b.host, a.host, fate)
			case 4:
				e.tunnel.NetworkChanged("an address")
			case 5:
				to := transport.Transport(random.IntN(3))
				e.change(transport.PeerConfig{PublicKey: other.public, Transport: &to})
			case 6:
				e.change(transport.PeerConfig{PublicKey: other.public, Endpoints: &[]netip.AddrPort{elsewhere, other.outer}})
			case 7:
				port := uint16(random.IntN(2) * outerPort)
				e.configure(transport.Config{ListenTCP: &port})
			case 8:
				e.change(transport.PeerConfig{PublicKey: other.public, Remove: true})
				e.peers = e.peers[:1]
				e.configure(transport.Config{Peers: e.peers})
			}
			for range random.IntN(5) {
				a.say(b, "to b")
				b.say(a, "to a")
				w.pass(time.Duration(random.IntN(2000)) * time.Millisecond)
			}
			a.device.Drain()
			b.device.Drain()
		}
		udp()
		port := uint16(outerPort)
		for _, e := range []*end{a, b} {
			w.network.Streams(a.host, b.host, memnet.TCPPasses)
			w.network.Streams(b.host, a.host, memnet.TCPPasses)
			e.configure(transport.Config{ListenTCP: &port, ReplacePeers: true, Peers: e.peers})
		}
		w.pass(30 * time.Second)
		a.heard()
		b.heard()
		if sent, atA, atB := w.chat(a, b, time.Second, 2*time.Minute); atA < sent-2 || atB < sent-2 {
			t.Errorf("of %d each way %d and %d came", sent, atA, atB)
		}
		w.pass(15 * time.Minute)
		for _, e := range []*end{a, b} {
			if s := e.tunnel.Status(); s.Streams != 0 {
				t.Errorf("%s has %d connections open", e.name, s.Streams)
			}
			if n := e.tunnel.Indices(); n != 0 {
				t.Errorf("%s has %d indices in use", e.name, n)
			}
		}
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines, %d before", after, before)
		}
	})
}
