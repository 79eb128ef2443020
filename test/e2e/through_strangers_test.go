package e2e

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"stunnel/test/lab"
)

// knocked is what tool-strangers tells.
type knocked struct {
	made, closed, back int
	longest, all       time.Duration
}

// beginStrangers lets a host knock at the server's TCP port; what it returns
// waits for the end of that, and fails the test if a byte came back or a
// connection was left open.
func (c *crossing) beginStrangers(h *lab.Host, kind string, count int, from ...string) (end func() knocked) {
	c.t.Helper()
	p := h.Start(tool(append([]string{"tool-strangers", kind, farServer + ":51820", fmt.Sprint(count)}, from...)...)...)
	p.Await("knocking")
	return func() (k knocked) {
		c.t.Helper()
		if status := p.Wait(); status != 0 {
			c.t.Fatalf("tool-strangers: %s", p.Output())
		}
		var longest, all int
		if _, err := fmt.Sscanf(p.Output(), "knocking\n%d %d %d %d %d\n", &k.made, &k.closed, &k.back, &longest, &all); err != nil {
			c.t.Fatalf("tool-strangers: %v: %s", err, p.Output())
		}
		k.longest, k.all = time.Duration(longest)*time.Millisecond, time.Duration(all)*time.Millisecond
		if k.back != 0 {
			c.t.Errorf("%s strangers have learned %d bytes", kind, k.back)
		}
		if k.closed != k.made {
			c.t.Errorf("of %d %s strangers %d were still connected after 20 s", k.made, kind, k.made-k.closed)
		}
		c.t.Logf("%d %s strangers: %.0f refused per second, the longest was there for %v", k.made, kind, float64(k.made)/k.all.Seconds(), k.longest)
		return k
	}
}

var residentSize = regexp.MustCompile(`VmRSS:\s*(\d+ kB)`)

// resident is the memory that a process has.
func resident(t *testing.T, p *lab.Process) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return residentSize.FindStringSubmatch(string(status))[1]
}

// They come from some addresses of the server's own network, as none of the
// limits is to hit the peer's address.
func TestStrangersAtTheTCPPortDoNotDisturbAPeer(t *testing.T) {
	c := newCrossing(t)
	var silent, others []string
	for i := range 20 {
		a := fmt.Sprintf("198.51.100.%d", 100+i)
		c.router.Address(a+"/32", "eth1")
		if i < 10 {
			silent = append(silent, a)
		} else {
			others = append(others, a)
		}
	}
	b := up(c.server, c.serverFile(takesTCP, ""))
	up(c.client, c.clientFile("", tcpEndpoint))
	c.firstPing(time.Now())
	before := resident(t, b)
	pause := c.transferWhile(c.server, c.client, innerA+":7000", func() {
		endSilent := c.beginStrangers(c.router, "silent", 1000, silent...)
		endSlow := c.beginStrangers(c.router, "slow", 100, others...)
		for _, kind := range []string{"garbage", "http", "large"} {
			c.beginStrangers(c.router, kind, 1000, others...)()
		}
		t.Logf("the server's memory: %s before, %s now", before, resident(t, b))
		if slow := endSlow(); slow.longest > 15*time.Second {
			t.Errorf("a stranger who sends a byte a second was there for %v", slow.longest)
		}
		endSilent()
	})
	within(t, "longest pause", pause, 3*time.Second)
	s := show(t, c.server, "tun0").Interfaces[0]
	if s.Streams != 1 || s.Strangers < 3000 {
		t.Errorf("the server has %d connections, and counts %d strangers", s.Streams, s.Strangers)
	}
	// A new peer's connection is as welcome as before.
	c.client.Run(binary, "down", "tun0")
	up(c.client, c.clientFile("", tcpEndpoint))
	within(t, "first ping after up", c.firstPing(time.Now()), firstPingBound)
}

// Strangers that hold all connections there are to be had do not keep a peer out.
func TestAPeerComesInWhileStrangersHoldThePort(t *testing.T) {
	c := newCrossing(t)
	c.hinder(dropUDP)
	var from []string
	for i := range 60 {
		a := fmt.Sprintf("198.51.100.%d", 100+i)
		c.router.Address(a+"/32", "eth1")
		from = append(from, a)
	}
	up(c.server, c.serverFile(takesTCP, ""))
	end := c.beginStrangers(c.router, "slow", 300, from...)
	begin := time.Now()
	up(c.client, c.clientFile("", autoEndpoint))
	within(t, "first ping after up", c.firstPing(begin), firstPingBound)
	end()
}
