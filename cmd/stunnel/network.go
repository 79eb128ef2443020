package main

import (
	"context"
	"net/netip"
	"sync"

	"stunnel/device/netconf"
	"stunnel/transport"
)

// network tells whether a change of routes, addresses or links is one of the ways to peers: a router may have thousands of
// changes that are none. Safe for concurrent use.
type network struct {
	hop func(remote netip.Addr, mark uint32) netconf.Hop

	mu   sync.Mutex
	hops map[netip.Addr]netconf.Hop // guarded by mu; first hops on the ways to where peers are or may be
}

func newNetwork(hop func(netip.Addr, uint32) netconf.Hop) *network {
	return &network{hop: hop, hops: make(map[netip.Addr]netconf.Hop)}
}

// meet looks at the ways to where peers are to be from now on, of packets with that mark.
func (n *network) meet(c *transport.Config, mark func() uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	meet := func(e netip.AddrPort) {
		if _, known := n.hops[e.Addr()]; !known {
			n.hops[e.Addr()] = n.hop(e.Addr(), mark())
		}
	}
	for _, p := range c.Peers {
		if p.Endpoint != nil {
			meet(*p.Endpoint)
		}
		for _, list := range []*[]netip.AddrPort{p.Endpoints, p.EndpointsTCP} {
			if list != nil {
				for _, e := range *list {
					meet(e)
				}
			}
		}
	}
}

// changed looks again. It says whether to one of the peers there is another way than before, or one again. A way that has gone
// is news where it was in use and there is one to somewhere else where the peer may be.
func (n *network) changed(s *transport.Status) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	news := false
	now := make(map[netip.Addr]netconf.Hop)
	for i := range s.Peers {
		lost, other := false, false
		for _, e := range candidates(&s.Peers[i]) {
			a := e.Addr()
			if _, done := now[a]; !done {
				now[a] = n.hop(a, s.FwMark)
			}
			before, known := n.hops[a]
			news = news || known && now[a] != before && now[a].Link != 0
			lost = lost || e == s.Peers[i].Endpoint && before.Link != 0 && now[a].Link == 0
			other = other || now[a].Link != 0
		}
		news = news || lost && other
	}
	n.hops = now
	return news
}

// followNetwork tells the engine of changes of the ways to peers, until ctx ends.
func (t *running) followNetwork(ctx context.Context) {
	changes, err := netconf.WayChanges()
	if err != nil {
		t.log.Warn("changes of the network are not followed", "error", err)
		return
	}
	t.goroutines.Go(func() {
		err := changes.Follow(ctx, func() {
			t.engine.Reroute()
			if s := t.engine.Status(); t.network.changed(&s) {
				t.networkChanged("the network has changed")
			}
		})
		if err != nil {
			t.log.Warn("changes of the network are not followed any more", "error", err)
		}
	})
}

// networkChanged has peers tried at once, and names looked up that nobody knew before.
func (t *running) networkChanged(why string) {
	if n := t.names.Load(); n != nil {
		n.networkChanged()
	}
	t.engine.NetworkChanged(why)
}
