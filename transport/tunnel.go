package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// Queue is one packet queue of a network device; device.Queue is one. What it
// may have besides is in offload.go.
//
// In tap mode what is said of packets is true of Ethernet frames, from the destination
// address to the end of the payload. Then first[i] begins with FrameRoom bytes, which
// the caller writes, and the frame behind it: so it is 64 or 128 bytes long, or all of it.
// Complete wants it like that, also of frames that came from a peer, are partial by the
// rules of docs/protocol-extensions.md, and go to another one. What Write gets has no room
// in front.
type Queue interface {
	// Read blocks until there is a packet and returns all that are there:
	// packet i is first[i] followed by rest[i], where first[i] is its first 64
	// bytes, 128 where the headers are longer, or all of it. partial[i] says
	// that its TCP or UDP checksum is still to be computed. All are valid, and
	// the caller's to change, until the next Read. One caller at a time.
	Read() (first, rest [][]byte, partial []bool, err error)
	// Complete computes the checksum of a packet that is partial, in place. Who
	// has what Read or Look gave may call it, any number at a time. In tap mode
	// inbound does too, with frames of its own.
	Complete(first, rest []byte)
	// Write hands whole packets to the local stack, in order; it may change
	// their bytes. Those that are partial (nil: none is) are taken for right
	// without their checksum, if they can be partial at all. One caller at a time.
	Write(packets [][]byte, partial []bool) error
	// Look hands use what could be read without waiting, unless somebody has or
	// reads it already; it is valid until use returns. Any caller.
	Look(use func(first, rest [][]byte, partial []bool))
	// Close makes Read return an error. Any caller, also more than once.
	Close() error
}

// Socket sends and receives datagrams; *socket.UDP is one. What it may have
// besides is in offload.go.
type Socket interface {
	// Receive blocks until there is a datagram and returns all that are there,
	// valid until the next Receive. One caller at a time. After Close the error
	// is net.ErrClosed or os.ErrClosed.
	Receive() ([]socket.Datagram, error)
	// Send sends train as datagrams of size bytes, the last may be shorter. Many
	// callers at a time. socket.ErrLocalGone: it was sent, but not from to.Local.
	Send(train []byte, size int, to socket.Path) error
	// Offer sends one datagram if that can be done at once and leaves most of
	// the socket's buffer free; false: it was not sent. Many callers at a time.
	Offer(datagram []byte, to socket.Path) bool
	SetMark(mark uint32) error
	Port() uint16
	Close() error
}

// Listener takes TCP connections; *socket.Listener is one.
type Listener interface {
	// Accept waits for a connection. After Close the error is net.ErrClosed.
	Accept() (socket.Stream, error)
	// Strangers counts the connections that were closed without having been admitted.
	Strangers() uint64
	SetMark(mark uint32) error // of it, and of connections that come from now on
	Port() uint16
	Close() error
}

// Options are what a Tunnel is made of and does not change.
type Options struct {
	// Queues of the device, one lane each. The Tunnel closes them.
	Queues []Queue
	// Listen opens n sockets on one UDP port, 0 for one that is free.
	Listen func(port uint16, n int, mark uint32) ([]Socket, error)
	// ListenTCP opens a TCP port, and Dial connects to one within ctx; nil: there is no TCP.
	ListenTCP func(port uint16, mark uint32) (Listener, error)
	Dial      func(ctx context.Context, remote netip.AddrPort, mark uint32) (socket.Stream, error)
	// Ethernet says that the queues are a TAP's (tap mode), see Queue. It is announced
	// to peers, and only such as are in tap mode too are spoken to; AllowedIPs have no
	// meaning.
	Ethernet bool
	// MTU of the device, in bytes; SetMTU follows it.
	MTU int
	// Now is a clock for ages and timers: monotonic, and going on while the
	// machine is suspended (CLOCK_BOOTTIME). nil: Go's, which stands still then.
	Now func() time.Duration
	// Wall is the clock of handshake timestamps; nil: time.Now.
	Wall func() time.Time
	// PathMTU tells the MTU of the way to an address outside, in bytes, of what has
	// this mark; 0: not known. Packets that are longer, sealed, leave in fragments
	// where the peer takes them. nil: 1500.
	PathMTU func(remote netip.Addr, mark uint32) int
	// Way tells the index of the interface that leads to an address outside, of what has this mark; 0: none does, or it is not
	// known. nil: Reroute does nothing.
	Way func(remote netip.Addr, mark uint32) int
	// Fits is called when the paths to all peers that there have been sessions with are measured, and the longest packet
	// that fits one message to any of them has changed: mtu, in bytes. It must not wait. nil: nobody wants to know.
	Fits func(mtu int)
	// Unanswered is told when a way to a peer is left as dead, and each time that a handshake has had no answer, until the
	// tunnel gives up or has one.
	// It must not block; nil: nobody wants to know.
	Unanswered func(peer crypto.PublicKey)
	// Carried is told when a peer's messages go over another transport than before, or over TCP from the beginning. It must
	// not block; nil: nobody wants to know.
	Carried func(peer crypto.PublicKey, by Transport)
	// Version of the program, which peers that speak extensions are told.
	Version string
	// Log gets what a person wants to read, never a line per packet, never a
	// key but a peer's public one; nil: nothing.
	Log *slog.Logger
}

