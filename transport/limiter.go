package transport

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// What one source may ask of us while we are under load (whitepaper §5.4.7 leaves the figures open; these are the
// kernel's): 20 handshake messages per second, 5 at once. limiterSources bounds the memory.
const (
	limiterInterval = time.Second / 20
	limiterBurst    = 5
	limiterSources  = 1 << 16
	limiterIdle     = time.Second
)

// limiter bounds the handshake messages per source, an IPv4 address or an IPv6 /64. It is asked after MAC2 has proved
// that the source is where it says it is, so nobody fills the table with invented addresses. When it is full, sources
// that are not in it are refused until the next collection.
//
// Safe for concurrent use. The zero value is ready.
type limiter struct {
	mu        sync.Mutex
	sources   map[netip.Addr]time.Duration // when the source has all of its tokens again
	collected time.Duration
}

// Allow takes a token of addr's source, if there is one. now is a monotonic time.
func (l *limiter) Allow(addr netip.Addr, now time.Duration) bool {
	source := limiterSource(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now-l.collected >= limiterIdle {
		l.collect(now)
	}
	full, known := l.sources[source]
	if !known && len(l.sources) >= limiterSources {
		return false
	}
	next, ok := takeToken(full, now, limiterInterval, limiterBurst)
	if !ok {
		return false
	}
	if l.sources == nil {
		l.sources = make(map[netip.Addr]time.Duration)
	}
	l.sources[source] = next
	return true
}

// collect forgets the sources that have all of their tokens: they are treated as if never seen anyway. A second of
// silence is four times what that takes.
func (l *limiter) collect(now time.Duration) {
	l.collected = now
	for source, full := range l.sources {
		if full <= now {
			delete(l.sources, source)
		}
	}
	if len(l.sources) == 0 {
		l.sources = nil // a map never shrinks
	}
}

func limiterSource(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		a := addr.As16()
		clear(a[8:])
		return netip.AddrFrom16(a)
	}
	return addr
}

// tokenBucket lets burst events through at once and one per interval in the long run. Safe for concurrent use; the
// fields are constant. The zero value lets nothing through.
type tokenBucket struct {
	interval time.Duration
	burst    int
	full     atomic.Int64 // when all tokens are there again, a time.Duration
}

func (b *tokenBucket) Allow(now time.Duration) bool {
	for {
		full := b.full.Load()
		next, ok := takeToken(time.Duration(full), now, b.interval, b.burst)
		if !ok {
			return false
		}
		if b.full.CompareAndSwap(full, int64(next)) {
			return true
		}
	}
}

// takeToken is a token bucket whose whole state is one time, that at which it is full again: each token that is taken
// moves it by one interval.
func takeToken(full, now, interval time.Duration, burst int) (next time.Duration, ok bool) {
	next = max(full, now) + interval
	return next, next-now <= interval*time.Duration(burst) && burst > 0
}
