package transport

import (
	"sync/atomic"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// session is a Keypair in use: whose it is, since when, and which counters
// have come in under it. Its age runs on the Tunnel's clock from the moment
// its keys were derived.
//
// A session lives on what its handshake ran on: UDP, where it goes wherever the peer is, or one TCP connection, with which it
// ends. What of it comes by another way is taken, but moves nothing.
//
// A session is in one of its peer's three slots (previous, current, next) and
// in the index table, or retired. Who seals or opens under it holds it with
// acquire; the last one out of a retired session wipes its keys.
type session struct {
	*crypto.Keypair
	peer    *peer
	stream  *socket.Path // of the connection; nil: UDP
	created time.Duration
	serial  uint64 // sessions of one peer in the order they were derived

	replay replayWindow
	open   atomic.Int32 // wholes that wait for fragments; written under reassembly.mu

	// speaks is what may be sent beside WireGuard: capabilities of the peer, and
	// understands; 0 until the session is proved (hello.go). Written under peer.mu.
	speaks atomic.Uint32
	opens  atomic.Uint32      // capabilities of ours that the peer may count on
	proved bool               // guarded by peer.mu
	said   extension.Sequence // of our hello at its confirmation; 0: none. Guarded by peer.mu

	uses  atomic.Int64 // holders; retiredBias is added by retire
	wiped atomic.Bool
}

const retiredBias = -1 << 40

// carrier is what the session lives on.
func (s *session) carrier() Transport { return carrierOf(s.stream) }

// way is where messages under the session go; nil: that is not known.
func (s *session) way() *socket.Path {
	if s.stream != nil {
		return s.stream
	}
	return s.peer.path.Load()
}

// cameBy says whether a message came by what the session lives on.
func (s *session) cameBy(from *socket.Path) bool {
	return from.Stream == nil && s.stream == nil || s.stream != nil && from.Stream == s.stream.Stream
}

// sharesWay says whether both live on UDP, or on the same connection.
func (s *session) sharesWay(o *session) bool {
	return s.stream == nil && o.stream == nil || s.stream != nil && o.stream != nil && s.stream.Stream == o.stream.Stream
}

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
		s.peer.tunnel.reassembly.forget(s)
	}
}

// limit is the most bytes of plaintext, padding included, that a message under
// the session may have; a longer packet is cut. 0: nothing is cut.
func (s *session) limit() int {
	if s.stream != nil || !s.may(extension.Fragments) {
		return 0
	}
	return int(s.peer.carries.Load())
}

func (s *session) expired(now time.Duration) bool { return now-s.created >= RejectAfterTime }

// sessions are a peer's slots (whitepaper §6.3; PROTOCOL: a responder must not
// send before a message has come under its new keypair, so that one waits in
// next). They are changed under peer.mu; current is read without.
type sessions struct {
	current  atomic.Pointer[session]
	previous *session           // guarded by peer.mu
	next     [carriers]*session // guarded by peer.mu; the first that opens a message ends the other
	trial    *session           // guarded by peer.mu; of our own handshake, see trial.go

	// When handshakes cross, both new keypairs are in use, and the peer sends
	// under an old one until it knows. The kernel drops what is on its way
	// then; here it is still opened. Newest first, guarded by peer.mu.
	draining [2]*session
}

// addInitiated puts the session that our own handshake made into current.
func (ss *sessions) addInitiated(s *session, drop func(*session)) {
	if crossing := &ss.next[s.carrier()]; *crossing != nil && s.sharesWay(*crossing) {
		ss.drain(ss.previous, drop)
		ss.drain(ss.current.Swap(s), drop)
		ss.previous, *crossing = *crossing, nil
		return
	}
	drop(ss.previous)
	ss.previous = ss.current.Swap(s)
}

// addResponded puts the session that we answered for into next.
func (ss *sessions) addResponded(s *session, drop func(*session)) {
	ss.drain(ss.previous, drop)
	drop(ss.next[s.carrier()])
	ss.previous, ss.next[s.carrier()] = nil, s
}

// confirm moves next to current when s is next: a message has opened under it.
func (ss *sessions) confirm(s *session, drop func(*session)) bool {
	if ss.next[s.carrier()] != s {
		return false
	}
	drop(ss.previous)
	ss.previous = ss.current.Swap(s)
	ss.next[s.carrier()] = nil
	drop(ss.next[1-s.carrier()])
	ss.next[1-s.carrier()] = nil
	return true
}

// try puts a session that our own handshake has made on trial.
func (ss *sessions) try(s *session, drop func(*session)) {
	drop(ss.trial)
	ss.trial = s
}

// putAside keeps next, under which a message has opened, for no more than that.
func (ss *sessions) putAside(s *session, drop func(*session)) {
	if ss.next[s.carrier()] == s {
		ss.next[s.carrier()] = nil
		ss.drain(s, drop)
	}
}

func (ss *sessions) drain(s *session, drop func(*session)) {
	if s != nil {
		drop(ss.draining[1])
		ss.draining[0], ss.draining[1] = s, ss.draining[0]
	}
}

// dropExpired empties the slots beside current of sessions that have expired,
// and returns the oldest of those that have not, nil if there is none. The
// current one, too old to be used, goes when the zero-keys timer says.
func (ss *sessions) dropExpired(now time.Duration, drop func(*session)) (oldest *session) {
	keep := func(s *session) *session {
		switch {
		case s == nil:
			return nil
		case s.expired(now):
			drop(s)
			return nil
		case oldest == nil || s.created < oldest.created:
			oldest = s
		}
		return s
	}
	ss.draining[0], ss.draining[1] = keep(ss.draining[0]), keep(ss.draining[1])
	ss.previous, ss.trial = keep(ss.previous), keep(ss.trial)
	for i := range ss.next {
		ss.next[i] = keep(ss.next[i])
	}
	return oldest
}

// all yields the sessions that are in a slot.
func (ss *sessions) all(yield func(*session) bool) {
	for _, s := range [...]*session{ss.draining[0], ss.draining[1], ss.previous, ss.next[0], ss.next[1], ss.trial, ss.current.Load()} {
		if s != nil && !yield(s) {
			return
		}
	}
}

// endSending takes the current session out of use for sending, if it is not newer
// than serial; what is on its way under it is still opened. false: it is newer, or
// there is none.
func (ss *sessions) endSending(serial uint64, drop func(*session)) bool {
	s := ss.current.Load()
	if s == nil || s.serial > serial {
		return false
	}
	ss.current.Store(nil)
	ss.drain(s, drop)
	return true
}

// takeOut empties the slots of sessions that are to go.
func (ss *sessions) takeOut(goes func(*session) bool, drop func(*session)) {
	out := func(s *session) *session {
		if s != nil && goes(s) {
			drop(s)
			return nil
		}
		return s
	}
	for i := range ss.draining {
		ss.draining[i] = out(ss.draining[i])
	}
	ss.previous, ss.trial = out(ss.previous), out(ss.trial)
	for i := range ss.next {
		ss.next[i] = out(ss.next[i])
	}
	ss.current.Store(out(ss.current.Load()))
}

// clear empties all slots.
func (ss *sessions) clear(drop func(*session)) {
	ss.takeOut(func(*session) bool { return true }, drop)
}
