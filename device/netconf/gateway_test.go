package netconf

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestTheTableOfAGateway(t *testing.T) {
	needNFT(t)
	const clamp = `	chain forward {
		type filter hook forward priority mangle; policy accept;
		iifname "tun0" tcp flags & (syn | rst) == syn tcp option maxseg size set SIZE
		oifname "tun0" tcp flags & (syn | rst) == syn tcp option maxseg size set SIZE
	}
`
	const begin, end = "table inet stunnel-tun0/gateway {\n", "}\n"
	const nat = "	chain postrouting {\n		type nat hook postrouting priority srcnat; policy accept;\n"
	for _, c := range []struct {
		name string
		g    Gateway
		want string
	}{
		{"anywhere, path", Gateway{Masquerade: true, MSS: PathMSS},
			strings.ReplaceAll(clamp, "SIZE", "rt mtu") + "\n" + nat + "		iifname \"tun0\" oifname != \"tun0\" counter packets 0 bytes 0 masquerade\n	}\n"},
		{"two interfaces, no clamp", Gateway{Masquerade: true, Outer: []string{"eth0", "wlan0"}},
			nat + "		iifname \"tun0\" oifname \"eth0\" counter packets 0 bytes 0 masquerade\n		iifname \"tun0\" oifname \"wlan0\" counter packets 0 bytes 0 masquerade\n	}\n"},
		{"a size and no NAT", Gateway{MSS: 1200}, strings.ReplaceAll(clamp, "SIZE", "1200")},
	} {
		inNamespace(t, func(h host) {
			before := h.ruleset()
			g := c.g
			g.Interface = "tun0"
			j := h.NewJournal("tun0")
			for range 2 { // the second takes the place of the first
				if err := j.Do(context.Background(), &g); err != nil {
					t.Errorf("%s: %v", c.name, err)
					return
				}
				// nft(8) from 1.0.7 on prints it so.
				got := strings.ReplaceAll(h.ruleset(), "tcp flags syn / syn,rst", "tcp flags & (syn | rst) == syn")
				if got != before+begin+c.want+end {
					t.Errorf("%s: the rules are\n%s, want\n%s", c.name, got, begin+c.want+end)
				}
			}
			if err := j.Undo(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if after := h.ruleset(); after != before {
				t.Errorf("%s: left behind\n%s", c.name, after)
			}
		})
	}
}

// switches are all values below conf that have to do with forwarding.
func (h host) switches() string {
	h.t.Helper()
	var lines []string
	for _, pattern := range []string{"ipv4/conf/*/forwarding", "ipv6/conf/*/forwarding", "ipv6/conf/*/force_forwarding", "ipv6/conf/*/accept_ra", "ipv4/ip_forward"} {
		paths, _ := filepath.Glob(filepath.Join("/proc/sys/net", pattern)) // the pattern is right
		for _, p := range paths {
			text, err := os.ReadFile(p)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			h.must(nil, err)
			lines = append(lines, p+" = "+strings.TrimSpace(string(text)))
		}
	}
	return strings.Join(lines, "\n")
}

func (h host) set(key, value string) {
	h.t.Helper()
	h.must(nil, (&Sysctl{Key: key}).set(value))
}

func (h host) value(key string) string {
	h.t.Helper()
	v, err := (&Sysctl{Key: key}).read()
	h.must(nil, err)
	return v
}

func (h host) doAll(j *Journal, steps []Step) {
	h.t.Helper()
	for _, s := range steps {
		h.must(nil, j.Do(context.Background(), s))
	}
}

func TestForwardingIsSwitchedOnWhereItIsNeededAndNowhereElse(t *testing.T) {
	inNamespace(t, func(h host) {
		h.veth("eth1", 1500)
		before := h.switches()
		steps, err := h.Forwarding("tun0", []string{"tun0", "eth0"}, true)
		h.must(nil, err)
		j := h.NewJournal("tun0")
		h.doAll(j, steps)
		for _, i := range []string{"tun0", "eth0"} {
			if h.value("net/ipv4/conf/"+i+"/forwarding") != "1" {
				t.Errorf("%s does not forward IPv4", i)
			}
		}
		for _, key := range []string{"net/ipv4/conf/eth1/forwarding", "net/ipv4/ip_forward"} {
			if h.value(key) != "0" {
				t.Errorf("%s is on", key)
			}
		}
		if _, err := os.Stat(ipv6Conf + "/all/force_forwarding"); err == nil {
			if h.value("net/ipv6/conf/eth0/force_forwarding") != "1" || h.value("net/ipv6/conf/tun0/force_forwarding") != "1" || h.value("net/ipv6/conf/all/forwarding") != "0" {
				t.Errorf("IPv6 is not forwarded by these interfaces alone:\n%s", h.switches())
			}
		} else {
			t.Log("this kernel has no force_forwarding; see the test of RouterIPv6")
		}
		h.must(nil, j.Undo())
		if after := h.switches(); after != before {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}
	})
}

// orders are those in which two tunnels, a and b, can come up and go down.
var orders = []string{"a+b+a-b-", "a+b+b-a-", "a+a-b+b-", "b+a+b-a-", "b+a+a-b-"}

func TestTwoGatewaysShareTheirOuterInterfaceInAllOrders(t *testing.T) {
	for _, order := range orders {
		for _, old := range []bool{false, true} { // the kernel before 6.17
			inNamespace(t, func(h host) {
				h.tun("tun1")
				h.veth("eth1", 1500)
				h.set("net/ipv6/conf/eth1/forwarding", "1") // of somebody else
				before := h.switches()
				names := map[byte]string{'a': "tun0", 'b': "tun1"}
				journals := map[byte]*Journal{}
				for i := 0; i < len(order); i += 2 {
					name := names[order[i]]
					if order[i+1] == '-' {
						h.must(nil, journals[order[i]].Undo())
						delete(journals, order[i])
					} else {
						steps, err := h.Forwarding(name, []string{name, "eth0"}, !old)
						h.must(nil, err)
						if old {
							steps = append(steps, &RouterIPv6{For: name})
						}
						journals[order[i]] = h.NewJournal(name)
						h.doAll(journals[order[i]], steps)
					}
					for which := range journals {
						if h.value("net/ipv4/conf/eth0/forwarding") != "1" || h.value("net/ipv4/conf/"+names[which]+"/forwarding") != "1" {
							t.Errorf("%s: after %s %s does not forward any more", order, order[:i+2], names[which])
						}
						if old && h.value("net/ipv6/conf/all/forwarding") != "1" {
							t.Errorf("%s: after %s IPv6 is not forwarded any more", order, order[:i+2])
						}
					}
				}
				if after := h.switches(); after != before {
					t.Errorf("%s, old %v: left\n%s\nwhere there was\n%s", order, old, after, before)
				}
			})
		}
	}
}

func TestWhatSomebodyElseHasSwitchedOffStaysOff(t *testing.T) {
	inNamespace(t, func(h host) {
		h.set("net/ipv6/conf/eth0/forwarding", "1")
		r := &RouterIPv6{For: "tun0"}
		j := h.NewJournal("tun0")
		h.doAll(j, []Step{r})
		h.set("net/ipv6/conf/eth0/forwarding", "0")
		h.must(nil, j.Undo())
		if h.value("net/ipv6/conf/eth0/forwarding") != "0" || h.value("net/ipv6/conf/all/forwarding") != "0" {
			t.Errorf("it is on again:\n%s", h.switches())
		}
	})
}

func TestADefaultRouteFromRouterAdvertisementsOutlivesForwarding(t *testing.T) {
	inNamespace(t, func(h host) {
		h.set("net/ipv6/conf/eth0/accept_ra", "1")
		h.wire("eth0")
		advertised := func() bool {
			routes, err := h.nl.RouteListFiltered(unix.AF_INET6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
			h.must(nil, err)
			return len(routes) > 0
		}
		h.inject("eth0", unix.ETH_P_IPV6, routerAdvertisement())
		h.wait("no route from the router advertisement", advertised)
		before := h.switches()

		// Without accept_ra = 2 the kernel drops the route: else this test proves nothing.
		h.set("net/ipv6/conf/all/forwarding", "1")
		if advertised() {
			t.Error("this kernel keeps such a route in any case")
		}
		h.set("net/ipv6/conf/all/forwarding", "0")
		h.inject("eth0", unix.ETH_P_IPV6, routerAdvertisement())
		h.wait("no route from the second router advertisement", advertised)

		if found, err := h.advertised(); err != nil || !slices.Equal(found, []string{"eth0"}) {
			t.Errorf("advertised are %q, %v", found, err)
		}
		j := h.NewJournal("tun0")
		h.doAll(j, h.routerSteps("tun0"))
		if !advertised() || h.value("net/ipv6/conf/all/forwarding") != "1" {
			t.Errorf("forwarding has cost the default route, or is off:\n%s", h.switches())
		}
		h.inject("eth0", unix.ETH_P_IPV6, routerAdvertisement())
		h.must(nil, j.Undo())
		if !advertised() {
			t.Error("its end has cost the default route")
		}
		if after := h.switches(); after != before {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}

		// What is done on this kernel.
		steps, err := h.Forwarding("tun0", []string{"tun0", "eth0"}, true)
		h.must(nil, err)
		h.doAll(j, steps)
		h.inject("eth0", unix.ETH_P_IPV6, routerAdvertisement())
		if !advertised() {
			t.Error("forwarding has cost the default route")
		}
		h.must(nil, j.Undo())
		if after := h.switches(); after != before || !advertised() {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}
	})
}

// routerSteps are those that Forwarding takes for IPv6 before Linux 6.17.
func (h host) routerSteps(name string) []Step {
	h.t.Helper()
	steps, err := h.routerIPv6(name)
	h.must(nil, err)
	return steps
}

func TestTheInterfacesOfTheDefaultRoutes(t *testing.T) {
	inNamespace(t, func(h host) {
		h.wire("eth0")
		h.veth("eth1", 1500)
		h.wire("eth1")
		h.took(&Up{Interface: "tun0"})
		if found, err := h.DefaultInterfaces("tun0"); err != nil || len(found) > 0 {
			t.Errorf("without a default route: %q, %v", found, err)
		}
		h.run("", "ip", "route", "add", "default", "via", "192.0.2.9")
		h.run("", "ip", "-6", "route", "add", "default", "via", "fe80::9", "dev", "eth1", "table", "77")
		h.run("", "ip", "route", "add", "default", "dev", "tun0", "table", "78")
		h.run("", "ip", "route", "add", "blackhole", "default", "table", "79")
		found, err := h.DefaultInterfaces("tun0")
		if err != nil || !slices.Equal(found, []string{"eth0", "eth1"}) {
			t.Errorf("found %q, %v", found, err)
		}
	})
}
