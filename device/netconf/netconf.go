// Package netconf makes the changes to a machine that a tunnel needs, over rtnetlink (rtnetlink(7)), nf_tables and sysctls, in
// steps that can be taken back, by another process too.
//
// A [Step] looks before it acts, and takes back what it really did: what was there before is left alone on the way in and on
// the way out. Most readers need two calls: [Journal.Do] takes a step such as an [Address], and [Journal.Undo] goes the whole
// way back. [Handle.OpenJournal] finds what a process has left that was killed.
//
// No other program is called, but resolvconf(8) where a machine's DNS is its business. The package knows no keys and no peers.
package netconf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Handle is sockets to rtnetlink in one network namespace: the one in which New was called, wherever its user goes later.
// Safe for concurrent use.
type Handle struct {
	nl  *netlink.Handle // constant
	way *netlink.Handle // constant; for the route to one address, which for IPv6 strict checking refuses as it is asked here

	boundAddress netip.Addr // constant once used; see BindWays
	boundDevice  string     // constant once used

	netns     uint64   // constant; of the network namespace, see namespaceID
	namespace *os.File // constant; the network namespace itself

	mu    sync.Mutex
	notes []string // guarded by mu
}

// note keeps what the user should know though it is no error: what somebody else has changed, and so was left.
func (h *Handle) note(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, text)
}

// Notes are what steps had to say since the last call.
func (h *Handle) Notes() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	notes := h.notes
	h.notes = nil
	return notes
}

// New opens rtnetlink in the network namespace of the calling thread.
func New() (*Handle, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	// With strict checking the kernel itself picks out the routes of one interface: on a router with a million routes that
	// is the difference between seconds and nothing. Kernels before 4.20 lack it, and then all are read and sifted here.
	_ = nl.SetStrictCheck(true)
	way, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		nl.Close()
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	netns, err := namespaceID()
	if err != nil {
		nl.Close()
		way.Close()
		return nil, fmt.Errorf("which network namespace is this: %w", err)
	}
	namespace, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		nl.Close()
		way.Close()
		return nil, fmt.Errorf("which network namespace is this: %w", err)
	}
	return &Handle{nl: nl, way: way, netns: netns, namespace: namespace}, nil
}

// Close closes the sockets. Steps can't be taken nor taken back with this Handle any more.
func (h *Handle) Close() {
	h.nl.Close()
	h.way.Close()
	h.namespace.Close()
}

// link finds an interface by name.
func (h *Handle) link(name string) (netlink.Link, error) {
	l, err := h.nl.LinkByName(name)
	var absent netlink.LinkNotFoundError
	switch {
	case errors.As(err, &absent):
		return nil, fmt.Errorf("interface %s: %w", name, unix.ENODEV)
	case err != nil:
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return l, nil
}

// numbered is a link of which only the index is known. Undos go by index: a name may have passed to somebody else's interface.
func numbered(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// nameOf says an interface's name for an error text, or its index if it has none any more.
func (h *Handle) nameOf(index int) string {
	if l, err := h.nl.LinkByIndex(index); err == nil {
		return l.Attrs().Name
	}
	return fmt.Sprintf("interface %d", index)
}

// tolerateGone turns the errors that say "it is not there any more" into success: an undo wants nothing else.
func tolerateGone(err error) error {
	for _, gone := range []unix.Errno{unix.ENODEV, unix.ESRCH, unix.EADDRNOTAVAIL, unix.ENXIO} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) {
		return nil
	}
	return err
}
