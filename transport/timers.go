package transport

import (
	"container/heap"
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// The constants of whitepaper §6.1, in the kernel's and wireguard-go's readings.
const (
	RekeyAfterTime   = 120 * time.Second
	RejectAfterTime  = 180 * time.Second
	RekeyTimeout     = 5 * time.Second
	KeepaliveTimeout = 10 * time.Second

	rekeyJitter       = 334 * time.Millisecond // exclusive
	rekeyAttemptTime  = 90 * time.Second
	maxRetries        = int32(rekeyAttemptTime/RekeyTimeout) + 1 // 19: with the first, 20 attempts
	zeroKeysAfter     = 3 * RejectAfterTime
	initiationSpacing = 20 * time.Millisecond // of one peer's that are listened to

	// An initiator that receives only rekeys while one more handshake attempt
	// fits before its peer must stop sending.
	rekeyOnReceiveAfter = RejectAfterTime - KeepaliveTimeout - RekeyTimeout
)

// never is a moment that does not come.
const never = time.Duration(math.MaxInt64)

// timer is a moment on the Tunnel's clock, or idle (zero). The hot path sets
// and clears it without a lock; the timer loop finds what is due.
type timer struct{ due atomic.Int64 }

func (t *timer) idle() bool { return t.due.Load() == 0 }

// stop makes the timer idle. The load first keeps the cache line shared on the
// hot path, where most timers are idle already.
func (t *timer) stop() {
	if t.due.Load() != 0 {
		t.due.Store(0)
	}
}

// fired takes the timer's moment if it has come: one caller sees true.
func (t *timer) fired(now time.Duration) bool {
	due := t.due.Load()
	return due != 0 && due <= int64(now) && t.due.CompareAndSwap(due, 0)
}

// timers are a peer's five (PROTOCOL §3.7), one more that lets no key outlive
// its session, one for packets of which fragments are missing, those of
// extensions, and what they remember.
type timers struct {
	ways         timer // other ways are to be tried, or the same again
	silence      timer // is what is sent heard?
	newHandshake timer // our data was not answered
	keepalive    timer // their data was not answered: passive keepalive
	persistent   timer
	expiry       timer // a superseded session is too old for anything
	zeroKeys     timer
	reassembly   timer // a packet waits for its fragments too long

	path  timer // it leads elsewhere, and is to be measured
	hello timer // ours is to be said, or said again
	lapse timer // the peer should have said one
	echo  timer
	probe timer // of the path, while there is data

	anotherKeepalive atomic.Bool // more data came while keepalive was running
	rekeyedOnReceive atomic.Bool // at most one such rekey per session

	check atomic.Int64 // when the loop will next look at this peer; never: not at all
	place int          // in schedule.peers; guarded by schedule.mu; -1: not in it
	ended bool         // the peer is removed, the loop looks no more; guarded by schedule.mu
}

func (p *peer) arm(t *timer, due time.Duration) {
	t.due.Store(int64(due))
	if int64(due) < p.timers.check.Load() {
		p.tunnel.schedule.add(p, due)
	}
}

// armIfIdle arms t unless it is running, and tells which.
func (p *peer) armIfIdle(t *timer, due time.Duration) bool {
	if !t.due.CompareAndSwap(0, int64(due)) {
		return false
	}
	if int64(due) < p.timers.check.Load() {
		p.tunnel.schedule.add(p, due)
	}
	return true
}

func jitter() time.Duration { return rand.N(rekeyJitter) }

// What follows is PROTOCOL §3.7 line by line: what each event starts and stops.

func (p *peer) dataSent(now time.Duration) {
	if p.timers.newHandshake.idle() {
		p.armIfIdle(&p.timers.newHandshake, now+KeepaliveTimeout+RekeyTimeout+jitter())
	}
}

func (p *peer) dataReceived(now time.Duration) {
	if !p.timers.keepalive.idle() || !p.armIfIdle(&p.timers.keepalive, now+KeepaliveTimeout) {
		p.timers.anotherKeepalive.Store(true)
	}
}

// authenticatedSent is of any sent message that the other end can authenticate.
func (p *peer) authenticatedSent(now time.Duration) {
	p.timers.keepalive.stop()
	p.authenticatedTraversal(now)
}

func (p *peer) authenticatedReceived(now time.Duration) {
	p.timers.newHandshake.stop()
	p.authenticatedTraversal(now)
}

func (p *peer) authenticatedTraversal(now time.Duration) {
	if interval := p.persistentKeepalive.Load(); interval > 0 {
		p.arm(&p.timers.persistent, now+time.Duration(interval))
	}
}

func (p *peer) sessionDerived(now time.Duration) {
	p.armIfIdle(&p.timers.expiry, now+RejectAfterTime)
	p.arm(&p.timers.zeroKeys, now+zeroKeysAfter)
}

func (p *peer) handshakeComplete() {
	p.timers.rekeyedOnReceive.Store(false)
	p.lastHandshake.Store(p.tunnel.wall().UnixNano())
}

// all yields the timers that the loop waits for.
func (t *timers) all(yield func(*timer) bool) {
	for _, one := range [...]*timer{
		&t.ways, &t.silence, &t.newHandshake, &t.keepalive, &t.persistent, &t.expiry, &t.zeroKeys, &t.reassembly, &t.path, &t.hello, &t.lapse, &t.echo, &t.probe,
	} {
		if !yield(one) {
			return
		}
	}
}

func (p *peer) stopTimers() {
	t := &p.timers
	for one := range t.all {
		one.stop()
	}
	t.anotherKeepalive.Store(false)
	t.rekeyedOnReceive.Store(false)
}

// expire does what is due at now. Only the timer loop calls it.
func (p *peer) expire(now time.Duration) {
	t := &p.timers
	if t.ways.fired(now) {
		p.queueInitiation()
	}
	if t.silence.fired(now) {
		p.listen(now)
	}
	if t.newHandshake.fired(now) {
		p.clearLocal()
		p.requestHandshake()
	}
	if t.keepalive.fired(now) {
		// armed first: what is sent stops it again, what cannot be does not
		if t.anotherKeepalive.Swap(false) {
			p.armIfIdle(&t.keepalive, now+KeepaliveTimeout)
		}
		p.sendKeepalive(now)
	}
	if t.persistent.fired(now) {
		// armed again first: also a peer whose endpoint is not known yet
		// must go on trying
		p.authenticatedTraversal(now)
		p.sendKeepalive(now)
	}
	if t.expiry.fired(now) {
		p.dropExpired(now)
	}
	if t.zeroKeys.fired(now) {
		p.zeroKeys()
		p.flush()
	}
	if t.reassembly.fired(now) {
		if due := p.tunnel.reassembly.sweep(p, now); due != never {
			p.armIfIdle(&t.reassembly, due)
		}
	}
	if t.path.fired(now) {
		if path := p.path.Load(); path != nil {
			p.measurePath(path.Remote)
		}
	}
	p.sayHello(now)
	if t.lapse.fired(now) {
		p.lapse(now)
	}
	if t.echo.fired(now) {
		p.sendEcho(now)
	}
	if t.probe.fired(now) {
		p.sendProbe(now)
	}
}

// next is the earliest moment at which expire has something to do.
func (t *timers) next() time.Duration {
	first := int64(never)
	for one := range t.all {
		if due := one.due.Load(); due != 0 && due < first {
			first = due
		}
	}
	return time.Duration(first)
}

// schedule is the timer loop's order of peers by check time. A busy peer arms
// and stops its timers thousands of times a second, but the loop looks at it
// only when the earliest moment it has heard of comes, and asks then what is
// next: about one heap operation per peer and ten seconds. Its lock is a leaf.
type schedule struct {
	mu    sync.Mutex
	peers []*peer
	wake  chan struct{} // capacity 1: the first of peers has changed
}

// add makes the loop look at p at due, or earlier if it would anyway.
func (s *schedule) add(p *peer, due time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.timers.ended || int64(due) >= p.timers.check.Load() {
		return
	}
	p.timers.check.Store(int64(due))
	if p.timers.place < 0 {
		heap.Push(s, p)
	} else {
		heap.Fix(s, p.timers.place)
	}
	if p.timers.place == 0 {
		s.wakeUp()
	}
}

// wakeUp has the loop look what is next. Any caller, with any locks.
func (s *schedule) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pop takes the first peer if its moment has come; else it returns how long
// that is away.
func (s *schedule) pop(now time.Duration) (*peer, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.peers) == 0 {
		return nil, never
	}
	p := s.peers[0]
	if check := time.Duration(p.timers.check.Load()); check > now {
		return nil, check - now
	}
	heap.Pop(s)
	p.timers.check.Store(int64(never))
	return p, 0
}

