package netconf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Routes leads prefixes into the interface, which must be up.
//
// As wg-quick(8) has it: in the main table a prefix for which the interface has a route already, of this or a shorter
// prefix length (the connected route of its address, most often), is skipped; in another table only the very same prefix
// is. A route of the same prefix and metric through another interface is an error that names both and wraps EEXIST.
type Routes struct {
	Interface string
	Table     uint32         // 0 is the main table
	Metric    uint32         // 0: the kernel chooses
	Prefixes  []netip.Prefix `json:"-"`
	Index     int            // of the interface, by Look
	Added     []netip.Prefix // of Prefixes those that get a route, the longest first, by Look
}

// String tells of the routes that are added.
func (r *Routes) String() string {
	what := fmt.Sprintf("%d routes", len(r.Added))
	if len(r.Added) == 1 {
		what = fmt.Sprintf("route %s", r.Added[0])
	}
	if r.Table != 0 && r.Table != unix.RT_TABLE_MAIN {
		what += fmt.Sprintf(" in table %d", r.Table)
	}
	if r.Metric != 0 {
		what += fmt.Sprintf(" with metric %d", r.Metric)
	}
	return what
}

func (r *Routes) table() uint32 {
	if r.Table == 0 {
		return unix.RT_TABLE_MAIN
	}
	return r.Table
}

func (r *Routes) Look(h *Handle) (done bool, err error) {
	l, err := h.link(r.Interface)
	if err != nil {
		return false, err
	}
	r.Index, r.Added = l.Attrs().Index, nil
	there, err := h.routesOf(r.Index, r.table())
	if err != nil {
		return false, fmt.Errorf("routes of %s: %w", r.Interface, err)
	}
	longestFirst := slices.Clone(r.Prefixes)
	slices.SortStableFunc(longestFirst, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
	for _, p := range longestFirst {
		if !p.IsValid() {
			return false, fmt.Errorf("route %v: %w", p, unix.EINVAL)
		}
		p = p.Masked()
		if there.has(p) || r.table() == unix.RT_TABLE_MAIN && there.covers(p) {
			continue
		}
		r.Added, there[p] = append(r.Added, p), true
	}
	return len(r.Added) == 0, nil
}

func (r *Routes) Make(h *Handle) error {
	for _, p := range r.Added {
		if err := h.nl.RouteAdd(r.route(p)); err != nil {
			return h.refusedRoute(r.Interface, r.Index, p, r.table(), err)
		}
	}
	return nil
}

func (r *Routes) Undo(h *Handle) error {
	var errs []error
	for _, p := range slices.Backward(r.Added) {
		if err := tolerateGone(h.nl.RouteDel(r.route(p))); err != nil {
			errs = append(errs, fmt.Errorf("remove route %s from %s: %w", p, r.Interface, err))
		}
	}
	return errors.Join(errs...)
}

// route is what `ip route add PREFIX dev NAME table TABLE metric METRIC` asks for.
func (r *Routes) route(p netip.Prefix) *netlink.Route {
	n := &netlink.Route{LinkIndex: r.Index, Dst: ipNet(p), Table: int(r.table()), Priority: int(r.Metric),
		Protocol: unix.RTPROT_BOOT, Type: unix.RTN_UNICAST}
	if p.Addr().Is4() {
		n.Scope = unix.RT_SCOPE_LINK // no gateway
	}
	return n
}

// refusedRoute says why the kernel would not have the route.
func (h *Handle) refusedRoute(name string, index int, p netip.Prefix, table uint32, err error) error {
	what := fmt.Sprintf("route %s through %s", p, name)
	if table != unix.RT_TABLE_MAIN {
		what += fmt.Sprintf(" in table %d", table)
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		if other := h.holderOf(p, table, index); other != "" {
			return fmt.Errorf("%s: it goes through %s already: %w", what, other, err)
		}
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("%s: %s is down: %w", what, name, err)
	case errors.Is(err, unix.ENODEV) && p.Addr().Is6(), errors.Is(err, unix.EOPNOTSUPP) && p.Addr().Is6():
		return fmt.Errorf("%s: IPv6 is switched off or the MTU is below %d: %w", what, minIPv6MTU, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Conflict is the error for a prefix that is to go through the interface, and that the main table leads through another one: as
// the kernel would refuse it there. nil: there is none.
func (h *Handle) Conflict(name string, p netip.Prefix) error {
	l, err := h.link(name)
	if err != nil {
		return err
	}
	if h.holderOf(p, unix.RT_TABLE_MAIN, l.Attrs().Index) == "" {
		return nil
	}
	return h.refusedRoute(name, l.Attrs().Index, p, unix.RT_TABLE_MAIN, unix.EEXIST)
}

// holderOf names the interfaces, other than index, that have the route p in the table.
func (h *Handle) holderOf(p netip.Prefix, table uint32, index int) string {
	found, err := h.listRoutes(family(p.Addr()), &netlink.Route{Table: int(table)}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return ""
	}
	var names []string
	for _, r := range found {
		q, ok := destination(r, p.Addr())
		if !ok || q != p {
			continue
		}
		hops := []int{r.LinkIndex}
		for _, hop := range r.MultiPath {
			hops = append(hops, hop.LinkIndex)
		}
		for _, hop := range hops {
			if hop > 0 && hop != index {
				names = append(names, h.nameOf(hop))
			}
		}
		if r.Type != unix.RTN_UNICAST && r.LinkIndex == 0 {
			names = append(names, "a route that refuses (blackhole, unreachable or prohibit)")
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " and ")
}

// routeSet holds the prefixes that one interface has routes for.
type routeSet map[netip.Prefix]bool

// has: a route for p itself is there.
func (s routeSet) has(p netip.Prefix) bool { return s[p] }

// covers: a route is there whose prefix contains p.
func (s routeSet) covers(p netip.Prefix) bool {
	for bits := p.Bits(); bits >= 0; bits-- {
		if shorter, err := p.Addr().Prefix(bits); err == nil && s[shorter] {
			return true
		}
	}
	return false
}

func (h *Handle) routesOf(index int, table uint32) (routeSet, error) {
	set := make(routeSet)
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		found, err := h.listRoutes(family(any), &netlink.Route{LinkIndex: index, Table: int(table)},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			if p, ok := destination(r, any); ok {
				set[p] = true
			}
		}
	}
	return set, nil
}

// listRoutes reads the routes that pass the filter. A table that does not exist has none, and neither has a family that the
// kernel does not speak.
func (h *Handle) listRoutes(family int, filter *netlink.Route, mask uint64) (found []netlink.Route, err error) {
	const tries = 3 // the table may change while it is read; on a busy router it always does
	for range tries {
		found = found[:0]
		err = h.nl.RouteListFilteredIter(family, filter, mask, func(r netlink.Route) bool {
			found = append(found, r)
			return true
		})
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	switch {
	case errors.Is(err, netlink.ErrDumpInterrupted):
		return found, nil // good enough: a route that was missed shows as EEXIST when it matters
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return nil, nil
	}
	return found, err
}

// destination is where r leads, with the default route, which the library may give as nil, in full. sample tells the family.
func destination(r netlink.Route, sample netip.Addr) (netip.Prefix, bool) {
	if r.Dst == nil {
		p, err := sample.Prefix(0)
		return p, err == nil
	}
	p, ok := prefixOf(r.Dst)
	return p.Masked(), ok
}
