// Package device moves trains of packets between a program and a Linux TUN
// interface, or of frames between it and a TAP.
//
// It follows Documentation/networking/tuntap.rst of the kernel and, for
// offloads, the struct virtio_net_hdr of the virtio 1.2 specification, section
// 5.1.6. It knows no keys and no peers, sets no addresses and no routes
// (device/netconf does) and starts one goroutine, the one behind
// [TUN.Events].
//
// Most readers need two calls: [Open] makes an interface or attaches to one,
// and [Queue.Read] with its mirror image [Queue.Write] carries the packets:
//
//	tun, err := device.Open(device.Options{Name: "wg0", MTU: 1420})
//	first, rest, partial, err := tun.Queues()[0].Read()
package device

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrGone says that the interface was deleted from outside. An interface that
// was moved to another network namespace is not gone: its queues go on.
var ErrGone = errors.New("device: interface is gone")

// Options say which interface Open is to make.
type Options struct {
	// Name is the interface's name, at most 15 bytes. Empty or with one %d
	// the kernel chooses.
	Name string
	// Ethernet makes a TAP, whose packets are Ethernet frames.
	Ethernet bool
	// MAC is the address given to a TAP that Open makes; nil leaves the kernel's,
	// a random one. One that was there before keeps its own.
	MAC net.HardwareAddr
	// MTU is given to an interface that Open makes; 0 leaves the kernel's
	// 1500. An interface that was there before keeps its own.
	MTU int
	// Queues is how many queues are wanted, for as many readers; 0 is 1. An
	// interface that was there before and was made without IFF_MULTI_QUEUE has
	// one all the same.
	Queues int
	// Offload lets the kernel hand over and take packets of up to 64 KiB, which
	// the queues split and merge, and leave checksums to us. What the kernel
	// doesn't know of that is done without; see [TUN.Features].
	Offload bool

	setOffload func(fd, flags int) error // TUNSETOFFLOAD, where tests put another; nil for the real one
}

// TUN is an interface of the kernel's tun driver, TUN or TAP, and this program's
// hold on it. All methods may be called by many goroutines at a time.
type TUN struct {
	// constant
	queues   []*Queue
	ethernet bool // it is a TAP
	existed  bool
	steered  bool // by a program of ours
	virtio   bool
	wanted   bool // Options.Offload
	agreed   offloads
	before   settings                           // what an interface that existed gets back on Close
	enter    func(ns int, f func() error) error // inNamespace; tests have one without rights

	leaving sync.Mutex // held while a queue is closed; the outermost lock
	open    int        // queues; guarded by leaving

	mu     sync.Mutex
	last   linkState   // newest known name, index, MTU
	events chan Event  // nil until Events is called
	watch  *linkSocket // what the watching goroutine waits on, nil for nothing
	done   chan struct{}
	closed bool

	burstsFound *bursts // before LimitBursts; nil: it has changed nothing
	burstsSet   bursts

	handed bool // another process may use the interface after us
}

// Open makes a TUN interface (a TAP with Options.Ethernet), or attaches to one of
// that name that exists and that nobody holds. One that it made disappears with Close; one that existed
// (a persistent one, as by "ip tuntap add") stays as it was found. To attach
// to one needs no right but to own it; to make one needs CAP_NET_ADMIN.
//
// Errors wrap the errno and say what is missing: no /dev/net/tun, no right,
// held by another process, not a TUN where one is needed.
func Open(o Options) (*TUN, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	a, err := attach(o)
	if err != nil {
		return nil, err
	}
	t, err := newTUN(a)
	if err != nil {
		a.close()
		return nil, err
	}
	if t.existed {
		return t, nil
	}
	if err := t.dress(o); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// dress gives an interface that we made what it is to have from the beginning.
func (t *TUN) dress(o Options) error {
	if o.MTU != 0 {
		if err := t.setMTU(o.MTU); err != nil {
			return fmt.Errorf("device: %s: set MTU %d: %w", t.Name(), o.MTU, err)
		}
	}
	if o.MAC != nil && t.ethernet {
		var err error
		if ctl := t.control(func(fd uintptr) { err = setMAC(int(fd), o.MAC) }); ctl != nil || err != nil {
			return fmt.Errorf("device: %s: set address %s: %w", t.Name(), o.MAC, errors.Join(ctl, err))
		}
	}
	return nil
}

// FromFD takes over a descriptor of a TUN queue that another process opened
// and attached (WG_TUN_FD). Of the options only Ethernet counts, and Offload as
// far as that process has left a choice. On success the descriptor belongs to the TUN; on
// error it is still the caller's.
func FromFD(fd int, o Options) (*TUN, error) {
	a, err := adopt(fd, o)
	if err != nil {
		return nil, err
	}
	return newTUN(a)
}

// newTUN owns a's descriptors when it succeeds.
func newTUN(a attachment) (*TUN, error) {
	for _, fd := range a.fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, fmt.Errorf("device: %s: %w", a.name, err)
		}
	}
	t := &TUN{
		ethernet: a.ethernet,
		existed:  a.existed,
		virtio:   a.virtio,
		wanted:   a.wanted,
		agreed:   a.agreed,
		before:   a.before,
		enter:    inNamespace,
		last:     linkState{name: a.name},
		done:     make(chan struct{}),
	}
	t.steered = len(a.fds) > 1 && steer(a.fds[0], a.ethernet) == nil
	for _, fd := range a.fds {
		// The poller must see the descriptor only now: before TUNSETIFF the
		// kernel says that it can't be waited for.
		q := newQueue(os.NewFile(uintptr(fd), clonePath), a.virtio, a.wanted, a.agreed)
		q.ethernet, q.leave = a.ethernet, t.leave
		t.queues = append(t.queues, q)
		t.open++
	}
	t.refresh()
	return t, nil
}

