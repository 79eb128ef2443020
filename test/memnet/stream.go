package memnet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"stunnel/transport/socket"
)

// What TCP connections here have in common with those of package socket.
const (
	firstTimeout  = 5 * time.Second  // from accept to the first message
	streamTimeout = 10 * time.Second // how long a connection lives of which nothing comes through
	streamBacklog = 64 << 10         // bytes that may wait in one
)

// TCPFate is what a direction of a link does to TCP connections.
type TCPFate int

const (
	TCPPasses  TCPFate = iota
	TCPRefuses         // nobody can connect; connections that there are go on
	TCPBlocks          // nothing comes through, in silence: connections stall, and die after a while
)

// Streams sets what happens to TCP connections from one host to another, in both directions if both are set. What waited in
// those that there are goes on its way when TCPBlocks ends.
func (n *Network) Streams(from, to *Host, f TCPFate) {
	n.mu.Lock()
	if n.tcp == nil {
		n.tcp = make(map[direction]TCPFate)
	}
	n.tcp[direction{from, to}] = f
	open := slices.Clone(n.streams)
	n.mu.Unlock()
	for _, s := range open {
		s.flush()
	}
}

// ResetStreams ends all TCP connections as a forged RST does, and returns how many ends there were.
func (n *Network) ResetStreams() int {
	n.mu.Lock()
	open := slices.Clone(n.streams)
	n.mu.Unlock()
	for _, s := range open {
		s.end(syscall.ECONNRESET)
	}
	return len(open)
}

// Listener is a TCP port of a host. It fits the Listener of package transport.
type Listener struct {
	host   *Host
	port   uint16
	closed chan struct{}
	came   chan *Stream

	mu        sync.Mutex
	strangers uint64
	mark      uint32
}

// ListenTCP opens a TCP port. EADDRINUSE when it is taken.
func (h *Host) ListenTCP(port uint16, mark uint32) (*Listener, error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	if h.listeners == nil {
		h.listeners = make(map[uint16]*Listener)
	}
	if h.listeners[port] != nil {
		return nil, syscall.EADDRINUSE
	}
	l := &Listener{host: h, port: port, mark: mark, closed: make(chan struct{}), came: make(chan *Stream, 64)}
	h.listeners[port] = l
	return l, nil
}

// Accept waits for a connection; net.ErrClosed after Close.
func (l *Listener) Accept() (socket.Stream, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case s := <-l.came:
		return s, nil
	}
}

// Port is the port.
func (l *Listener) Port() uint16 { return l.port }

// Strangers counts the connections that ended without having been admitted.
func (l *Listener) Strangers() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.strangers
}

// SetMark stores the firewall mark.
func (l *Listener) SetMark(mark uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark = mark
	return nil
}

// Close frees the port; connections go on. net.ErrClosed afterwards.
func (l *Listener) Close() error {
	l.host.network.mu.Lock()
	defer l.host.network.mu.Unlock()
	if l.host.listeners[l.port] != l {
		return net.ErrClosed
	}
	delete(l.host.listeners, l.port)
	close(l.closed)
	return nil
}

// Dial makes a TCP connection to a listener, in one round trip of the link; through a NAT only outwards. ECONNREFUSED where
// nobody listens; as long as nothing comes through it waits for ctx to end.
func (h *Host) Dial(ctx context.Context, remote netip.AddrPort, mark uint32) (*Stream, error) {
	from, _, err := h.source(netip.Addr{}, remote.Addr())
	if err != nil {
		return nil, err
	}
	n := h.network
	n.mu.Lock()
	local := netip.AddrPortFrom(from, h.ephemeral)
	h.ephemeral++
	seen := local
	if h.nat != nil && !h.nat.encloses(remote.Addr()) {
		seen = h.nat.outward(h, local)
	}
	other, to := n.resolve(h, remote)
	roundTrip := n.link(h, other).Delay
	fate := TCPBlocks
	var l *Listener
	if other != nil {
		roundTrip += n.link(other, h).Delay
		fate = max(n.tcp[direction{h, other}], n.tcp[direction{other, h}])
		l = other.listeners[to.Port()]
	}
	n.mu.Unlock()
	if fate == TCPBlocks {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	wait := time.NewTimer(roundTrip)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-wait.C:
	}
	if l == nil || fate == TCPRefuses {
		return nil, syscall.ECONNREFUSED
	}
	near := newStream(h, socket.Path{Remote: remote, Local: from, Interface: Interface}, mark)
	far := newStream(other, socket.Path{Remote: seen, Local: to.Addr(), Interface: Interface}, mark)
	near.far, far.far, near.admitted, far.listener = far, near, true, l
	n.mu.Lock()
	n.streams = append(n.streams, near, far)
	n.mu.Unlock()
	far.deadline = time.AfterFunc(firstTimeout, func() {
		if !far.isAdmitted() {
			far.end(syscall.ETIMEDOUT)
		}
	})
	select {
	case l.came <- far:
		return near, nil
	default:
		near.end(syscall.ECONNREFUSED)
		return nil, syscall.ECONNREFUSED
	}
}

// Stream is one end of a TCP connection. It fits the Stream of package socket: what it carries is messages, in order, each
// after the delay of the link; nothing of the link's accidents happens to them, but what Streams and taps say.
type Stream struct {
	host     *Host
	path     socket.Path
	far      *Stream
	listener *Listener // nil: it was dialled
	deadline *time.Timer
	wake     chan struct{}
	over     chan struct{}

	mu       sync.Mutex
	mark     uint32
	admitted bool
	err      error // why it is over
	queue    []arriving
	lent     []socket.Datagram
	unsent   [][]byte
	waiting  int // bytes of unsent
	death    *time.Timer
}

