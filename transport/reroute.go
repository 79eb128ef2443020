package transport

import (
	"net/netip"

	"stunnel/transport/socket"
)

// lead is which interface led to an address when that was asked last.
type lead struct {
	remote netip.Addr
	link   int
}

// noteLead remembers which interface leads to where the peer is met. It asks the system, so not for each packet.
func (p *peer) noteLead(remote netip.Addr) {
	if way := p.tunnel.way; way != nil {
		if old := p.lead.Load(); old == nil || old.remote != remote {
			if link := way(remote, p.tunnel.mark.Load()); link != 0 {
				p.lead.Store(&lead{remote, link})
			}
		}
	}
}

// Reroute is called when ways may have changed. What goes to a peer is sent from the address that the peer sends to; but not
// any more once the way there has come to lead out of another interface than the one by which its packets came: answers
// might then not find back, or be dropped. A host with several uplinks is left alone, whose answers have always left by
// another than the questions came in.
func (t *Tunnel) Reroute() {
	if t.way == nil {
		return
	}
	// via is the interface that leads to where a path does; 0: none does, or the address names it.
	via := func(path *socket.Path) int {
		if path.Remote.Addr().Zone() != "" {
			return 0
		}
		return t.way(path.Remote.Addr(), t.mark.Load())
	}
	for _, p := range t.peers.all() {
		if p.path.Load() != nil {
			p.arm(&p.timers.path, t.now()) // it may have another MTU
		}
		if old := p.detour.Load(); old != nil {
			if link := via(old); link == 0 || uint32(link) == old.Interface {
				p.detour.Store(nil)
			}
		}
		path := p.path.Load()
		if path == nil {
			continue
		}
		link := via(path)
		if link == 0 {
			continue
		}
		before := p.lead.Swap(&lead{path.Remote.Addr(), link})
		changed := before != nil && before.remote == path.Remote.Addr() && before.link != link
		if changed && path.Local.IsValid() && path.Interface != 0 && uint32(link) != path.Interface {
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
