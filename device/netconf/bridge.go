package netconf

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bridge makes a Linux bridge and sets it up, where there is none of that name, for as long as at least one tunnel needs it.
// One that somebody else has made is not ours. Ours goes with the last tunnel, unless it has got ports or addresses of
// others by then: then it is left, and [Handle.Notes] says so.
type Bridge struct {
	Name string
	For  string // the interface that needs it
}

// bridgeAlias marks the bridges that we have made: one that was made anew under the same name is not ours.
const bridgeAlias = "made by stunnel"

func (b *Bridge) String() string { return "bridge " + b.Name }

// thing is the name under which it is shared.
func (b *Bridge) thing() string { return "bridge." + b.Name }

func (b *Bridge) Look(h *Handle) (done bool, err error) {
	l, err := h.link(b.Name)
	switch {
	case errors.Is(err, unix.ENODEV):
		return false, nil
	case err != nil:
		return false, err
	case l.Type() != "bridge":
		return false, fmt.Errorf("%s is no bridge, but an interface of kind %s: %w", b.Name, l.Type(), unix.EEXIST)
	}
	shared, err := h.claimed(b.thing())
	return !shared, err
}

func (b *Bridge) Make(h *Handle) error {
	if _, err := h.claim(b.thing(), b.For, func() (string, error) { return "", nil }); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = b.Name
	err := h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attributes})
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil // another tunnel's, or somebody was quicker: then it is not marked
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("bridge %s: this kernel knows no bridges (modprobe bridge): %w", b.Name, err)
	case err != nil:
		return fmt.Errorf("bridge %s: %w", b.Name, err)
	}
	l, err := h.link(b.Name)
	if err != nil {
		return err
	}
	if err := h.nl.LinkSetAlias(l, bridgeAlias); err != nil {
		return fmt.Errorf("mark bridge %s: %w", b.Name, err)
	}
	if err := h.nl.LinkSetUp(l); err != nil {
		return fmt.Errorf("set bridge %s up: %w", b.Name, err)
	}
	return nil
}

func (b *Bridge) Undo(h *Handle) error {
	return h.release(b.thing(), b.For, func(string) error { return b.remove(h) })
}

// remove removes the bridge, if it is ours and nobody else uses it. One that is not marked and not up is ours: we were
// interrupted right there.
func (b *Bridge) remove(h *Handle) error {
	l, err := h.link(b.Name)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	a := l.Attrs()
	unfinished := a.Alias == "" && a.Flags&net.FlagUp == 0
	if l.Type() != "bridge" || a.Alias != bridgeAlias && !unfinished {
		return nil
	}
	users, err := h.bridgeUsers(a.Index)
	if err != nil {
		return fmt.Errorf("who uses bridge %s: %w", b.Name, err)
	}
	if len(users) > 0 {
		h.note(fmt.Sprintf("bridge %s, which was made for %s, is left, since others use it: %s", b.Name, b.For, strings.Join(users, ", ")))
		return nil
	}
	if err := tolerateGone(h.nl.LinkDel(numbered(a.Index))); err != nil {
		return fmt.Errorf("remove bridge %s: %w", b.Name, err)
	}
	return nil
}

// bridgeUsers are the ports of a bridge and its addresses, but for those that the kernel gives every interface or has learned
// from a router.
func (h *Handle) bridgeUsers(index int) (users []string, err error) {
	ports, err := h.bridgePorts(index)
	if err != nil {
		return nil, err
	}
	for _, port := range ports {
		users = append(users, "port "+port)
	}
	addresses, err := h.nl.AddrList(numbered(index), unix.AF_UNSPEC)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	for _, a := range addresses {
		p, ok := prefixOf(a.IPNet)
		if ok && (p.Addr().Is4() || a.Flags&unix.IFA_F_PERMANENT != 0 && !p.Addr().IsLinkLocalUnicast()) {
			users = append(users, "address "+p.String())
		}
	}
	return users, nil
}

// bridgePorts are the names of a bridge's ports, in order.
func (h *Handle) bridgePorts(index int) (names []string, err error) {
	links, err := h.nl.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	for _, l := range links {
		if a := l.Attrs(); a.MasterIndex == index {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// BridgePort makes an interface a port of a bridge. One that it is already is not ours. Errors wrap ENODEV, and EBUSY for a
// port of another bridge.
type BridgePort struct {
	Interface   string
	Bridge      string
	Index       int    // of the interface, by Look
	BridgeIndex int    // by Look
	BridgeMAC   string // by Look; "" if the bridge has ports, of which it takes the lowest address
}

func (p *BridgePort) String() string { return fmt.Sprintf("port of bridge %s", p.Bridge) }

func (p *BridgePort) Look(h *Handle) (done bool, err error) {
	l, err := h.link(p.Interface)
	if err != nil {
		return false, err
	}
	b, err := h.link(p.Bridge)
	if err != nil {
		return false, err
	}
	p.Index, p.BridgeIndex = l.Attrs().Index, b.Attrs().Index
	switch master := l.Attrs().MasterIndex; master {
	case p.BridgeIndex:
		return true, nil
	case 0:
	default:
		return false, fmt.Errorf("%s is a port of %s already: %w", p.Interface, h.nameOf(master), unix.EBUSY)
	}
	ports, err := h.bridgePorts(p.BridgeIndex)
	if len(ports) == 0 {
		p.BridgeMAC = b.Attrs().HardwareAddr.String()
	}
	return false, err
}

func (p *BridgePort) Make(h *Handle) error {
	if err := h.nl.LinkSetMasterByIndex(numbered(p.Index), p.BridgeIndex); err != nil {
		return fmt.Errorf("make %s a port of bridge %s: %w", p.Interface, p.Bridge, err)
	}
	return nil
}

func (p *BridgePort) Undo(h *Handle) error {
	l, err := h.nl.LinkByIndex(p.Index)
	if err == nil && l.Attrs().MasterIndex == p.BridgeIndex {
		err = h.nl.LinkSetNoMaster(numbered(p.Index))
	}
	if err := tolerateGone(err); err != nil {
		return fmt.Errorf("take %s out of bridge %s: %w", p.Interface, p.Bridge, err)
	}
	return p.restoreMAC(h)
}

// restoreMAC gives a bridge that had no ports, and has none again, back the address that it had: the kernel leaves it one of
// zeros.
func (p *BridgePort) restoreMAC(h *Handle) error {
	before, err := net.ParseMAC(p.BridgeMAC)
	if err != nil {
		return nil // it had ports
	}
	b, err := h.nl.LinkByIndex(p.BridgeIndex)
	if err != nil {
		return tolerateGone(err)
	}
	if len(b.Attrs().HardwareAddr) != 0 { // how the library tells zeros
		return nil
	}
	if err := tolerateGone(h.nl.LinkSetHardwareAddr(b, before)); err != nil {
		return fmt.Errorf("bring back address %s of bridge %s: %w", before, p.Bridge, err)
	}
	return nil
}

// BridgeMTU is the MTU, in bytes, of the bridge of that name; 0 if there is none.
func (h *Handle) BridgeMTU(name string) int {
	l, err := h.link(name)
	if err != nil || l.Type() != "bridge" {
		return 0
	}
	return l.Attrs().MTU
}
