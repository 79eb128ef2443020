package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The connection itself must not go into the tunnel that it carries, and a kill
// switch lets it out, and nothing else.
func TestAFullTunnelWithAKillSwitchGoesOverTCP(t *testing.T) {
	c := newCrossing(t)
	c.server.Address(farAway+"/32", "lo")
	c.server.Address(farAway6+"/128", "lo")
	c.names("vpn.example.net=" + farServer)
	up(c.server, c.serverFile("ListenTCP = 443\n", ""))
	path := c.clientFileFor(everything, "KillSwitch = yes\n", "Endpoint = vpn.example.net:51820\nEndpointTCP = vpn.example.net:443\n")
	before := wholeState(c.client)
	c.hinder(dropUDP)
	end := beginFlows(t, c.router, "eth0")
	begin := time.Now()
	a := up(c.client, path)
	within(t, "first ping after up", c.firstPing(begin), firstPingBound)
	endPester := beginPester(t, c.client, farSecond+":9", "["+farSecond6+"]:9")
	ping(t, c.client, farAway, 3)
	ping(t, c.client, farAway6, 3)
	transfer(t, c.client, c.server, farAway+":7000", 4<<20)
	// Back to UDP and away from it again, in the same full tunnel.
	c.hinder()
	c.awaitCarrier(c.client, "udp", time.Minute)
	ping(t, c.client, farAway, 3)
	endPester()
	for flow := range end() {
		switch {
		case strings.HasPrefix(flow, fmt.Sprintf("tcp %s > %s:", farServer, nearClient)), strings.HasPrefix(flow, fmt.Sprintf("udp %s > %s:", farServer, nearClient)),
			strings.HasPrefix(flow, fmt.Sprintf("udp %s > %s:", nearRouter, nearClient)):
		case flow == fmt.Sprintf("tcp %s > %s:443", nearClient, farServer), flow == fmt.Sprintf("udp %s > %s:51820", nearClient, farServer),
			flow == fmt.Sprintf("udp %s > %s:53", nearClient, nearRouter):
		default:
			t.Errorf("there leaked %q", flow)
		}
	}
	if status := a.Stop(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	sameWholeState(t, c.client, before, "down")
}
