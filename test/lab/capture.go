package lab

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/device/capture"
)

// Do runs f in the host's network namespace: sockets that f opens are the
// host's, wherever they are used later. It starts no process and waits for
// nothing.
func (h *Host) Do(f func() error) {
	h.lab.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		back, err := h.within(f)
		if back {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		done <- err
	}()
	h.lab.check(<-done)
}

// within runs f with the calling thread in the host's network namespace; back: it
// is where it was again.
func (h *Host) within(f func() error) (back bool, err error) {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer here.Close()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid))
	if err != nil {
		return true, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter the network of %s: %w", h.Name, err)
	}
	err = f()
	return unix.Setns(int(here.Fd()), unix.CLONE_NEWNET) == nil, err
}

// Capture is what passes an interface, from the time when it was made on.
type Capture struct {
	*capture.Recording
	t    testing.TB
	name string
}

// Capture captures what passes device on the host, and can send there.
func (h *Host) Capture(device string) *Capture {
	h.lab.t.Helper()
	c := &Capture{t: h.lab.t, name: h.Name + " " + device}
	h.Do(func() (err error) {
		c.Recording, err = capture.Record(device)
		return err
	})
	h.lab.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			h.lab.t.Errorf("%s: %v", c.name, err)
		}
	})
	return c
}

// Await waits until a frame has passed that is as wanted; what says in words
// which one that is.
func (c *Capture) Await(what string, is func(capture.Frame) bool) capture.Frame {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	f, err := c.Recording.Await(ctx, is)
	if err != nil {
		c.t.Fatalf("%s: %s: %v", c.name, what, err)
	}
	return f
}

// Send has a frame leave by the interface. The Capture itself does not see it.
func (c *Capture) Send(frame []byte) {
	c.t.Helper()
	if err := c.Recording.Send(frame); err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
}
