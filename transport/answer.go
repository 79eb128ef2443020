package transport

import (
	"time"

	"stunnel/crypto"
	"stunnel/transport/socket"
)

// answer takes an initiation: a responder's part.
// false: it was not answered.
func (t *Tunnel) answer(msg []byte, from *socket.Path, now time.Duration) bool {
	id := t.local.Load()
	if id == nil {
		t.drops.add(dropNoKey, 1)
		return false
	}
	var p *peer
	var claimed crypto.PublicKey
	responder, err := crypto.Accept(id.Identity, msg, func(key crypto.PublicKey) *crypto.Remote {
		claimed = key
		if p = t.peers.lookup(key); p == nil {
			return nil
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.identity != id.Identity {
			return nil // our key is just being changed
		}
		return p.remote
	})
	switch {
	case err != nil && p != nil:
		p.drops.add(dropBadHandshake, 1)
		return false
	case err != nil && claimed.IsZero():
		t.drops.add(dropBadHandshake, 1)
		return false
	case err != nil:
		t.drops.add(dropUnknownPeer, 1)
		t.tell(clueUnknownKey, now, "key", claimed, "from", from.Remote)
		return false
	}
	response := p.respond(responder, len(msg), from, now)
	switch {
	case response == nil:
		return false
	case from.Stream != nil:
		p.sendSealed(response, from)
	default:
		p.measurePath(from.Remote)
		p.sendSealed(response, nil)
	}
	return true
}

// respond makes the response to an initiation of length bytes, nil if there is
// to be none.
func (p *peer) respond(responder *crypto.Responder, length int, from *socket.Path, now time.Duration) []byte {
	t := p.tunnel
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.removed || p.remote != responder.Remote() || !t.isUp():
		p.drops.add(dropDown, 1) // the configuration has changed meanwhile
		return nil
	case !responder.Timestamp().After(p.newestStamp):
		p.drops.add(dropReplayedInitiation, 1)
		return nil
	case now < p.lastAccepted[carrierOf(from)]+initiationSpacing:
		p.drops.add(dropInitiationFlood, 1)
		return nil
	}
	p.newestStamp, p.lastAccepted[carrierOf(from)] = responder.Timestamp(), now
	if from.Stream == nil {
		p.setPath(*from)
	}
	p.rxBytes.Add(uint64(length))
	p.authenticatedReceived(now)

	index := t.indices.reserve(p)
	response, keypair, err := responder.Respond(p.psk, index)
	if err != nil {
		t.indices.remove(index)
		p.drops.add(dropBadHandshake, 1)
		return nil
	}
	s := p.newSession(keypair, from, now)
	if s == nil {
		t.indices.remove(index)
		return nil // the connection has just ended
	}
	p.sessions.addResponded(s, p.dropSession)
	t.indices.promote(s)
	p.lastSent[s.carrier()].Store(int64(now))
	p.ways.responded(now, s.carrier())
	p.jar.Stamp(response, now)
	p.sessionDerived(now)
	p.authenticatedSent(now)
	return response
}
