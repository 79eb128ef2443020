package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheClockGoesOnDuringSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var suspended time.Duration
		start := time.Now()
		c := &bootClock{start: start, read: func() time.Duration { return time.Hour + time.Since(start) + suspended }}
		c.differ.Store(int64(time.Hour))
		time.Sleep(time.Minute)
		if got := c.now(); got != time.Hour+time.Minute {
			t.Errorf("%v, want 1h1m", got)
		}
		suspended = 10 * time.Minute
		time.Sleep(checkInterval)
		if got, want := c.now(), time.Hour+11*time.Minute+checkInterval; got != want {
			t.Errorf("after resume: %v, want %v", got, want)
		}
	})
}

func TestTheClockAgreesWithTheKernelAndNeverGoesBack(t *testing.T) {
	c := newBootClock()
	last := c.now()
	for end := time.Now().Add(3 * checkInterval); time.Now().Before(end); {
		before := boottime()
		now := c.now()
		if now < last {
			t.Fatalf("%v after %v", now, last)
		}
		if off := now - before; off < -jitter || off > time.Second {
			t.Fatalf("differs from CLOCK_BOOTTIME by %v", off)
		}
		last = now
	}
}
