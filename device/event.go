package device

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Event is a change of an interface. The first one after [TUN.Events] gives
// the state that it has then.
type Event struct {
	// Up: it was set up (ip link set up). Down: it was set down.
	Up, Down bool
	// MTU is its new MTU, 0 when that did not change.
	MTU int
	// Gone: it was deleted. No event follows.
	Gone bool
}

// blindInterval is how often an interface is looked at that has gone to a
// namespace where we may not listen.
const blindInterval = time.Second

// Events reports the interface's changes from now on, wherever it is moved. It
// always returns the same channel, which is closed after Gone and by Close;
// its reader must keep up, and will miss no change if it doesn't, only learn
// of it later.
func (t *TUN) Events() <-chan Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.events == nil {
		t.events = make(chan Event, 8)
		go t.follow()
	}
	return t.events
}

// follow is the goroutine behind Events.
func (t *TUN) follow() {
	defer close(t.events)
	var r reporter
	for {
		s, state, err := t.locate()
		switch {
		case errors.Is(err, ErrGone):
			t.send(Event{Gone: true})
			return
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			// It is where we may not look. Deletion and up or down can be seen
			// through the descriptor from anywhere, the MTU can not.
			up, err := t.writable()
			if err == nil && !t.send(r.changes(linkState{mtu: r.last.mtu, up: up})) {
				return
			}
			select {
			case <-t.done:
				return
			case <-time.After(blindInterval):
			}
			continue
		}
		if !t.followIn(s, state, &r) {
			return
		}
	}
}

// followIn reports until the interface leaves the socket's namespace. False:
// closed.
func (t *TUN) followIn(s *linkSocket, state linkState, r *reporter) bool {
	if !t.watchOn(s) {
		return false
	}
	defer t.watchOn(nil)
	defer s.close()
	for {
		t.mu.Lock()
		t.last = state
		t.mu.Unlock()
		if !t.send(r.changes(state)) {
			return false
		}
		next, err := s.next()
		for err != nil {
			switch {
			case errors.Is(err, os.ErrClosed):
				return false
			case err == errLeft:
				return true
			}
			// Messages were lost (ENOBUFS), so ask for what they said.
			if err = s.ask(""); err != nil {
				return true
			}
			next, err = s.next()
		}
		state = next
	}
}

// watchOn makes s the socket that Close closes. False: Close came before.
func (t *TUN) watchOn(s *linkSocket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		if s != nil {
			s.close()
		}
		return false
	}
	t.watch = s
	return true
}

// send delivers an event that says something. False: closed.
func (t *TUN) send(e Event) bool {
	if e == (Event{}) {
		return true
	}
	select {
	case t.events <- e:
		return true
	case <-t.done:
		return false
	}
}

// reporter makes events of states.
type reporter struct {
	began bool
	last  linkState
}

func (r *reporter) changes(now linkState) (e Event) {
	if !r.began || now.up != r.last.up {
		e.Up, e.Down = now.up, !now.up
	}
	if !r.began || now.mtu != r.last.mtu {
		e.MTU = now.mtu
	}
	r.began, r.last = true, now
	return e
}

// locate finds the interface: a socket subscribed in the namespace where it is
// and its state there. ErrGone: deleted; os.ErrClosed: we closed.
func (t *TUN) locate() (*linkSocket, linkState, error) {
	var lastErr error
	// It may be renamed or moved between two questions; each of them asks the
	// descriptor anew. Whoever does that faster than this for ever has our
	// second-by-second look.
	for range 10 {
		s, state, err := t.locateOnce()
		if err == nil {
			return s, state, nil
		}
		lastErr = err
		if err != errLeft {
			break
		}
	}
	return nil, linkState{}, lastErr
}

func (t *TUN) locateOnce() (*linkSocket, linkState, error) {
	name, err := t.currentName()
	if err != nil {
		return nil, linkState{}, err
	}
	ns, err := t.namespace()
	if err != nil {
		return nil, linkState{}, err
	}
	if ns >= 0 {
		defer func() { _ = unix.Close(ns) }()
	}
	s, err := openLinkSocket(t.enter, ns)
	if err != nil {
		return nil, linkState{}, fmt.Errorf("device: %s: %w", name, err)
	}
	if err = s.ask(name); err == nil {
		var state linkState
		if state, err = s.next(); err == nil {
			var again string
			if again, err = t.currentName(); err == nil {
				if again == state.name {
					return s, state, nil
				}
				err = errLeft // renamed meanwhile: this may be another one
			}
		}
	}
	s.close()
	return nil, linkState{}, err
}

// currentName asks the descriptor. ErrGone: deleted; os.ErrClosed: we closed.
func (t *TUN) currentName() (name string, err error) {
	ctl := t.control(func(fd uintptr) { name, _, err = getInterface(int(fd)) })
	switch {
	case ctl != nil:
		return "", os.ErrClosed
	case err == unix.EBADFD:
		return "", ErrGone
	}
	return name, err
}

// namespace opens the network namespace in which the interface is now. -1:
// the kernel can't or won't say (before 5.2, or we have no rights there); then
// it is most likely in ours.
func (t *TUN) namespace() (ns int, err error) {
	ctl := t.control(func(fd uintptr) { ns, err = unix.IoctlRetInt(int(fd), unix.TUNGETDEVNETNS) })
	switch {
	case ctl != nil:
		return -1, os.ErrClosed
	case err == unix.EBADFD:
		return -1, ErrGone
	case err != nil:
		return -1, nil
	}
	return ns, nil
}

// writable says whether the interface is up, from whichever namespace: the
// kernel lets a TUN that is down not be writable.
func (t *TUN) writable() (up bool, err error) {
	ctl := t.control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if _, err = unix.Poll(fds, 0); err == nil {
			up = fds[0].Revents&unix.POLLOUT != 0
		}
	})
	if ctl != nil {
		return false, os.ErrClosed
	}
	return up, err
}

// setMTU is for an interface that we made. That needs a socket in its
// namespace, which is still the calling thread's.
func (t *TUN) setMTU(mtu int) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	ifr, err := unix.NewIfreq(t.Name())
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(mtu))
	return unix.IoctlIfreq(s, unix.SIOCSIFMTU, ifr)
}
