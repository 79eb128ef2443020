package transport_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

// noUDP keeps all datagrams off the wire until the returned function is called.
func (w *world) noUDP() (again func()) {
	return w.network.Tap(func(d *memnet.Transit) bool { return d.Stream })
}

// tcpCouple makes two ends of which a reaches b by nothing but TCP, and b does not know where a is.
func (w *world) tcpCouple() (a, b *end) {
	w.t.Helper()
	a, b = w.end("a", 1), w.end("b", 2)
	b.listensTCP()
	a.meet(b, withTransport(transport.TransportTCP))
	b.meet(a, withoutEndpoint)
	return a, b
}

// stranger is a TCP connection to an end by somebody who can write what he likes.
func (w *world) stranger(n int, e *end) *memnet.Stream {
	w.t.Helper()
	s, err := w.network.Host(fmt.Sprintf("stranger %d", n), outerAddress(n)).Dial(context.Background(), e.outer, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestPacketsGoByTCPBothWaysWhereUDPIsDropped(t *testing.T) {
	inWorld(t, func(w *world) {
		w.noUDP()
		a, b := w.tcpCouple()
		a.say(b, "there")
		w.pass(10 * latency)
		b.mustHear("there")
		b.say(a, "and back")
		w.pass(4 * latency)
		a.mustHear("and back")
		for _, e := range []struct{ e, other *end }{{a, b}, {b, a}} {
			if p := e.e.peer(e.other.public); p.Carrier != transport.TransportTCP {
				t.Errorf("%s says that packets go by %v", e.e.name, p.Carrier)
			}
			if n := e.e.tunnel.Status().Streams; n != 1 {
				t.Errorf("%s has %d connections open", e.e.name, n)
			}
		}
	})
}

func TestASessionOnTCPIsRenewedOnItsConnectionByBothEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.tcpCouple()
		a.say(b, "first")
		w.pass(10 * latency)
		_, atA, atB := w.chat(a, b, time.Second, 10*time.Minute)
		if atA < 600 || atB < 600 {
			t.Errorf("of 600 packets each way %d and %d came", atA, atB)
		}
		if n := b.tunnel.Status().Streams; n != 1 {
			t.Errorf("%d connections are open after ten minutes", n)
		}
		for _, s := range w.sightings(0, "") {
			if s.kind == crypto.TypeInitiation && s.at > time.Second && s.at < 100*time.Second {
				t.Errorf("an initiation at %v", s.at)
			}
		}
	})
}

func TestAConnectionThatIsResetIsMadeAnew(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.tcpCouple()
		a.say(b, "first")
		w.pass(10 * time.Second)
		b.mustHear("first")
		w.network.ResetStreams()
		w.pass(10 * latency)
		b.say(a, "who answers finds the new one")
		w.pass(2 * latency)
		a.mustHear("who answers finds the new one")
		a.say(b, "so does who has made it")
		w.pass(2 * latency)
		b.mustHear("so does who has made it")
	})
}

func TestAServerThatIsRestartedIsReachedAgainByTCP(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.tcpCouple()
		a.say(b, "first")
		w.pass(10 * latency)
		b.mustHear("first")
		b.restart()
		w.pass(10 * time.Second)
		a.say(b, "second")
		w.pass(10 * latency)
		b.mustHear("second")
	})
}