// remove takes p out; for good, if the peer is no more: who is just sending to
// it cannot put it back.
func (s *schedule) remove(p *peer, forGood bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.timers.ended = p.timers.ended || forGood
	if p.timers.place >= 0 {
		heap.Remove(s, p.timers.place)
		p.timers.check.Store(int64(never))
	}
}

func (s *schedule) Len() int { return len(s.peers) }
func (s *schedule) Less(i, j int) bool {
	return s.peers[i].timers.check.Load() < s.peers[j].timers.check.Load()
}
func (s *schedule) Swap(i, j int) {
	s.peers[i], s.peers[j] = s.peers[j], s.peers[i]
	s.peers[i].timers.place, s.peers[j].timers.place = i, j
}
func (s *schedule) Push(x any) {
	p := x.(*peer)
	p.timers.place = len(s.peers)
	s.peers = append(s.peers, p)
}
func (s *schedule) Pop() any {
	p := s.peers[len(s.peers)-1]
	s.peers[len(s.peers)-1] = nil
	s.peers = s.peers[:len(s.peers)-1]
	p.timers.place = -1
	return p
}

// maxSleep bounds how late a timer can be after the machine was suspended: Go's
// clock, other than the Tunnel's, stood still meanwhile.
const maxSleep = 30 * time.Second

// runTimers sleeps until a timer of some peer is due; an idle tunnel sleeps.
func (t *Tunnel) runTimers(ctx context.Context) {
	sleep := time.NewTimer(0)
	defer sleep.Stop()
	for {
		now := t.now()
		p, wait := t.schedule.pop(now)
		if p != nil {
			p.expire(now)
			if next := p.timers.next(); next != never {
				t.schedule.add(p, next)
			}
			continue
		}
		if t.lan != nil {
			wait = min(wait, t.lan.expire(now))
		}
		if wait != never {
			wait = min(wait, maxSleep)
		}
		sleep.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-t.schedule.wake:
		case <-sleep.C:
		}
	}
}
