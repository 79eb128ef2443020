package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"stunnel/cmd/internal/control"
	"stunnel/crypto"
	"stunnel/crypto/chachapoly"
	"stunnel/device"
	"stunnel/device/netconf"
	"stunnel/transport"
)

// Why a tunnel ends, when nothing went wrong.
var (
	errSignalled = errors.New("ended by a signal")
	errHungUp    = errors.New("ended with its terminal") // SIGHUP: nobody has asked for the end
	errAsked     = errors.New("ended through the control socket")
	errUnlinked  = errors.New("the control socket's file was removed")

	// errHurry ends the hooks of the way down, for which a second signal does not wait. All else is still taken back.
	errHurry = errors.New("stopped by a second signal")
)

// running is a tunnel at work: the device, the engine behind it and the control socket in front. It is what up and
// userspace have in common.
type running struct {
	device  *device.TUN
	engine  *transport.Tunnel
	log     *slog.Logger
	network *network
	advice  tcpAdvice
	manner
	narrow sync.Once                // says that bursts could not be limited
	lost   sync.Map                 // names of offloads whose loss was told
	full   atomic.Int64             // when it was told last that no connection can be taken, in Unix seconds
	mark   atomic.Uint32            // of its own packets, if it may not change; 0: it may
	names  atomic.Pointer[names]    // of endpoints; nil: there are none
	spoke  atomic.Pointer[spokeTCP] // peers that spoke TCP; nil: nobody keeps them
	upped  chan struct{}            // tells that the link was set up, perhaps again; one at most waits in it

	// over ends when the tunnel has a reason to end; context.Cause tells it. Everything still runs then, until close.
	over context.Context
	end  context.CancelCauseFunc

	halt       context.CancelFunc // of the goroutines
	halted     <-chan struct{}    // closed by it
	fits       fits
	goroutines sync.WaitGroup
	leave      func() // closes the control socket
}

// manner is how a tunnel meets the machine.
type manner struct {
	offload bool       // at the sockets; the device has been told
	bridged bool       // the device is to be a port of a bridge
	address netip.Addr // of the sockets; the zero Addr: any
	bound   string     // the interface by which alone the sockets send and receive; "": any
}

// Both must mean the same room in front of a frame.
var (
	_ [device.FrameRoom - transport.FrameRoom]struct{}
	_ [transport.FrameRoom - device.FrameRoom]struct{}
)

// start starts the engine and serves the control socket. The tunnel owns tun and l from now on. It is up when the
// link is up, as a WireGuard interface of the kernel. routes knows the ways to peers, for as long as the tunnel runs.
func start(tun *device.TUN, routes *netconf.Handle, l *net.UnixListener, log *slog.Logger, m manner) *running {
	routes.BindWays(m.address, m.bound)
	t := &running{device: tun, log: log, manner: m, network: newNetwork(routes.FirstHop), fits: newFits(), upped: make(chan struct{}, 1)}
	t.over, t.end = context.WithCancelCause(context.Background())
	var ctx context.Context
	ctx, t.halt = context.WithCancel(context.Background())
	t.halted = ctx.Done()

	if chachapoly.Fault() != nil {
		log.Error("packets are not sealed as they should be on this machine; they are sealed right all the same", "aead", aeadInUse())
	}
	engineLog, writeLog := unhurried(log)
	t.advice.log = engineLog
	var queues []transport.Queue
	for _, q := range tun.Queues() {
		queues = append(queues, q)
	}
	t.engine = transport.New(transport.Options{
		Queues: queues, Listen: t.listen, ListenTCP: t.listenTCP, Dial: t.dial, Ethernet: tun.Ethernet(), MTU: tun.MTU(), PathMTU: routes.PathMTU, Way: routes.Way,
		Version: version, Now: newBootClock().now, Log: engineLog, Unanswered: t.unanswered, Carried: t.carried, Fits: t.fits.tell,
	})

	// The first event tells the state as it is; only what follows is a change that may race with our own.
	events := tun.Events()
	t.follow(<-events)

	t.goroutines.Go(func() { writeLog(ctx) })
	t.goroutines.Go(func() {
		if err := t.engine.Run(ctx); err != nil {
			t.end(err)
		}
	})
	t.goroutines.Go(func() {
		for e := range events { // until device.Close
			t.follow(e)
		}
	})
	t.followNetwork(ctx)
	t.followRests(ctx)
	t.leave = t.serve(l)
	return t
}

// serve serves the control socket, and ends the tunnel when the socket's file is removed: nobody would find it any more.
func (t *running) serve(l *net.UnixListener) (leave func()) {
	serving, mute := context.WithCancel(context.Background())
	watching, unwatch := context.WithCancel(context.Background())
	var served, watched sync.WaitGroup
	served.Go(func() {
		if err := control.Serve(serving, l, t, func() { t.end(errAsked) }); err != nil {
			t.end(err)
		}
	})
	watched.Go(func() {
		if err := control.Removed(watching, l); err == nil {
			t.end(errUnlinked)
		} else if watching.Err() == nil {
			t.log.Error("the control socket's file is not watched", "error", err)
		}
	})
	return func() {
		// Who watches is gone before the listener is closed, since both have a say in whether that removes the file.
		unwatch()
		watched.Wait()
		mute()
		served.Wait()
	}
}

// unanswered hears that a peer does not answer.
func (t *running) unanswered(peer crypto.PublicKey) {
	if n := t.names.Load(); n != nil {
		n.unanswered(peer)
	}
	t.advice.unanswered(peer, time.Now())
}

