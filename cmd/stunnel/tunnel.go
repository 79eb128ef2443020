package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/control"
	"stunnel/device"
	"stunnel/transport"
	"stunnel/transport/socket"
)

// Why a tunnel ends, when nothing went wrong.
var (
	errSignalled = errors.New("ended by a signal")
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
	offload bool      // at the sockets; the device has been told
	narrow  sync.Once // says that bursts could not be limited
	lost    sync.Map  // names of offloads whose loss was told

	// over ends when the tunnel has a reason to end; context.Cause tells it. Everything still runs then, until close.
	over context.Context
	end  context.CancelCauseFunc

	halt       context.CancelFunc // of the goroutines
	goroutines sync.WaitGroup
}

// start starts the engine and serves the control socket. The tunnel owns tun and l from now on. It is up when the
// link is up, as a WireGuard interface of the kernel. Without offload the sockets move every datagram singly.
func start(tun *device.TUN, l *net.UnixListener, log *slog.Logger, offload bool) *running {
	t := &running{device: tun, log: log, offload: offload}
	t.over, t.end = context.WithCancelCause(context.Background())
	var ctx context.Context
	ctx, t.halt = context.WithCancel(context.Background())

	relay := newRelay(log.Handler())
	var queues []transport.Queue
	for _, q := range tun.Queues() {
		queues = append(queues, q)
	}
	t.engine = transport.New(transport.Options{Queues: queues, Listen: t.listen, MTU: tun.MTU(), Now: newBootClock().now, Log: slog.New(relay)})

	// The first event tells the state as it is; only what follows is a change that may race with our own.
	events := tun.Events()
	t.follow(<-events)

	t.goroutines.Go(func() { relay.run(ctx) })
	t.goroutines.Go(func() {
		if err := t.engine.Run(ctx); err != nil {
			t.end(err)
		}
	})
	t.goroutines.Go(func() {
		if err := control.Serve(ctx, l, t.engine, func() { t.end(errAsked) }); err != nil {
			t.end(err)
		}
	})
	t.goroutines.Go(func() {
		for e := range events { // until device.Close
			t.follow(e)
		}
	})
	return t
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
	case e.Down:
		// Closing sockets can't fail in a way that matters.
		_ = t.engine.SetUp(false)
	}
}

// close ends everything and returns when it has ended: the control socket is gone, and so is an interface that we made.
func (t *running) close() error {
	t.halt()
	err := t.device.Close()
	t.goroutines.Wait()
	t.end(errAsked)
	return err
}

// limitBursts makes what the stack gives at once fit one send, sealed. It works without, with more sends.
func (t *running) limitBursts(mtu int) {
	err := t.device.LimitBursts(transport.TrainLength(mtu), mtu)
	if err == nil || errors.Is(err, device.ErrGone) || errors.Is(err, os.ErrClosed) {
		return
	}
	t.narrow.Do(func() { t.log.Info("gso_max_size stays as it is, which costs some speed", "error", err) })
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

// listen is socket.Listen as the engine wants it.
func (t *running) listen(port uint16, n int, mark uint32) ([]transport.Socket, error) {
	open, err := socket.Listen(port, n, socket.Options{Mark: mark, NoOffload: !t.offload, Lost: t.lose})
	if err != nil {
		return nil, err
	}
	sockets := make([]transport.Socket, len(open))
	for i, s := range open {
		sockets[i] = s
	}
	return sockets, nil
}

// lose says once that an offload of the sockets was given up.
func (t *running) lose(offload, why string) {
	if _, told := t.lost.LoadOrStore(offload, true); !told {
		t.log.Warn("an offload is given up", "offload", offload, "why", why)
	}
}

// openHint says what to do about a device that could not be opened or configured.
func openHint(err error, command string) error {
	switch {
	case len(advice(err)) > 0, !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return err
	case os.Geteuid() != 0:
		return withHint(err, "try it as root: sudo "+command)
	}
	return withHint(err, "this root lacks the right CAP_NET_ADMIN; a container gets it by --cap-add NET_ADMIN")
}

// runningHint says where the tunnel is that is in the way.
func runningHint(err error, name string) error {
	c, dialErr := control.Dial(name)
	if dialErr != nil {
		return err
	}
	defer c.Close()
	pid := c.PID()
	if elsewhere(pid) {
		return withHint(err, fmt.Sprintf("it runs in another network namespace, in the process %d", pid))
	}
	where := strings.TrimSpace(programOf(pid))
	return withHint(err, strings.TrimSpace(fmt.Sprintf("stunnel show %s shows it, stunnel down %s ends it %s", name, name, where)))
}
