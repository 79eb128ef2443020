package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// rests tells of rests of the machine (suspend), after which peers have to be tried at once: no timer has run meanwhile, and the
// other end may have given us up. Nothing is looked at while the machine is awake: the kernel wakes who waits.
type rests struct {
	wait   func() error         // until there may have been one
	asleep func() time.Duration // in all of them since the machine was started
}

// leastRest is longer than two readings of clocks are apart.
const leastRest = time.Second

// follow calls rested after each rest, with its length, until wait fails.
func (r *rests) follow(rested func(time.Duration)) error {
	before := r.asleep()
	for {
		if err := r.wait(); err != nil {
			return err
		}
		if now := r.asleep(); now-before > leastRest {
			rested(now - before)
			before = now
		}
	}
}

// asleep is CLOCK_BOOTTIME minus CLOCK_MONOTONIC.
func asleep() time.Duration {
	var boot, awake unix.Timespec
	if err := errors.Join(unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot), unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake)); err != nil {
		panic(fmt.Sprintf("CLOCK_BOOTTIME: %v", err)) // every Linux since 2.6.39 has it
	}
	return time.Duration(boot.Nano() - awake.Nano())
}

// clockSets waits for settings of the wall clock, of which the end of a rest is one (TFD_TIMER_CANCEL_ON_SET,
// timerfd_create(2)).
type clockSets struct{ timer *os.File }

func newClockSets() (*clockSets, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	never := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(250 * 365 * 24 * time.Hour))} // since 1970
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	return &clockSets{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// wait returns after a setting. After Close the error is os.ErrClosed.
func (c *clockSets) wait() error {
	var expirations [8]byte
	if _, err := c.timer.Read(expirations[:]); err != nil && !errors.Is(err, unix.ECANCELED) {
		return err
	}
	return nil
}

func (c *clockSets) Close() error { return c.timer.Close() }

// followRests tells the engine of rests of the machine, until ctx ends.
func (t *running) followRests(ctx context.Context) {
	sets, err := newClockSets()
	if err != nil {
		t.log.Warn("rests of the machine are not noticed at once", "error", err)
		return
	}
	t.goroutines.Go(func() {
		defer context.AfterFunc(ctx, func() { sets.Close() })()
		r := rests{sets.wait, asleep}
		err := r.follow(func(d time.Duration) {
			t.log.Info("the machine has rested; peers are tried at once", "for", d.Round(time.Second))
			t.networkChanged("the machine has rested")
		})
		if ctx.Err() == nil {
			t.log.Warn("rests of the machine are not noticed at once any more", "error", err)
		}
	})
}
