package transport

import (
	"context"
	"errors"
	"sync"
	"time"

	"stunnel/crypto"
	"stunnel/transport/socket"
)

// The handshake queue holds messages whose MAC1 was right, and whose MAC2 was
// right and whose source was within its rate if it was under load when they
// came: those of sources that have not proved themselves never fill more than
// underLoadAt of it.
const (
	handshakeQueueSize = 1024
	underLoadAt        = handshakeQueueSize / 8
	underLoadFor       = time.Second
	maxWorkers         = 4
)

// queuedHandshake is a copy of an initiation or a response.
type queuedHandshake struct {
	path    socket.Path
	len     int
	msg     [crypto.InitiationSize]byte
	verdict chan<- bool // holds one; gets whether it was answered. nil: nobody wants to know
}

// initiations are the peers that a handshake is to be begun with: each at most
// once, so their number bounds it. Its lock is a leaf.
type initiations struct {
	mu    sync.Mutex
	peers []*peer
	wake  chan struct{} // capacity 1
}

func (q *initiations) push(p *peer) {
	q.mu.Lock()
	q.peers = append(q.peers, p)
	q.mu.Unlock()
	q.signal()
}

func (q *initiations) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop takes the first; when more are left it wakes the next worker.
func (q *initiations) pop() *peer {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.peers) == 0 {
		return nil
	}
	p := q.peers[0]
	q.peers[0] = nil
	if q.peers = q.peers[1:]; len(q.peers) > 0 {
		q.signal()
	} else {
		q.peers = nil
	}
	return p
}

// runHandshakes is a worker: all public-key arithmetic happens here, off the
// hot path.
func (t *Tunnel) runHandshakes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-t.handshakes:
			t.handshake(m)
		case <-t.initiations.wake:
			if p := t.initiations.pop(); p != nil {
				p.wantsInitiation.Store(false)
				p.proceed(t.now())
			}
		}
	}
}

func (t *Tunnel) handshake(m *queuedHandshake) {
	msg, now := m.msg[:m.len], t.now()
	if typ, _ := crypto.Type(msg); typ != crypto.TypeInitiation {
		t.finish(msg, &m.path, now)
		return
	}
	answered := t.answer(msg, &m.path, now)
	if m.verdict != nil {
		m.verdict <- answered
	}
}

// nextInitiation is when the limit of one per RekeyTimeout allows another.
func (p *peer) nextInitiation(c Transport) time.Duration {
	return time.Duration(p.lastSent[c].Load()) + RekeyTimeout
}

// complainAfter is for how long initiations go unanswered before the log says.
const complainAfter = 2 * RekeyTimeout

// initiation makes the message for a way, nil if there is to be none. mu is held.
func (p *peer) initiation(by *socket.Path, now time.Duration) []byte {
	t, c := p.tunnel, carrierOf(by)
	if by.Stream != nil && !p.hold(by.Stream) {
		return nil // it has just ended
	}
	p.dropPending(c)
	stamp := crypto.TAI64NFrom(t.wall())
	if !stamp.After(p.lastStamp) {
		stamp = p.lastStamp.Next()
	}
	index := t.indices.reserve(p)
	msg, initiator, err := crypto.Initiate(p.identity, p.remote, p.psk, index, stamp)
	if err != nil {
		t.indices.remove(index)
		p.drops.add(dropBadHandshake, 1)
		if by.Stream != nil {
			p.letGo(by.Stream)
		}
		return nil
	}
	p.pending[c], p.lastStamp = pending{Initiator: initiator}, stamp
	p.lastSent[c].Store(int64(now))
	p.jar.Stamp(msg, now)
	if by.Stream != nil {
		p.pending[c].stream = by
	} else {
		p.pending[c].message = msg
	}
	p.authenticatedSent(now)
	return msg
}

// complains says, when something is tried again, whether it is time to tell that the peer does not answer. mu is held.
func (p *peer) complains(now time.Duration) bool {
	silent := !p.complained && p.asked != 0 && now-p.asked >= complainAfter
	p.complained = p.complained || silent
	return silent
}

// finish takes a response: the initiator's second part. What was staged, or a
// keepalive, confirms the new keypair to the responder.
func (t *Tunnel) finish(msg []byte, from *socket.Path, now time.Duration) {
	p := t.indices.lookup(crypto.Receiver(msg)).peer
	if p == nil {
		t.drops.add(dropUnknownIndex, 1)
		return
	}
	news, verdict, err := p.finish(msg, from, now)
	switch {
	case errors.Is(err, errOtherWay):
		p.drops.add(dropOtherWay, 1)
		return
	case err != nil:
		p.drops.add(dropBadHandshake, 1)
		if errors.Is(err, crypto.ErrOpen) {
			t.tell(clueBadResponse, now, "peer", p, "from", from.Remote)
		}
		return
	}
	if from.Stream == nil {
		p.measurePath(from.Remote)
	}
	if verdict == take {
		p.tell(news)
		p.begun(now)
	}
}

