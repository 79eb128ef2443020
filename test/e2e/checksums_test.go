package e2e

import (
	"slices"
	"strings"
	"testing"

	"stunnel/test/lab"
)

const noTrust = "TrustedChecksums = no\n"

// introduce has two ends that speak extensions find that out.
func introduce(t *testing.T, h *twoHosts, a, b *lab.Process) {
	t.Helper()
	ping(t, h.alpha, innerB, 1)
	a.Await("the peer speaks our extensions")
	b.Await("the peer speaks our extensions")
}

// everyContent moves content between alpha and beta in all ways: over TCP and
// UDP, IPv4 and IPv6, both ways.
func everyContent(t *testing.T, h *twoHosts) {
	t.Helper()
	for _, address := range []string{innerB + ":7000", "[" + innerB6 + "]:7000"} {
		transfer(t, h.alpha, h.beta, address, 4<<20)
		converse(t, h.alpha, h.beta, address, 1<<20)
	}
	for _, address := range []string{innerA + ":7001", "[" + innerA6 + "]:7001"} {
		transfer(t, h.beta, h.alpha, address, 4<<20)
	}
}

// mustBeSound fails the test if a host has met a wrong checksum, or dropped
// anything of its peer.
func mustBeSound(t *testing.T, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		if wrong := counters(h, "InCsumErrors"); len(wrong) > 0 {
			t.Errorf("%s has met wrong checksums: %v", h.Name, wrong)
		}
		if peer := showPeer(t, h); len(peer.DroppedPackets) > 0 {
			t.Errorf("%s has dropped packets of its peer: %v", h.Name, peer.DroppedPackets)
		}
	}
}

func TestContentIsWholeWhoeverComputesItsChecksums(t *testing.T) {
	for _, c := range []struct {
		name                    string
		alpha, beta             string // lines for [Interface]
		alphaTrusts, betaTrusts bool
	}{
		{"trusted at both ends", "", "", true, true},
		{"not at alpha", noTrust, "", false, true},
		{"not at beta", "", noTrust, true, false},
		{"at neither end", noTrust, noTrust, false, false},
		{"trusted, by four lanes", "Lanes = 4\n", "Lanes = 4\n", true, true},
		{"trusted, without offloads at beta", "", "Offload = no\n", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newTwoHosts(t, outerA+":51820", outerB+":51820")
			a := up(h.alpha, withKeys(t, h.Lab, h.alphaConf, c.alpha))
			b := up(h.beta, withKeys(t, h.Lab, h.conf, c.beta))
			introduce(t, h, a, b)
			for _, end := range []struct {
				host         *lab.Host
				trusts, asks bool
			}{{h.alpha, c.alphaTrusts, c.betaTrusts}, {h.beta, c.betaTrusts, c.alphaTrusts}} {
				tun := show(t, end.host, "tun0").Interfaces[0]
				if tun.TrustedChecksums != end.trusts || slices.Contains(tun.Peers[0].Announced, "trusted_checksums") != end.asks {
					t.Errorf("%s tells %+v", end.host.Name, tun)
				}
			}
			watchA, watchB := beginWatch(t, h.alpha, "tun0"), beginWatch(t, h.beta, "tun0")
			everyContent(t, h)
			for name, w := range map[string]watched{"alpha": watchA(), "beta": watchB()} {
				t.Logf("%s: %+v", name, w)
				trusted := c.alphaTrusts && c.betaTrusts && !strings.Contains(c.beta, "Offload")
				if len(w.Wrong) > 0 {
					t.Errorf("%s was given packets with wrong checksums: %q", name, w.Wrong)
				}
				if trusted != (w.Lone > 0) || w.Whole+w.Partial < 500 {
					t.Errorf("%s was given %d packets without a checksum, and %d in all", name, w.Lone, w.Whole+w.Partial)
				}
			}
			mustBeSound(t, h.alpha, h.beta)
		})
	}
}

