package netconf

import (
	"context"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// guardRules are the rules of the chain that drops, without those that every guard begins with.
func (h host) guardRules() string {
	h.t.Helper()
	const begin, end = "jump allow\n", "\t}\n"
	_, rules, found := strings.Cut(h.run("", "nft", "list", "chain", "inet", "stunnel-tun0/guard", "forward"), begin)
	if !found {
		h.t.Errorf("there is no guard:\n%s", h.ruleset())
	}
	rules, _, _ = strings.Cut(rules, end)
	return strings.ReplaceAll(strings.ReplaceAll(rules, "\t", ""), "counter packets 0 bytes 0 drop\n", "drop\n")
}

func TestAGuardClosesWhatItsGatewayOpens(t *testing.T) {
	needNFT(t)
	const closed = "iifname \"eth0\" drop\n"
	const tunnelOnly = "iifname \"eth0\" oifname \"tun0\" drop\n"
	for _, c := range []struct {
		name    string
		prepare func(h host)
		outer   []string
		want    string
	}{
		{"a host that is no router", func(host) {}, []string{"eth0"}, closed},
		{"a router", func(h host) { h.set("net/ipv4/ip_forward", "1"); h.set("net/ipv6/conf/all/forwarding", "1") }, []string{"eth0"}, tunnelOnly},
		{"a router for IPv4", func(h host) { h.set("net/ipv4/conf/eth0/forwarding", "1") }, []string{"eth0"}, tunnelOnly + "iifname \"eth0\" meta nfproto ipv6 drop\n"},
		{"a router for IPv6", func(h host) { h.set("net/ipv6/conf/all/forwarding", "1") }, []string{"eth0"}, tunnelOnly + "iifname \"eth0\" meta nfproto ipv4 drop\n"},
		{"a router since another gateway is there", func(h host) {
			steps, err := h.Forwarding("tun1", []string{"eth0"}, true)
			h.must(nil, err)
			h.doAll(h.NewJournal("tun1"), append(steps, &RouterIPv6{For: "tun1"}))
		}, []string{"eth0"}, closed},
		{"out through another gateway's tunnel", func(h host) { h.took(&Guard{Interface: "eth0", Outer: []string{"br8"}}) }, []string{"eth0"}, tunnelOnly},
		{"an interface that is not there", func(host) {}, []string{"eth0", "eth7"}, closed + strings.ReplaceAll(closed, "eth0", "eth7")},
		// Between two ports of it frames go from br8 to br8, where br_netfilter shows them.
		{"a bridge", func(host) {}, []string{"br8"}, "iifname \"br8\" oifname != \"br8\" drop\n"},
	} {
		inNamespace(t, func(h host) {
			c.prepare(h)
			before := h.ruleset()
			g := &Guard{Interface: "tun0", Outer: c.outer}
			j := h.NewJournal("tun0")
			for range 2 { // the second takes the place of the first
				h.must(nil, j.Do(context.Background(), g))
				if got := h.guardRules(); got != c.want {
					t.Errorf("%s: the rules are\n%swant\n%s", c.name, got, c.want)
				}
			}
			h.must(nil, j.Undo())
			if after := h.ruleset(); after != before {
				t.Errorf("%s: left behind\n%s", c.name, after)
			}
		})
	}
}

func TestAGuardThatIsRenewedKeepsWhatItsUserAllows(t *testing.T) {
	needNFT(t)
	inNamespace(t, func(h host) {
		g := &Guard{Interface: "tun0", Outer: []string{"eth0"}}
		h.took(g)
		h.run("", "nft", "add", "rule", "inet", g.Table(), "allow", "iifname", "eth0", "ip", "saddr", "192.0.2.0/24", "accept")
		h.veth("eth1", 1500)
		h.set("net/ipv4/conf/eth1/forwarding", "1")
		g.Outer = append(g.Outer, "eth1")
		h.must(nil, g.Renew(h.Handle))
		want := "iifname \"eth0\" drop\niifname \"eth1\" oifname \"tun0\" drop\niifname \"eth1\" meta nfproto ipv6 drop\n"
		if got := h.guardRules(); got != want {
			t.Errorf("the rules are\n%swant\n%s", got, want)
		}
		if rules := h.ruleset(); !strings.Contains(rules, `iifname "eth0" ip saddr 192.0.2.0/24 accept`) {
			t.Errorf("the user's rule has gone:\n%s", rules)
		}
		// One that comes anew may be something else.
		l, err := h.link("eth1")
		h.must(nil, err)
		h.must(nil, h.nl.LinkDel(l))
		h.must(nil, h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth1"}}))
		h.must(nil, g.Renew(h.Handle))
		if got := h.guardRules(); !strings.Contains(got, `iifname "eth1" oifname != "eth1" drop`) {
			t.Errorf("the rules are\n%s", got)
		}
		// Where somebody has taken the table away, it is whole again.
		h.run("", "nft", "flush", "ruleset")
		restored, err := h.RestoreTables([]Tabled{g})
		if err != nil || len(restored) != 1 || !strings.Contains(h.guardRules(), `iifname "eth0" drop`) {
			t.Errorf("restored %v, %v:\n%s", restored, err, h.ruleset())
		}
	})
}
