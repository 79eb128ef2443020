package transport_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

// Peers come, go and are cut off, ports, keys and marks change, and connections end, all at the same time and while messages flow.
func TestPeersFindEachOtherWhateverWasChangedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { inWorld(t, func(w *world) { stress(w, seed) }) })
	}
}

func stress(w *world, seed uint64) {
	w.extensions = transport.ExtensionsAuto
	server := w.end("server", 1)
	server.listensTCP()
	var clients []*end
	for i := range 4 {
		c := w.end(fmt.Sprint("client ", i), 2+i)
		c.meet(server, withTransport(transport.Transport(1+i/2)))
		if i%2 == 0 {
			c.listensTCP()
			server.meet(c, withTransport(transport.Transport(1+i/2)))
		} else {
			server.meet(c, withoutEndpoint)
		}
		clients = append(clients, c)
	}
	var running sync.WaitGroup
	until := w.now() + time.Minute
	act := func(n uint64, most time.Duration, do func(r *rand.Rand)) {
		running.Go(func() {
			r := rand.New(rand.NewPCG(seed, n))
			for w.now() < until {
				time.Sleep(time.Duration(r.Int64N(int64(most))))
				do(r)
			}
		})
	}
	for i, c := range clients {
		act(uint64(i), 20*time.Millisecond, func(r *rand.Rand) { c.say(server, fmt.Sprint("up ", r.Uint64())) })
		act(uint64(i)+10, 20*time.Millisecond, func(r *rand.Rand) { server.say(c, fmt.Sprint("down ", r.Uint64())) })
	}
	act(20, 3*time.Second, func(r *rand.Rand) { w.network.ResetStreams() })
	act(21, 5*time.Second, func(r *rand.Rand) {
		c := clients[r.IntN(len(clients))]
		for _, p := range server.peers {
			if p.PublicKey == c.public {
				server.configure(transport.Config{Peers: []transport.PeerConfig{{PublicKey: c.public, Remove: true}}})
				time.Sleep(time.Duration(r.Int64N(int64(time.Second))))
				server.configure(transport.Config{Peers: []transport.PeerConfig{p}})
			}
		}
	})
	act(22, 8*time.Second, func(r *rand.Rand) {
		if err := server.tunnel.SetUp(false); err != nil {
			w.t.Error(err)
		}
		if r.IntN(2) == 0 {
			time.Sleep(time.Duration(r.Int64N(int64(20 * time.Millisecond))))
		}
		if err := server.tunnel.SetUp(true); err != nil {
			w.t.Error(err)
		}
	})
	act(23, 4*time.Second, func(r *rand.Rand) {
		port := uint16(outerPort + r.IntN(2))
		mark := uint32(r.IntN(3))
		if err := server.tunnel.Configure(transport.Config{ListenTCP: &port, FwMark: &mark}); err != nil {
			w.t.Error(err)
		}
	})
	act(24, 4*time.Second, func(r *rand.Rand) {
		c := clients[r.IntN(len(clients))]
		w.network.Streams(c.host, server.host, memnet.TCPFate(r.IntN(3)))
		time.Sleep(time.Duration(r.Int64N(int64(3 * time.Second))))
		w.network.Streams(c.host, server.host, memnet.TCPPasses)
	})
	act(25, 9*time.Second, func(r *rand.Rand) {
		c := clients[r.IntN(len(clients))]
		var none crypto.PrivateKey
		c.configure(transport.Config{PrivateKey: &none})
		time.Sleep(time.Duration(r.Int64N(int64(time.Second))))
		c.configure(transport.Config{PrivateKey: &c.private})
	})
	act(27, 10*time.Second, func(r *rand.Rand) {
		again := w.noUDP()
		time.Sleep(time.Duration(r.Int64N(int64(20 * time.Second))))
		again()
	})
	act(26, time.Second, func(r *rand.Rand) { server.tunnel.Status() })
	running.Wait()
	for _, e := range append(clients, server) {
		e.device.Drain()
	}
	port := uint16(outerPort)
	server.configure(transport.Config{ListenTCP: &port})
	w.pass(30 * time.Second)
	for _, c := range clients {
		c.heard()
		server.heard()
		c.say(server, "still there") // perhaps under a session that the server has forgotten without being able to say so
		w.pass(8 * time.Second)
		c.say(server, "still there")
		w.pass(time.Second)
		if heard := server.heard(); len(heard) == 0 {
			w.t.Errorf("%s is not heard", c.name)
		}
		server.say(c, "yes")
		w.pass(time.Second)
		c.mustHear("yes")
	}
	if n := server.tunnel.Status().Streams; n > 3*len(clients) {
		w.t.Errorf("%d connections for %d peers", n, len(clients))
	}
	w.pass(20 * time.Minute)
	for _, e := range append(clients, server) {
		if s := e.tunnel.Status(); s.Streams != 0 {
			w.t.Errorf("%s has %d connections after 20 minutes of silence", e.name, s.Streams)
		}
		if n := e.tunnel.Indices(); n != 0 {
			w.t.Errorf("%s has %d indices in use after 20 minutes of silence", e.name, n)
		}
	}
	w.network.ResetStreams()
}
