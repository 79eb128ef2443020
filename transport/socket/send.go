package socket

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sender is one call of Send: how far it has got, and in what manner it goes on. Senders come from a pool.
type sender struct {
	socket  *UDP
	header  unix.Msghdr
	iovec   unix.Iovec
	name    sockaddr
	control control
	step    func(fd uintptr) bool // sender.advance, bound once since that allocates

	rest      []byte // not sent yet
	size      int    // of a datagram
	is6       bool   // the remote end is
	whole     bool   // Path.Whole
	local     int    // length of the control message that asks for the source address; 0: none
	segmented bool   // trains go out by UDP_SEGMENT
	refusal   syscall.Errno
	gone      bool // sent without the local address
	retried   bool // the datagram at hand was tried before
	lost      syscall.Errno
	failed    syscall.Errno
}

func newSender(u *UDP) *sender {
	s := &sender{socket: u}
	s.step = s.advance
	s.header.Iov = &s.iovec
	s.header.SetIovlen(1)
	s.header.Name = (*byte)(unsafe.Pointer(&s.name))
	return s
}

// Send sends a train: datagrams of size bytes back to back, of which the last may be shorter. It waits while the
// socket's buffer is full. Each datagram is handed to the kernel in order and at most once, whatever happens on the
// way. A size below 1 is the caller's bug and panics.
//
// The error is ErrLocalGone if the train was sent, but not from to.Local; ErrTooLong, wrapped, if to is Whole and the
// datagrams are longer than the device's MTU; the kernel's, wrapped, if for other reasons a part of it or all was not; and
// both net.ErrClosed and os.ErrClosed after Close.
func (u *UDP) Send(train []byte, size int, to Path) error {
	if size < 1 {
		panic("socket: datagrams without a size")
	}
	if len(train) == 0 {
		return nil
	}
	s := u.senders.Get().(*sender)
	err := s.send(train, size, to)
	s.rest, s.iovec.Base = nil, nil
	u.senders.Put(s)
	return err
}

func (s *sender) send(train []byte, size int, to Path) error {
	u := s.socket
	length, err := s.name.set(to.Remote, u.is6)
	if err != nil {
		return fmt.Errorf("send to %v: %w", to.Remote, err)
	}
	s.header.Namelen = length
	s.rest, s.size = train, size
	s.is6, s.whole = to.Remote.Addr().Unmap().Is6(), to.Whole
	s.segmented = len(train) > size && u.gso.wanted()
	s.refusal, s.lost, s.failed, s.retried = 0, 0, 0, false
	s.setLocal(to)

	if u.conn.Write(s.step) != nil {
		return errClosed
	}
	if s.gone {
		u.refusedLocal.Add(1)
	}
	switch {
	case s.failed == unix.EMSGSIZE && s.whole:
		return fmt.Errorf("send %d bytes to %v: %w", size, to.Remote, ErrTooLong)
	case s.failed != 0:
		return fmt.Errorf("send to %v: %w", to.Remote, s.failed)
	case s.lost != 0:
		err = fmt.Errorf("send to %v: %w", to.Remote, s.lost)
		if s.gone {
			err = errors.Join(err, ErrLocalGone)
		}
		return err
	case s.gone:
		return ErrLocalGone
	}
	return nil
}

// setLocal writes the control message for the source address. One of the wrong family is as good as gone.
func (s *sender) setLocal(to Path) {
	s.local, s.gone = 0, false
	local := to.Local.Unmap()
	if !local.IsValid() {
		return
	}
	if local.Is4() != to.Remote.Addr().Unmap().Is4() {
		s.gone = true
		return
	}
	link := uint32(0)
	if local.Is6() && local.IsLinkLocalUnicast() {
		link = to.Interface
	}
	s.local = s.control.putLocal(0, local, link, s.socket.is6)
}

// advance sends what is left, until it is done or the buffer is full, which it says by false.
func (s *sender) advance(fd uintptr) bool {
	if s.failed = s.socket.discovery.set(int(fd), s.is6, s.whole); s.failed != 0 {
		return true
	}
	for len(s.rest) > 0 && s.failed == 0 {
		n := s.next()
		errno := s.socket.sendmsg(int(fd), &s.header)
		if errno == unix.EAGAIN {
			return false
		}
		s.settle(n, errno)
	}
	return true
}

// next prepares the message for the next datagrams, and returns how many bytes they have.
func (s *sender) next() int {
	n, length := min(s.size, len(s.rest)), s.local
	if s.segmented && len(s.rest) > s.size {
		if count := min(maxSegments, maxBytes/s.size); count > 1 {
			n = min(count*s.size, len(s.rest))
			length = s.control.putSegment(s.local, s.size)
		}
	}
	s.iovec.Base = &s.rest[0]
	s.iovec.SetLen(n)
	s.header.Control = nil
	if length > 0 {
		s.header.Control = &s.control.bytes()[0]
	}
	s.header.SetControllen(length)
	return n
}

// settle draws the conclusions from one attempt to send n bytes. An attempt that fails has sent nothing, so what
// follows, in whatever manner, begins with the same bytes.
func (s *sender) settle(n int, errno syscall.Errno) {
	train := n > s.size
	switch {
	case errno == 0:
		s.rest, s.retried = s.rest[n:], false
		if train {
			s.socket.gso.worked()
		} else if s.refusal != 0 { // now it is proven that segmenting was what the kernel did not like
			s.socket.gso.refused(s.refusal, s.size)
			s.refusal = 0
		}
	case errno == unix.EINTR:
	case errno == unix.EMSGSIZE && s.whole:
		s.failed = errno
	case train && (errno == unix.EIO || errno == unix.EINVAL || errno == unix.EMSGSIZE):
		s.segmented, s.refusal = false, errno
	case s.local != 0 && isAboutLocal(errno):
		s.local, s.gone = 0, true
		s.segmented, s.refusal = s.socket.gso.off.Load() == nil, 0
	case errno == unix.ENOBUFS: // the queue of a device is full: as good as lost on the way
		s.rest, s.retried = s.rest[n:], false
		s.lost = errno
	case !s.retried: // it may be about an earlier datagram: the kernel reports ICMP messages to whoever calls next
		s.retried = true
	default:
		s.failed = errno
	}
}

// isAboutLocal says whether an error may come from asking for a source address: it is no longer ours, its interface
// is gone, or nothing is routed from there.
func isAboutLocal(errno syscall.Errno) bool {
	switch errno {
	case unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENODEV, unix.ENXIO:
		return true
	}
	return false
}
