package socket

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// firstTime is how long a connection may take from when it was accepted until it has proved something.
const firstTime = 5 * time.Second

// Listener takes TCP connections on one port, see strangers for which.
type Listener struct {
	// Constant.
	listener *net.TCPListener
	port     uint16
	first    time.Duration // firstTime, but in tests
	most     int           // connections, whether they have proved something or not
	full     func(error)   // Options.Full
	closing  chan struct{} // closed by Close

	unknown atomic.Uint64 // connections that were closed without having been admitted

	mu        sync.Mutex
	strangers strangers
	open      int // connections, strangers and others
	closed    bool
}

// ListenTCP opens a TCP port; 0 is one that the kernel chooses. It speaks IPv6 and IPv4, or IPv4 alone where the host has
// no IPv6. Errors wrap the kernel's, EADDRINUSE in particular.
func ListenTCP(port uint16, o Options) (*Listener, error) {
	config := net.ListenConfig{KeepAlive: -1 * time.Second, Control: o.control(
		// Who connects must say something, so there is nothing to accept before that.
		socketOption{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(firstTime.Seconds()), "TCP_DEFER_ACCEPT"})}
	config.SetMultipathTCP(false)
	address := ":" + strconv.Itoa(int(port))
	if o.Address.IsValid() {
		address = netip.AddrPortFrom(o.Address.Unmap(), port).String()
	}
	listener, err := config.Listen(context.Background(), "tcp", address)
	if !o.Address.IsValid() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		listener, err = config.Listen(context.Background(), "tcp4", address)
	}
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the rest of it says what we say
		}
		return nil, fmt.Errorf("listen on TCP port %d: %w", port, o.inWords(err))
	}
	l := &Listener{listener: listener.(*net.TCPListener), first: firstTime, most: mostConnections(), full: o.Full, closing: make(chan struct{})}
	l.port = l.listener.Addr().(*net.TCPAddr).AddrPort().Port()
	return l, nil
}

// mostConnections is how many there may be at a time: half of the files that the process may have.
func mostConnections() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxInt
	}
	return int(min(limit.Cur/2, math.MaxInt32))
}

// Port is the local port.
func (l *Listener) Port() uint16 { return l.port }

// Strangers counts the connections that were closed without having been admitted.
func (l *Listener) Strangers() uint64 { return l.unknown.Load() }

// Accept waits for a connection. It is to be asked for its First message at once: that must be there, and be admitted,
// within 5 s. After Close the error is net.ErrClosed, and there are no others: while there is no room, since there are too
// many files or too little memory, the oldest of those that have proved nothing has to go; if there is none Accept says so
// by Options.Full, and goes on, where the kernel gives nothing after a moment.
func (l *Listener) Accept() (Stream, error) {
	for {
		conn, err := l.listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, errClosed
		case err == nil:
			if c := l.take(conn); c != nil {
				return c, nil
			}
		case !isShortage(err) || !l.evict():
			if l.full != nil {
				l.full(err)
			}
			l.pause()
		}
	}
}

func isShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// pause waits for a tenth of a second, or until Close.
func (l *Listener) pause() {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.closing:
	}
}

// take makes a Stream of a connection, if there is room for it.
func (l *Listener) take(conn *net.TCPConn) *TCP {
	refuse := func() *TCP {
		_ = conn.SetLinger(0)
		conn.Close()
		l.unknown.Add(1)
		return nil
	}
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return refuse()
	}
	c, err := newTCP(conn, netip.AddrPortFrom(remote.AddrPort().Addr().Unmap(), remote.AddrPort().Port()))
	if err != nil || conn.SetReadDeadline(time.Now().Add(l.first)) != nil {
		return refuse()
	}
	c.listener, c.source = l, sourceOf(c.path.Remote.Addr())
	evicted, err := l.enter(c)
	if evicted != nil {
		_ = evicted.Close()
	}
	if errors.Is(err, errTooMany) && l.full != nil {
		l.full(err)
	}
	if err != nil {
		return refuse()
	}
	return c
}

var errTooMany = errors.New("connections have half of the files that the process may have open")

// enter puts c among the strangers, and says who has to go for it. The error is errTooMany if nobody can, or errClosed.
func (l *Listener) enter(c *TCP) (evicted *TCP, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.open >= l.most
	evicted = l.strangers.crowding(c.source, full)
	switch {
	case l.closed:
		return nil, errClosed
	case full && evicted == nil:
		return nil, errTooMany
	}
	l.strangers.remove(evicted)
	l.strangers.add(c)
	l.open++
	return evicted, nil
}

// evict closes the oldest stranger; false: there is none.
func (l *Listener) evict() bool {
	l.mu.Lock()
	oldest := l.strangers.oldest()
	l.strangers.remove(oldest)
	l.mu.Unlock()
	if oldest == nil {
		return false
	}
	_ = oldest.Close() // or it is just closing by itself
	return true
}

// admit takes c out of the strangers.
func (l *Listener) admit(c *TCP) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strangers.remove(c)
}

// forget is told that c is closed.
func (l *Listener) forget(c *TCP) {
	if !c.admitted.Load() {
		l.unknown.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strangers.remove(c)
	l.open--
}

// Close ends Accept and the connections that have not been admitted. The others go on.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed
	}
	l.closed = true
	close(l.closing)
	l.mu.Unlock()
	err := l.listener.Close()
	for l.evict() {
	}
	return err
}
