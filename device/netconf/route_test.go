package netconf

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func (h host) tunUp() {
	h.took(address("tun0", "10.7.0.1/24"))
	h.took(address("tun0", "fd07::1/64"))
	h.took(&Up{Interface: "tun0"})
}

func TestAPrefixThatTheInterfaceServesAlreadyGetsNoRoute(t *testing.T) {
	inNamespace(t, func(h host) {
		h.tunUp()
		before := h.state()
		r := routes(0, "10.7.0.2/32", "10.7.0.0/24", "10.7.0.64/26", "fd07::2/128")
		u := h.took(r)
		if len(r.Added) > 0 {
			t.Errorf("added %v", r.Added)
		}
		if after := h.state(); after != before {
			t.Errorf("routes were added:\n%s\nbefore\n%s", after, before)
		}
		if err := u(); err != nil {
			t.Error(err)
		}
		if after := h.state(); after != before {
			t.Errorf("routes that are not ours were removed:\n%s\nbefore\n%s", after, before)
		}
	})
}

func TestInATableOfItsOwnEveryPrefixGetsARoute(t *testing.T) {
	inNamespace(t, func(h host) {
		h.tunUp()
		before := h.state()
		u := h.took(routes(4711, "10.7.0.2/32", "10.7.0.0/24", "fd07::2/128", "0.0.0.0/0", "::/0"))
		for _, want := range []string{"10.7.0.2/32", "10.7.0.0/24", "fd07::2/128", "0.0.0.0/0", "::/0"} {
			if !strings.Contains(h.state(), "route "+want+" via link 2 table 4711") {
				t.Errorf("no route %s in table 4711:\n%s", want, h.state())
			}
		}
		h.took(routes(4711, "10.7.0.2/32", "::/0")) // the same again is no error and not ours
		if err := u(); err != nil {
			t.Error(err)
		}
		if after := h.state(); after != before {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}
	})
}

func TestARouteThroughAnotherInterfaceIsAConflictThatNamesBoth(t *testing.T) {
	for _, p := range []string{"192.0.2.0/24", "fd55::/64"} {
		inNamespace(t, func(h host) {
			h.tunUp()
			if p == "fd55::/64" {
				h.took(&Routes{Interface: "eth0", Prefixes: prefixes(p)})
			}
			before := h.state()
			// The conflict comes last (the shortest prefix), so the other routes are there by then.
			err := h.Apply(routes(0, "10.8.0.0/28", "fd66::/65", p))
			if !errors.Is(err, unix.EEXIST) {
				t.Errorf("error %v", err)
				return
			}
			for _, word := range []string{p, "tun0", "eth0"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not name %s", err, word)
				}
			}
			if after := h.state(); after != before {
				t.Errorf("left\n%s\nwhere there was\n%s", after, before)
			}
		})
	}
}

func TestABlackholeInTheWayIsNamed(t *testing.T) {
	inNamespace(t, func(h host) {
		h.tunUp()
		err := h.nl.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.20.0.0/16")), Type: unix.RTN_BLACKHOLE})
		if err != nil {
			t.Error(err)
		}
		if err := h.Apply(routes(0, "10.20.0.0/16")); err == nil || !strings.Contains(err.Error(), "blackhole") {
			t.Errorf("error %v", err)
		}
	})
}

func TestARouteThroughALinkThatIsDownIsExplained(t *testing.T) {
	inNamespace(t, func(h host) {
		err := h.Apply(routes(0, "10.8.0.0/16"))
		if !errors.Is(err, unix.ENETDOWN) || !strings.Contains(err.Error(), "down") {
			t.Errorf("error %v", err)
		}
	})
}

func TestTenThousandRoutesComeAndGo(t *testing.T) {
	inNamespace(t, func(h host) {
		h.tunUp()
		before := h.state()
		var many []netip.Prefix
		for i := range 10_000 {
			many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 32))
		}
		u := h.took(&Routes{Interface: "tun0", Prefixes: many})
		found, err := h.routesOf(2, unix.RT_TABLE_MAIN)
		if err != nil || len(found) < 10_000 {
			t.Errorf("%d routes, %v", len(found), err)
		}
		if err := u(); err != nil {
			t.Error(err)
		}
		if after := h.state(); after != before {
			t.Error("not all of them went")
		}
	})
}

func TestTheMTUIsTheLeastOverTheEndpointsMinusEighty(t *testing.T) {
	inNamespace(t, func(h host) {
		a, b := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("198.51.100.9")
		nowhere := netip.MustParseAddr("2001:db8::1")
		check := func(what string, want int, endpoints ...netip.Addr) {
			t.Helper()
			if got := h.DefaultMTU(endpoints, 0); got != want {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		check("no endpoint, no default route", 1420)
		check("an endpoint without a route", 1420, nowhere)
		check("on eth0", 1400, a)
		h.took(address("eth0", "2001:db8::1/64"))
		check("on eth0, over IPv6", 1400, netip.MustParseAddr("2001:db8::9"))
		eth0, err := h.link("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		gateway, index := net.IPv4(192, 0, 2, 9), eth0.Attrs().Index
		err = h.nl.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("198.51.100.0/24")), Gw: gateway, LinkIndex: index, MTU: 1380})
		if err != nil {
			t.Error(err)
		}
		check("a route with its own MTU", 1300, b)
		check("the least of both", 1300, a, b)
		check("the least of both, the other way round", 1300, b, a)
		err = h.nl.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: gateway, LinkIndex: index})
		if err != nil {
			t.Error(err)
		}
		check("no endpoint, the default route", 1400)
		check("endpoints without a route, the default route", 1400, nowhere)
	})
}

// A tunnel that carries everything sends its own packets by another way than the
// rest; that is the way whose MTU matters.
func TestThePathMTUIsThatOfTheWayForTheMark(t *testing.T) {
	inNamespace(t, func(h host) {
		const mark, table = 51820, 4711
		remote := netip.MustParseAddr("198.51.100.9")
		h.tunUp()
		h.took(tunMTU(1300))
		h.took(routes(0, "198.51.100.0/24"))
		if got := h.PathMTU(remote, mark); got != 1300 {
			t.Errorf("by the main table: %d, want 1300", got)
		}
		eth0, err := h.link("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		err = h.nl.RouteAdd(&netlink.Route{
			Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: net.IPv4(192, 0, 2, 9), LinkIndex: eth0.Attrs().Index, Table: table,
		})
		if err != nil {
			t.Error(err)
		}
		rule := netlink.NewRule()
		rule.Mark, rule.Table, rule.Priority, rule.Family = mark, table, 100, unix.AF_INET
		if err := h.nl.RuleAdd(rule); err != nil {
			t.Error(err)
		}
		if got := h.PathMTU(remote, mark); got != 1480 {
			t.Errorf("with the mark: %d, want that of eth0, 1480", got)
		}
		if got := h.PathMTU(remote, 0); got != 1300 {
			t.Errorf("without the mark: %d, want 1300", got)
		}
		h.took(address("eth0", "2001:db8:1::1/64"))
		if got := h.PathMTU(netip.MustParseAddr("2001:db8:1::9"), mark); got != 1480 {
			t.Errorf("over IPv6: %d, want that of eth0, 1480", got)
		}
		if got := h.PathMTU(netip.MustParseAddr("2001:db8::1"), 0); got != 0 {
			t.Errorf("where there is no way: %d", got)
		}
	})
}
