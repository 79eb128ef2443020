package e2e

import (
	endian "encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

func TestATunnelOverNothingButTCP(t *testing.T) {
	for _, w := range []struct{ name, server, serverPeer, clientPeer, at string }{
		{"at the port of Endpoint", takesTCP, "", tcpEndpoint, "51820"},
		{"at port 443 that EndpointTCP names", "ListenTCP = 443", "", tcpEndpoint + "EndpointTCP = " + farServer + ":443\n", "443"},
	} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			beforeClient, beforeServer := state(c.client), state(c.server)
			end := beginFlows(t, c.router, "eth0")
			b := up(c.server, c.serverFile(w.server, w.serverPeer))
			a := up(c.client, c.clientFile("", w.clientPeer))
			c.firstPing(time.Now())
			ping(t, c.server, innerA6, 5, "-s", "1392")
			transfer(t, c.client, c.server, innerB+":7000", 16<<20)
			transfer(t, c.server, c.client, "["+innerA6+"]:7000", 16<<20)
			for _, h := range []*lab.Host{c.client, c.server} {
				c.awaitCarrier(h, "tcp", 5*time.Second)
			}
			if s := show(t, c.server, "tun0").Interfaces[0]; s.Streams != 1 || s.Strangers != 0 {
				t.Errorf("the server has %d connections and %d strangers", s.Streams, s.Strangers)
			}
			mustBeSoundOverTCP(t, c.client, c.server)
			for _, p := range []*lab.Process{a, b} {
				if status := p.Stop(); status != 0 {
					t.Errorf("exit status %d, want 0", status)
				}
			}
			for flow := range end() {
				to := fmt.Sprintf("tcp %s > %s:%s", nearClient, farServer, w.at)
				if flow != to && !strings.HasPrefix(flow, fmt.Sprintf("tcp %s > %s:", farServer, nearClient)) {
					t.Errorf("there was %q", flow)
				}
			}
			sameState(t, c.client, beforeClient)
			sameState(t, c.server, beforeServer)
		})
	}
}

func TestOfTwoConnectionsThatCrossOneIsKept(t *testing.T) {
	c := newCrossing(t)
	back := "Endpoint = " + nearClient + ":51820\nTransport = tcp\n"
	up(c.server, c.serverFile(takesTCP, back+"PersistentKeepalive = 1\n"))
	up(c.client, c.clientFile("ListenPort = 51820\n"+takesTCP, tcpEndpoint+"PersistentKeepalive = 1\n"))
	c.firstPing(time.Now())
	ping(t, c.server, innerA, 3)
	for _, h := range []*lab.Host{c.client, c.server} {
		await(t, h.Name+" has one connection", func() bool { return show(t, h, "tun0").Interfaces[0].Streams == 1 })
	}
	pause := c.transferWhile(c.server, c.client, innerA+":7000", func() {
		transfer(t, c.client, c.server, innerB+":7000", 8<<20)
	})
	within(t, "longest pause", pause, 3*time.Second)
}

func TestAConnectionThatIsResetIsMadeAgain(t *testing.T) {
	for _, w := range []struct{ name, endpoint string }{{"tcp", tcpEndpoint}, {"auto", autoEndpoint}} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			c.hinder(dropUDP)
			up(c.server, c.serverFile(takesTCP, ""))
			up(c.client, c.clientFile("", w.endpoint))
			c.firstPing(time.Now())
			pause := c.transferWhile(c.server, c.client, innerA+":7000", func() {
				// Handshakes are at least 5 s apart.
				awaitPeer(t, c.client, "no longer new", func(p shownPeer) bool { return p.HandshakeAgo > 5.5 })
				c.hinder(dropUDP, resetTCP)
				await(t, "a reset", func() bool { return c.hits() > 0 })
				c.hinder(dropUDP)
				ping(t, c.client, innerB, 10)
			})
			within(t, "longest pause", pause, pauseBound)
			c.awaitCarrier(c.client, "tcp", 5*time.Second)
		})
	}
}

