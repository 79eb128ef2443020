package e2e

import (
	"fmt"
	"testing"

	"stunnel/test/lab"
)

// Addresses of two hosts (or containers) behind the two that have the tunnel.
const (
	behindA, behindB   = "10.1.0.2", "10.2.0.2"
	behindA6, behindB6 = "fd01::2", "fd02::2"
)

// gateways are two hosts with a tunnel, each with another one behind it on a
// cable with all offloads: its packets come to the tunnel with checksums that
// nobody has computed yet, and leave it for a cable that does not need them.
type gateways struct {
	*twoHosts
	left, right *lab.Host // behind alpha, behind beta
}

func newGateways(t *testing.T) *gateways {
	t.Helper()
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	g := &gateways{twoHosts: h, left: h.Host("left"), right: h.Host("right")}
	for _, side := range []struct {
		gateway, host *lab.Host
		net, net6     string
		conf          string // of the other gateway, which leads there
	}{{h.alpha, g.left, "10.1.0.", "fd01::", h.conf}, {h.beta, g.right, "10.2.0.", "fd02::", h.alphaConf}} {
		h.Link("lan", side.gateway, []string{side.net + "1/24", side.net6 + "1/64"}, side.host, []string{side.net + "2/24", side.net6 + "2/64"})
		side.gateway.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
		side.host.Run("ip", "route", "add", "default", "via", side.net+"1")
		side.host.Run("ip", "route", "add", "default", "via", side.net6+"1")
		withPeerKeys(t, h.Lab, side.conf, fmt.Sprintf("AllowedIPs = %s0/24, %s/64\n", side.net, side.net6))
	}
	return g
}

func TestForwardedContentIsWhole(t *testing.T) {
	for _, c := range []struct {
		name   string
		lines  string
		masked bool
	}{
		{"trusted checksums", "", false},
		{"none trusted", noTrust, false},
		{"trusted checksums and masquerading", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGateways(t)
			if c.masked {
				lab.Need(t, "nft")
				g.alpha.Input(`table inet nat {
					chain postrouting {
						type nat hook postrouting priority srcnat
						oifname "tun0" masquerade
					}
				}`, "nft", "-f", "-")
			}
			a := up(g.alpha, withKeys(t, g.Lab, g.alphaConf, c.lines))
			b := up(g.beta, withKeys(t, g.Lab, g.conf, c.lines))
			introduce(t, g.twoHosts, a, b)
			watchers := map[string]func() watched{
				"beta's tunnel": beginWatch(t, g.beta, "tun0"), "alpha's tunnel": beginWatch(t, g.alpha, "tun0"),
				"right": beginWatch(t, g.right, "lan"), "left": beginWatch(t, g.left, "lan"),
			}
			for _, address := range []string{behindB + ":7000", "[" + behindB6 + "]:7000"} {
				transfer(t, g.left, g.right, address, 4<<20)
				converse(t, g.left, g.right, address, 1<<20)
			}
			if !c.masked { // behind a NAT nobody is reached
				for _, address := range []string{behindA + ":7000", "[" + behindA6 + "]:7000"} {
					transfer(t, g.right, g.left, address, 4<<20)
				}
			}
			for name, end := range watchers {
				w := end()
				t.Logf("%s: %+v", name, w)
				if len(w.Wrong) > 0 || w.Whole+w.Partial < 300 {
					t.Errorf("to %s came %+v", name, w)
				}
				if name == "beta's tunnel" && (w.Lone > 0) != (c.lines == "") {
					t.Errorf("to %s came %d packets without a checksum", name, w.Lone)
				}
			}
			mustBeSound(t, g.alpha, g.beta)
			for _, host := range []*lab.Host{g.left, g.right} {
				if wrong := counters(host, "InCsumErrors"); len(wrong) > 0 {
					t.Errorf("%s has met wrong checksums: %v", host.Name, wrong)
				}
			}
		})
	}
}
