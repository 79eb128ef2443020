package netconf

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestWhatIsSentFromAnAddressTakesTheTablesOfItsTunnel(t *testing.T) {
	inNamespace(t, func(h host) {
		h.took(address("tun0", "10.7.0.1/24"))
		h.took(address("tun0", "fd07::1/64"))
		h.took(&Up{Interface: "tun0"})
		h.took(routes(7, "0.0.0.0/0", "::/0"))
		before := h.state()
		// A tunnel for everything was there first.
		h.took(&Rule{Priority: 100, Not: true, Mark: 9, Table: 9, Suppress: -1})
		rules, err := h.SourceRules(prefixes("10.7.0.1/24", "fd07::1/64"), 7)
		if err != nil || len(rules) != 2 || rules[0].Priority >= 100 {
			t.Errorf("%v, %v", rules, err)
			return
		}
		var back []undo
		for _, r := range rules {
			back = append(back, h.took(r))
		}
		for _, way := range []struct{ from, to, want string }{
			{"10.7.0.1", "198.51.100.7", "tun0"}, {"192.0.2.1", "192.0.2.77", "eth0"}, {"fd07::1", "2001:db8::7", "tun0"},
		} {
			if got := h.wayOf(way.from, way.to); got != way.want {
				t.Errorf("from %s to %s by %q, want %s", way.from, way.to, got, way.want)
			}
		}
		if _, err := h.take(&Rule{Priority: rules[0].Priority, From: rules[0].From, Table: 7, Suppress: -1}); err == nil || !strings.Contains(err.Error(), "from 10.7.0.1/32 lookup 7") {
			t.Errorf("the same rule once more: %v", err)
		}
		h.must(nil, undoAll(back))
		h.must(nil, (&Rule{Priority: 100, Not: true, Mark: 9, Table: 9, Suppress: -1}).Undo(h.Handle))
		h.sameAs(before, "after the rules")
	})
}

// wayOf is the interface by which a packet would leave.
func (h host) wayOf(from, to string) string {
	found, err := h.way.RouteGetWithOptions(net.ParseIP(to), &netlink.RouteGetOptions{SrcAddr: net.ParseIP(from)})
	if err != nil || len(found) == 0 {
		return fmt.Sprint(err)
	}
	return h.nameOf(found[0].LinkIndex)
}

func TestOfTwoRoutesTheSmallerMetricIsTaken(t *testing.T) {
	inNamespace(t, func(h host) {
		h.took(&Up{Interface: "tun0"})
		h.took(&Routes{Interface: "eth0", Prefixes: prefixes("10.8.0.0/16"), Metric: 50})
		_, err := h.take(&Routes{Interface: "tun0", Prefixes: prefixes("10.8.0.0/16"), Metric: 50})
		if err == nil || !strings.Contains(err.Error(), "eth0") || !strings.Contains(err.Error(), "tun0") {
			t.Errorf("a route with the same metric: %v", err)
		}
		before := h.state()
		back := h.took(&Routes{Interface: "tun0", Prefixes: prefixes("10.8.0.0/16"), Metric: 60})
		if got := h.wayOf("192.0.2.1", "10.8.1.1"); got != "eth0" {
			t.Errorf("by %s", got)
		}
		h.must(nil, back())
		h.sameAs(before, "after the route")
		h.took(&Routes{Interface: "tun0", Prefixes: prefixes("10.8.0.0/16"), Metric: 40})
		if got := h.wayOf("192.0.2.1", "10.8.1.1"); got != "tun0" {
			t.Errorf("by %s", got)
		}
	})
}

func TestARouteTellsItsMetric(t *testing.T) {
	r := &Routes{Interface: "tun0", Metric: 50, Added: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")}}
	if r.String() != "route 10.8.0.0/16 with metric 50" || r.route(r.Added[0]).Table != unix.RT_TABLE_MAIN {
		t.Error(r)
	}
}
