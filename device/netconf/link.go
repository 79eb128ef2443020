package netconf

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// minIPv6MTU is the least MTU with which an interface may carry IPv6 (RFC 8200, section 5).
const minIPv6MTU = 1280

// MTU sets the interface's MTU. Its Undo brings back the one that was there, and IPv6 addresses that an MTU below 1280 has
// cost. Errors wrap ENODEV, and EINVAL or ERANGE for a size the interface can't have.
type MTU struct {
	Interface string
	Bytes     int
	Index     int           // of the interface, by Look
	Before    int           // bytes
	Kept      []KeptAddress `json:",omitempty"`
}

func (m *MTU) String() string { return fmt.Sprintf("MTU %d", m.Bytes) }

func (m *MTU) Look(h *Handle) (done bool, err error) {
	l, err := h.link(m.Interface)
	if err != nil {
		return false, err
	}
	m.Index, m.Before = l.Attrs().Index, l.Attrs().MTU
	m.Kept = h.keepIPv6(m.Index)
	return m.Before == m.Bytes, nil
}

func (m *MTU) Make(h *Handle) error {
	if err := h.nl.LinkSetMTU(numbered(m.Index), m.Bytes); err != nil {
		return fmt.Errorf("MTU %d on %s: %w", m.Bytes, m.Interface, err)
	}
	return nil
}

func (m *MTU) Undo(h *Handle) error {
	l, err := h.nl.LinkByIndex(m.Index)
	if err != nil {
		return tolerateGone(err)
	}
	if l.Attrs().MTU != m.Bytes {
		return nil
	}
	if err := tolerateGone(h.nl.LinkSetMTU(numbered(m.Index), m.Before)); err != nil {
		return fmt.Errorf("bring back MTU %d on %s: %w", m.Before, m.Interface, err)
	}
	if m.Bytes < minIPv6MTU && m.Before >= minIPv6MTU {
		return h.restore(m.Index, m.Kept)
	}
	return nil
}

// Up sets the link up. Its Undo sets it down if it was down before, and brings back the IPv6 addresses it had then.
// Errors wrap ENODEV.
type Up struct {
	Interface string
	Index     int           // of the interface, by Look
	Kept      []KeptAddress `json:",omitempty"`
}

func (u *Up) String() string { return u.Interface + " up" }

func (u *Up) Look(h *Handle) (done bool, err error) {
	l, err := h.link(u.Interface)
	if err != nil {
		return false, err
	}
	u.Index = l.Attrs().Index
	u.Kept = h.keepIPv6(u.Index)
	return l.Attrs().Flags&net.FlagUp != 0, nil
}

func (u *Up) Make(h *Handle) error {
	if err := h.nl.LinkSetUp(numbered(u.Index)); err != nil {
		return fmt.Errorf("set %s up: %w", u.Interface, err)
	}
	return nil
}

func (u *Up) Undo(h *Handle) error {
	if err := tolerateGone(h.nl.LinkSetDown(numbered(u.Index))); err != nil {
		return fmt.Errorf("set %s down: %w", u.Interface, err)
	}
	// Our own addresses, when they were put on before this step, come back too: their undo has yet to run.
	return h.restore(u.Index, u.Kept)
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
