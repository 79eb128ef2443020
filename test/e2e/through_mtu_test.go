package e2e

import (
	"fmt"
	"testing"
	"time"

	"stunnel/test/lab"
)

// A path that carries 1280 bytes, where neither end has such an interface, and
// which never says so.
func TestABlackHoleForLargePacketsIsFoundAndLeft(t *testing.T) {
	for _, w := range []struct {
		name, endpoint string
		measured       bool
	}{
		{"UDP", "Endpoint = " + farServer + ":51820\n", true},
		{"UDP over IPv6", "Endpoint = [" + farServer6 + "]:51820\n", true},
		{"TCP", tcpEndpoint, false},
	} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			c.narrow(1280)
			c.hinder(dropICMP)
			up(c.server, c.serverFile(takesTCP, ""))
			up(c.client, c.clientFile("", w.endpoint))
			c.firstPing(time.Now())
			for _, way := range []struct {
				from, to *lab.Host
				address  string
			}{
				{c.server, c.client, innerA + ":7000"}, {c.client, c.server, "[" + innerB6 + "]:7000"},
			} {
				begin := time.Now()
				transfer(t, way.from, way.to, way.address, 4<<20)
				within(t, fmt.Sprintf("4 MiB from the %s", way.from.Name), time.Since(begin), 15*time.Second)
			}
			// What fits into no message goes too.
			ping(t, c.client, innerB, 3, "-s", "1392")
			ping(t, c.client, innerB6, 3, "-s", "1232")
			if !w.measured {
				return
			}
			for _, h := range []*lab.Host{c.client, c.server} {
				awaitPeer(t, h, "measured at 1280", func(p shownPeer) bool { return p.PathMTU >= 1260 && p.PathMTU <= 1280 })
			}
		})
	}
}

func TestAPathThatNarrowsAndWidensIsFollowed(t *testing.T) {
	c := newCrossing(t)
	c.hinder(dropICMP)
	up(c.server, c.serverFile("", ""))
	up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820\n"))
	c.firstPing(time.Now())
	awaitPeer(t, c.client, "measured at 1500", func(p shownPeer) bool { return p.PathMTU == 1500 })
	pause := c.transferWhile(c.server, c.client, innerA+":7000", func() {
		begin := time.Now()
		c.narrow(1300)
		await(t, "the path is measured at 1300", func() bool {
			p := showPeer(t, c.server)
			return p.PathMTU > 1280 && p.PathMTU <= 1300
		})
		within(t, "the narrower path is known", time.Since(begin), pauseBound)
		ping(t, c.client, innerB, 20)
	})
	within(t, "longest pause", pause, pauseBound)
	// As an administrator would ask for it; by itself it is found out within minutes.
	begin := time.Now()
	c.narrow(1500)
	pause = c.transferWhile(c.server, c.client, innerA+":7000", func() {
		for showPeer(t, c.server).PathMTU != 1500 && time.Since(begin) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
	})
	within(t, "the wider path is known", time.Since(begin), time.Minute)
	within(t, "longest pause", pause, 2*time.Second)
}

// Full frames of 1500 bytes, where the network between the sites carries 1280
// and says nothing.
func TestFullFramesPassABlackHole(t *testing.T) {
	for _, w := range []struct{ name, transport string }{{"UDP", "udp"}, {"TCP", "tcp"}} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			n := newLAN(t, 2, 1500)
			n.mesh(takesTCP)
			for _, s := range n.sites {
				withPeerKeys(t, n.Lab, s.conf, "Transport = "+w.transport+"\n")
				s.vpn.Batch("link set eth0 gso_max_segs 1")
				n.between.Batch("link set " + s.vpn.Name + " mtu 1280")
			}
			n.up()
			one, two := n.sites[0].hosts[0], n.sites[1].hosts[0]
			begin := time.Now()
			ping(t, one.Host, two.ip.String(), 3, "-s", "1472", "-M", "do")
			within(t, "full frames pass", time.Since(begin), 10*time.Second)
			transfer(t, one.Host, two.Host, two.ip.String()+":7000", 4<<20)
			transfer(t, two.Host, one.Host, "["+one.ip6.String()+"]:7000", 4<<20)
		})
	}
}
