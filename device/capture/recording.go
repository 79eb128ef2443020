package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Recording keeps all that passes an interface, in order, from the time when it was made on. It is safe for concurrent use.
type Recording struct {
	wire *Capture
	done chan struct{} // closed when no more comes

	mu     sync.Mutex
	frames []Frame
	err    error         // why no more comes, once done is closed
	more   chan struct{} // closed at the next frame
}

// Record begins to record what passes device, in the network namespace of the calling thread. Errors are those of [Open].
func Record(device string) (*Recording, error) {
	wire, err := Open(device)
	if err != nil {
		return nil, err
	}
	r := &Recording{wire: wire, done: make(chan struct{}), more: make(chan struct{})}
	go r.read()
	return r, nil
}

func (r *Recording) read() {
	defer close(r.done)
	for {
		f, err := r.wire.Read()
		r.mu.Lock()
		if err != nil {
			r.err = err
			r.mu.Unlock()
			return
		}
		r.frames = append(r.frames, f)
		close(r.more)
		r.more = make(chan struct{})
		r.mu.Unlock()
	}
}

// Close ends the recording; what it has is kept. The error is what ended it before, if it was not that the interface was set
// down or removed.
func (r *Recording) Close() error {
	err := r.wire.Close()
	<-r.done
	if errors.Is(r.err, os.ErrClosed) || errors.Is(r.err, unix.ENETDOWN) {
		return err
	}
	return errors.Join(err, r.err)
}

// Frames are those that have passed so far and are as wanted.
func (r *Recording) Frames(is func(Frame) bool) (found []Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.frames {
		if is(f) {
			found = append(found, f)
		}
	}
	return found
}

// Await waits until a frame has passed that is as wanted, and returns the first of them. The error wraps that of ctx, or what
// ended the recording.
func (r *Recording) Await(ctx context.Context, is func(Frame) bool) (Frame, error) {
	for next := 0; ; {
		r.mu.Lock()
		frames, more := r.frames[next:], r.more
		next = len(r.frames)
		r.mu.Unlock()
		for _, f := range frames {
			if is(f) {
				return f, nil
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Frame{}, fmt.Errorf("none of %d frames is the one: %w", next, ctx.Err())
		case <-r.done:
			return Frame{}, fmt.Errorf("none of %d frames is the one: %w", next, r.err)
		}
	}
}

// Send has a frame leave by the interface, as it is. The recording does not see it.
func (r *Recording) Send(frame []byte) error { return r.wire.Write(frame) }
