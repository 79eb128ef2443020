package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"stunnel/device/capture"
)

// What is kept of a name's address is kept for a second, as the tests' name
// server says, but a name is not asked for more often than each 5 s.
const namesBound = 30 * time.Second

// names makes the client ask a name server on the router, which it starts, for
// what stands in the zone: NAME=ADDRESS, and so on. What it returns writes the
// zone anew.
func (c *crossing) names(records ...string) (move func(records ...string)) {
	c.t.Helper()
	c.askRouter()
	path := c.File("zone", strings.Join(records, "\n"))
	c.router.Start(tool("tool-dns", nearRouter, "@"+path)...).Await("serving")
	return func(records ...string) {
		c.t.Helper()
		// By a rename, as the server may be reading.
		if err := os.Rename(c.File("zone.new", strings.Join(records, "\n")), path); err != nil {
			c.t.Fatal(err)
		}
	}
}

// askRouter makes the router the client's name server.
func (c *crossing) askRouter() {
	c.t.Helper()
	c.client.Etc()
	c.client.Run("sh", "-c", "rm -f /etc/resolv.conf && echo 'nameserver "+nearRouter+"\noptions timeout:1 attempts:1' > /etc/resolv.conf")
}

// usesEndpoint checks where the client's packets go.
func (c *crossing) usesEndpoint(endpoint string) {
	c.t.Helper()
	if p := showPeer(c.t, c.client); p.Endpoint != endpoint {
		c.t.Errorf("the endpoint is %s, want %s", p.Endpoint, endpoint)
	}
}

func TestASecondEndpointIsUsedWhereTheFirstIsDead(t *testing.T) {
	for _, w := range []struct{ name, endpoints string }{
		{"UDP", "Endpoint = " + farServer + ":51820\nEndpoint = " + farSecond + ":51820\nTransport = udp\n"},
		{"TCP", "Endpoint = " + farServer + ":51820, " + farSecond + ":51820\nTransport = tcp\n"},
	} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			c.hinder(dropFirst)
			up(c.server, c.serverFile(takesTCP, ""))
			begin := time.Now()
			up(c.client, c.clientFile("", w.endpoints))
			within(t, "first ping after up, first endpoint dead", c.firstPing(begin), firstPingBound)
			c.usesEndpoint(farSecond + ":51820")

			// The other way round in mid-download.
			pause := c.transferWhile(c.server, c.client, innerA+":7000", func() {
				c.hinder(dropSecond)
				await(t, "the client is at the first", func() bool { return showPeer(t, c.client).Endpoint == farServer+":51820" })
				ping(t, c.client, innerB, 3)
			})
			within(t, "longest pause, second endpoint dead", pause, pauseBound)
			c.hinder()
			ping(t, c.client, innerB, 3)
			c.usesEndpoint(farServer + ":51820") // it works: nothing moves it
		})
	}
}

func TestIPv6ThatIsAdvertisedAndBrokenCostsAMoment(t *testing.T) {
	for _, w := range []struct{ name, endpoint string }{
		{"of a name", "Endpoint = vpn.example.net:51820\n"},
		{"in a list", "Endpoint = [" + farServer6 + "]:51820, " + farServer + ":51820\n"},
		{"of a name, over TCP", "Endpoint = vpn.example.net:51820\nTransport = tcp\n"},
	} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			c.names("vpn.example.net="+farServer, "vpn.example.net="+farServer6)
			c.hinder(dropIPv6)
			up(c.server, c.serverFile(takesTCP, ""))
			begin := time.Now()
			up(c.client, c.clientFile("", w.endpoint))
			within(t, "first ping after up", c.firstPing(begin), firstPingBound)
			c.usesEndpoint(farServer + ":51820")
		})
	}
}

