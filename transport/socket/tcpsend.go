package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long Send waits for room in the backlog. Only a fast connection is waited for, which needs a moment to
// send what it has: that costs less than to lose what was sealed. Others must not hold up those who wait for the same
// goroutine.
const patience = 10 * time.Millisecond

// A short message that is sent alone is kept where there is no room, up to keptMost bytes of them, and goes before all that
// is sent later: handshakes and questions whether the peer is alive are short, and a connection that somebody fills must
// not die of that.
const (
	shortMessage = 256
	keptMost     = 4 << 10
)

// outflow is the sending side of a connection. A message whose beginning was taken must be written to its end before
// another one begins, whoever sends it.
type outflow struct {
	mu        sync.Mutex
	backlog   backlog
	tail      []byte // what has not been taken yet of a message that was cut, and behind it short ones that are kept
	kept      int    // bytes of those, until all of tail has been taken
	stalled   bool   // nothing was taken when Send waited last: it drops at once what is not taken
	finishing bool   // a goroutine waits to send tail; Send must not wait beside it
}

// flow is one call of Send: how far it has got. Flows come from a pool.
type flow struct {
	stream  *TCP
	header  unix.Msghdr
	iovecs  [1 + 2*maxSegments]unix.Iovec
	lengths [2][lengthSize]byte   // of all messages but the last, and of the last
	step    func(fd uintptr) bool // flow.advance, bound once since that allocates
	try     func(fd uintptr)      // flow.begin
	info    unix.TCPInfo

	rest  []byte // messages that have not been taken, the first perhaps in part
	alone bool   // it is one short message
	slow  bool   // the connection is: what has no room now is dropped
	short bool   // and something was
	size  int
	begun int // bytes of the first that have been taken, of which the length in front of it counts as two
	taken int // bytes so far
	done  bool
	errno syscall.Errno
}

var flows = sync.Pool{New: func() any {
	f := new(flow)
	f.step = f.advance
	f.try = f.begin
	f.header.Iov = &f.iovecs[0]
	return f
}}

// flow is to send a train, or what is left of the last message before.
func (c *TCP) flow(train []byte, size int) *flow {
	f := flows.Get().(*flow)
	f.stream, f.rest, f.size, f.begun, f.taken, f.done, f.slow, f.short, f.errno = c, train, size, 0, 0, false, false, false, 0
	f.alone = len(train) > 0 && len(train) <= min(size, shortMessage)
	if len(train) > 0 {
		binary.BigEndian.PutUint16(f.lengths[0][:], uint16(size))
		binary.BigEndian.PutUint16(f.lengths[1][:], uint16((len(train)-1)%size+1))
	}
	return f
}

func (f *flow) putBack() {
	clear(f.iovecs[:f.header.Iovlen])
	f.stream, f.rest = nil, nil
	flows.Put(f)
}

// Send sends a train of messages. A size below 1 is the caller's bug and panics.
//
// A short message alone is kept if there is no room for it, within limits. The error is ErrStalled if a part of the train was dropped, or all; ErrTooLong, wrapped, for messages whose length two
// bytes do not hold; that of a connection that is no more, wrapped; net.ErrClosed after Close.
func (c *TCP) Send(train []byte, size int) error { return c.sendTrain(train, size, true) }

// Try is Send that does not wait for room.
func (c *TCP) Try(train []byte, size int) error { return c.sendTrain(train, size, false) }

