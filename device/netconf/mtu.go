package netconf

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Overhead is what the tunnel adds to a packet at most, in bytes: IPv6 (40), UDP (8), message header and tag (32).
	Overhead = 80

	usualMTU = 1500
	maxMTU   = 65535 // of a TUN interface
)

// DefaultMTU is the MTU, in bytes, for a tunnel to these endpoints whose packets have this mark, by wg-quick(8)'s rule: the least over the endpoints of
// their route's mtu, or else of the MTU of the interface it leads through; without endpoints (or routes to any) that of the
// default route; else 1500. Of that, minus the [Overhead].
func (h *Handle) DefaultMTU(endpoints []netip.Addr, mark uint32) int {
	least := 0
	for _, e := range endpoints {
		if mtu := h.mtuTowards(e, &netlink.RouteGetOptions{Mark: mark}); mtu > 0 && (least == 0 || mtu < least) {
			least = mtu
		}
	}
	if least == 0 {
		least = h.mtuOfDefault()
	}
	if least == 0 {
		least = usualMTU
	}
	return min(least-Overhead, maxMTU)
}

// PathMTU is the MTU, in bytes, of the way that packets with this mark take from this host to remote; 0 when there is none.
// What lies further on the way may be narrower. What ICMP messages have said of it does not count: anybody can forge those.
func (h *Handle) PathMTU(remote netip.Addr, mark uint32) int {
	return h.mtuTowards(remote.Unmap(), &netlink.RouteGetOptions{Mark: mark, FIBMatch: true})
}

// mtuTowards is the MTU of the way to one address; 0 when there is none.
func (h *Handle) mtuTowards(remote netip.Addr, options *netlink.RouteGetOptions) int {
	routes, err := h.routeTo(remote, options)
	if err != nil || len(routes) == 0 {
		return 0
	}
	return h.mtuOf(routes[0])
}

func (h *Handle) mtuOfDefault() int {
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		routes, err := h.listRoutes(family(any), &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			continue
		}
		best, found := netlink.Route{}, false
		for _, r := range routes {
			p, ok := destination(r, any)
			if ok && p.Bits() == 0 && r.Type == unix.RTN_UNICAST && (!found || r.Priority < best.Priority) {
				best, found = r, true
			}
		}
		if mtu := h.mtuOf(best); found && mtu > 0 {
			return mtu
		}
	}
	return 0
}

// mtuOf is the route's own MTU, or else that of its interface; of a multipath route the least of its ways.
func (h *Handle) mtuOf(r netlink.Route) int {
	if r.MTU > 0 {
		return r.MTU
	}
	hops := []int{r.LinkIndex}
	for _, hop := range r.MultiPath {
		hops = append(hops, hop.LinkIndex)
	}
	least := 0
	for _, index := range hops {
		if index == 0 {
			continue
		}
		l, err := h.nl.LinkByIndex(index)
		if err == nil && (least == 0 || l.Attrs().MTU < least) {
			least = l.Attrs().MTU
		}
	}
	return least
}
