package transport

import (
	"net/netip"

	"stunnel/transport/socket"
)

// Reroute is called when ways may have changed. What goes to a peer is sent from the address that the peer sends to; but not
// any more once the way there leads out of another interface than the one by which its packets came: answers might then not
// find back, or be dropped. way is the index of the interface that leads to an address, for packets with the tunnel's
// mark; 0: none does.
func (t *Tunnel) Reroute(way func(remote netip.Addr, mark uint32) int) {
	mark := t.mark.Load()
	leadsBy := func(path *socket.Path) bool {
		if path.Remote.Addr().Zone() != "" {
			return true // it names the interface
		}
		link := way(path.Remote.Addr(), mark)
		return link == 0 || uint32(link) == path.Interface
	}
	for _, p := range t.peers.all() {
		if p.path.Load() != nil {
			p.arm(&p.timers.path, t.now()) // it may have another MTU
		}
		if old := p.detour.Load(); old != nil && leadsBy(old) {
			p.detour.Store(nil)
		}
		path := p.path.Load()
		if path != nil && path.Local.IsValid() && path.Interface != 0 && !leadsBy(path) {
			p.detour.Store(path) // before, since what is under way there would bring it back
			p.path.CompareAndSwap(path, &socket.Path{Remote: path.Remote})
		}
	}
}

// sticky is the path on which a message came as it is for answers: without our address if that belongs to a detour.
func (p *peer) sticky(from socket.Path) socket.Path {
	d := p.detour.Load()
	if d != nil && d.Local == from.Local && d.Interface == from.Interface && d.Remote.Addr() == from.Remote.Addr() {
		return socket.Path{Remote: from.Remote}
	}
	return from
}
