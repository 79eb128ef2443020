package netconf

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// MAC gives an interface its Ethernet address. Errors wrap ENODEV, and EINVAL for an address that no interface can have.
type MAC struct {
	Interface string
	Address   string // as fe:00:00:00:00:01
	Index     int    // of the interface, by Look
	Before    string // by Look
}

func (m *MAC) String() string { return "MAC address " + m.Address }

func (m *MAC) Look(h *Handle) (done bool, err error) {
	l, err := h.link(m.Interface)
	if err != nil {
		return false, err
	}
	m.Index, m.Before = l.Attrs().Index, l.Attrs().HardwareAddr.String()
	return m.Before == m.Address, nil
}

func (m *MAC) Make(h *Handle) error {
	mac, err := net.ParseMAC(m.Address)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return fmt.Errorf("MAC address %s on %s: %w", m.Address, m.Interface, unix.EINVAL)
	}
	if err := h.nl.LinkSetHardwareAddr(numbered(m.Index), mac); err != nil {
		return fmt.Errorf("MAC address %s on %s: %w", m.Address, m.Interface, err)
	}
	return nil
}

func (m *MAC) Undo(h *Handle) error {
	l, err := h.nl.LinkByIndex(m.Index)
	if err != nil {
		return tolerateGone(err)
	}
	if l.Attrs().HardwareAddr.String() != m.Address {
		return nil
	}
	before, err := net.ParseMAC(m.Before)
	if err != nil {
		return nil // there was none
	}
	if err := tolerateGone(h.nl.LinkSetHardwareAddr(numbered(m.Index), before)); err != nil {
		return fmt.Errorf("bring back MAC address %s on %s: %w", m.Before, m.Interface, err)
	}
	return nil
}
