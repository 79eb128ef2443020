package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"stunnel/transport"
)

// whereabouts are the addresses at which a peer may be, in the order in which they are to be tried.
type whereabouts struct{ udp, tcp []netip.AddrPort }

// candidates are all addresses at which p may be: where packets go now, and what was configured.
func candidates(p *transport.PeerStatus) []netip.AddrPort {
	var all []netip.AddrPort
	if p.Endpoint.IsValid() {
		all = append(all, p.Endpoint)
	}
	for _, e := range slices.Concat(p.Endpoints, p.EndpointsTCP) {
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// find finds out where the peers of the file may be, and goes on to do so while the tunnel runs, until letNamesGo. start
// begins with that, once the engine has the peers.
func (u *upward) find() (found []whereabouts, start func(), err error) {
	ctx, stop := context.WithCancel(u.tunnel.over)
	n := newNames(u.file, u.log, openLastGood(lastGoodDir, u.file.Name), u.lookups.find)
	n.tell = u.tellWhereabouts
	found, err = n.first(ctx)
	if err != nil || len(n.hosts) == 0 {
		stop()
		return found, func() {}, err
	}
	var running sync.WaitGroup
	u.letNamesGo = func() { stop(); running.Wait() }
	return found, func() {
		u.tunnel.names.Store(n)
		running.Go(func() { n.run(ctx) })
	}, nil
}

// tellWhereabouts tells the engine where file.Peers[i] may be now. What works already goes on.
func (u *upward) tellWhereabouts(i int, w whereabouts) {
	p := &u.file.Peers[i]
	if err := u.tunnel.Configure(transport.Config{Peers: []transport.PeerConfig{
		{PublicKey: p.PublicKey, UpdateOnly: true, Endpoints: &w.udp, EndpointsTCP: &w.tcp},
	}}); err != nil {
		u.log.Error("new addresses of an endpoint are not taken", "peer", p.Title(), "error", err)
		return
	}
	for _, e := range slices.Concat(w.udp, w.tcp) {
		if !u.file.Interface.Table.Auto || u.file.Interface.Ethernet {
			break
		}
		for _, prefix := range p.AllowedIPs {
			if prefix.Contains(e.Addr().WithZone("")) && slices.Contains(u.division.usual, prefix) {
				u.log.Warn(fmt.Sprintf("an endpoint lies within AllowedIPs %s, whose route was made before that was known: packets to it are dropped; down and up makes another", prefix),
					"peer", p.Title(), "endpoint", e)
			}
		}
	}
}
