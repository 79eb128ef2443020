package transport

import (
	"slices"

	"stunnel/transport/socket"
)

// holding is how a peer needs a connection.
type holding struct {
	things int  // sessions, handshakes and so on
	ours   bool // we have opened it
}

// hold says that one more thing of the peer needs the connection; false: it has ended. mu is held.
func (p *peer) hold(s socket.Stream) bool {
	c := &p.tunnel.streams
	c.mu.Lock()
	defer c.mu.Unlock()
	owners, open := c.owners[s]
	if !open {
		return false
	}
	if p.streams == nil {
		p.streams = make(map[socket.Stream]*holding)
	}
	if p.streams[s] == nil {
		p.streams[s] = new(holding)
		c.owners[s] = append(slices.Clip(owners), p)
	}
	p.streams[s].things++
	return true
}

// opened says whether we have opened the connection that a path names. mu is held.
func (p *peer) opened(path *socket.Path) bool {
	return path != nil && path.Stream != nil && p.streams[path.Stream] != nil && p.streams[path.Stream].ours
}

// letGo says that one thing less does. mu is held.
func (p *peer) letGo(s socket.Stream) {
	if p.streams[s].things--; p.streams[s].things > 0 {
		return
	}
	delete(p.streams, s)
	c := &p.tunnel.streams
	c.mu.Lock()
	defer c.mu.Unlock()
	owners, open := c.owners[s]
	if !open {
		return
	}
	c.owners[s] = slices.DeleteFunc(slices.Clone(owners), func(other *peer) bool { return other == p })
	if len(c.owners[s]) == 0 {
		s.Close()
	}
}

// setGuest keeps a connection open by which messages of the peer's have come although no session lives on it: it may be about
// to make one. A peer has one of these, the newest.
func (p *peer) setGuest(s socket.Stream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s != nil && (p.removed || !p.hold(s)) {
		return false
	}
	p.dropGuest()
	p.guest = s
	return true
}

// dropGuest: mu is held.
func (p *peer) dropGuest() {
	if p.guest != nil {
		p.letGo(p.guest)
		p.guest = nil
	}
}

// lose takes everything that lived on a connection which has ended from its peer.
func (p *peer) lose(s socket.Stream, why string) {
	now := p.tunnel.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inform(now)
	current := p.sessions.current.Load()
	wasCurrent := current != nil && current.stream != nil && current.stream.Stream == s
	p.sessions.takeOut(func(x *session) bool { return x.stream != nil && x.stream.Stream == s }, p.dropSession)
	if w := p.pending[TransportTCP]; w.Initiator != nil && w.stream.Stream == s {
		p.dropPending(TransportTCP)
	}
	if p.guest == s {
		p.dropGuest()
	}
	if p.made != nil && p.made.Stream == s {
		p.hangUp()
		p.ways.disconnected(now)
	}
	if wasCurrent {
		p.ways.lost(now, why)
	}
	p.plan(now)
}
