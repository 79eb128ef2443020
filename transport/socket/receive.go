package socket

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// messageSize is more than any UDP datagram, and than any train that the kernel puts together.
	messageSize = 1 << 16

	// How many messages one system call may bring: trains, or datagrams where the kernel puts no trains together. A
	// buffer costs memory only as far as it was ever filled.
	trains    = 8
	datagrams = 32

	// fullBurst is how many bytes make a burst that is worth passing on: most of a train. What lies behind it in the
	// buffers is the next burst, and who receives can have dealt with the first one by then.
	fullBurst = 48 << 10
)

// receiver is what Receive works with, one burst at a time.
type receiver struct {
	socket   *UDP
	headers  []message
	iovecs   []unix.Iovec
	names    []sockaddr
	controls []control
	buffers  []byte
	burst    []Datagram
	step     func(fd uintptr) bool // receiver.read, bound once since that allocates
	pace     pace
	n, taken int // messages of the last system call, and how many of them have been in a burst
	errno    syscall.Errno
	failures int // in a row

	// The remote end of the last message, which tends to be that of the next.
	lastName   sockaddr
	lastRemote netip.AddrPort
}

// message is the kernel's struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

func (r *receiver) init(u *UDP) {
	n := datagrams
	if u.gro {
		n = trains
	}
	r.socket = u
	r.headers = make([]message, n)
	r.iovecs = make([]unix.Iovec, n)
	r.names = make([]sockaddr, n)
	r.controls = make([]control, n)
	r.step = r.read
	r.setBuffers(messageSize)
}

func (r *receiver) setBuffers(size int) {
	r.buffers = make([]byte, len(r.headers)*size)
	for i := range r.headers {
		r.iovecs[i].Base = &r.buffers[i*size]
		r.iovecs[i].SetLen(size)
		h := &r.headers[i].header
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = &r.controls[i].bytes()[0]
		h.Iov = &r.iovecs[i]
		h.SetIovlen(1)
	}
}

// Receive waits for at least one datagram and returns it and those behind it, of what one system call brought about a
// train's worth at a time. They, and the bytes in them, which the caller may change, are valid until the next Receive.
// After Close the error is both net.ErrClosed and os.ErrClosed; other errors are those of a socket that cannot go on.
func (u *UDP) Receive() ([]Datagram, error) {
	r := &u.receiver
	for {
		if r.taken == r.n {
			if u.conn.Read(r.step) != nil {
				return nil, errClosed
			}
			if r.errno != 0 {
				if err := r.survive(r.errno); err != nil {
					return nil, err
				}
				continue
			}
			r.failures = 0
		}
		if r.sort(); len(r.burst) > 0 {
			return r.burst, nil
		}
	}
}

// read makes the system call. It says false where it has to be made again when there is something to read.
func (r *receiver) read(fd uintptr) bool {
	for i := range r.headers {
		h := &r.headers[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSize)
	}
	for {
		n, errno := r.pace.recvmmsg(fd, r.headers)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			r.pace.waits()
			return false
		}
		r.n, r.taken, r.errno = max(n, 0), 0, errno
		return true
	}
}

// survive tells apart the errors that end a socket from those that are about something that was sent (ICMP messages
// that the kernel hands to whoever calls next) or about the moment.
func (r *receiver) survive(errno syscall.Errno) error {
	switch errno {
	case unix.EBADF, unix.EFAULT, unix.EINVAL, unix.ENOTSOCK, unix.ENOSYS:
		return fmt.Errorf("receive on UDP port %d: %w", r.socket.port, errno)
	}
	r.socket.receiveErrors.Add(1)
	if r.failures++; r.failures > 16 { // such as no memory: do not make it worse
		time.Sleep(min(time.Duration(r.failures)*time.Millisecond, 100*time.Millisecond))
	}
	return nil
}

// sort makes datagrams of the next messages.
func (r *receiver) sort() {
	r.burst = r.burst[:0]
	size := len(r.buffers) / len(r.headers)
	bytes := 0
	for r.taken < r.n && bytes < fullBurst {
		i := r.taken
		r.taken++
		m := &r.headers[i]
		bytes += int(m.length)
		if m.header.Flags&unix.MSG_TRUNC != 0 {
			r.socket.truncated.Add(1)
			continue
		}
		name := &r.names[i]
		if name.v6 != r.lastName.v6 {
			r.lastName, r.lastRemote = *name, name.remote(m.header.Namelen)
		}
		path := Path{Remote: r.lastRemote}
		var segment int
		path.Local, path.Interface, segment = r.controls[i].read(int(m.header.Controllen))
		data := r.buffers[i*size:][:m.length:m.length]
		if segment <= 0 {
			segment = len(data)
		}
		for len(data) > segment {
			r.burst = append(r.burst, Datagram{Data: data[:segment:segment], Path: path})
			data = data[segment:]
		}
		r.burst = append(r.burst, Datagram{Data: data, Path: path})
	}
}
