package e2e

import (
	"strings"
	"testing"
	"time"

	"stunnel/test/lab"
)

// Where the server takes TCP, and what the client says of the server.
const (
	takesTCP     = "ListenTCP = 51820\n"
	autoEndpoint = "Endpoint = " + farServer + ":51820\nTransport = auto\n"
	tcpEndpoint  = "Endpoint = " + farServer + ":51820\nTransport = tcp\n"
)

// The goals for a user who waits are 3 s until the first ping and 5 s of pause.
// The bounds of tests are for machines that do much else.
const (
	firstPingBound = 10 * time.Second
	pauseBound     = 15 * time.Second
)

func within(t *testing.T, what string, d, bound time.Duration) {
	t.Helper()
	t.Logf("%s: %v", what, d.Round(time.Millisecond))
	if d > bound {
		t.Errorf("%s: %v, which is more than %v", what, d, bound)
	}
}

func TestATunnelComesUpWhereUDPIsDropped(t *testing.T) {
	for _, w := range []struct{ name, endpoint string }{
		{"IPv4", "Endpoint = " + farServer + ":51820\nTransport = auto\n"},
		{"IPv6", "Endpoint = [" + farServer6 + "]:51820\nTransport = auto\n"},
		{"auto, since the file has an EndpointTCP", "Endpoint = " + farServer + ":51820\nEndpointTCP = " + farServer + ":51820\n"},
	} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			c.hinder(dropUDP)
			up(c.server, c.serverFile(takesTCP, ""))
			begin := time.Now()
			a := up(c.client, c.clientFile("", w.endpoint))
			within(t, "first ping after up", c.firstPing(begin), firstPingBound)
			for _, h := range []*lab.Host{c.client, c.server} {
				p := c.awaitCarrier(h, "tcp", 5*time.Second)
				t.Logf("%s: over TCP, since %s", h.Name, p.CarrierWhy)
			}
			if c.hits() == 0 {
				t.Error("UDP was not even tried")
			}
			transfer(t, c.client, c.server, innerB+":7000", 8<<20)
			transfer(t, c.server, c.client, "["+innerA6+"]:7000", 8<<20)
			if n := strings.Count(a.Output(), "now over TCP"); n != 1 {
				t.Errorf("the log has %d lines about one change:\n%s", n, a.Output())
			}
			mustBeSoundOverTCP(t, c.client, c.server)
		})
	}
}

func TestUpSaysWhichLineIsMissingWhereUDPIsDropped(t *testing.T) {
	c := newCrossing(t)
	c.hinder(dropUDP)
	up(c.server, c.serverFile(takesTCP, ""))
	a := up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820\n"))
	c.client.Start("ping", "-n", "-i", "0.5", innerB)
	const line = "EndpointTCP = "
	a.Await(line)
	for _, args := range [][]string{{"show", "tun0"}, {"doctor", "tun0"}} {
		if out, _ := c.client.Try(append([]string{binary}, args...)...); !strings.Contains(out, line) {
			t.Errorf("stunnel %s does not say it:\n%s", args[0], out)
		}
	}
}

// A tunnel that has worked, too, tells what is wrong a moment later, and what mends it.
func TestShowAndTheDoctorSayThatAPeerHasFallenSilent(t *testing.T) {
	c := newCrossing(t)
	up(c.server, c.serverFile(takesTCP, ""))
	a := up(c.client, c.clientFile("", "Endpoint = "+farServer+":51820\n"))
	c.firstPing(time.Now())
	const says, line, finding = "a new one has had no answer", "EndpointTCP = ", "no_handshake"
	if out := c.client.Run(binary, "show", "tun0"); strings.Contains(out, says) || strings.Contains(out, line) {
		t.Errorf("show says of a tunnel that works:\n%s", out)
	}
	c.hinder(dropUDP)
	c.client.Start("ping", "-n", "-i", "0.5", innerB)
	a.Await("no answer to handshake")
	if out := c.client.Run(binary, "show", "tun0"); !strings.Contains(out, says) || !strings.Contains(out, line) {
		t.Errorf("show does not say it:\n%s", out)
	}
	if out, err := c.client.Try(binary, "doctor", "tun0"); err == nil || !strings.Contains(out, finding) || !strings.Contains(out, line) {
		t.Errorf("the doctor does not say it (%v):\n%s", err, out)
	}
	c.hinder()
	c.firstPing(time.Now())
	if out := c.client.Run(binary, "show", "tun0"); strings.Contains(out, says) || strings.Contains(out, line) {
		t.Errorf("show says of a tunnel that works again:\n%s", out)
	}
}

func TestUDPIsCutInMidDownloadAndAllowedAgain(t *testing.T) {
	for _, w := range []struct {
		name string
		down bool // the client, which alone can dial, receives
	}{{"download", true}, {"upload", false}} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			up(c.server, c.serverFile(takesTCP, ""))
			a := up(c.client, c.clientFile("", autoEndpoint))
			c.firstPing(time.Now())
			c.awaitCarrier(c.client, "udp", 5*time.Second)
			from, to, address := c.client, c.server, innerB+":7000"
			if w.down {
				from, to, address = c.server, c.client, innerA+":7000"
			}
			pause := c.transferWhile(from, to, address, func() {
				cut := time.Now()
				c.hinder(dropUDP)
				p := c.awaitCarrier(c.client, "tcp", 20*time.Second)
				within(t, "UDP is left ("+p.CarrierWhy+")", time.Since(cut), pauseBound)
				c.awaitCarrier(c.server, "tcp", 5*time.Second)
				allowed := time.Now()
				c.hinder()
				p = c.awaitCarrier(c.client, "udp", 60*time.Second)
				within(t, "UDP is back ("+p.CarrierWhy+")", time.Since(allowed), 60*time.Second)
				c.awaitCarrier(c.server, "udp", 5*time.Second)
			})
			within(t, "longest pause", pause, pauseBound)
			// It stays there, and the connection goes with its last session.
			transfer(t, from, to, address, 8<<20)
			for _, h := range []*lab.Host{c.client, c.server} {
				if p := showPeer(t, h); p.Carrier != "udp" {
					t.Errorf("%s: %+v", h.Name, p)
				}
			}
			for _, line := range []string{"now over TCP", "now over UDP"} {
				if n := strings.Count(a.Output(), line); n != 1 {
					t.Errorf("the log has %d times %q:\n%s", n, line, a.Output())
				}
			}
		})
	}
}

func TestSmallPacketsPassAndLargeOnesDoNot(t *testing.T) {
	for _, w := range []struct{ name, rule string }{
		{"UDP of more than 1200 bytes is dropped", "meta l4proto udp meta length > 1200 counter name hit drop"},
		{"everything of more than 1200 bytes is dropped", "meta length > 1200 counter name hit drop"},
	} {
		t.Run(w.name, func(t *testing.T) {
			c := newCrossing(t)
			c.hinder(w.rule)
			up(c.server, c.serverFile(takesTCP, ""))
			up(c.client, c.clientFile("", autoEndpoint))
			c.firstPing(time.Now())
			begin := time.Now()
			transfer(t, c.server, c.client, innerA+":7000", 2<<20)
			within(t, "2 MiB down", time.Since(begin), 30*time.Second)
			begin = time.Now()
			transfer(t, c.client, c.server, innerB+":7000", 2<<20)
			within(t, "then 2 MiB up", time.Since(begin), 20*time.Second)
			p := showPeer(t, c.client)
			t.Logf("now over %s: %s", p.Carrier, p.CarrierWhy)
			if c.hits() == 0 {
				t.Error("nothing was dropped")
			}
		})
	}
}
