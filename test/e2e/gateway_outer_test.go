package e2e

import (
	"strings"
	"testing"

	"stunnel/test/lab"
)

const insideAddress = "10.77.0.2"

// stranger gives the gateway a network of its own, whose interface forwards
// because somebody wants it to, and makes a host on the gateway's outer link
// take it for the router to there and into the tunnel.
func (f *friends) stranger() (inside, stranger *lab.Host) {
	inside, stranger = f.Host("inside"), f.internet
	f.Link("eth9", f.gateway, []string{"10.77.0.1/24"}, inside, []string{insideAddress + "/24"})
	inside.Run("ip", "route", "add", "default", "via", "10.77.0.1")
	f.gateway.Run("sysctl", "-qw", "net.ipv4.conf.eth9.forwarding=1")
	for _, network := range []string{"10.77.0.0/24", "10.9.0.0/24"} {
		stranger.Run("ip", "route", "add", network, "via", ip2)
	}
	stranger.Run("ip", "-6", "route", "add", "fd09::/64", "via", ip26)
	return inside, stranger
}

// reaches: one of four echo requests is answered.
func reaches(h *lab.Host, address string) bool {
	_, err := h.Try("ping", "-n", "-c", "4", "-i", "0.2", "-W", "1", address)
	return err == nil
}

// mustReach fails the test where h reaches one that it should not, or not one
// that it should.
func mustReach(t *testing.T, when string, h *lab.Host, addresses map[string]bool) {
	t.Helper()
	for address, want := range addresses {
		if got := reaches(h, address); got != want {
			t.Errorf("%s: that %s reaches %s is %v, want %v", when, h.Name, address, got, want)
		}
	}
}

func TestWhoIsOnAGatewaysOuterLinkGetsNoFurther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, before, lines string
		reached             map[string]bool // by the stranger
	}{
		{"a host that is no router", "true", "", map[string]bool{innerA: false, innerA6: false, insideAddress: false}},
		{"a router", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1", "", map[string]bool{innerA: false, innerA6: false, insideAddress: true}},
		{"what its user allows", "true", "PostUp = nft add rule inet stunnel-%i/guard allow iifname eth2 ip daddr " + innerA + " accept\n",
			map[string]bool{innerA: true, innerA6: false, insideAddress: false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFriends(t, 1500, "", "Masquerade = eth2\n"+c.lines)
			inside, stranger := f.stranger()
			f.gateway.Run("sh", "-c", c.before)
			before := wholeState(f.gateway)
			g := up(f.gateway, f.gatewayConf)
			up(f.client, f.clientConf)
			f.mustPass(t)
			mustReach(t, "through a gateway", stranger, c.reached)
			mustReach(t, "between the inside and the tunnel", inside, map[string]bool{innerA: true})
			mustReach(t, "between the inside and the tunnel", f.client, map[string]bool{insideAddress: true})

			// A port that is sent on was asked for.
			f.client.Start(tool("tool-web", ":8080")...).Await("serving")
			f.gateway.Run("nft", "table ip sent { chain on { type nat hook prerouting priority dstnat; iifname eth2 tcp dport 8080 dnat to "+innerA+"; }; }")
			if _, err := stranger.Try("curl", "-sS", "--max-time", "10", "http://"+ip2+":8080/"); err != nil {
				t.Errorf("a port that is sent on does not answer: %v", err)
			}
			f.gateway.Run("nft", "delete table ip sent")
			g.Stop()
			sameWholeState(t, f.gateway, before, "at the end")
		})
	}
}

func TestAGatewayFollowsItsOuterInterface(t *testing.T) {
	t.Parallel()
	t.Run("that comes anew", func(t *testing.T) {
		for _, lines := range []string{"Masquerade = eth2\n", "Masquerade = yes\n"} {
			f := newFriends(t, 1500, "", lines)
			_, stranger := f.stranger()
			g := up(f.gateway, f.gatewayConf)
			up(f.client, f.clientConf)
			f.mustPass(t)
			f.gateway.Run("ip", "link", "del", "eth2")
			f.mustNotPass(t)
			f.Link("eth2", f.gateway, []string{ip2 + "/24", ip26 + "/64"}, f.internet, []string{"198.51.100.1/24", "2001:db8:2::1/64"})
			f.gateway.Run("ip", "route", "add", "default", "via", "198.51.100.1")
			f.gateway.Run("ip", "-6", "route", "add", "default", "via", "2001:db8:2::1")
			g.Await("the way out is through eth2 too")
			stranger.Run("ip", "route", "add", "10.77.0.0/24", "via", ip2)
			stranger.Run("ip", "route", "add", "10.9.0.0/24", "via", ip2)
			f.mustPass(t)
			mustReach(t, "through a gateway whose interface came anew", stranger, map[string]bool{innerA: false, insideAddress: false})
			g.Stop()
			if got := f.gateway.Run("sysctl", "-n", "net.ipv4.conf.eth2.forwarding"); got != "0" {
				t.Errorf("at the end eth2 has forwarding = %s", got)
			}
		}
	})
	t.Run("where the default route has gone", func(t *testing.T) {
		const other, other6 = "198.51.101.2", "2001:db8:5::2"
		f := newFriends(t, 1500, "", "Masquerade = yes\n")
		_, stranger := f.stranger()
		f.firewall.Run("nft", "insert rule inet filter forward ip saddr "+other+" accept; insert rule inet filter forward ip daddr "+other+" accept")
		f.gateway.Run("nft", "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }")
		f.Link("eth4", f.gateway, []string{other + "/24", other6 + "/64"}, f.internet, []string{"198.51.101.1/24", "2001:db8:5::1/64"})
		before := wholeState(f.gateway)
		g := up(f.gateway, f.gatewayConf)
		up(f.client, f.clientConf)
		f.mustPass(t)
		// Unlike eth2, eth4 does not forward yet.
		if got := f.gateway.Run("sysctl", "-n", "net.ipv4.conf.eth4.forwarding"); got != "0" {
			t.Errorf("eth4 has forwarding = %s before the default route leads there", got)
		}
		f.gateway.Run("ip", "route", "replace", "default", "via", "198.51.101.1")
		f.gateway.Run("ip", "-6", "route", "replace", "default", "via", "2001:db8:5::1")
		g.Await("the way out is through eth4 too")
		for address, want := range map[string]string{ip1: other, "[" + ip16 + "]": other6} {
			if got := f.curl(address, 10); got != want {
				t.Errorf("the server at %s was asked by %q, want %q", address, got, want)
			}
		}
		stranger.Run("ip", "route", "replace", "10.9.0.0/24", "via", other)
		mustReach(t, "through the other interface", stranger, map[string]bool{innerA: false})
		if rules := f.gateway.Run("nft", "list", "ruleset"); strings.Count(rules, `comment "stunnel tun0"`) != 4 {
			t.Errorf("the firewall does not let pass two outer interfaces both ways:\n%s", rules)
		}
		f.gateway.Run("ip", "route", "replace", "default", "via", "198.51.100.1")
		f.gateway.Run("ip", "-6", "route", "replace", "default", "via", "2001:db8:2::1")
		g.Stop()
		sameWholeState(t, f.gateway, before, "at the end")
	})
}
