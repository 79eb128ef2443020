package e2e

import (
	"strings"
	"testing"
	"time"

	"stunnel/test/lab"
)

// wireguardGo makes tun0 of a host, by wireguard-go and wg(8).
func (c *crossing) wireguardGo(h *lab.Host, self, peer pair, inner, inner6, other, other6 string, more ...string) {
	c.t.Helper()
	for _, command := range []string{"wg", "wireguard-go"} {
		lab.Need(c.t, command)
	}
	h.Run("wireguard-go", "tun0")
	h.Run(append([]string{"wg", "set", "tun0", "private-key", c.File(h.Name+".key", self.private),
		"listen-port", "51820", "peer", peer.public, "allowed-ips", other + "/32," + other6 + "/128"}, more...)...)
	h.Address(inner+"/24", "tun0")
	h.Address(inner6+"/64", "tun0")
	h.Run("ip", "link", "set", "tun0", "mtu", "1420", "up")
}

// What stands in front of WireGuard there is not ours, nor is the program.
func TestWireGuardBehindTCPToUDP(t *testing.T) {
	c := newCrossing(t)
	c.hinder(dropUDP)
	c.wireguardGo(c.server, c.serverKeys, c.clientKeys, innerB, innerB6, innerA, innerA6)
	c.server.Start(tool("tool-tcp2udp", ":443", "127.0.0.1:51820")...).Await("carrying")
	begin := time.Now()
	up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820\nEndpointTCP = "+farServer+":443\nTransport = tcp\n"))
	within(t, "first ping after up", c.firstPing(begin), firstPingBound)
	ping(t, c.server, innerA6, 3)
	transfer(t, c.client, c.server, innerB+":7000", 8<<20)
	transfer(t, c.server, c.client, "["+innerA6+"]:7000", 8<<20)
	p := awaitPeer(t, c.client, "known", func(p shownPeer) bool { return p.Software != "" })
	if p.Software != "wireguard" || p.Carrier != "tcp" {
		t.Errorf("show --json tells %+v", p)
	}
	mustBeSoundOverTCP(t, c.client)
}

func TestWireGuardBehindTCPToUDPIsFoundByAuto(t *testing.T) {
	c := newCrossing(t)
	c.hinder(dropUDP)
	c.wireguardGo(c.server, c.serverKeys, c.clientKeys, innerB, innerB6, innerA, innerA6)
	c.server.Start(tool("tool-tcp2udp", ":443", "127.0.0.1:51820")...).Await("carrying")
	begin := time.Now()
	up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820\nEndpointTCP = "+farServer+":443\n"))
	within(t, "first ping after up", c.firstPing(begin), firstPingBound)
	c.awaitCarrier(c.client, "tcp", 5*time.Second)
	transfer(t, c.server, c.client, innerA+":7000", 4<<20)
}

func TestWireGuardBehindUDPToTCP(t *testing.T) {
	c := newCrossing(t)
	c.hinder(dropUDP)
	b := up(c.server, c.serverFile("ListenTCP = 443\n", ""))
	c.client.Start(tool("tool-udp2tcp", "127.0.0.1:5000", farServer+":443")...).Await("carrying")
	c.wireguardGo(c.client, c.clientKeys, c.serverKeys, innerA, innerA6, innerB, innerB6, "endpoint", "127.0.0.1:5000")
	within(t, "first ping", c.firstPing(time.Now()), firstPingBound)
	ping(t, c.server, innerA6, 3)
	transfer(t, c.client, c.server, innerB+":7000", 8<<20)
	transfer(t, c.server, c.client, "["+innerA6+"]:7000", 8<<20)
	if p := showPeer(t, c.server); p.Carrier != "tcp" || !strings.HasPrefix(p.Endpoint, nearClient+":") {
		t.Errorf("show --json tells %+v", p)
	}
	if strings.Contains(b.Output(), "extensions") {
		t.Errorf("the server says of a plain peer:\n%s", b.Output())
	}
	mustBeSoundOverTCP(t, c.server)
}
