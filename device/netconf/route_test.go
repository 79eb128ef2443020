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

func (h host) mustRoutes(_ []netip.Prefix, u Undo, err error) Undo {
	h.t.Helper()
	return h.must(u, err)
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func (h host) tunUp() {
	h.must(h.AddAddress("tun0", netip.MustParsePrefix("10.7.0.1/24")))
	h.must(h.AddAddress("tun0", netip.MustParsePrefix("fd07::1/64")))
	h.must(h.SetUp("tun0"))
}

func TestAPrefixThatTheInterfaceServesAlreadyGetsNoRoute(t *testing.T) {
	inNamespace(t, func(h host) {
		h.tunUp()
		before := h.state()
		added, u, err := h.AddRoutes("tun0", prefixes("10.7.0.2/32", "10.7.0.0/24", "10.7.0.64/26", "fd07::2/128"), 0)
		if err != nil || len(added) > 0 {
			t.Errorf("added %v, error %v", added, err)
			return
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
		u := h.mustRoutes(h.AddRoutes("tun0", prefixes("10.7.0.2/32", "10.7.0.0/24", "fd07::2/128", "0.0.0.0/0", "::/0"), 4711))
		for _, want := range []string{"10.7.0.2/32", "10.7.0.0/24", "fd07::2/128", "0.0.0.0/0", "::/0"} {
			if !strings.Contains(h.state(), "route "+want+" via link 2 table 4711") {
				t.Errorf("no route %s in table 4711:\n%s", want, h.state())
			}
		}
		h.mustRoutes(h.AddRoutes("tun0", prefixes("10.7.0.2/32", "::/0"), 4711)) // the same again is no error and not ours
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
				h.must(h.AddRoute("eth0", netip.MustParsePrefix(p), 0))
			}
			before := h.state()
			// The conflict comes last (the shortest prefix), so the other routes are there by then.
			_, _, err := h.AddRoutes("tun0", prefixes("10.8.0.0/28", "fd66::/65", p), 0)
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
		if _, err := h.AddRoute("tun0", netip.MustParsePrefix("10.20.0.0/16"), 0); err == nil || !strings.Contains(err.Error(), "blackhole") {
			t.Errorf("error %v", err)
		}
	})
}

func TestARouteThroughALinkThatIsDownIsExplained(t *testing.T) {
	inNamespace(t, func(h host) {
		_, err := h.AddRoute("tun0", netip.MustParsePrefix("10.8.0.0/16"), 0)
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
		u := h.mustRoutes(h.AddRoutes("tun0", many, 0))
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
			if got := h.DefaultMTU(endpoints); got != want {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		check("no endpoint, no default route", 1420)
		check("an endpoint without a route", 1420, nowhere)
		check("on eth0", 1400, a)
		h.must(h.AddAddress("eth0", netip.MustParsePrefix("2001:db8::1/64")))
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
		h.must(h.SetMTU("tun0", 1300))
		h.mustRoutes(h.AddRoutes("tun0", prefixes("198.51.100.0/24"), 0))
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
		h.must(h.AddAddress("eth0", netip.MustParsePrefix("2001:db8:1::1/64")))
		if got := h.PathMTU(netip.MustParseAddr("2001:db8:1::9"), mark); got != 1480 {
			t.Errorf("over IPv6: %d, want that of eth0, 1480", got)
		}
		if got := h.PathMTU(netip.MustParseAddr("2001:db8::1"), 0); got != 0 {
			t.Errorf("where there is no way: %d", got)
		}
	})
}
