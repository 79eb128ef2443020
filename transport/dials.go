package transport

import (
	"context"
	"net/netip"
	"time"

	"stunnel/transport/socket"
)

// dialTimeout is how long a connection may take to come about. Longer than a round of dialling lasts: another one passes an
// address over that is still being dialled.
const dialTimeout = 2 * RekeyTimeout

// maxDials may go on at a time in a tunnel, since each takes a descriptor. Others wait for their turn.
const maxDials = 1024

// dial is a connection that comes about.
type dial struct{ cancel context.CancelFunc }

// dialTo begins to connect to one of the peer's addresses. mu is held.
func (p *peer) dialTo(to netip.AddrPort, now time.Duration) {
	t, c := p.tunnel, &p.tunnel.streams
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil || t.dialTCP == nil {
		p.ways.undialled(now, to)
		return
	}
	ctx, cancel := context.WithCancel(c.ended)
	d := &dial{cancel}
	if p.dials == nil {
		p.dials = make(map[netip.AddrPort]*dial)
	}
	p.dials[to] = d
	turns := c.dials
	c.running.Go(func() {
		defer cancel()
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			p.undialled(d, to)
			return
		}
		dialling, end := context.WithTimeout(ctx, dialTimeout)
		s, err := t.dialTCP(dialling, to, t.mark.Load())
		end()
		<-turns
		if err != nil {
			t.log.Debug("no TCP connection", "peer", p, "endpoint", to, "error", err)
			p.undialled(d, to)
		} else if t.serve(s, false) {
			p.dialled(d, to, s)
		}
	})
}

// dialled takes a connection that has come about; it is closed if that is not wanted any more.
func (p *peer) dialled(d *dial, to netip.AddrPort, s socket.Stream) {
	now := p.tunnel.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := p.dials[to] == d && p.ways.dialled(now, to)
	if p.dials[to] == d {
		delete(p.dials, to)
	}
	switch path := s.Path(); {
	case !p.hold(s):
		if wanted {
			p.ways.disconnected(now) // it has just ended
		}
	case wanted:
		p.streams[s].ours = true
		p.made = &path
	default:
		p.letGo(s)
	}
	p.plan(now)
}

func (p *peer) undialled(d *dial, to netip.AddrPort) {
	now := p.tunnel.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dials[to] == d {
		delete(p.dials, to)
		p.ways.undialled(now, to)
		p.plan(now)
	}
}

// cancelDials ends those that are going on. mu is held.
func (p *peer) cancelDials() {
	for to, d := range p.dials {
		d.cancel()
		delete(p.dials, to)
	}
}

// hangUp closes the connection that was made for a handshake, if no session lives on it. mu is held.
func (p *peer) hangUp() {
	if p.made != nil {
		p.letGo(p.made.Stream)
		p.made = nil
	}
}
