package transport

import (
	"context"
	"errors"
	"io"
	"sync"

	"stunnel/transport/socket"
)

// streams are the TCP connections of a Tunnel, those that others have opened and those that it has, with a goroutine each.
//
// A connection is somebody's as long as a session lives on it, a handshake waits for its response there, or it is a guest
// (peer.setGuest); when the last of them goes it is closed. When it ends by itself its sessions end with it.
type streams struct {
	running sync.WaitGroup // a goroutine per connection, and one per listener

	mu       sync.Mutex // a leaf; guards what follows
	listener Listener   // nil: none
	owners   map[socket.Stream][]*peer
	dials    chan struct{}   // of which each that is going on has one
	ended    context.Context // when the tunnel goes down; nil: it is
	end      context.CancelFunc
}

// setUp lets connections be.
func (c *streams) setUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended, c.end = context.WithCancel(context.Background())
	c.owners = make(map[socket.Stream][]*peer)
	c.dials = make(chan struct{}, maxDials)
}

// setDown closes all of them, and the listener.
func (c *streams) setDown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		return
	}
	c.end()
	c.ended = nil
	if c.listener != nil {
		c.listener.Close()
		c.listener = nil
	}
	for s := range c.owners {
		s.Close()
	}
}

// serve has a goroutine take messages in from a connection that has come (stranger) or was made; false: the tunnel is down,
// and it was closed.
func (t *Tunnel) serve(s socket.Stream, stranger bool) bool {
	c := &t.streams
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		s.Close()
		return false
	}
	c.owners[s] = nil
	ended := c.ended
	c.running.Go(func() {
		why := "not welcome"
		defer func() { t.lose(s, why) }()
		if !stranger || t.welcome(s, ended) {
			why = t.runStream(s)
		}
	})
	return true
}

// lose is for a connection that has ended, or is to.
func (t *Tunnel) lose(s socket.Stream, why string) {
	s.Close()
	t.streams.mu.Lock()
	owners := t.streams.owners[s]
	delete(t.streams.owners, s)
	t.streams.mu.Unlock()
	for _, p := range owners {
		p.lose(s, why)
	}
}

// runStream takes messages in until the connection ends, or brings a forged one: nobody but its other end can put it there. It returns
// why it has ended.
func (t *Tunnel) runStream(s socket.Stream) (why string) {
	for {
		burst, err := s.Receive()
		if err != nil {
			t.log.Debug("connection ended", "with", s.Path().Remote, "error", err)
			if errors.Is(err, io.EOF) {
				return "the peer has closed it"
			}
			return err.Error()
		}
		if _, forged := t.takeIn(burst); forged > 0 {
			t.log.Debug("connection closed: a message that does not open", "with", s.Path().Remote)
			return "a message came that does not open"
		}
	}
}

// receivers are those of connections, between two bursts.
var receivers = sync.Pool{New: func() any { return new(receiver) }}

// takeIn takes in a burst that came by a connection. accepted is how many messages of sessions were, forged how many did not
// open.
func (t *Tunnel) takeIn(burst []socket.Datagram) (accepted, forged int) {
	r := receivers.Get().(*receiver)
	defer func() { r.lane = nil; receivers.Put(r) }()
	r.lane = t.lanes[int(burst[0].Path.Remote.Port())%len(t.lanes)]
	r.accepted, r.forged = 0, 0
	r.inbound(burst, t.now())
	return r.accepted, r.forged
}

// errNoTCP: Options has none.
var errNoTCP = errors.New("this program has no TCP transport")

// listenStreams opens a TCP port in the place of the one in use, which stays if that fails; 0: none. mu is held.
func (t *Tunnel) listenStreams(port uint16) error {
	c := &t.streams
	var listener Listener
	if port != 0 {
		if t.listenTCP == nil {
			return errNoTCP
		}
		var err error
		if listener, err = t.listenTCP(port, t.mark.Load()); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listener != nil {
		c.listener.Close()
	}
	if c.listener = listener; listener != nil {
		c.running.Go(func() { t.runListener(listener) })
	}
	return nil
}

// runListener takes connections until the listener is closed.
func (t *Tunnel) runListener(l Listener) {
	for {
		s, err := l.Accept()
		if err != nil {
			return
		}
		t.serve(s, true)
	}
}

// status is what Status tells of connections.
func (c *streams) status(s *Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listener != nil {
		s.ListenTCP, s.Strangers = c.listener.Port(), c.listener.Strangers()
	}
	s.Streams = len(c.owners)
}

// setMark changes that of the listener and of all connections.
func (c *streams) setMark(mark uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listener != nil {
		if err := c.listener.SetMark(mark); err != nil {
			return err
		}
	}
	for s := range c.owners {
		_ = s.SetMark(mark) // it may just have been closed
	}
	return nil
}
