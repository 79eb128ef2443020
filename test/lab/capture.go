package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
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
	t    testing.TB
	name string
	wire *capture.Capture
	done chan struct{} // closed when nothing is captured any more

	mu     sync.Mutex
	frames []capture.Frame
	more   chan struct{} // closed at the next frame
}

// Capture captures what passes device on the host, and can send there.
func (h *Host) Capture(device string) *Capture {
	h.lab.t.Helper()
	c := &Capture{t: h.lab.t, name: h.Name + " " + device, done: make(chan struct{}), more: make(chan struct{})}
	h.Do(func() (err error) {
		c.wire, err = capture.Open(device)
		return err
	})
	go c.read()
	h.lab.t.Cleanup(func() {
		c.wire.Close()
		<-c.done
	})
	return c
}

func (c *Capture) read() {
	defer close(c.done)
	for {
		f, err := c.wire.Read()
		switch {
		case errors.Is(err, os.ErrClosed), errors.Is(err, unix.ENETDOWN):
			return
		case err != nil:
			c.t.Errorf("%s: %v", c.name, err)
			return
		}
		c.mu.Lock()
		c.frames = append(c.frames, f)
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
	}
}

// Frames are those that have passed so far and are as wanted, in their order.
func (c *Capture) Frames(is func(capture.Frame) bool) (found []capture.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if is(f) {
			found = append(found, f)
		}
	}
	return found
}

// Await waits until a frame has passed that is as wanted; what says in words
// which one that is.
func (c *Capture) Await(what string, is func(capture.Frame) bool) capture.Frame {
	c.t.Helper()
	timeout := time.After(10 * time.Second)
	for next := 0; ; {
		c.mu.Lock()
		frames, more := c.frames[next:], c.more
		next = len(c.frames)
		c.mu.Unlock()
		for _, f := range frames {
			if is(f) {
				return f
			}
		}
		select {
		case <-more:
		case <-timeout:
			c.t.Fatalf("%s: of %d frames in 10 s none was %s", c.name, next, what)
		}
	}
}

// Send has a frame leave by the interface. The Capture itself does not see it.
func (c *Capture) Send(frame []byte) {
	c.t.Helper()
	if err := c.wire.Write(frame); err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
}