func (c *TCP) sendTrain(train []byte, size int, mayWait bool) error {
	if size < 1 {
		panic("socket: messages without a size")
	}
	if size > maxMessage {
		return fmt.Errorf("send %d bytes to %v: %w", size, c.path.Remote, ErrTooLong)
	}
	if len(train) == 0 {
		return nil
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	f := c.flow(train, min(size, len(train)))
	defer f.putBack()
	return c.send(f, mayWait)
}

// Offer sends one message if that can be done at once.
func (c *TCP) Offer(message []byte) bool {
	if len(message) == 0 || len(message) > maxMessage || !c.out.mu.TryLock() {
		return false
	}
	defer c.out.mu.Unlock()
	f := c.flow(message, len(message))
	defer f.putBack()
	return c.send(f, false) == nil
}

// send sends what f has, and waits for room if it may and if that is of use. out.mu is held.
func (c *TCP) send(f *flow, mayWait bool) error {
	o := &c.out
	err := c.raw.Control(f.try)
	if err == nil && !f.done && mayWait && !f.alone && !f.slow && !o.finishing && (!o.stalled || f.taken > 0) {
		before := f.taken
		if err = c.conn.SetWriteDeadline(time.Now().Add(c.patience)); err == nil {
			err = c.raw.Write(f.step)
		}
		o.stalled = !f.done && f.taken == before
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
	} else if f.done {
		o.stalled = false
	}
	switch {
	case err != nil:
		return errClosed
	case f.errno != 0:
		return fmt.Errorf("send to %v: %w", c.path.Remote, f.errno)
	}
	switch {
	case f.begun > 0:
		o.tail = f.cut()
	case f.alone && len(f.rest) > 0 && o.kept+len(f.rest) <= keptMost:
		o.kept += len(f.rest)
		o.tail = append(o.tail, f.cut()...)
	}
	if len(o.tail) > 0 && !o.finishing {
		o.finishing = true
		go c.finish()
	}
	if len(f.rest) > 0 || f.short {
		return ErrStalled
	}
	return nil
}

// finish waits until the tail has been taken, and ends with it or with the connection.
func (c *TCP) finish() {
	f := c.flow(nil, 0)
	defer f.putBack()
	if c.conn.SetWriteDeadline(time.Time{}) != nil {
		return
	}
	_ = c.raw.Write(func(fd uintptr) bool {
		c.out.mu.Lock()
		defer c.out.mu.Unlock()
		ended := f.advance(fd)
		c.out.finishing = !ended
		return ended
	})
}

// begin makes the first attempt. A connection that is slow is given no more messages than may wait. out.mu is held.
func (f *flow) begin(fd uintptr) {
	var room int
	if room, f.slow = f.stream.out.backlog.room(fd, &f.info); f.slow && !f.alone {
		most := max(0, (room+f.size-1)/f.size)
		if n := most * f.size; n < len(f.rest) {
			f.rest, f.short = f.rest[:n], true
			f.lengths[1] = f.lengths[0]
		}
	}
	f.advance(fd)
}

// advance sends what is left, until it is done, or fails, or nothing more is taken, which it says by false. out.mu is held.
func (f *flow) advance(fd uintptr) bool {
	for f.next() {
		n, errno := sendStream(fd, &f.header)
		switch errno {
		case 0:
			f.took(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			f.errno = errno
			return true
		}
	}
	f.done = true
	return true
}

// length is the length in front of the first message of rest.
func (f *flow) length(rest []byte) *[lengthSize]byte {
	if len(rest) > f.size {
		return &f.lengths[0]
	}
	return &f.lengths[1]
}

// next prepares the system call for the tail and the messages behind it; false: there is nothing left. Neither the
// messages nor the tail are copied.
func (f *flow) next() bool {
	n := 0
	put := func(b []byte) {
		f.iovecs[n].Base = &b[0]
		f.iovecs[n].SetLen(len(b))
		n++
	}
	if tail := f.stream.out.tail; len(tail) > 0 {
		put(tail)
	}
	begun := f.begun
	for rest := f.rest; len(rest) > 0 && n+2 <= len(f.iovecs); {
		message := rest[:min(f.size, len(rest))]
		if begun < lengthSize {
			put(f.length(rest)[begun:])
			put(message)
		} else {
			put(message[begun-lengthSize:])
		}
		begun, rest = 0, rest[len(message):]
	}
	f.header.SetIovlen(n)
	return n > 0
}

// took moves on by n bytes.
func (f *flow) took(n int) {
	f.taken += n
	o := &f.stream.out
	if k := min(n, len(o.tail)); k > 0 {
		if o.tail, n = o.tail[k:], n-k; len(o.tail) == 0 {
			o.tail, o.kept = nil, 0
		}
	}
	for f.begun += n; f.begun > 0; {
		length := min(f.size, len(f.rest))
		if f.begun < lengthSize+length {
			break
		}
		f.rest, f.begun = f.rest[length:], f.begun-lengthSize-length
	}
}

// cut takes away the first message, of which a part has been taken, and returns a copy of the other part.
func (f *flow) cut() []byte {
	message := f.rest[:min(f.size, len(f.rest))]
	whole := append(f.length(f.rest)[:], message...)
	f.rest = f.rest[len(message):]
	tail := whole[f.begun:]
	f.begun = 0
	return tail
}
