package doctor

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Way is where the kernel would send a packet.
type Way struct {
	To   netip.Addr
	Mark uint32
	From netip.Addr // the source that was asked for; the zero Addr: any
	Err  error      // there is none: nothing else is known then

	Interface string
	Gateway   netip.Addr   // the zero Addr: it is on the link
	Source    netip.Addr   // the address that the packet would have
	Prefix    netip.Prefix // of the route
	Table     int          // where the route is
	MTU       int          // in bytes, what ICMP messages have told included
	Local     bool         // it would stay here
}

// Evidence is what `ip route get` says.
func (w Way) evidence() Evidence {
	source := "ip route get " + w.To.String()
	if w.From.IsValid() {
		source += " from " + w.From.String()
	}
	if w.Mark != 0 {
		source += fmt.Sprintf(" mark %#x", w.Mark)
	}
	if w.Err != nil {
		return Evidence{source, w.Err.Error()}
	}
	says := w.To.String()
	if w.Local {
		says = "local " + says
	}
	if w.Gateway.IsValid() {
		says += " via " + w.Gateway.String()
	}
	says += " dev " + w.Interface
	if w.Table != 0 && w.Table != unix.RT_TABLE_MAIN && w.Table != unix.RT_TABLE_LOCAL {
		says += fmt.Sprintf(" table %d", w.Table)
	}
	return Evidence{source, says}
}

// readWay asks the kernel for the way of a packet with this mark to an address; from is its source, or the zero Addr.
func readWay(to netip.Addr, mark uint32, from netip.Addr) Way {
	w := Way{To: to, Mark: mark, From: from}
	options := &netlink.RouteGetOptions{Mark: mark}
	if from.IsValid() {
		options.SrcAddr = from.AsSlice()
	}
	if zone := to.Zone(); zone != "" {
		options.Oif = zone
	}
	address := to.WithZone("").AsSlice()
	routes, err := netlink.RouteGetWithOptions(address, options)
	if err == nil && len(routes) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		w.Err = wayError(err)
		return w
	}
	r := routes[0]
	w.Gateway, _ = netip.AddrFromSlice(r.Gw)
	w.Gateway = w.Gateway.Unmap()
	w.Source, _ = netip.AddrFromSlice(r.Src)
	w.Source = w.Source.Unmap()
	w.Local = r.Type == unix.RTN_LOCAL
	w.MTU = r.MTU
	if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
		w.Interface = l.Attrs().Name
		if w.MTU == 0 || l.Attrs().MTU < w.MTU {
			w.MTU = l.Attrs().MTU
		}
	}
	switch r.Type {
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_THROW:
		w.Err = errors.New("a route that refuses (blackhole, unreachable or prohibit)")
		return w
	}
	// The same once more for the route itself, and not what was made of it for this address.
	options.FIBMatch = true
	if routes, err := netlink.RouteGetWithOptions(address, options); err == nil && len(routes) > 0 {
		w.Table = routes[0].Table
		w.Prefix = prefixOf(routes[0], to)
	}
	return w
}

// next is who gets the packet first.
func (w Way) next() netip.Addr {
	if w.Gateway.IsValid() {
		return w.Gateway
	}
	return w.To
}

// silent: the kernel has asked for the hardware address of who is next, and has had no answer.
func (w Way) silent() bool {
	link, err := netlink.LinkByName(w.Interface)
	if err != nil || w.Err != nil || w.Local {
		return false
	}
	family := unix.AF_INET6
	if w.next().Is4() {
		family = unix.AF_INET
	}
	neighbours, err := netlink.NeighList(link.Attrs().Index, family)
	if err != nil {
		return false
	}
	for _, n := range neighbours {
		if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap() == w.next().WithZone("") {
			return n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0
		}
	}
	return false
}

func prefixOf(r netlink.Route, sample netip.Addr) netip.Prefix {
	if r.Dst == nil {
		p, _ := sample.WithZone("").Prefix(0)
		return p
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	if !ok {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr.Unmap(), bits)
}

func wayError(err error) error {
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return errors.New("network is unreachable: there is no route")
	case errors.Is(err, unix.EHOSTUNREACH):
		return errors.New("no route to host: a route refuses it")
	case errors.Is(err, unix.EACCES):
		return errors.New("permission denied: a route or rule prohibits it")
	case errors.Is(err, unix.EINVAL):
		return errors.New("invalid argument: a blackhole route takes it")
	}
	return err
}

// samples are addresses of a prefix to ask the way to: of a network that others lie in, one may belong to another interface.
func samples(p netip.Prefix) []netip.Addr {
	if p.IsSingleIP() {
		return []netip.Addr{p.Addr()}
	}
	first := p.Masked().Addr()
	if p.Bits() == 0 { // 0.0.0.0/8 and ::/8 are no addresses to send to
		if first.Is4() {
			return []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, 1}), netip.AddrFrom4([4]byte{8, 0, 0, 1})}
		}
		return []netip.Addr{netip.MustParseAddr("2001:db8:ffff::1"), netip.MustParseAddr("2600::1")}
	}
	last := first.AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	end, _ := netip.AddrFromSlice(last)
	if first.Is4() && p.Bits() < 31 {
		end = end.Prev() // that is the broadcast address
	}
	return []netip.Addr{first.Next(), end}
}
