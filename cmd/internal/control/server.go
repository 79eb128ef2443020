package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// Serve answers on l until ctx ends, then closes l and all connections, waits for what is
// being answered and returns nil. It returns an error when l fails for another reason.
//
// A set is applied to d whole or not at all, and one at a time. stop is called when a
// client asks for the end, after the client has its answer; it must not wait for Serve.
// nil means that the program cannot be stopped this way.
func Serve(ctx context.Context, l net.Listener, d Device, stop func()) error {
	s := &server{device: d, stop: stop, conns: make(map[*conn]struct{})}
	defer s.running.Wait()
	defer context.AfterFunc(ctx, func() {
		l.Close()
		s.closeAll()
	})()
	defer l.Close()
	defer s.closeAll()
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case err == nil:
			s.accept(c)
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM),
			errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ECONNABORTED):
			// The client waits in the backlog; there is no event for "descriptors are free again".
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		default:
			return fmt.Errorf("control socket: %w", err)
		}
	}
}

type server struct {
	device Device
	stop   func()

	held      atomic.Int64   // bytes of text held by operations, at most maxHeld
	running   sync.WaitGroup // one for each of conns
	configure sync.Mutex     // held over the Status and Configure of a set

	mu     sync.Mutex
	conns  map[*conn]struct{} // guarded by mu
	closed bool               // guarded by mu
}

// conn is one client's connection.
type conn struct {
	net.Conn
	restsSince time.Time // guarded by server.mu; zero while an operation runs
}

// accept starts to serve c. When there are too many connections, the one that has rested
// longest gives way; when none rests, c is closed.
func (s *server) accept(nc net.Conn) {
	c := &conn{Conn: nc, restsSince: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxConns {
		var oldest *conn
		for o := range s.conns {
			if !o.restsSince.IsZero() && (oldest == nil || o.restsSince.Before(oldest.restsSince)) {
				oldest = o
			}
		}
		if oldest == nil {
			nc.Close()
			return
		}
		delete(s.conns, oldest)
		oldest.Close()
	}
	if s.closed {
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Go(func() { s.serve(c) })
}

func (s *server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
}

// rests notes whether c is between two operations.
func (s *server) rests(c *conn, rests bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.restsSince = time.Time{}
	if rests {
		c.restsSince = time.Now()
	}
}

// serve answers one operation after the other until the client has gone or is out of step.
func (s *server) serve(c *conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	br := bufio.NewReaderSize(c, maxLine)
	for {
		s.rests(c, true)
		if _, err := br.Peek(1); err != nil {
			return
		}
		s.rests(c, false)
		if c.SetDeadline(time.Now().Add(operationTime)) != nil || !s.operation(c, br) {
			return
		}
		if c.SetDeadline(time.Time{}) != nil {
			return
		}
	}
}

// operation reads one operation and answers it. It says whether another one may follow.
func (s *server) operation(c *conn, br *bufio.Reader) bool {
	line, err := nextLine(br)
	if err != nil {
		return false
	}
	held := 0
	defer func() { s.held.Add(int64(-held)) }()
	hold := func(n int) error {
		held += n
		switch {
		case s.held.Add(int64(n)) > maxHeld:
			return fmt.Errorf("too much is being set and got at the same time: %w", syscall.ENOMEM)
		case held > maxSet:
			return fmt.Errorf("an operation larger than %d bytes: %w", maxSet, syscall.E2BIG)
		}
		return nil
	}
	switch string(line) {
	case "get=1":
		return s.get(c, br, hold)
	case "set=1":
		return s.set(c, br, hold)
	}
	refuse(fmt.Errorf("neither get=1 nor set=1: %w", syscall.EPROTO))
	reply(c, appendErrno(nil, -int(syscall.EPROTO)))
	return false
}

func (s *server) get(c *conn, br *bufio.Reader, hold func(int) error) bool {
	for extra := false; ; extra = true {
		line, err := nextLine(br)
		if err != nil && !errors.Is(err, errLongLine) {
			return false
		}
		if err == nil && len(line) == 0 {
			if extra {
				refuse(fmt.Errorf("a get with more lines than one: %w", syscall.EINVAL))
				return reply(c, appendErrno(nil, int(syscall.EINVAL))) // without a sign: wg(8) takes digits only here
			}
			break
		}
	}
	status := s.device.Status()
	text := appendStatus(nil, &status)
	if err := hold(len(text)); errors.Is(err, syscall.ENOMEM) { // a state may be larger than one set made it
		refuse(err)
		return reply(c, appendErrno(nil, errnoOf(err)))
	}
	return reply(c, appendErrno(text, 0))
}

func (s *server) set(c *conn, br *bufio.Reader, hold func(int) error) bool {
	r, err, broken := readSet(br, hold)
	if broken != nil {
		return false
	}
	if err == nil {
		err = s.apply(r.config)
	}
	if err == nil && r.stop && s.stop == nil {
		err = fmt.Errorf("stop: %w", syscall.EINVAL)
	}
	if err != nil {
		refuse(err)
		return reply(c, appendErrno(nil, -errnoOf(err)))
	}
	ok := reply(c, appendErrno(nil, 0))
	if r.stop {
		s.stop()
	}
	return ok
}

// apply configures the device. Our own key as a peer is passed over with all its lines,
// as WireGuard does: it lets one list of peers be given to all of them.
func (s *server) apply(c transport.Config) error {
	s.configure.Lock()
	defer s.configure.Unlock()
	if len(c.Peers) > 0 {
		var own crypto.PublicKey
		if c.PrivateKey == nil {
			own = s.device.Status().PublicKey
		} else if !c.PrivateKey.IsZero() {
			own = c.PrivateKey.Public()
		}
		others := c.Peers[:0]
		for _, p := range c.Peers {
			if own.IsZero() || p.PublicKey != own {
				others = append(others, p)
			}
		}
		c.Peers = others
	}
	return s.device.Configure(c)
}

// reply writes b in one call: some clients read the answer to a set only once.
func reply(c *conn, b []byte) bool {
	if c.SetWriteDeadline(time.Now().Add(operationTime)) != nil {
		return false
	}
	_, err := c.Write(b)
	return err == nil
}

func appendErrno(b []byte, errno int) []byte {
	return fmt.Appendf(b, "errno=%d\n\n", errno)
}

// errnoOf is the number that a client gets for err: the errno that it wraps, else EIO.
func errnoOf(err error) int {
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != 0 {
		return int(errno)
	}
	return int(syscall.EIO)
}

// refuse says what the client cannot be told in a number. Errors here never have keys in them.
func refuse(err error) {
	slog.Warn("control request refused", "error", err)
}