// What is not plain TCP or UDP of this host's own is completed before it is
// sealed, wherever its sum lies.
func TestPacketsWithOptionsKeepRightChecksums(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	a, b := up(h.alpha, h.alphaConf), up(h.beta, h.conf)
	introduce(t, h, a, b)
	end := beginWatch(t, h.beta, "tun0")
	for _, address := range []string{innerB + ":7000", "[" + innerB6 + "]:7000"} {
		beginTransferBy(t, "tool-send-options", h.alpha, h.beta, address, 4<<20)()
		converse(t, h.alpha, h.beta, address, 1<<20, "options")
	}
	// The last segment of a connection is the kernel's own, without its options.
	if w := end(); len(w.Wrong) > 0 || w.Whole < 1000 || w.Lone > 2 || w.Fragments > 0 {
		t.Errorf("beta was given %+v", w)
	}
	mustBeSound(t, h.alpha, h.beta)
}

// A DHCP client reads its answers past the kernel, which would have completed them.
func TestDHCPReadPastTheKernelHasItsChecksum(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	a, b := up(h.alpha, h.alphaConf), up(h.beta, h.conf)
	introduce(t, h, a, b)
	const knocks = 100
	for _, c := range []struct {
		port  string
		whole int
	}{{"68", knocks}, {"67", knocks}, {"69", 0}} {
		end := beginWatch(t, h.beta, "tun0", c.port)
		h.alpha.Run(tool("tool-knock", innerB+":"+c.port, "100")...)
		ping(t, h.alpha, innerB, 1) // it comes behind them
		if w := end(); w.Whole != c.whole || w.Whole+w.Partial != knocks || len(w.Wrong) > 0 {
			t.Errorf("port %s: of %d packets beta was given %+v, want %d that are whole", c.port, knocks, w, c.whole)
		}
	}
}

// A device on top of the tunnel makes packets in packets, of which the kernel
// leaves the inner sum open.
func TestPacketsInPacketsAreWhole(t *testing.T) {
	for _, c := range []struct {
		kind string
		args func(local, remote string) []string
	}{
		{"vxlan", func(local, remote string) []string {
			return []string{"vxlan", "id", "7", "dstport", "4789", "local", local, "remote", remote, "dev", "tun0"}
		}},
		{"ipip", func(local, remote string) []string { return []string{"ipip", "local", local, "remote", remote} }},
		{"gre", func(local, remote string) []string { return []string{"gre", "local", local, "remote", remote} }},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			h := newTwoHosts(t, outerA+":51820", outerB+":51820")
			a, b := up(h.alpha, h.alphaConf), up(h.beta, h.conf)
			introduce(t, h, a, b)
			const wrappedA, wrappedB = "10.66.0.1", "10.66.0.2"
			for _, end := range []struct {
				host                   *lab.Host
				local, remote, wrapped string
			}{{h.alpha, innerA, innerB, wrappedA}, {h.beta, innerB, innerA, wrappedB}} {
				add := append([]string{"ip", "link", "add", "over0", "type"}, c.args(end.local, end.remote)...)
				if out, err := end.host.Try(add...); err != nil && strings.Contains(out, "Unknown device type") {
					t.Skipf("SKIPPED: this kernel makes no %s devices: modprobe %s, or another kernel", c.kind, c.kind)
				} else if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				end.host.Address(end.wrapped+"/24", "over0")
				end.host.Run("ip", "link", "set", "over0", "mtu", "1370", "up")
			}
			ping(t, h.alpha, wrappedB, 3)
			watchers := []func() watched{beginWatch(t, h.beta, "tun0"), beginWatch(t, h.beta, "over0")}
			transfer(t, h.alpha, h.beta, wrappedB+":7000", 4<<20)
			transfer(t, h.beta, h.alpha, wrappedA+":7000", 4<<20)
			converse(t, h.alpha, h.beta, wrappedB+":7000", 1<<20)
			for _, end := range watchers {
				if w := end(); len(w.Wrong) > 0 || c.kind == "vxlan" && w.Whole+w.Partial < 100 {
					t.Errorf("beta was given %+v", w)
				}
			}
			mustBeSound(t, h.alpha, h.beta)
		})
	}
}
