package netconf

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// firstMark is where the search for a free one begins, as wg-quick(8)'s does.
const firstMark = 51820

// ErrMarkTaken: another tunnel has the mark.
var ErrMarkTaken = errors.New("another tunnel has this mark")

// Mark keeps a firewall mark for the packets that the tunnel itself sends, and the number of a routing table for what goes
// through it. No two tunnels have the same. It is a note only: the mark is set at the sockets, and lives and dies with them.
type Mark struct {
	Interface string
	Mark      uint32 // 0: Look chooses one that is free, from 51820 on
	Table     uint32 // by Look: Mark, or where that is in use the first free number from 51820 on
	Chosen    bool   // by Look
}

func (m *Mark) String() string { return fmt.Sprintf("mark 0x%x, routing table %d", m.Mark, m.Table) }

func (m *Mark) thing() string { return fmt.Sprintf("mark.%x", m.Mark) }

func (m *Mark) Look(h *Handle) (done bool, err error) {
	named, err := h.namedByRules()
	if err != nil {
		return false, err
	}
	free := func(n uint32) (bool, error) {
		if named[n] {
			return false, nil
		}
		used, err := h.hasRoutes(n)
		return !used && err == nil, err
	}
	unclaimed := func(n uint32) (bool, error) { // a tunnel that is coming up has no rules yet
		if taken, err := h.claimed((&Mark{Mark: n}).thing()); taken || err != nil {
			return false, err
		}
		return free(n)
	}
	if m.Mark == 0 || m.Chosen {
		m.Chosen = true
		m.Mark, err = search(unclaimed)
		m.Table = m.Mark
		return false, err
	}
	m.Table = m.Mark
	if ok, err := free(m.Table); ok || err != nil {
		return false, err
	}
	m.Table, err = search(unclaimed)
	return false, err
}

// search is the first number that will do.
func search(will func(uint32) (bool, error)) (n uint32, err error) {
	for n = firstMark; ; n++ {
		if ok, err := will(n); ok || err != nil {
			return n, err
		}
	}
}

// Make fails with ErrMarkTaken, if it was chosen by us perhaps because another tunnel was quicker: another Look helps then.
func (m *Mark) Make(h *Handle) error {
	first, err := h.claim(m.thing(), m.Interface, func() (string, error) { return "", nil })
	if err == nil && !first {
		err = fmt.Errorf("mark 0x%x: %w", m.Mark, ErrMarkTaken)
	}
	return err
}

func (m *Mark) Undo(h *Handle) error {
	return h.release(m.thing(), m.Interface, func(string) error { return nil })
}

// namedByRules are the routing tables and marks in rules, and the kernel's own tables.
func (h *Handle) namedByRules() (map[uint32]bool, error) {
	named := map[uint32]bool{0: true, unix.RT_TABLE_COMPAT: true, unix.RT_TABLE_DEFAULT: true, unix.RT_TABLE_MAIN: true, unix.RT_TABLE_LOCAL: true}
	for _, ipv6 := range []bool{false, true} {
		rules, err := h.rules(ipv6)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, err
		}
		for _, r := range rules {
			named[uint32(r.Table)], named[r.Mark] = true, true
		}
	}
	return named, nil
}

func (h *Handle) hasRoutes(table uint32) (bool, error) {
	for _, ipv6 := range []bool{false, true} {
		routes, err := h.listRoutes(familyOf(ipv6), &netlink.Route{Table: int(table)}, netlink.RT_FILTER_TABLE)
		if err != nil || len(routes) > 0 {
			return true, err
		}
	}
	return false, nil
}
