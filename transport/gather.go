package transport

import (
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
)

// arenaSize is how much a lane can hold of packets made of fragments before it
// has to write: two of the largest there are.
const arenaSize = 128 << 10

// gathering are fragments of one packet that came in one run of messages, one
// behind the other from the first on. Nothing of them is copied until the last
// has come: they lie where they were opened, as long as their burst does.
type gathering struct {
	id     crypto.Counter
	n      int // fragments
	length int // of all parts together
	parts  [maxFragments][]byte
}

// join takes a fragment that has passed the replay decision, and passes the
// packet on if that has made it whole. What does not continue the packet that is
// being gathered goes where all lanes look for the rest.
func (r *receiver) join(s *session, counter crypto.Counter, flags extension.Flags, part []byte, routes *routes[*peer], now time.Duration) {
	index, last, ok := flags.Fragment()
	f := fragment{index, last, part}
	id, g := counter-crypto.Counter(index), &r.gathered
	if !ok || len(part) == 0 || counter < id {
		s.peer.drops.add(dropBadFragment, 1)
		if g.n > 0 && g.id == id {
			g.n = 0
		}
		r.tunnel.reassembly.contradict(s, id)
		return
	}
	switch {
	case f.index == 0:
		r.disperse(s, routes, now)
		g.id, g.length = id, 0
	case g.n == 0 || g.id != id:
		r.insert(s, id, f, routes, now)
		return
	}
	if f.index != g.n || f.last && r.tunnel.reassembly.knows(s, id) {
		r.disperse(s, routes, now)
		r.insert(s, id, f, routes, now)
		return
	}
	g.parts[g.n] = f.part
	g.n++
	g.length += len(f.part)
	if f.last {
		r.assemble(s, routes, now)
	}
}

// assemble makes one packet of what is gathered and passes it on.
func (r *receiver) assemble(s *session, routes *routes[*peer], now time.Duration) {
	g := &r.gathered
	parts := g.parts[:g.n]
	g.n = 0
	if g.length > maxWhole {
		s.peer.drops.add(dropBadFragment, 1)
		return
	}
	r.makeRoom(s.peer, g.length, now)
	begin := len(r.arena)
	for _, part := range parts {
		r.arena = append(r.arena, part...)
	}
	r.admit(s, r.arena[begin:len(r.arena):len(r.arena)], routes, now)
}

// disperse gives up gathering: what has come so far is kept beyond the burst.
func (r *receiver) disperse(s *session, routes *routes[*peer], now time.Duration) {
	g := &r.gathered
	parts := g.parts[:g.n]
	g.n = 0
	for i, part := range parts {
		r.insert(s, g.id, fragment{index: i, part: part}, routes, now)
	}
}

// insert keeps a copy of a fragment, or passes its packet on if it was the last
// one missing.
func (r *receiver) insert(s *session, id crypto.Counter, f fragment, routes *routes[*peer], now time.Duration) {
	r.makeRoom(s.peer, maxWhole, now)
	begin := len(r.arena)
	packet, began := r.tunnel.reassembly.insert(r.arena, s, id, f, now)
	if began {
		s.peer.armIfIdle(&s.peer.timers.reassembly, now+reassemblyTime)
	}
	if packet != nil {
		r.arena = packet
		r.admit(s, packet[begin:len(packet):len(packet)], routes, now)
	}
}

// makeRoom makes the arena have n free bytes, at most maxWhole, for what comes from p.
// Where it has not, what has come so far of the burst is written now and not at its end.
func (r *receiver) makeRoom(p *peer, n int, now time.Duration) {
	if r.arena == nil {
		r.arena = make([]byte, 0, arenaSize)
	}
	if n <= cap(r.arena)-len(r.arena) {
		return
	}
	r.forward(p, now)
	if len(r.packets) > 0 {
		r.deliver(r.packets, r.partial)
	}
	r.packets, r.partial, r.arena = r.packets[:0], r.partial[:0], r.arena[:0]
}