func TestANameThatMovesIsFollowedWhenItsOldAddressIsSilent(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			c := newCrossing(t)
			move := c.names("vpn.example.net=" + farServer)
			up(c.server, c.serverFile(takesTCP, ""))
			a := up(c.client, c.clientFile("", "Endpoint = vpn.example.net:51820\nTransport = "+transport+"\n"))
			c.firstPing(time.Now())
			c.usesEndpoint(farServer + ":51820")

			// An answer alone moves nothing.
			move("vpn.example.net=" + farSecond)
			transfer(t, c.client, c.server, innerB+":7000", 1<<20)
			c.usesEndpoint(farServer + ":51820")

			begin := time.Now()
			c.hinder(dropFirst)
			pinging := c.client.Start("ping", "-n", "-i", "0.2", innerB)
			defer pinging.Kill()
			for showPeer(t, c.client).Endpoint != farSecond+":51820" && time.Since(begin) < namesBound {
				time.Sleep(100 * time.Millisecond)
			}
			c.firstPing(begin)
			within(t, "the way to the new address", time.Since(begin), namesBound)
			c.usesEndpoint(farSecond + ":51820")
			if !strings.Contains(a.Output(), "vpn.example.net") {
				t.Errorf("the log does not say that the name has moved:\n%s", a.Output())
			}
		})
	}
}

func TestATunnelStartsWithoutNamesAndComesUpWithThem(t *testing.T) {
	c := newCrossing(t)
	c.askRouter()
	up(c.server, c.serverFile("", ""))
	begin := time.Now()
	up(c.client, c.clientFile("", "Endpoint = vpn.example.net:51820\n"))
	within(t, "up without a name server", time.Since(begin), 15*time.Second)
	if out, err := c.client.Try("ping", "-n", "-c", "1", "-W", "1", innerB); err == nil {
		t.Fatalf("there is an answer, and nobody knew where: %s", out)
	}
	begin = time.Now()
	c.router.Start(tool("tool-dns", nearRouter, "vpn.example.net="+farServer)...).Await("serving")
	within(t, "first ping once there is a name server", c.firstPing(begin), namesBound)
}

// A laptop comes to another network: the peer is tried at once, not when the
// 5 s after the last initiation are over.
func TestAnotherWayOutIsTriedAtOnce(t *testing.T) {
	c := newCrossing(t)
	const other = "192.0.2.3"
	c.router.Batch("address add " + other + "/24 dev eth0")
	c.hinder(dropUDP)
	up(c.server, c.serverFile("", ""))
	wire := c.client.Capture("eth0")
	p := up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820\nTransport = udp\nPersistentKeepalive = 25\n"))
	initiation := func(after time.Time) func(capture.Frame) bool {
		return func(f capture.Frame) bool {
			const payload = 14 + 20 + 8 // Ethernet, IPv4, UDP
			return f.Sent && len(f.Data) == payload+148 && f.Data[payload] == 1 && f.At.After(after)
		}
	}
	lost := wire.Await("an initiation that is dropped", initiation(time.Time{}))
	c.hinder()
	changed := time.Now()
	c.client.Batch("route replace default via " + other)
	next := wire.Await("an initiation by the other way", initiation(lost.At))
	p.Await("first handshake")
	within(t, "initiation after another default route", next.At.Sub(changed), 2*time.Second)
	within(t, "initiations apart, which are 5 s else", next.At.Sub(lost.At), 4*time.Second)
}

// And with the tunnel running: it has another address there, and a connection made from the old one is of no use.
func TestATunnelGoesOnFromAnotherAddress(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			c := newCrossing(t)
			up(c.server, c.serverFile(takesTCP, ""))
			up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820\nTransport = "+transport+"\n"))
			c.firstPing(time.Now())
			const other = "192.0.2.77"
			begin := time.Now()
			c.client.Batch("address del "+nearClient+"/24 dev eth0", "address add "+other+"/24 dev eth0", "route add default via "+nearRouter)
			within(t, "first ping after another address", c.firstPing(begin), 3*time.Second)
			if p := showPeer(t, c.server); !strings.HasPrefix(p.Endpoint, other+":") {
				t.Errorf("the server's endpoint is %s", p.Endpoint)
			}
		})
	}
}

// A host loses its addresses of one family, and the other leads to the same peer.
func TestTheOtherFamilyIsTriedWhenOneIsLost(t *testing.T) {
	c := newCrossing(t)
	up(c.server, c.serverFile("", ""))
	up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820, ["+farServer6+"]:51820\nTransport = udp\n"))
	c.firstPing(time.Now())
	c.client.Batch("address flush dev eth0 to " + nearClient)
	within(t, "first ping without "+nearClient, c.firstPing(time.Now()), 2*time.Second)
	c.usesEndpoint("[" + farServer6 + "]:51820")
}
