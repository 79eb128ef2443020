package transport

import (
	"sync/atomic"
	"time"

	"stunnel/crypto"
)

// session is a Keypair in use: whose it is, since when, and which counters
// have come in under it. Its age runs on the Tunnel's clock from the moment
// its keys were derived.
//
// A session is in one of its peer's three slots (previous, current, next) and
// in the index table, or retired. Who seals or opens under it holds it with
// acquire; the last one out of a retired session wipes its keys.
type session struct {
	*crypto.Keypair
	peer    *peer
	created time.Duration
	serial  uint64 // sessions of one peer in the order they were derived

	replay replayWindow

	uses  atomic.Int64 // holders; retiredBias is added by retire
	wiped atomic.Bool
}

const retiredBias = -1 << 40

// acquire keeps the session's keys from being wiped until release; false: it
// is retired, its keys must not be used.
func (s *session) acquire() bool {
	if s.uses.Add(1) > 0 {
		return true
	}
	s.release()
	return false
}

func (s *session) release() {
	if s.uses.Add(-1) == retiredBias {
		s.wipe()
	}
}

// retire is called once, by who takes the session out of its slot.
func (s *session) retire() {
	if s.uses.Add(retiredBias) == retiredBias {
		s.wipe()
	}
}

func (s *session) wipe() {
	if s.wiped.CompareAndSwap(false, true) {
		s.Keypair.Zero()
	}
}

func (s *session) expired(now time.Duration) bool { return now-s.created >= RejectAfterTime }

// sessions are a peer's three slots (whitepaper §6.3; PROTOCOL: a responder
// must not send before a message has come under its new keypair, so that one
// waits in next). They are changed under peer.mu; current is read without.
type sessions struct {
	current  atomic.Pointer[session]
	previous *session // guarded by peer.mu
	next     *session // guarded by peer.mu

	// When handshakes cross, both new keypairs are in use, and the peer sends
	// under the old one until it knows. The kernel drops what is on its way
	// then; here it is still opened. Guarded by peer.mu.
	draining *session
}

// addInitiated puts the session that our own handshake made into current.
func (ss *sessions) addInitiated(s *session, drop func(*session)) {
	drop(ss.draining)
	drop(ss.previous)
	ss.draining = nil
	ss.previous = ss.current.Swap(s)
	if ss.next != nil {
		ss.draining, ss.previous, ss.next = ss.previous, ss.next, nil
	}
}

// addResponded puts the session that we answered for into next.
func (ss *sessions) addResponded(s *session, drop func(*session)) {
	drop(ss.draining)
	drop(ss.next)
	ss.draining, ss.previous, ss.next = ss.previous, nil, s
}

// confirm moves next to current when s is next: a message has opened under it.
func (ss *sessions) confirm(s *session, drop func(*session)) bool {
	if ss.next != s {
		return false
	}
	drop(ss.previous)
	ss.previous = ss.current.Swap(s)
	ss.next = nil
	return true
}

// clear empties all slots.
func (ss *sessions) clear(drop func(*session)) {
	drop(ss.draining)
	drop(ss.previous)
	drop(ss.next)
	drop(ss.current.Swap(nil))
	ss.draining, ss.previous, ss.next = nil, nil, nil
}
