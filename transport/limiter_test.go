package transport

import (
	"net/netip"
	"testing"
	"time"
)

func TestASourceGetsFiveAtOnceAndTwentyPerSecond(t *testing.T) {
	var l limiter
	a := netip.MustParseAddr("192.0.2.1")
	now := time.Hour
	for i := range 8 {
		if got := l.Allow(a, now); got != (i < 5) {
			t.Errorf("message %d of a burst: %t", i+1, got)
		}
	}
	allowed := 0
	for range 1000 {
		now += 10 * time.Millisecond
		if l.Allow(a, now) {
			allowed++
		}
	}
	if allowed != 200 {
		t.Errorf("in ten seconds %d got through", allowed)
	}
	if !l.Allow(netip.MustParseAddr("192.0.2.2"), now) {
		t.Error("its neighbour pays for it")
	}
}

func TestAnIPv6SourceIsItsSubnetOf64Bits(t *testing.T) {
	var l limiter
	now := time.Second
	for range 5 {
		l.Allow(netip.MustParseAddr("2001:db8::1"), now)
	}
	if l.Allow(netip.MustParseAddr("2001:db8::ffff:2"), now) {
		t.Error("another address of the same /64 has tokens of its own")
	}
	if !l.Allow(netip.MustParseAddr("2001:db8:0:1::1"), now) {
		t.Error("another /64 has none")
	}
	for range 5 {
		l.Allow(netip.MustParseAddr("192.0.2.1"), now)
	}
	if l.Allow(netip.MustParseAddr("::ffff:192.0.2.1"), now) {
		t.Error("an IPv4-mapped address has tokens of its own")
	}
}

func TestTheLimiterForgetsSilentSourcesAndRefusesNewOnesWhenFull(t *testing.T) {
	var l limiter
	now := time.Second
	a := netip.MustParseAddr("10.0.0.0")
	first := a
	for range limiterSources {
		if !l.Allow(a, now) {
			t.Fatalf("%v is refused", a)
		}
		a = a.Next()
	}
	if l.Allow(a, now) || len(l.sources) != limiterSources {
		t.Errorf("a full table takes one more: %d sources", len(l.sources))
	}
	if !l.Allow(first, now) {
		t.Error("a full table refuses a source that it knows")
	}
	now += limiterIdle
	if !l.Allow(a, now) || len(l.sources) != 1 {
		t.Errorf("after a second of silence there are %d sources", len(l.sources))
	}
}

func TestATokenBucketFillsUpToItsBurst(t *testing.T) {
	b := tokenBucket{interval: time.Second, burst: 2}
	for i, c := range []struct {
		now  time.Duration
		want bool
	}{{0, true}, {0, true}, {0, false}, {999 * time.Millisecond, false}, {time.Second, true}, {time.Second, false}, {time.Hour, true}, {time.Hour, true}, {time.Hour, false}} {
		if got := b.Allow(c.now); got != c.want {
			t.Errorf("question %d at %v: %t", i, c.now, got)
		}
	}
	if new(tokenBucket).Allow(time.Hour) {
		t.Error("a bucket without tokens gave one")
	}
}
