package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"stunnel/test/lab"
)

func TestBehindAKillSwitchEndpointsAreFoundAndNoOtherNameIsAskedOutside(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"/etc/resolv.conf", "systemd-resolved"} {
		t.Run(filepath.Base(by), func(t *testing.T) {
			lab.Need(t, "tcpdump")
			lab.Need(t, "nft")
			r := newResolving(t, "KillSwitch = yes\nDNS = "+innerB+"\n")
			if by == "systemd-resolved" {
				withResolved(t, r)
			}
			before := r.resolved()
			watch := r.beta.Start("tcpdump", "-n", "-l", "-i", "eth0", "dst port 53")
			watch.Await("listening on")
			for range 2 { // the second time behind the lock that the first has left
				p := up(r.alpha, r.alphaConf)
				r.finds(t, "www.corp.example", "10.9.0.80")
				p.Kill()
				if out, err := r.alpha.Try("timeout", "2", "getent", "ahostsv4", "www.isp.example"); err == nil {
					t.Errorf("a name is found outside: %s", out)
				}
			}
			questions := 0
			for line := range strings.Lines(watch.Output()) {
				if !strings.Contains(line, "192.0.2.1.") {
					continue
				}
				if questions++; !strings.Contains(line, "? "+remote) {
					t.Errorf("a question left beside the tunnel: %s", line)
				}
			}
			if questions == 0 {
				t.Errorf("no question for the endpoint was seen: %s", watch.Output())
			}
			r.alpha.Run(binary, "down", "tun0")
			r.same(t, before)
			r.finds(t, "www.isp.example", "192.0.2.67")
		})
	}
}