func TestAStrangerOnTheTCPPortGetsNoByteAndIsClosed(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.tcpCouple()
		r := w.raw("r", 3, b) // whom b does not know
		initiation, _ := r.initiation()
		bad := slices.Clone(initiation)
		bad[60] ^= 1
		for i, c := range []struct {
			what  string
			first []byte
		}{
			{"a request of HTTP", []byte("GET / HTTP/1.1\r\n\r\n")},
			{"an initiation whose MAC1 is wrong", bad},
			{"an initiation of nobody", initiation},
			{"a transport message of no session", append([]byte{4, 0, 0, 0}, make([]byte, 60)...)},
			{"a response to nothing", append([]byte{2, 0, 0, 0}, make([]byte, 88)...)},
			{"more than a first message may have", append([]byte{4, 0, 0, 0}, make([]byte, 2060)...)},
		} {
			before := b.tunnel.Status().Strangers
			s := w.stranger(10+i, b)
			if err := s.Send(c.first, len(c.first)); err != nil {
				t.Fatal(err)
			}
			if burst, err := s.Receive(); err == nil {
				t.Errorf("%s was answered with %x", c.what, burst[0].Data)
			}
			w.settle()
			if now := b.tunnel.Status().Strangers; now != before+1 {
				t.Errorf("%s: %d strangers are counted, before %d", c.what, now, before)
			}
		}
		s := w.stranger(30, b)
		since := w.now()
		if burst, err := s.Receive(); err == nil {
			t.Errorf("silence was answered with %x", burst[0].Data)
		}
		if d := w.now() - since; d > 6*time.Second {
			t.Errorf("a silent connection was closed after %v", d)
		}
		if n := b.tunnel.Status().Streams; n != 0 {
			t.Errorf("%d connections are left", n)
		}
		a.say(b, "friends come in all the same")
		w.pass(10 * latency)
		b.mustHear("friends come in all the same")
	})
}

func TestAMessageThatIsCopiedOntoAConnectionOfAnothersOwnMovesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		b.listensTCP()
		w.greet(a, b)
		thief := w.stranger(9, b)
		stolen := make(chan []byte, 10)
		// He keeps a's datagrams from b and sends them himself.
		stop := w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
			if d.Stream || d.Sender != a.host {
				return true
			}
			stolen <- slices.Clone(d.Data)
			return false
		})
		a.say(b, "stolen")
		w.pass(latency)
		msg := <-stolen
		if err := thief.Send(msg, len(msg)); err != nil {
			t.Fatal(err)
		}
		w.pass(4 * latency)
		b.mustHear("stolen") // it is authentic
		stop()
		b.say(a, "not to the thief")
		w.pass(2 * latency)
		a.mustHear("not to the thief")
		if p := b.peer(a.public); p.Carrier != transport.TransportUDP || p.Endpoint != a.outer {
			t.Errorf("b sends to %v by %v", p.Endpoint, p.Carrier)
		}
		if n := b.tunnel.Status().Streams; n != 1 {
			t.Errorf("%d connections are open, and one message has opened on one", n)
		}
		sent := w.sightings(0, a.name, crypto.TypeTransport)
		forged := sent[len(sent)-1].data
		forged[8] += 100 // of the counter
		if err := thief.Send(forged, len(forged)); err != nil {
			t.Fatal(err)
		}
		w.pass(4 * latency)
		if n := b.tunnel.Status().Streams; n != 0 {
			t.Errorf("%d connections are open after one has brought a forged message", n)
		}
	})
}

func TestAResponseThatComesByAnotherWayIsNone(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.tcpCouple()
		moved := false
		w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
			if kind == crypto.TypeResponse && d.Stream && !moved {
				moved = true
				w.network.Inject(b.outer, a.outer, d.Data)
				return false
			}
			return true
		})
		a.say(b, "first")
		w.pass(time.Second)
		if n := a.peer(b.public).Drops["other_way"]; n != 1 {
			t.Errorf("%d answers are counted that came by another way", n)
		}
		b.mustHear()
		w.pass(6 * time.Second)
		b.mustHear("first")
	})
}

func TestConnectionsGoWithTheirPeer(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.tcpCouple()
		a.say(b, "first")
		w.pass(10 * latency)
		b.mustHear("first")
		b.change(transport.PeerConfig{PublicKey: a.public, Remove: true})
		w.pass(time.Second)
		if n := b.tunnel.Status().Streams; n != 0 {
			t.Errorf("%d connections are open of a peer that was removed", n)
		}
		if err := a.tunnel.SetUp(false); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if n := a.tunnel.Status().Streams; n != 0 {
			t.Errorf("%d connections are open of a tunnel that is down", n)
		}
	})
}
