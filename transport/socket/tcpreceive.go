package socket

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tcpBuffer is how much is read at a time: two of the other end's trains.
	tcpBuffer = 128 << 10

	// tcpBurst is the most messages that are passed on at a time.
	tcpBurst = 512
)

// inBuffer is what a connection reads into. It has one only while there is something in it: most of many connections are
// idle most of the time.
type inBuffer struct {
	bytes [tcpBuffer]byte
	burst []Datagram
}

var inBuffers = sync.Pool{New: func() any { return new(inBuffer) }}

// inflow is what Receive works with.
type inflow struct {
	stream   *TCP
	step     func(fd uintptr) bool // inflow.read, bound once since that allocates
	buffer   *inBuffer             // nil: nothing has begun
	frames   frames
	pace     pace
	n        int // bytes of the last system call
	errno    syscall.Errno
	err      error     // what ends the stream, behind the messages before it
	begun    time.Time // when the message that is not whole yet began
	deadline time.Time // when Receive looks at that; zero: it does not
}

func (r *inflow) init(c *TCP) { r.stream, r.step = c, r.read }

// Receive waits for messages.
func (c *TCP) Receive() ([]Datagram, error) {
	r := &c.in
	for {
		burst := r.cut()
		if len(burst) > 0 {
			return burst, nil
		}
		if r.err == nil {
			r.err = r.wait()
		}
		if r.err != nil {
			r.release()
			r.err = c.failed(r.err)
			return nil, r.err
		}
	}
}

// cut takes the messages that are whole.
func (r *inflow) cut() []Datagram {
	if r.buffer == nil {
		return nil
	}
	burst := r.buffer.burst[:0]
	for len(burst) < tcpBurst && r.err == nil {
		var message []byte
		if message, r.err = r.frames.next(); message == nil {
			break
		}
		burst = append(burst, Datagram{Data: message, Path: r.stream.path})
	}
	r.buffer.burst = burst
	if len(burst) > 0 {
		r.begun = time.Time{} // that one is whole
	}
	return burst
}

// wait reads, and first waits until there is something to read. What has begun must be whole in time; the deadline that
// sees to it is only as exact as it must be, since most messages begin at the end of one read and are whole in the next.
func (r *inflow) wait() error {
	c := r.stream
	for {
		if r.frames.begun() {
			now := time.Now()
			switch {
			case r.begun.IsZero():
				r.begun = now
			case now.Sub(r.begun) >= c.complete:
				return os.ErrDeadlineExceeded
			}
			if r.deadline.IsZero() {
				r.deadline = r.begun.Add(c.complete)
				if err := c.conn.SetReadDeadline(r.deadline); err != nil {
					return err
				}
			}
		}
		err := c.raw.Read(r.step)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.deadline = time.Time{}
			if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case r.errno != 0:
			return r.errno
		case r.n == 0 && r.frames.begun():
			return io.ErrUnexpectedEOF
		case r.n == 0:
			return io.EOF
		}
		r.frames.took(r.n)
		return nil
	}
}

// read makes the system call. It says false where it has to be made again when there is something to read.
func (r *inflow) read(fd uintptr) bool {
	if r.buffer == nil {
		r.buffer = inBuffers.Get().(*inBuffer)
		r.frames.buffer = r.buffer.bytes[:]
	}
	room := r.frames.room()
	for {
		r.n, r.errno = r.pace.recv(fd, room)
		switch r.errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			r.pace.waits()
			if !r.frames.begun() {
				r.release()
			}
			return false
		}
		return true
	}
}

// release gives the buffer back.
func (r *inflow) release() {
	if r.buffer != nil {
		inBuffers.Put(r.buffer)
		r.buffer, r.frames = nil, frames{}
	}
}
