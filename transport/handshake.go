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
	path socket.Path
	len  int
	msg  [crypto.InitiationSize]byte
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
				p.initiate(t.now())
			}
		}
	}
}

func (t *Tunnel) handshake(m *queuedHandshake) {
	msg, now := m.msg[:m.len], t.now()
	if typ, _ := crypto.Type(msg); typ == crypto.TypeInitiation {
		t.answer(msg, m.path, now)
	} else {
		t.finish(msg, m.path, now)
	}
}

// nextInitiation is when the limit of one per RekeyTimeout allows another.
func (p *peer) nextInitiation() time.Duration {
	return time.Duration(p.lastSent.Load()) + RekeyTimeout
}

// requestHandshake has a worker begin a handshake, as a first attempt.
func (p *peer) requestHandshake() {
	p.timers.attempts.Store(0)
	p.queueInitiation()
}

func (p *peer) queueInitiation() {
	if p.wantsInitiation.CompareAndSwap(false, true) {
		p.tunnel.initiations.push(p)
	}
}

// retry is the retransmission timer's: our initiation was not answered.
func (p *peer) retry(now time.Duration) {
	t := &p.timers
	attempts := t.attempts.Load()
	if attempts >= maxRetries {
		p.tunnel.log.Debug("handshake given up", "peer", p, "attempts", attempts+1)
		t.keepalive.stop()
		p.drops.add(dropNoHandshake, p.staging.clear())
		p.flush()
		p.armIfIdle(&t.zeroKeys, now+zeroKeysAfter)
		return
	}
	t.attempts.Add(1)
	p.clearLocal()
	p.queueInitiation()
}

// initiate sends a handshake initiation, at most one in RekeyTimeout.
func (p *peer) initiate(now time.Duration) {
	msg, silent := p.initiation(now)
	if msg == nil {
		return
	}
	p.sendSealed(msg, len(msg))
	p.tunnel.log.Debug("handshake initiation", "peer", p, "endpoint", p.endpoint())
	if silent {
		p.tunnel.log.Warn("no answer to handshake, still trying", "peer", p, "endpoint", p.endpoint())
	}
}

// complainAfter is for how long initiations go unanswered before the log says.
const complainAfter = 2 * RekeyTimeout

// initiation makes the message, nil if there is to be none. silent: it is time
// to tell that the peer does not answer.
func (p *peer) initiation(now time.Duration) (msg []byte, silent bool) {
	t := p.tunnel
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed || p.remote == nil || p.path.Load() == nil || !t.isUp() {
		return nil, false
	}
	if next := p.nextInitiation(); now < next {
		// A response of ours, or the last attempt, is younger. If nobody
		// confirms the one or answers the other, go on from there.
		if p.usable(now) == nil {
			p.armIfIdle(&p.timers.retransmit, next+jitter())
		}
		return nil, false
	}
	p.dropPending()
	stamp := crypto.TAI64NFrom(t.wall())
	if !stamp.After(p.lastStamp) {
		stamp = p.lastStamp.Next()
	}
	index := t.indices.reserve(p)
	msg, pending, err := crypto.Initiate(p.identity, p.remote, p.psk, index, stamp)
	if err != nil {
		t.indices.remove(index)
		p.drops.add(dropBadHandshake, 1)
		return nil, false
	}
	p.pending, p.lastStamp = pending, stamp
	p.lastSent.Store(int64(now))
	p.jar.Stamp(msg, now)
	p.initiationSent(now)
	if p.asked == 0 {
		p.asked = now
	}
	silent = !p.complained && now-p.asked >= complainAfter
	p.complained = p.complained || silent
	return msg, silent
}

// answer takes an initiation: a responder's part.
func (t *Tunnel) answer(msg []byte, from socket.Path, now time.Duration) {
	id := t.local.Load()
	if id == nil {
		t.drops.add(dropNoKey, 1)
		return
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
		return
	case err != nil && claimed.IsZero():
		t.drops.add(dropBadHandshake, 1)
		return
	case err != nil:
		t.drops.add(dropUnknownPeer, 1)
		t.tell(clueUnknownKey, now, "key", claimed, "from", from.Remote)
		return
	}
	if response := p.respond(responder, len(msg), from, now); response != nil {
		p.measurePath(from.Remote)
		p.sendSealed(response, len(response))
	}
}

// respond makes the response to an initiation of length bytes, nil if there is
// to be none.
func (p *peer) respond(responder *crypto.Responder, length int, from socket.Path, now time.Duration) []byte {
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
	case now < p.lastAccepted+initiationSpacing:
		p.drops.add(dropInitiationFlood, 1)
		return nil
	}
	p.newestStamp, p.lastAccepted = responder.Timestamp(), now
	p.setPath(from)
	p.rxBytes.Add(uint64(length))
	p.authenticatedReceived(now)

	index := t.indices.reserve(p)
	response, keypair, err := responder.Respond(p.psk, index)
	if err != nil {
		t.indices.remove(index)
		p.drops.add(dropBadHandshake, 1)
		return nil
	}
	s := p.newSession(keypair, now)
	p.sessions.addResponded(s, p.dropSession)
	t.indices.promote(s)
	p.lastSent.Store(int64(now))
	p.jar.Stamp(response, now)
	p.sessionDerived(now)
	p.authenticatedSent(now)
	return response
}

// finish takes a response: the initiator's second part. What was staged, or a
// keepalive, confirms the new keypair to the responder.
func (t *Tunnel) finish(msg []byte, from socket.Path, now time.Duration) {
	p := t.indices.lookup(crypto.Receiver(msg)).peer
	if p == nil {
		t.drops.add(dropUnknownIndex, 1)
		return
	}
	news, err := p.finish(msg, from, now)
	if err != nil {
		p.drops.add(dropBadHandshake, 1)
		if errors.Is(err, crypto.ErrOpen) {
			t.tell(clueBadResponse, now, "peer", p, "from", from.Remote)
		}
		return
	}
	p.measurePath(from.Remote)
	p.tell(news)
	p.sendKeepalive(now)
	p.sayHello(now)
}

// errNotPending: a handshake that has been given up, or completed, meanwhile.
var errNotPending = errors.New("no such handshake is pending")

func (p *peer) finish(msg []byte, from socket.Path, now time.Duration) (news string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending == nil || p.pending.LocalIndex() != crypto.Receiver(msg) {
		return "", errNotPending
	}
	keypair, err := p.pending.Finish(msg, p.psk)
	if err != nil {
		return "", err
	}
	p.pending = nil
	p.setPath(from)
	p.rxBytes.Add(uint64(len(msg)))
	p.authenticatedReceived(now)
	s := p.newSession(keypair, now)
	p.sessions.addInitiated(s, p.dropSession)
	p.tunnel.indices.promote(s)
	p.sessionDerived(now)
	return p.completed(s, now), nil
}

func (p *peer) newSession(k *crypto.Keypair, now time.Duration) *session {
	p.serial++
	s := &session{Keypair: k, peer: p, created: now, serial: p.serial}
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
// from the initiator, and sends what is staged.
func (p *peer) confirm(s *session, now time.Duration) {
	p.mu.Lock()
	confirmed, news := p.sessions.confirm(s, p.dropSession), ""
	if confirmed {
		news = p.completed(s, now)
	}
	p.mu.Unlock()
	if confirmed {
		p.tell(news)
		p.sendStaged(now)
	}
}