func TestAServerThatIsRestartedIsFoundAgainOverTCP(t *testing.T) {
	for _, w := range []struct {
		name string
		end  func(*lab.Process)
	}{
		{"ended", func(p *lab.Process) { p.Stop() }},
		{"killed", func(p *lab.Process) { p.Kill() }},
	} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			c.hinder(dropUDP)
			conf := c.serverFile(takesTCP, "")
			b := up(c.server, conf)
			up(c.client, c.clientFile("", autoEndpoint))
			c.firstPing(time.Now())
			w.end(b)
			up(c.server, conf)
			within(t, "first ping after the server's up", c.firstPing(time.Now()), pauseBound)
			transfer(t, c.server, c.client, innerA+":7000", 1<<20)
		})
	}
}

func TestEthernetOverTCP(t *testing.T) {
	t.Parallel()
	n := newLAN(t, 2, 1500)
	n.mesh(takesTCP)
	for _, s := range n.sites {
		withPeerKeys(t, n.Lab, s.conf, "Transport = tcp\n")
	}
	n.up()
	one, two := n.sites[0].hosts[0], n.sites[1].hosts[0]
	ping(t, one.Host, two.ip.String(), 5, "-s", "1472", "-M", "do")
	transfer(t, one.Host, two.Host, two.ip.String()+":7000", 16<<20)
	transfer(t, two.Host, one.Host, "["+one.ip6.String()+"]:7000", 16<<20)
	for _, s := range n.sites {
		if p := show(t, s.vpn, "lan0").Interfaces[0].Peers[0]; p.Carrier != "tcp" {
			t.Errorf("%s: %+v", s.vpn.Name, p)
		}
	}
}

// A man on the side holds back a datagram and sends it on a connection of his own. It is delivered, as it is
// authentic, and that is all: nothing ever goes to him.
func TestWhoSendsACopyOnAConnectionOfHisOwnGetsNothing(t *testing.T) {
	c := newCrossing(t)
	up(c.server, c.serverFile(takesTCP, ""))
	up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820\n"))
	c.firstPing(time.Now())
	before := showPeer(t, c.server)
	const payload = 14 + 20 + 8 // Ethernet, IPv4, UDP
	const least, most = 1060, 1120
	c.hinder(fmt.Sprintf("ip daddr %s meta length %d-%d counter name hit drop", farServer, payload-14+least, payload-14+most))
	wire := c.client.Capture("eth0")
	pinging := c.client.Start("ping", "-n", "-c", "1", "-W", "20", "-s", "1000", innerB)
	held := wire.Await("the datagram with the echo request", func(f capture.Frame) bool {
		return f.Sent && len(f.Data) >= payload+least && len(f.Data) <= payload+most && f.Data[payload] == 4
	})
	var man net.Conn
	c.router.Do(func() (err error) {
		man, err = net.Dial("tcp", farServer+":51820")
		return err
	})
	defer man.Close()
	message := held.Data[payload:]
	if _, err := man.Write(append(endian.BigEndian.AppendUint16(nil, uint16(len(message))), message...)); err != nil {
		t.Fatal(err)
	}
	if status := pinging.Wait(); status != 0 {
		t.Error("what the copy carried was not answered")
	}
	if c.hits() == 0 {
		t.Error("the router has held nothing back")
	}
	ping(t, c.client, innerB, 3)
	ping(t, c.server, innerA, 3)
	if p := showPeer(t, c.server); p.Endpoint != before.Endpoint || p.Carrier != "udp" {
		t.Errorf("the server's peer is at %s by %s, and was at %s", p.Endpoint, p.Carrier, before.Endpoint)
	}
	c.router.Do(func() error { return man.(*net.TCPConn).CloseWrite() })
	if got, err := io.ReadAll(man); err != nil || len(got) > 0 {
		t.Errorf("%d bytes came to the man (%v)", len(got), err)
	}
}
