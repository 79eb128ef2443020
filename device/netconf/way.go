package netconf

import (
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Hop is the first one on the way of packets that leave this host.
type Hop struct {
	Link    int        // index of the interface; 0: there is no way
	Gateway netip.Addr // the zero Addr: none, the address is on the link
	Source  netip.Addr // what they have as theirs
}

// BindWays says what the sockets are bound to whose ways are asked for: an address of this host, or the zero Addr, and an
// interface, or "". It is called before others use h.
func (h *Handle) BindWays(address netip.Addr, device string) {
	h.boundAddress, h.boundDevice = address, device
}

// FirstHop is that of packets with this mark to remote.
func (h *Handle) FirstHop(remote netip.Addr, mark uint32) Hop {
	routes, err := h.routeTo(remote, &netlink.RouteGetOptions{Mark: mark})
	if err != nil || len(routes) == 0 {
		return Hop{}
	}
	w := Hop{Link: routes[0].LinkIndex}
	w.Gateway, _ = netip.AddrFromSlice(routes[0].Gw)
	w.Source, _ = netip.AddrFromSlice(routes[0].Src)
	w.Gateway, w.Source = w.Gateway.Unmap(), w.Source.Unmap()
	if !w.Source.IsValid() {
		w.Source = h.boundAddress // the kernel does not repeat what it was asked with
	}
	return w
}

// Way is the index of the interface by which packets with this mark leave this host for remote; 0 when there is none.
func (h *Handle) Way(remote netip.Addr, mark uint32) int { return h.FirstHop(remote, mark).Link }

// routeTo asks the kernel for the route to one address.
func (h *Handle) routeTo(remote netip.Addr, options *netlink.RouteGetOptions) ([]netlink.Route, error) {
	options.Oif = h.boundDevice
	if zone := remote.Zone(); zone != "" {
		options.Oif = zone
	}
	remote = remote.Unmap().WithZone("")
	if own := h.boundAddress.WithZone(""); own.IsValid() && own.Is4() == remote.Is4() {
		options.SrcAddr = own.AsSlice()
	}
	return h.way.RouteGetWithOptions(remote.AsSlice(), options)
}
