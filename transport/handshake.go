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
				p.initiate(t.now())
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

// initiate begins a handshake: on the connection that there is, if the session
// lives on one; else by what the configuration says.
func (p *peer) initiate(now time.Duration) {
	if s := p.sessions.current.Load(); s != nil && s.stream != nil {
		p.initiateBy(s.stream, now)
	} else if Transport(p.transport.Load()) == TransportTCP {
		p.dial(now)
	} else {
		p.initiateBy(nil, now)
	}
}

// initiateBy sends a handshake initiation, by a connection or, if that is nil, by UDP; at most one in
// RekeyTimeout by each.
func (p *peer) initiateBy(stream *socket.Path, now time.Duration) {
	msg, silent := p.initiation(stream, now)
	if msg == nil {
		return
	}
	p.sendSealed(msg, stream)
	to := p.path.Load()
	if stream != nil {
		to = stream
	}
	if to == nil {
		return
	}
	p.tunnel.log.Debug("handshake initiation", "peer", p, "endpoint", to.Remote, "transport", carrierOf(to))
	if silent {
		p.tunnel.log.Warn("no answer to handshake, still trying", "peer", p, "endpoint", to.Remote)
	}
}

// complainAfter is for how long initiations go unanswered before the log says.
const complainAfter = 2 * RekeyTimeout

// initiation makes the message, nil if there is to be none. silent: it is time
// to tell that the peer does not answer.
func (p *peer) initiation(stream *socket.Path, now time.Duration) (msg []byte, silent bool) {
	t := p.tunnel
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed || p.remote == nil || stream == nil && p.path.Load() == nil || !t.isUp() {
		return nil, false
	}
	c := carrierOf(stream)
	if next := p.nextInitiation(c); now < next {
		// A response of ours, or the last attempt, is younger. If nobody
		// confirms the one or answers the other, go on from there.
		if p.usable(now) == nil {
			p.armIfIdle(&p.timers.retransmit, next+jitter())
		}
		return nil, false
	}
	if stream != nil && !p.hold(stream.Stream) {
		return nil, false // it has just ended
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
		if stream != nil {
			p.letGo(stream.Stream)
		}
		return nil, false
	}
	p.pending[c], p.lastStamp = pending{initiator, stream}, stamp
	p.lastSent[c].Store(int64(now))
	p.jar.Stamp(msg, now)
	p.initiationSent(now)
	if p.asked == 0 {
		p.asked = now
	}
	silent = !p.complained && now-p.asked >= complainAfter
	p.complained = p.complained || silent
	return msg, silent
}

// finish takes a response: the initiator's second part. What was staged, or a
// keepalive, confirms the new keypair to the responder.
func (t *Tunnel) finish(msg []byte, from *socket.Path, now time.Duration) {
	p := t.indices.lookup(crypto.Receiver(msg)).peer
	if p == nil {
		t.drops.add(dropUnknownIndex, 1)
		return
	}
	news, err := p.finish(msg, from, now)
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
	p.tell(news)
	p.sendKeepalive(now)
	p.sayHello(now)
}

var (
	// errNotPending: a handshake that has been given up, or completed, meanwhile.
	errNotPending = errors.New("no such handshake is pending")
	// errOtherWay: the response did not come by the way of the initiation.
	errOtherWay = errors.New("another way")
)

func (p *peer) finish(msg []byte, from *socket.Path, now time.Duration) (news string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := TransportUDP
	if w := p.pending[TransportTCP]; w.Initiator != nil && w.LocalIndex() == crypto.Receiver(msg) {
		c = TransportTCP
	}
	w := p.pending[c]
	switch {
	case w.Initiator == nil || w.LocalIndex() != crypto.Receiver(msg):
		return "", errNotPending
	case w.stream != nil && w.stream.Stream != from.Stream || w.stream == nil && from.Stream != nil:
		return "", errOtherWay
	}
	keypair, err := w.Finish(msg, p.psk)
	if err != nil {
		return "", err
	}
	s := p.newSession(keypair, from, now)
	p.pending[c] = pending{}
	if w.stream != nil {
		p.letGo(w.stream.Stream)
	}
	if s == nil {
		p.tunnel.indices.remove(crypto.Receiver(msg))
		return "", errNotPending // with its connection
	}
	if from.Stream == nil {
		p.setPath(*from)
	}
	p.rxBytes.Add(uint64(len(msg)))
	p.authenticatedReceived(now)
	p.sessions.addInitiated(s, p.dropSession)
	p.tunnel.indices.promote(s)
	p.sessionDerived(now)
	return p.completed(s, now), nil
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
