package memnet

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"stunnel/transport/socket"
)

const (
	queueLimit  = 1 << 15 // datagrams that wait in a socket
	burstLimit  = 64      // datagrams that one Receive returns
	maxDatagram = 65507
	Interface   = 2 // the index of every host's only network card
)

// Socket is one UDP socket of a host. It fits the Socket of package transport.
type Socket struct {
	host   *Host
	port   uint16
	wake   chan struct{} // holds one token when the queue may be non-empty
	closed chan struct{}

	mu    sync.Mutex
	mark  uint32
	queue []socket.Datagram
	lent  []socket.Datagram // what the last Receive returned
	done  bool
}

func newSocket(h *Host, port uint16, mark uint32) *Socket {
	return &Socket{host: h, port: port, mark: mark, wake: make(chan struct{}, 1), closed: make(chan struct{})}
}

// Port returns the port that the socket is bound to.
func (s *Socket) Port() uint16 { return s.port }

// SetMark stores the firewall mark.
func (s *Socket) SetMark(mark uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return net.ErrClosed
	}
	s.mark = mark
	return nil
}

// Mark returns the firewall mark.
func (s *Socket) Mark() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mark
}

// Close ends a blocked Receive and frees the port. net.ErrClosed afterwards.
func (s *Socket) Close() error {
	s.mu.Lock()
	if s.done {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.done = true
	s.queue = nil
	s.mu.Unlock()
	close(s.closed)
	s.host.forget(s)
	return nil
}

// Offer sends one datagram, which here never has to wait; false: Send would
// have failed.
func (s *Socket) Offer(datagram []byte, to socket.Path) bool {
	err := s.Send(datagram, max(1, len(datagram)), to)
	return err == nil || errors.Is(err, socket.ErrLocalGone)
}

// Send sends the train as datagrams of size bytes, the last may be shorter.
// ENETUNREACH when the host has no address of the remote's family, EMSGSIZE
// for what UDP cannot carry, socket.ErrTooLong for what is to pass whole and
// does not fit the host's own network, socket.ErrLocalGone (but sent from another
// address) when to.Local is not the host's.
func (s *Socket) Send(train []byte, size int, to socket.Path) error {
	select {
	case <-s.closed:
		return net.ErrClosed
	default:
	}
	if size < 0 || size > maxDatagram || (size == 0 && len(train) > 0) || to.Remote.Port() == 0 {
		if size > maxDatagram {
			return syscall.EMSGSIZE
		}
		return syscall.EINVAL
	}
	source, chosen, err := s.host.source(to.Local, to.Remote.Addr())
	if err != nil {
		return err
	}
	if mtu := s.host.MTU(); to.Whole && mtu > 0 && min(size, len(train))+headers(to.Remote.Addr()) > mtu {
		return socket.ErrTooLong
	}
	from := netip.AddrPortFrom(source, s.port)
	if len(train) == 0 {
		s.host.network.send(s.host, from, to.Remote, nil)
	}
	for len(train) > 0 {
		n := min(size, len(train))
		s.host.network.send(s.host, from, to.Remote, slices.Clone(train[:n]))
		train = train[n:]
	}
	if !chosen {
		return socket.ErrLocalGone
	}
	return nil
}

// Receive blocks for at least one datagram and returns a burst of them, valid
// until the next call. net.ErrClosed after Close. One caller at a time.
func (s *Socket) Receive() ([]socket.Datagram, error) {
	s.takeBack()
	for {
		if burst := s.take(burstLimit); len(burst) > 0 {
			s.mu.Lock()
			s.lent = burst
			s.mu.Unlock()
			return burst, nil
		}
		select {
		case <-s.closed:
			return nil, net.ErrClosed
		case <-s.wake:
		}
	}
}

// Next waits up to d for one datagram, which is the caller's to keep. It is
// the reading end of a test that plays a peer; not to be mixed with Receive.
func (s *Socket) Next(d time.Duration) (socket.Datagram, bool) {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for {
		if one := s.take(1); len(one) > 0 {
			return one[0], true
		}
		select {
		case <-s.closed:
			return socket.Datagram{}, false
		case <-deadline.C:
			return socket.Datagram{}, false
		case <-s.wake:
		}
	}
}

func (s *Socket) take(limit int) []socket.Datagram {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(limit, len(s.queue))
	taken := s.queue[:n:n]
	s.queue = s.queue[n:]
	if len(s.queue) > 0 {
		s.nudge()
	}
	return taken
}

func (s *Socket) takeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.lent {
		poison(d.Data)
	}
	s.lent = nil
}

// enqueue puts a datagram, which becomes the socket's, into the queue. False
// when there is no room.
func (s *Socket) enqueue(remote netip.AddrPort, local netip.Addr, data []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || len(s.queue) >= queueLimit {
		return false
	}
	s.queue = append(s.queue, socket.Datagram{
		Data: data, Path: socket.Path{Remote: remote, Local: local, Interface: Interface},
	})
	s.nudge()
	return true
}

func (s *Socket) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func poison(b []byte) {
	for i := range b {
		b[i] = Poison
	}
}
