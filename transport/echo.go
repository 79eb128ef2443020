package transport

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"stunnel/transport/extension"
)

// While there is traffic with a peer that answers them, it gets an echo every
// echoInterval. What is not answered within echoTimeout was lost.
const (
	echoInterval = 3 * time.Second
	echoTimeout  = 2 * time.Second
	echoMemory   = time.Minute

	// echoDelay is between the traffic that wants an echo and that echo, at least: it may be the same moment in which the peer
	// is found to answer them, and our hello, without which it does not, is just leaving.
	echoDelay = 50 * time.Millisecond
)

// echoes are those of the last minute. Its lock is a leaf.
type echoes struct {
	mu   sync.Mutex
	last time.Duration // when the newest was sent; 0: there was none
	ring *[echoMemory / echoInterval]echo
	next int
}

// echo is one that was sent; the zero value is none.
type echo struct {
	token    extension.Token // not 0
	sent     time.Duration
	answered bool
	took     time.Duration
}

// send remembers a new one.
func (e *echoes) send(now time.Duration) extension.Token {
	token := extension.Token(rand.Uint64() | 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ring == nil {
		e.ring = new([len(e.ring)]echo)
	}
	e.ring[e.next] = echo{token: token, sent: now}
	e.next = (e.next + 1) % len(e.ring)
	e.last = now
	return token
}

// reply takes an answer; one that comes too late, or to nothing, is none.
func (e *echoes) reply(token extension.Token, now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ring == nil {
		return
	}
	for i := range e.ring {
		if o := &e.ring[i]; o.token == token && !o.answered && now-o.sent <= echoTimeout {
			o.answered, o.took = true, now-o.sent
		}
	}
}

// due is when the next one may be sent.
func (e *echoes) due(now time.Duration) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ring == nil {
		return now + echoDelay
	}
	return max(now+echoDelay, e.last+echoInterval)
}

// summary tells of those of the last minute whose fate is known.
func (e *echoes) summary(now time.Duration) (roundTrip time.Duration, sent, lost int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ring == nil {
		return 0, 0, 0
	}
	var took []time.Duration
	for _, o := range e.ring {
		switch {
		case o.token == 0 || now-o.sent > echoMemory:
		case o.answered:
			sent++
			took = append(took, o.took)
		case now-o.sent > echoTimeout:
			sent++
			lost++
		}
	}
	if len(took) == 0 {
		return 0, sent, lost
	}
	slices.Sort(took)
	return took[len(took)/2], sent, lost
}

// wantEcho is called while there is traffic under s.
func (p *peer) wantEcho(s *session, now time.Duration) {
	if p.timers.echo.idle() && s.may(extension.Echo) {
		p.armIfIdle(&p.timers.echo, p.echoes.due(now))
	}
}

// sendEcho is the timer's, which runs on only if there is traffic, and of whoever wants to hear something of the peer.
func (p *peer) sendEcho(now time.Duration) {
	if s := p.usable(now); s != nil && s.may(extension.Echo) {
		p.sendControl(extension.AppendEcho(nil, p.echoes.send(now)), now)
	}
}