// begun is for a session of our own handshake's that has become the current one.
func (p *peer) begun(now time.Duration) {
	p.tellWay()
	p.sendKeepalive(now)
	p.sayHello(now)
}

var (
	// errNotPending: a handshake that has been given up, or completed, meanwhile.
	errNotPending = errors.New("no such handshake is pending")
	// errOtherWay: the response did not come by the way of the initiation.
	errOtherWay = errors.New("another way")
)

func (p *peer) finish(msg []byte, from *socket.Path, now time.Duration) (news string, v verdict, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := TransportUDP
	if w := p.pending[TransportTCP]; w.Initiator != nil && w.LocalIndex() == crypto.Receiver(msg) {
		c = TransportTCP
	}
	w := p.pending[c]
	switch {
	case w.Initiator == nil || w.LocalIndex() != crypto.Receiver(msg) || !p.ways.awaits(c):
		return "", refuse, errNotPending
	case w.stream != nil && w.stream.Stream != from.Stream || w.stream == nil && from.Stream != nil:
		return "", refuse, errOtherWay
	}
	keypair, err := w.Finish(msg, p.psk)
	if err != nil {
		return "", refuse, err
	}
	s := p.newSession(keypair, from, now)
	p.pending[c] = pending{}
	if w.stream != nil {
		p.letGo(w.stream.Stream)
	}
	if s == nil {
		p.tunnel.indices.remove(crypto.Receiver(msg))
		return "", refuse, errNotPending // with its connection
	}
	if from.Stream == nil {
		p.setPath(*from)
	}
	p.rxBytes.Add(uint64(len(msg)))
	p.authenticatedReceived(now)
	p.tunnel.indices.promote(s)
	p.sessionDerived(now)
	p.inform(now)
	v = p.ways.completed(now, c, p.opened(s.stream))
	switch v {
	case take:
		p.sessions.addInitiated(s, p.dropSession)
		p.sendKept(s)
		news = p.completed(s, now)
	case try:
		p.sessions.try(s, p.dropSession)
	case refuse:
		p.dropSession(s)
	}
	if p.made != nil && from.Stream == p.made.Stream {
		p.hangUp() // or, if a session lives on it now, not
	}
	p.plan(now)
	return news, v, nil
}

// newSession makes a session that lives on what its handshake ran on; nil: on a connection that has ended. mu is held.
func (p *peer) newSession(k *crypto.Keypair, from *socket.Path, now time.Duration) *session {
	var stream *socket.Path
	if from.Stream != nil {
		if !p.hold(from.Stream) {
			k.Zero()
			return nil
		}
		path := *from
		stream = &path
	}
	p.serial++
	s := &session{Keypair: k, peer: p, stream: stream, created: now, serial: p.serial}
	p.inherit(s)
	return s
}

// completed is of a handshake that both ends know to be complete. mu is held.
// It returns what of that is news to people, "" if nothing is.
func (p *peer) completed(s *session, now time.Duration) (news string) {
	p.handshakeComplete()
	p.beginHello(s, now)
	switch {
	case !p.introduced:
		news = "first handshake"
	case p.complained:
		news = "handshake: it answers again"
	}
	p.introduced, p.complained, p.asked = true, false, 0
	return news
}

// tell logs a handshake. No lock is held: a log may be slow.
func (p *peer) tell(news string) {
	if news != "" {
		p.tunnel.log.Info(news, "peer", p, "endpoint", p.endpoint())
	} else {
		p.tunnel.log.Debug("handshake", "peer", p, "endpoint", p.endpoint())
	}
}

// confirm makes s the current session, if it was waiting for its first message
// from the initiator and the ways follow it there, and sends what is staged.
func (p *peer) confirm(s *session, now time.Duration) {
	p.mu.Lock()
	confirmed, news := false, ""
	if p.sessions.next[s.carrier()] == s {
		p.inform(now)
		if confirmed = p.ways.confirmed(now, s.carrier(), p.opened(s.stream)); confirmed {
			p.sessions.confirm(s, p.dropSession)
			p.sendKept(s)
			news = p.completed(s, now)
		} else {
			p.sessions.putAside(s, p.dropSession)
		}
		p.plan(now)
	}
	p.mu.Unlock()
	if confirmed {
		p.tell(news)
		p.tellWay()
		p.sendStaged(now)
	}
}
