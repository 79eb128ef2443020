package netconf

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// minIPv6MTU is the least MTU with which an interface may carry IPv6 (RFC 8200, section 5).
const minIPv6MTU = 1280

// SetMTU sets the interface's MTU in bytes. Its Undo brings back the one that was there, and IPv6 addresses that an MTU
// below 1280 has cost. Errors wrap ENODEV, and EINVAL or ERANGE for a size the interface can't have.
func (h *Handle) SetMTU(name string, mtu int) (Undo, error) {
	l, err := h.link(name)
	if err != nil {
		return nil, err
	}
	index, before := l.Attrs().Index, l.Attrs().MTU
	if before == mtu {
		return nothing, nil
	}
	kept := h.keepIPv6(index)
	if err := h.nl.LinkSetMTU(numbered(index), mtu); err != nil {
		return nil, fmt.Errorf("MTU %d on %s: %w", mtu, name, err)
	}
	return func() error {
		if err := tolerateGone(h.nl.LinkSetMTU(numbered(index), before)); err != nil {
			return fmt.Errorf("bring back MTU %d on %s: %w", before, name, err)
		}
		if mtu < minIPv6MTU && before >= minIPv6MTU {
			return kept.restore()
		}
		return nil
	}, nil
}

// SetUp sets the link up. Its Undo sets it down if it was down before, and brings back the IPv6 addresses it had then.
// Errors wrap ENODEV.
func (h *Handle) SetUp(name string) (Undo, error) {
	l, err := h.link(name)
	if err != nil {
		return nil, err
	}
	index := l.Attrs().Index
	if l.Attrs().Flags&net.FlagUp != 0 {
		return nothing, nil
	}
	kept := h.keepIPv6(index)
	if err := h.nl.LinkSetUp(numbered(index)); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	return func() error {
		if err := tolerateGone(h.nl.LinkSetDown(numbered(index))); err != nil {
			return fmt.Errorf("set %s down: %w", name, err)
		}
		// Our own addresses, when they were put on before this step, come back too: their undo has yet to run.
		return kept.restore()
	}, nil
}

// Exists says whether there is an interface of that name in the Handle's network namespace.
func (h *Handle) Exists(name string) (bool, error) {
	_, err := h.link(name)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, err
}

// IsUp says whether the interface of that name is administratively up. Errors wrap ENODEV.
func (h *Handle) IsUp(name string) (bool, error) {
	l, err := h.link(name)
	if err != nil {
		return false, err
	}
	return l.Attrs().Flags&net.FlagUp != 0, nil
}