// Tunnel is one end: a device, its peers, its sockets. See the package comment.
type Tunnel struct {
	// constant
	now    func() time.Duration
	wall   func() time.Time
	log    *slog.Logger
	listen func(port uint16, n int, mark uint32) ([]Socket, error)
	lanes  []*lane

	listenTCP func(port uint16, mark uint32) (Listener, error)
	dialTCP   func(ctx context.Context, remote netip.AddrPort, mark uint32) (socket.Stream, error)

	pathMTU func(remote netip.Addr, mark uint32) int
	way     func(remote netip.Addr, mark uint32) int
	fits    func(mtu int)
	version string // fit for a hello
	missed  func(peer crypto.PublicKey)
	carried func(peer crypto.PublicKey, by Transport)
	trusted atomic.Bool // Config.TrustedChecksums

	local       atomic.Pointer[localIdentity] // nil: no private key
	mtu         atomic.Int64
	mark        atomic.Uint32 // of the sockets; written under mu
	binding     atomic.Pointer[binding]
	peers       registry
	indices     indexTable
	schedule    schedule
	streams     streams
	turns       turns
	handshakes  chan *queuedHandshake
	initiations initiations
	loadUntil   atomic.Int64
	limiter     limiter
	refusals    tokenBucket
	clues       [clues]tokenBucket
	reassembly  reassembly
	fitting     fitting
	lan         *lan // nil in tun mode; constant
	drops       drops

	mu         sync.Mutex // guards what follows, and all configuration
	privateKey crypto.PrivateKey
	port       uint16                    // as asked for
	portTCP    uint16                    // 0: none
	allowedIPs allowedIPs[*peer]         // written under mu, read by snapshot
	ours       map[crypto.PublicKey]ours // also of peers that are no more, should they come back
	closed     bool

	offloadsTold bool
}

// ours is what of a peer's configuration WireGuard does not know. A program that
// sets all peers anew (wg setconf) means no change of it.
type ours struct {
	name       string
	extensions Extensions
	macs       *[]MAC // nil: any

	transport    Transport
	endpoints    *[]netip.AddrPort // if there are several
	endpointsTCP *[]netip.AddrPort
}

// localIdentity is what follows from the private key.
type localIdentity struct {
	*crypto.Identity
	cookies *crypto.CookieChecker
}

// lane is one queue and one socket, and what their two goroutines own.
type lane struct {
	tunnel *Tunnel
	number int
	queue  Queue

	sealer *sealer                                    // of who has what the queue gave
	answer func(first, rest [][]byte, partial []bool) // outbound, for Look; a method value made per call would allocate

	in *receiver // of who reads the socket

	writing sync.Mutex // around queue.Write: a leaf
}

func newLane(t *Tunnel, number int, q Queue) *lane {
	l := &lane{tunnel: t, number: number, queue: q, sealer: newSealer()}
	l.answer = func(first, rest [][]byte, partial []bool) { l.outbound(first, rest, partial, t.now()) }
	l.in = &receiver{lane: l}
	return l
}

