package transport_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

// laned are two ends with n lanes each that know each other.
func (w *world) laned(n int) (a, b *end) {
	w.t.Helper()
	a, b = w.end("a", 1), w.end("b", 2)
	for _, e := range []*end{a, b} {
		e.shutDown()
		e.start(n)
	}
	a.meet(b, withAllowed("10.0.0.2/32", "10.2.0.0/16"))
	b.meet(a, withAllowed("10.0.0.1/32", "10.1.0.0/16"))
	return a, b
}

func TestEachFlowKeepsItsOrderOverManyLanes(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.laned(4)
		const flows, rounds = 20, 300
		next := map[*end][]uint32{a: make([]uint32, flows), b: make([]uint32, flows)}
		address := func(net, flow int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(net), 0, byte(flow)}), innerPort)
		}
		hear := func(e *end) {
			for _, text := range e.heard() {
				flow, number := int(text[0]), binary.BigEndian.Uint32([]byte(text)[1:])
				if number != next[e][flow] {
					t.Fatalf("at %v %s, flow %d: packet %d, want %d", w.now(), e.name, flow, number, next[e][flow])
				}
				next[e][flow]++
			}
		}
		for round := range uint32(rounds) {
			for flow := range flows {
				text := binary.BigEndian.AppendUint32([]byte{byte(flow)}, round)
				a.device.Inject(packet.UDP(address(1, flow), address(2, flow), text))
				b.device.Inject(packet.UDP(address(2, flow), address(1, flow), text))
			}
			// The first packets wait for a session, those of the second round come
			// while it is made and what waited is sent.
			if round%2 == 1 {
				w.pass(2 * latency)
			}
			if round == 100 || round == 200 { // what is under way is sent to the sessions that were
				w.pass(transport.RekeyAfterTime + time.Second)
			}
			hear(a)
			hear(b)
		}
		w.pass(time.Second)
		hear(a)
		hear(b)
		for e, numbers := range next {
			for flow, n := range numbers {
				if n != rounds {
					t.Errorf("%s heard %d of %d packets of flow %d; drops %d", e.name, n, rounds, flow, e.drops())
				}
			}
		}
	})
}

func TestManyLanesSurviveDownUpAndNewPorts(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.laned(4)
		w.greet(a, b)
		for round := range 20 {
			switch round % 3 {
			case 0:
				port := uint16(4000 + round)
				b.configure(transport.Config{ListenPort: &port})
				b.say(a, "here I am")
				w.pass(4 * latency)
				a.mustHear("here I am")
				if got := a.endpoint(b).Port(); got != port {
					t.Fatalf("b is at port %d, want %d", got, port)
				}
			case 1:
				if err := b.tunnel.SetUp(false); err != nil {
					t.Fatal(err)
				}
				a.say(b, "lost")
				w.pass(latency * 4)
				if err := b.tunnel.SetUp(true); err != nil {
					t.Fatal(err)
				}
				w.pass(6 * time.Second) // no handshake is nearer to the last one
				b.say(a, "up again")
				w.pass(6 * time.Second)
				a.mustHear("up again")
			case 2:
				mark := uint32(round)
				b.configure(transport.Config{FwMark: &mark})
			}
			text := fmt.Sprint("round ", round)
			a.say(b, text)
			b.say(a, text)
			w.pass(6 * time.Second)
			a.mustHear(text)
			b.mustHear(text)
			if n := b.tunnel.Status().Lanes; n != 4 {
				t.Fatalf("%d lanes", n)
			}
		}
	})
}
