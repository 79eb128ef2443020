package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"stunnel/test/lab"
)

// Addresses of a crossing. The server has two uplinks; its default route leads by the first.
const (
	nearClient, nearClient6 = "192.0.2.2", "2001:db8:1::2"
	farServer, farServer6   = "198.51.100.2", "2001:db8:2::2"
	farSecond, farSecond6   = "203.0.113.2", "2001:db8:3::2"
	nearRouter              = "192.0.2.1"
)

// crossing is a client, a server, and between them a router that drops,
// refuses and cuts what it is told to: the network that one has to get through.
// Only the client knows where the other is.
type crossing struct {
	*lab.Lab
	t                      *testing.T
	client, router, server *lab.Host
	clientKeys, serverKeys pair
}

func newCrossing(t *testing.T) *crossing {
	t.Helper()
	t.Parallel()
	l := lab.New(t)
	for _, command := range []string{"ping", "nft", "sysctl"} {
		lab.Need(t, command)
	}
	c := &crossing{Lab: l, t: t, client: l.Host("client"), router: l.Host("router"), server: l.Host("server"), clientKeys: newPair(t), serverKeys: newPair(t)}
	l.Link("eth0", c.client, []string{nearClient + "/24", nearClient6 + "/64"}, c.router, []string{nearRouter + "/24", "2001:db8:1::1/64"})
	l.Link("eth1", c.server, []string{farServer + "/24", farServer6 + "/64"}, c.router, []string{"198.51.100.1/24", "2001:db8:2::1/64"})
	l.Link("eth2", c.server, []string{farSecond + "/24", farSecond6 + "/64"}, c.router, []string{"203.0.113.1/24", "2001:db8:3::1/64"})
	c.router.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	c.client.Batch("route add default via "+nearRouter, "route add default via 2001:db8:1::1")
	c.server.Batch("route add default via 198.51.100.1", "route add default via 2001:db8:2::1")
	// What passes the router are packets, and no trains of them: its rules go by their lengths.
	c.client.Batch("link set eth0 gso_max_segs 1")
	c.server.Batch("link set eth1 gso_max_segs 1", "link set eth2 gso_max_segs 1")
	return c
}

// clientFile writes the client's tun0.conf: lines are for [Interface], and
// peerLines, which say where the server is, for [Peer].
func (c *crossing) clientFile(lines, peerLines string) string {
	c.t.Helper()
	return c.clientFileFor(innerB+"/32, "+innerB6+"/128", lines, peerLines)
}

// clientFileFor is clientFile with other AllowedIPs.
func (c *crossing) clientFileFor(allowed, lines, peerLines string) string {
	c.t.Helper()
	return c.File("client/tun0.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/24, %s/64\n%s\n[Peer]\nName = server\nPublicKey = %s\nAllowedIPs = %s\n%s",
		c.clientKeys.private, innerA, innerA6, lines, c.serverKeys.public, allowed, peerLines))
}

// serverFile writes the server's.
func (c *crossing) serverFile(lines, peerLines string) string {
	c.t.Helper()
	return c.File("server/tun0.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/24, %s/64\nListenPort = 51820\n%s\n[Peer]\nName = client\nPublicKey = %s\nAllowedIPs = %s/32, %s/128\n%s",
		c.serverKeys.private, innerB, innerB6, lines, c.clientKeys.public, innerA, innerA6, peerLines))
}

// What the router does to others' packets, as rules of nft. `counter name hit`
// counts those that it was done to.
const (
	dropUDP    = "meta l4proto udp counter name hit drop"
	resetTCP   = "meta l4proto tcp counter name hit reject with tcp reset"
	dropICMP   = "meta l4proto { icmp, icmpv6 } counter name hit drop"
	dropFirst  = "ip daddr " + farServer + " counter name hit drop"
	dropSecond = "ip daddr " + farSecond + " counter name hit drop"
	dropIPv6   = "meta nfproto ipv6 counter name hit drop"
)

// hinder makes these rules of the router's all that there are, at once; without
// any it lets everything pass. Its own ICMP errors go by the same rules.
func (c *crossing) hinder(rules ...string) {
	c.t.Helper()
	list := strings.Join(rules, "\n")
	c.router.Input(`table inet hostile
		delete table inet hostile
		table inet hostile {
			counter hit {}
			chain hindrances {
			`+list+`
			}
			chain forward { type filter hook forward priority 0; jump hindrances; }
			chain errors { type filter hook output priority 0;
				icmp type { destination-unreachable, time-exceeded } jump hindrances
				icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } jump hindrances
			}
		}
		`, "nft", "-f", "-")
}