// carried hears that a peer's messages go over another transport now. Who is told waits for no disk.
func (t *running) carried(peer crypto.PublicKey, by transport.Transport) {
	s := t.spoke.Load()
	if by != transport.TransportTCP || s == nil || s.has(peer) {
		return
	}
	t.goroutines.Go(func() {
		if err := s.add(peer); err != nil {
			t.log.Debug("that a peer speaks TCP is not kept for another time", "error", err)
		}
	})
}

// fixMark gives the tunnel's own packets a mark for as long as it runs: rules, and perhaps a kill switch, go by it.
func (t *running) fixMark(mark uint32) error {
	t.mark.Store(mark)
	if err := t.engine.Configure(transport.Config{FwMark: &mark}); err != nil {
		return err
	}
	s := t.engine.Status()
	t.network.changed(&s) // of packets with another mark the ways are others: that is no news
	return nil
}

// Configure and Status make of t what control.Serve wants.
func (t *running) Configure(c transport.Config) error {
	if mark := t.mark.Load(); mark != 0 && c.FwMark != nil && *c.FwMark != mark {
		if *c.FwMark != 0 { // wg syncconf takes away what is not in the file, and can't mean it
			t.log.Warn("the mark stays as it is, since rules of this tunnel go by it; FwMark in the file, with down and up, changes it", "mark", fmt.Sprintf("0x%x", mark))
		}
		c.FwMark = &mark
	}
	if c.PrivateKey != nil && !c.PrivateKey.IsZero() {
		for _, p := range t.engine.Status().Peers {
			if p.PublicKey == c.PrivateKey.Public() {
				t.warnOfOwnKey(p.Name, p.PublicKey)
			}
		}
	}
	if err := t.engine.Configure(c); err != nil {
		return err
	}
	t.network.meet(&c, func() uint32 { return t.engine.Status().FwMark })
	return nil
}

func (t *running) Status() transport.Status { return t.engine.Status() }

// warnOfOwnKey: a peer with our own key has no place in the engine, and leaves it without a word.
func (t *running) warnOfOwnKey(name string, own crypto.PublicKey) {
	if name == "" {
		name = own.String()
	}
	t.log.Warn("this peer has our own public key: it is this host itself, and left out", "peer", name)
}

// follow does what the kernel does for its own WireGuard when the link changes.
func (t *running) follow(e device.Event) {
	if e.MTU > 0 {
		t.engine.SetMTU(e.MTU)
		t.limitBursts(e.MTU)
	}
	switch {
	case e.Gone:
		t.end(device.ErrGone)
	case e.Up:
		if err := t.engine.SetUp(true); err != nil {
			t.log.Error("cannot open the UDP port", "error", err)
		}
		select {
		case t.upped <- struct{}{}:
		default: // it is told already
		}
	case e.Down:
		// Closing sockets can't fail in a way that matters.
		_ = t.engine.SetUp(false)
	}
}

// close ends everything and returns when it has ended: the control socket is gone, and so is an interface that we made.
func (t *running) close() error {
	err := t.stop()
	t.leave()
	return err
}

// stop is close but for the control socket, which goes on to tell that we are still there.
func (t *running) stop() error {
	t.halt()
	err := t.device.Close()
	t.goroutines.Wait()
	t.end(errAsked)
	return err
}

// limitBursts makes what the stack gives at once fit one send, sealed. It works without, with more sends. What a bridge
// forwards was made for other interfaces' bounds: whatever is larger than ours the kernel would cut up before we have it,
// which costs far more than a second send.
func (t *running) limitBursts(mtu int) {
	if t.bridged {
		return
	}
	err := t.device.LimitBursts(burstLength(mtu, t.device.Ethernet()), mtu)
	if err == nil || errors.Is(err, device.ErrGone) || errors.Is(err, os.ErrClosed) {
		return
	}
	t.narrow.Do(func() { t.log.Info("gso_max_size stays as it is, which costs some speed", "error", err) })
}

// burstLength is how many packets of the MTU one send takes, sealed. Frames have an Ethernet header and ours besides. One of an
// ordinary size inside an ordinary network outside is then too long for one message; with larger ones the network outside is
// taken to be larger too.
func burstLength(mtu int, ethernet bool) int {
	if !ethernet {
		return transport.TrainLength(mtu)
	}
	const headers, usual, outside = transport.FrameRoom + 14, 1500, 60 // outside: IPv4, UDP, the message's own
	length := mtu + headers
	if mtu > usual || length <= usual-outside {
		return transport.TrainLength(length)
	}
	const parts = 2
	return max(1, transport.TrainLength(length/parts+4)/parts)
}

// lanes is how many to have: wanted, or if that is 0 what fits the machine. A lane keeps about two cores busy, one with
// what goes out and one with what comes in, and programs need some of them too.
func lanes(wanted int) int {
	if wanted > 0 {
		return wanted
	}
	return defaultLanes(runtime.GOMAXPROCS(0))
}

func defaultLanes(cores int) int { return max(1, min(cores/2, 8)) }

// tellLanes says why there are fewer than wanted, and what is not as it should be with several.
func (t *running) tellLanes(wanted int) {
	switch got := len(t.device.Queues()); {
	case got < wanted:
		t.log.Warn("fewer lanes than wanted: the interface was made by somebody else, with one queue", "lanes", got, "wanted", wanted)
	case got > 1 && !t.device.Steered():
		t.log.Info("flows to one peer share a lane: the kernel takes no program that spreads them", "lanes", got)
	}
}
