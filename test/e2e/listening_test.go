package e2e

import (
	"strings"
	"testing"
	"time"
)

func TestATunnelListensOnOneAddress(t *testing.T) {
	for _, w := range []struct{ transport, address, elsewhere string }{
		{"udp", farSecond + ":51820", farServer + ":51820"},
		{"tcp", farSecond + ":51820", farServer + ":51820"},
		{"udp", "[" + farSecond6 + "]:51820", farSecond + ":51820"},
	} {
		t.Run(w.transport+" "+w.address, func(t *testing.T) {
			c := newCrossing(t)
			host := w.address[:strings.LastIndex(w.address, ":")]
			up(c.server, c.serverFile(takesTCP+"ListenAddress = "+strings.Trim(host, "[]")+"\n", ""))
			a := up(c.client, c.clientFile("", "Endpoint = "+w.elsewhere+"\nTransport = "+w.transport+"\n"))
			if out, err := c.client.Try("ping", "-n", "-c", "3", "-i", "0.5", "-W", "1", innerB); err == nil {
				t.Errorf("it listens elsewhere too: %s", out)
			}
			a.Stop()
			up(c.client, c.clientFile("", "Endpoint = "+w.address+"\nTransport = "+w.transport+"\n"))
			c.firstPing(time.Now())
			c.usesEndpoint(w.address)
			for _, kind := range []string{"-lun", "-ltn"} {
				out := c.server.Run("ss", kind)
				if !strings.Contains(out, strings.Trim(host, "[]")) || strings.Count(out, ":51820") != 1 {
					t.Errorf("ss %s:\n%s", kind, out)
				}
			}
		})
	}
}

// The server's default route leads by eth1.
func TestATunnelIsBoundToAnUplink(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			c := newCrossing(t)
			c.server.Batch("route add default via 203.0.113.1 dev eth2 metric 500")
			up(c.server, c.serverFile(takesTCP+"BindDevice = eth2\n", ""))
			up(c.client, c.clientFile("", "Endpoint = "+farSecond+":51820\nTransport = "+transport+"\n"))
			other := beginFlows(t, c.router, "eth1")
			c.firstPing(time.Now())
			transfer(t, c.server, c.client, innerA+":7000", 4<<20)
			if left := others(other()); len(left) > 0 {
				t.Errorf("there went by the other uplink %q", left)
			}
		})
	}
}

func TestWhereATunnelCannotListenItSaysWhy(t *testing.T) {
	c := newCrossing(t)
	up(c.server, c.serverFile(takesTCP, ""))
	second := func(lines string) string {
		return c.File("server/tun1.conf", "[Interface]\nPrivateKey = "+newPair(t).private+"\n"+lines)
	}
	before := state(c.server)
	for _, w := range []struct {
		what, lines string
		says        []string
	}{
		{"the port of another interface", "ListenPort = 51820\n", []string{"51820", "tun0"}},
		{"the TCP port of another interface", "ListenPort = 51821\nListenTCP = 51820\n", []string{"51820", "TCP", "tun0"}},
		{"an address that is not here", "ListenPort = 51821\nListenAddress = 192.0.2.99\n", []string{"192.0.2.99"}},
		{"a device that is not here", "ListenPort = 51821\nBindDevice = eth9\n", []string{"eth9"}},
	} {
		t.Run(w.what, func(t *testing.T) {
			p := c.server.Start(binary, "up", second(w.lines))
			if status := p.Wait(); status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			for _, word := range w.says {
				if !strings.Contains(p.Output(), word) {
					t.Errorf("it said %q, which has no %q", p.Output(), word)
				}
			}
			sameState(t, c.server, before)
		})
	}
	c.server.Start(tool("tool-sink", ":443")...).Await("listening")
	p := c.server.Start(binary, "up", second("ListenTCP = 443\n"))
	if status := p.Wait(); status != 1 || !strings.Contains(p.Output(), "443") || !strings.Contains(p.Output(), "TCP") {
		t.Errorf("a TCP port that another program has: exit status %d: %s", status, p.Output())
	}
}
