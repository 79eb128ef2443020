package netconf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Address gives the interface an address with its prefix length; the host bits of Prefix are the address. One that is there
// already, with that very prefix length, is left and is not ours.
// Errors wrap ENODEV for an unknown interface, EEXIST for an IPv6 address that is there with another prefix length.
type Address struct {
	Interface string
	Prefix    netip.Prefix
	Index     int // of the interface, by Look
}

func (a *Address) String() string { return fmt.Sprintf("address %s", a.Prefix) }

func (a *Address) Look(h *Handle) (done bool, err error) {
	if !a.Prefix.IsValid() {
		return false, fmt.Errorf("address %v: %w", a.Prefix, unix.EINVAL)
	}
	l, err := h.link(a.Interface)
	if err != nil {
		return false, err
	}
	a.Index = l.Attrs().Index
	there, err := h.nl.AddrList(numbered(a.Index), family(a.Prefix.Addr()))
	switch {
	case errors.Is(err, netlink.ErrDumpInterrupted):
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return false, nil // Make will say it
	case err != nil:
		return false, fmt.Errorf("addresses of %s: %w", a.Interface, err)
	}
	for _, t := range there {
		q, ok := prefixOf(t.IPNet)
		switch {
		case !ok || q.Addr() != a.Prefix.Addr():
		case q.Bits() == a.Prefix.Bits():
			return true, nil
		case q.Addr().Is6(): // of IPv4 the kernel takes both
			return false, fmt.Errorf("address %s on %s: it is there already as %s: %w", a.Prefix, a.Interface, q, unix.EEXIST)
		}
	}
	return false, nil
}

func (a *Address) Make(h *Handle) error {
	err := h.nl.AddrAdd(numbered(a.Index), newAddress(a.Prefix))
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("address %s on %s", a.Prefix, a.Interface)
	if a.Prefix.Addr().Is4() {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch {
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: IPv6 is switched off (sysctl net.ipv6.conf.%s.disable_ipv6): %w", what, a.Interface, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%s: this kernel runs without IPv6: %w", what, err)
	case errors.Is(err, unix.EINVAL):
		if l, lost := h.link(a.Interface); lost == nil && l.Attrs().MTU < minIPv6MTU {
			return fmt.Errorf("%s: IPv6 needs an MTU of %d, it has %d: %w", what, minIPv6MTU, l.Attrs().MTU, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (a *Address) Undo(h *Handle) error {
	if err := tolerateGone(h.nl.AddrDel(numbered(a.Index), newAddress(a.Prefix))); err != nil {
		return fmt.Errorf("remove address %s from %s: %w", a.Prefix, a.Interface, err)
	}
	return nil
}

// newAddress is p for the kernel, without the broadcast address that the library would make up: a tunnel has none.
func newAddress(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is4() {
		a.Broadcast = net.IPv4zero
	}
	return a
}

// KeptAddress is a permanent IPv6 address of an interface. The kernel drops them all when the link goes down or the MTU falls
// below 1280, also those that were there while it was down at first: restore brings back what is missing.
type KeptAddress struct {
	Prefix netip.Prefix
	Peer   netip.Prefix `json:",omitzero"`
	Scope  int
	Flags  int
}

func (h *Handle) keepIPv6(index int) (kept []KeptAddress) {
	there, err := h.nl.AddrList(numbered(index), unix.AF_INET6)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil // no IPv6 here: nothing to keep
	}
	for _, a := range there {
		p, ok := prefixOf(a.IPNet)
		if !ok || a.Flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		peer, _ := prefixOf(a.Peer)
		const chosen = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MCAUTOJOIN
		kept = append(kept, KeptAddress{Prefix: p, Peer: peer, Scope: a.Scope, Flags: a.Flags & chosen})
	}
	return kept
}

func (h *Handle) restore(index int, kept []KeptAddress) error {
	var errs []error
	for _, k := range kept {
		a := &netlink.Addr{IPNet: ipNet(k.Prefix), Scope: k.Scope, Flags: k.Flags}
		if k.Peer.IsValid() {
			a.Peer = ipNet(k.Peer)
		}
		err := h.nl.AddrAdd(numbered(index), a)
		if err != nil && !errors.Is(err, unix.EEXIST) && tolerateGone(err) != nil {
			errs = append(errs, fmt.Errorf("bring back address %s: %w", k.Prefix, err))
		}
	}
	return errors.Join(errs...)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf is n as a prefix, IPv4 in its short form. Not ok for nil and for masks that are no prefix.
func prefixOf(n *net.IPNet) (p netip.Prefix, ok bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if !ok || size == 0 {
		return netip.Prefix{}, false
	}
	if size == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits), true
}