type arriving struct {
	at   time.Time
	data []byte // nil: the other end has closed
}

func newStream(h *Host, path socket.Path, mark uint32) *Stream {
	s := &Stream{host: h, mark: mark, wake: make(chan struct{}, 1), over: make(chan struct{})}
	path.Stream = s
	s.path = path
	return s
}

// Path is how the connection goes.
func (s *Stream) Path() socket.Path { return s.path }

// SetMark stores the firewall mark.
func (s *Stream) SetMark(mark uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = mark
	return s.err
}

// Mark returns the firewall mark.
func (s *Stream) Mark() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mark
}

// Admit lets Receive be called.
func (s *Stream) Admit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted = true
}

func (s *Stream) isAdmitted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admitted
}

// First waits for the first message.
func (s *Stream) First() (socket.Datagram, error) {
	burst, err := s.receive(1)
	if err != nil {
		return socket.Datagram{}, err
	}
	if len(burst[0].Data) > socket.FirstSize {
		s.end(syscall.EMSGSIZE)
		return socket.Datagram{}, syscall.EMSGSIZE
	}
	return burst[0], nil
}

// Receive waits for messages, valid until the next call.
func (s *Stream) Receive() ([]socket.Datagram, error) {
	if !s.isAdmitted() {
		panic("memnet: Receive of a connection that is not admitted")
	}
	return s.receive(burstLimit)
}

func (s *Stream) receive(limit int) ([]socket.Datagram, error) {
	s.mu.Lock()
	for _, d := range s.lent {
		poison(d.Data)
	}
	s.lent = nil
	s.mu.Unlock()
	for {
		s.mu.Lock()
		var wait time.Duration = -1
		for len(s.queue) > 0 && len(s.lent) < limit {
			if wait = time.Until(s.queue[0].at); wait > 0 || s.queue[0].data == nil {
				break
			}
			s.lent = append(s.lent, socket.Datagram{Data: s.queue[0].data, Path: s.path})
			s.queue = s.queue[1:]
		}
		lent, closed := s.lent, len(s.lent) == 0 && wait <= 0 && len(s.queue) > 0 && s.queue[0].data == nil
		s.mu.Unlock()
		switch {
		case len(lent) > 0:
			return lent, nil
		case closed:
			s.end(io.EOF)
		}
		due := make(<-chan time.Time)
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-s.over:
			return nil, s.why()
		case <-s.wake:
		case <-due:
		}
	}
}

func (s *Stream) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Send sends the train as messages; what does not fit into a connection that is stalled is dropped.
func (s *Stream) Send(train []byte, size int) error {
	for len(train) > 0 {
		n := min(size, len(train))
		s.mu.Lock()
		switch {
		case s.err != nil:
			s.mu.Unlock()
			return net.ErrClosed
		case s.waiting+n > streamBacklog:
			s.mu.Unlock()
			return socket.ErrStalled
		}
		s.unsent, s.waiting = append(s.unsent, slices.Clone(train[:n])), s.waiting+n
		s.mu.Unlock()
		s.flush()
		train = train[n:]
	}
	return nil
}

// Try is Send, which never waits.
func (s *Stream) Try(train []byte, size int) error { return s.Send(train, size) }

// Offer sends one message if nothing waits.
func (s *Stream) Offer(message []byte) bool {
	s.mu.Lock()
	waits := len(s.unsent) > 0
	s.mu.Unlock()
	return !waits && s.Send(message, max(1, len(message))) == nil
}

// flush sends what waits, if anything comes through.
func (s *Stream) flush() {
	n := s.host.network
	n.mu.Lock()
	blocked := n.tcp[direction{s.host, s.far.host}] == TCPBlocks || n.tcp[direction{s.far.host, s.host}] == TCPBlocks
	delay := n.link(s.host, s.far.host).Delay
	n.mu.Unlock()

	s.mu.Lock()
	var goes [][]byte
	switch {
	case !blocked:
		goes, s.unsent, s.waiting = s.unsent, nil, 0
		if s.death != nil {
			s.death.Stop()
			s.death = nil
		}
	case len(s.unsent) > 0 && s.death == nil:
		s.death = time.AfterFunc(streamTimeout, func() { s.end(syscall.ETIMEDOUT) })
	}
	s.mu.Unlock()
	for _, data := range goes {
		seen := &Transit{
			At: time.Now(), Sender: s.host, Stream: true, Data: data,
			From: s.far.path.Remote, To: s.path.Remote,
		}
		if n.passTaps(seen) {
			s.far.put(arriving{time.Now().Add(delay), seen.Data})
		}
	}
}

func (s *Stream) put(a arriving) {
	s.mu.Lock()
	if s.err == nil {
		s.queue = append(s.queue, a)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close ends the connection; the other end learns of it after the delay of the link.
func (s *Stream) Close() error {
	s.end(net.ErrClosed)
	return nil
}

func (s *Stream) end(why error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = why
	stranger := s.listener != nil && !s.admitted
	if s.death != nil {
		s.death.Stop()
	}
	s.mu.Unlock()
	close(s.over)
	if s.deadline != nil {
		s.deadline.Stop()
	}
	if stranger {
		s.listener.mu.Lock()
		s.listener.strangers++
		s.listener.mu.Unlock()
	}
	n := s.host.network
	n.mu.Lock()
	n.streams = slices.DeleteFunc(n.streams, func(o *Stream) bool { return o == s })
	blocked := n.tcp[direction{s.host, s.far.host}] == TCPBlocks
	delay := n.link(s.host, s.far.host).Delay
	n.mu.Unlock()
	if !blocked {
		s.far.put(arriving{at: time.Now().Add(delay)})
	}
}
