package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// bootClock is CLOCK_BOOTTIME, which goes on while the machine is suspended, for a caller who asks for each burst of
// packets. The vDSO of common kernels does not serve that clock to Go, and a system call for each burst is dear; so it is
// Go's own clock, and what the two differ by is looked up every checkInterval. They differ by the time spent suspended.
// Safe for concurrent use.
type bootClock struct {
	start   time.Time
	read    func() time.Duration // CLOCK_BOOTTIME
	differ  atomic.Int64         // what to add to the time since start
	checked atomic.Int64         // when that was looked up, by the time since start
}

const (
	checkInterval = 100 * time.Millisecond
	// jitter is how much two readings may differ by without a suspension between them.
	jitter = 10 * time.Millisecond
)

func newBootClock() *bootClock {
	c := &bootClock{start: time.Now(), read: boottime}
	c.differ.Store(int64(c.read()))
	return c
}

// now never goes back.
func (c *bootClock) now() time.Duration {
	since := time.Since(c.start)
	checked := c.checked.Load()
	if int64(since)-checked >= int64(checkInterval) && c.checked.CompareAndSwap(checked, int64(since)) {
		differ := int64(c.read() - time.Since(c.start))
		if differ > c.differ.Load()+int64(jitter) {
			c.differ.Store(differ)
		}
	}
	return since + time.Duration(c.differ.Load())
}

// boottime reads CLOCK_BOOTTIME.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("CLOCK_BOOTTIME: %v", err)) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}