// Queues are the interface's queues, at least one. Each is read by one
// goroutine.
func (t *TUN) Queues() []*Queue { return t.queues }

// Steered says that each of several queues has its own flows, whatever is
// written to the others.
func (t *TUN) Steered() bool { return t.steered }

// Ethernet says that it is a TAP, whose packets are frames.
func (t *TUN) Ethernet() bool { return t.ethernet }

// Existed says that the interface was there before Open, or was handed over as
// a descriptor: it isn't ours to configure without being asked.
func (t *TUN) Existed() bool { return t.existed }

// File is the first queue's open file, for handing the interface over to
// another process (os/exec's ExtraFiles and FromFD there). Its Fd method makes
// the file blocking, in this process too: who calls it reads no more here.
func (t *TUN) File() *os.File {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handed = true
	return t.queues[0].file
}

// Features says what the kernel and the queues leave to each other: "vnet_hdr
// csum tso4 tso6 uso4 uso6", less on older kernels, or "none".
func (t *TUN) Features() string {
	if !t.virtio {
		return "none"
	}
	return strings.TrimSpace("vnet_hdr " + t.agreed.String())
}

// Name is the interface's present name; the last known one when it is gone.
func (t *TUN) Name() string {
	if name, err := t.currentName(); err == nil {
		return name
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last.name
}

// Index is the interface's index in the namespace where it is now, 0 if that
// can't be found out.
func (t *TUN) Index() int {
	return t.refresh().index
}

// MTU is the interface's present MTU in bytes; the last known one when the
// interface is gone or in a namespace that we may not enter, 0 if it was never
// known.
func (t *TUN) MTU() int {
	return t.refresh().mtu
}

// Drops counts the packets that could not be delivered to the interface, by
// reason. Only reasons that happened are there.
func (t *TUN) Drops() map[string]uint64 {
	drops := make(map[string]uint64)
	for _, q := range t.queues {
		q.drops.addTo(drops)
	}
	return drops
}

// Close ends all reads, writes and the events, and lets go of the interface.
func (t *TUN) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	close(t.done)
	if t.watch != nil {
		t.watch.close()
	}
	t.mu.Unlock()
	var errs []error
	for _, q := range t.queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// leave is called before a queue is closed, and what it returns when it is. The
// last one of an interface that was there before leaves it as it was.
func (t *TUN) leave() (afterClose func()) {
	t.leaving.Lock()
	restored := func() {}
	if t.open--; t.open == 0 && t.existed {
		restored = t.restore()
	}
	return func() {
		restored()
		t.leaving.Unlock()
	}
}

// control calls f with the descriptor of a queue that is open.
func (t *TUN) control(f func(fd uintptr)) error {
	var err error
	for _, q := range t.queues {
		if err = q.raw.Control(f); err == nil {
			return nil
		}
	}
	return err
}

// refresh asks the kernel for the interface's state, if it can be asked, and
// returns the newest state known.
func (t *TUN) refresh() linkState {
	s, state, err := t.locate()
	if err == nil {
		s.close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.last = state
	}
	return t.last
}