// New makes a Tunnel that is down and has no key, no peers and no goroutine.
func New(o Options) *Tunnel {
	t := &Tunnel{
		now: o.Now, wall: o.Wall, log: o.Log, listen: o.Listen,
		listenTCP: o.ListenTCP, dialTCP: o.Dial,
		handshakes: make(chan *queuedHandshake, handshakeQueueSize),
		pathMTU:    o.PathMTU,
		way:        o.Way,
		fits:       o.Fits,
		version:    extension.FitVersion(o.Version),
		missed:     o.Unanswered,
		carried:    o.Carried,
		refusals:   tokenBucket{interval: refusalInterval, burst: refusalBurst},
	}
	for i := range t.clues {
		t.clues[i].interval, t.clues[i].burst = clueInterval, 1
	}
	t.schedule.wake = make(chan struct{}, 1)
	t.initiations.wake = make(chan struct{}, 1)
	if t.now == nil {
		start := time.Now()
		t.now = func() time.Duration { return time.Since(start) }
	}
	if t.wall == nil {
		t.wall = time.Now
	}
	if t.carried == nil {
		t.carried = func(crypto.PublicKey, Transport) {}
	}
	if t.missed == nil {
		t.missed = func(crypto.PublicKey) {}
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if o.Ethernet {
		t.lan = newLAN(t)
	}
	t.trusted.Store(true)
	t.mtu.Store(int64(o.MTU))
	t.binding.Store(newBinding(nil))
	for i, q := range o.Queues {
		t.lanes = append(t.lanes, newLane(t, i, q))
	}
	return t
}

// Run moves packets until ctx ends (nil) or a queue fails, as when the device
// was deleted from outside (that error). When it returns, all goroutines have
// ended, sockets and queues are closed, keys are gone. A Tunnel runs once.
func (t *Tunnel) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, l := range t.lanes {
		running.Go(func() { cancel(l.runOutbound()) })
		running.Go(func() { cancel(l.runSockets(ctx)) })
	}
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		running.Go(func() { t.runHandshakes(ctx) })
	}
	running.Go(func() { t.runTimers(ctx) })

	<-ctx.Done()
	t.close()
	running.Wait()
	t.streams.running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// close is Run's end.
func (t *Tunnel) close() {
	// First of all what somebody who holds a lock may be waiting for, but for
	// what needs the sockets.
	t.sayGoodbyes()
	for _, s := range t.binding.Load().sockets {
		s.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.setDown()
	for _, l := range t.lanes {
		l.queue.Close()
	}
}

// Format keeps the keys that a Tunnel holds out of whatever is printed.
func (t *Tunnel) Format(f fmt.State, _ rune) { io.WriteString(f, "tunnel") }

// SetMTU follows the device's MTU, in bytes.
func (t *Tunnel) SetMTU(mtu int) { t.mtu.Store(int64(mtu)) }

// SetUp opens the sockets, or closes them and ends all sessions, as the kernel
// does when the interface is set up or down. Setting what is so already is no
// error. It may be called before Run.
func (t *Tunnel) SetUp(up bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed && up:
		return errors.New("tunnel has ended")
	case up == t.isUp():
		return nil
	case !up:
		t.sayGoodbyes()
		t.setDown()
		return nil
	}
	if err := t.bind(t.port); err != nil {
		return err
	}
	t.streams.setUp()
	if err := t.listenStreams(t.portTCP); err != nil {
		t.setDown()
		return err
	}
	t.tellOffloads()
	now := t.now()
	for _, p := range t.peers.all() {
		p.begin(now)
	}
	return nil
}

// setDown closes the sockets and forgets every session. mu is held.
func (t *Tunnel) setDown() {
	t.rebind(nil)
	t.streams.setDown()
	for _, p := range t.peers.all() {
		p.stop(false)
	}
	if t.lan != nil {
		t.lan.table.Flush(&t.lan.local.Port)
	}
}

func (t *Tunnel) isUp() bool { return t.binding.Load().sockets != nil }