var hitCounter = regexp.MustCompile(`packets (\d+) `)

// hits is how many packets the rules of the last hinder have met.
func (c *crossing) hits() int {
	c.t.Helper()
	m := hitCounter.FindStringSubmatch(c.router.Run("nft", "list", "counter", "inet", "hostile", "hit"))
	n, err := strconv.Atoi(m[1])
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// narrow makes the way between client and server so wide, as an interface far
// from both: neither has one that narrow.
func (c *crossing) narrow(mtu int) {
	c.t.Helper()
	var to []string
	for _, way := range []string{nearClient + "/32 dev eth0", farServer + "/32 dev eth1", farSecond + "/32 dev eth2"} {
		to = append(to, fmt.Sprintf("route replace %s mtu lock %d", way, mtu))
	}
	for _, way := range []string{nearClient6 + "/128 dev eth0", farServer6 + "/128 dev eth1", farSecond6 + "/128 dev eth2"} {
		to = append(to, fmt.Sprintf("route replace %s mtu lock %d", way, mtu))
	}
	c.router.Batch(to...)
}

// firstPing is how long after begin the first echo through the tunnel is
// answered. It may take so long that a test fails by other bounds than this one:
// the figure is for those who wait for it.
func (c *crossing) firstPing(begin time.Time) time.Duration {
	c.t.Helper()
	const bound = 30 * time.Second
	for {
		left := bound - time.Since(begin)
		// It also ends when the kernel is told that there is no way.
		out, err := c.client.Try("ping", "-n", "-i", "0.1", "-w", fmt.Sprint(max(1, int(left.Seconds()))), "-c", "1", innerB)
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > bound-time.Second {
			c.t.Fatalf("no echo in %v:\n%s\n%s", bound, out, c.client.Run(binary, "show", "tun0"))
		}
	}
}

// awaitCarrier waits until the tunnel of a host is carried by "udp" or "tcp".
func (c *crossing) awaitCarrier(h *lab.Host, carrier string, within time.Duration) shownPeer {
	c.t.Helper()
	begin := time.Now()
	for {
		p := showPeer(c.t, h)
		if p.Carrier == carrier {
			if p.CarrierWhy == "" || p.CarrierSince == "" {
				c.t.Errorf("%s: show --json says neither since when nor why it goes over %s: %+v", h.Name, carrier, p)
			}
			return p
		}
		if time.Since(begin) > within {
			c.t.Fatalf("%s: not over %s after %v: %+v", h.Name, carrier, within, p)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// transferWhile moves bytes at 2 MB/s from one host to the address of the other
// while something happens, and fails the test if they are not the same there. It
// tells the longest time for which nothing arrived.
func (c *crossing) transferWhile(from, to *lab.Host, address string, during func()) time.Duration {
	c.t.Helper()
	sink := to.Start(tool("tool-pauses", address)...)
	sink.Await("listening")
	send := from.Start(tool("tool-flow", address, "2000000")...)
	sink.Await("flowing")
	during()
	if status := send.Stop(); status != 0 {
		c.t.Fatalf("sender ended with %d: %s", status, send.Output())
	}
	if status := sink.Wait(); status != 0 {
		c.t.Fatalf("receiver ended with %d: %s", status, sink.Output())
	}
	_, end, _ := strings.Cut(sink.Output(), "flowing\n")
	pause, got, _ := strings.Cut(end, "\n")
	if got != send.Output() {
		c.t.Fatalf("received %q, sent %q", got, send.Output())
	}
	d, err := time.ParseDuration(strings.TrimPrefix(pause, "longest pause "))
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

// mustBeSoundOverTCP is mustBeSound where a connection may have been slower than
// what came from inside, which is then dropped.
func mustBeSoundOverTCP(t *testing.T, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		if wrong := counters(h, "InCsumErrors"); len(wrong) > 0 {
			t.Errorf("%s has met wrong checksums: %v", h.Name, wrong)
		}
		dropped := showPeer(t, h).DroppedPackets
		delete(dropped, "stalled")
		if len(dropped) > 0 {
			t.Errorf("%s has dropped packets of its peer: %v", h.Name, dropped)
		}
	}
}
