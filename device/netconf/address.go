package netconf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddAddress gives the interface an address with its prefix length; the host bits of p are the address. An address that is
// there already, with that very prefix length, is left and is not ours: its Undo does nothing.
// Errors wrap ENODEV for an unknown interface, EEXIST for an IPv6 address that is there with another prefix length.
func (h *Handle) AddAddress(name string, p netip.Prefix) (Undo, error) {
	if !p.IsValid() {
		return nil, fmt.Errorf("address %v: %w", p, unix.EINVAL)
	}
	l, err := h.link(name)
	if err != nil {
		return nil, err
	}
	index := l.Attrs().Index
	address := newAddress(p)
	err = h.nl.AddrAdd(numbered(index), address)
	switch {
	case errors.Is(err, unix.EEXIST):
		return h.foundAddress(index, name, p)
	case errors.Is(err, unix.EACCES) && p.Addr().Is6():
		return nil, fmt.Errorf("address %s on %s: IPv6 is switched off (sysctl net.ipv6.conf.%s.disable_ipv6): %w", p, name, name, err)
	case errors.Is(err, unix.EOPNOTSUPP) && p.Addr().Is6():
		return nil, fmt.Errorf("address %s on %s: this kernel runs without IPv6: %w", p, name, err)
	case errors.Is(err, unix.EINVAL) && p.Addr().Is6() && l.Attrs().MTU < minIPv6MTU:
		return nil, fmt.Errorf("address %s on %s: IPv6 needs an MTU of %d, it has %d: %w", p, name, minIPv6MTU, l.Attrs().MTU, err)
	case err != nil:
		return nil, fmt.Errorf("address %s on %s: %w", p, name, err)
	}
	return func() error {
		if err := tolerateGone(h.nl.AddrDel(numbered(index), newAddress(p))); err != nil {
			return fmt.Errorf("remove address %s from %s: %w", p, name, err)
		}
		return nil
	}, nil
}

// foundAddress decides about an address that the kernel says is there already.
func (h *Handle) foundAddress(index int, name string, p netip.Prefix) (Undo, error) {
	there, err := h.nl.AddrList(numbered(index), family(p.Addr()))
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("addresses of %s: %w", name, err)
	}
	for _, a := range there {
		q, ok := prefixOf(a.IPNet)
		if ok && q.Addr() == p.Addr() && q.Bits() != p.Bits() {
			return nil, fmt.Errorf("address %s on %s: it is there already as %s: %w", p, name, q, unix.EEXIST)
		}
	}
	return nothing, nil
}

// newAddress is p for the kernel, without the broadcast address that the library would make up: a tunnel has none.
func newAddress(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is4() {
		a.Broadcast = net.IPv4zero
	}
	return a
}

// keptAddresses remembers an interface's permanent IPv6 addresses. The kernel drops them all when the link goes down or the
// MTU falls below 1280, also those that were there while it was down at first: restore brings back what is missing.
type keptAddresses struct {
	h     *Handle
	index int
	addrs []netlink.Addr
}

func (h *Handle) keepIPv6(index int) keptAddresses {
	k := keptAddresses{h: h, index: index}
	there, err := h.nl.AddrList(numbered(index), unix.AF_INET6)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return k // no IPv6 here: nothing to keep
	}
	for _, a := range there {
		if a.Flags&unix.IFA_F_PERMANENT != 0 {
			const chosen = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MCAUTOJOIN
			k.addrs = append(k.addrs, netlink.Addr{IPNet: a.IPNet, Peer: a.Peer, Scope: a.Scope, Flags: a.Flags & chosen})
		}
	}
	return k
}

func (k keptAddresses) restore() error {
	var errs []error
	for _, a := range k.addrs {
		err := k.h.nl.AddrAdd(numbered(k.index), &a)
		if err != nil && !errors.Is(err, unix.EEXIST) && tolerateGone(err) != nil {
			errs = append(errs, fmt.Errorf("bring back address %s: %w", a.IPNet, err))
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
