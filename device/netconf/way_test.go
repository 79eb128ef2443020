package netconf

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestTheFirstHopIsThatOfWhatTheSocketsAreBoundTo(t *testing.T) {
	inNamespace(t, func(h host) {
		h.veth("eth1", 1400)
		h.took(address("eth1", "198.51.100.1/24"))
		h.took(&Up{Interface: "eth1"})
		index := make(map[string]int)
		for _, name := range []string{"eth0", "eth1"} {
			l, err := h.link(name)
			if err != nil {
				t.Error(err)
				return
			}
			index[name] = l.Attrs().Index
		}
		route := func(gateway net.IP, link string, metric int) {
			h.must(nil, h.nl.RouteAdd(&netlink.Route{
				Dst: ipNet(netip.MustParsePrefix("203.0.113.0/24")), Gw: gateway, LinkIndex: index[link], Priority: metric,
			}))
		}
		route(net.IPv4(192, 0, 2, 9), "eth0", 10)
		route(net.IPv4(198, 51, 100, 9), "eth1", 20)
		remote := netip.MustParseAddr("203.0.113.7")
		check := func(what string, want Hop) {
			t.Helper()
			if got := h.FirstHop(remote, 0); got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		first := Hop{index["eth0"], netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.1")}
		second := Hop{index["eth1"], netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("198.51.100.1")}
		check("bound to nothing", first)
		h.BindWays(netip.Addr{}, "eth1")
		check("bound to eth1", second)
		if got := h.PathMTU(remote, 0); got != 1400 {
			t.Errorf("the MTU by eth1 is %d", got)
		}
		h.BindWays(netip.MustParseAddr("198.51.100.1"), "")
		first.Source = netip.MustParseAddr("198.51.100.1")
		check("bound to the address of eth1, which no rule leads elsewhere", first)
		h.BindWays(netip.MustParseAddr("2001:db8::1"), "")
		first.Source = netip.MustParseAddr("192.0.2.1")
		check("bound to an address of the other family", first)
		remote = netip.MustParseAddr("2001:db8:7::1")
		check("where there is no way", Hop{})
	})
}

func TestRoutesAddressesAndLinksAreChangesOfTheWay(t *testing.T) {
	inNamespace(t, func(h host) {
		changes, err := WayChanges()
		if err != nil {
			t.Error(err)
			return
		}
		ctx, end := context.WithCancel(t.Context())
		defer end()
		heard := make(chan struct{})
		go changes.Follow(ctx, func() { heard <- struct{}{} })
		for what, change := range map[string]func(){
			"an address": func() { h.took(address("eth0", "192.0.2.77/24")) },
			"a link":     func() { h.veth("eth7", 1400) },
			"a route":    func() { h.tunUp(); h.took(routes(0, "203.0.113.0/24")) },
		} {
			for quiet := false; !quiet; { // what the one before has brought about
				select {
				case <-heard:
				case <-time.After(4 * calm):
					quiet = true
				}
			}
			change()
			select {
			case <-heard:
			case <-time.After(10 * time.Second):
				t.Errorf("%s was not heard of", what)
			}
		}
	})
}
