package e2e

import (
	"fmt"
	"testing"

	"stunnel/test/lab"
)

// The tunnel's MTU may be more than the path carries: what is too long leaves in
// parts that fit, as no fragment of IP.
func TestPacketsLongerThanThePathPassInParts(t *testing.T) {
	for _, c := range []struct {
		name                string
		endpointA, endpoint string
		path, inside        int
		header              int // IP's and UDP's outside
	}{
		{"1500 inside 1500, over IPv4", outerA + ":51820", outerB + ":51820", 1500, 1500, 28},
		{"1500 inside 1500, over IPv6", "[" + outerA6 + "]:51820", "[" + outerB6 + "]:51820", 1500, 1500, 48},
		{"1420 inside 1280, over IPv6", "[" + outerA6 + "]:51820", "[" + outerB6 + "]:51820", 1280, 1420, 48},
		{"9000 inside 1500, over IPv4", outerA + ":51820", outerB + ":51820", 1500, 9000, 28},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newTwoHosts(t, c.endpointA, c.endpoint)
			for _, host := range []*lab.Host{h.alpha, h.beta} {
				host.Run("ip", "link", "set", "eth0", "mtu", fmt.Sprint(c.path))
			}
			lines := fmt.Sprintf("MTU = %d\n", c.inside)
			a := up(h.alpha, withKeys(t, h.Lab, h.alphaConf, lines))
			b := up(h.beta, withKeys(t, h.Lab, h.conf, lines))
			introduce(t, h, a, b)
			const pings = 5
			end := beginWatch(t, h.beta, "eth0", "51820")
			ping(t, h.alpha, innerB, pings, "-M", "do", "-s", fmt.Sprint(c.inside-28))
			ping(t, h.alpha, innerB6, pings, "-M", "do", "-s", fmt.Sprint(c.inside-48))
			w := end()
			parts := (c.inside + c.path - c.header - 32 - 4 - 1) / (c.path - c.header - 32 - 4) // what each has room for is less its headers
			if w.Fragments > 0 || w.Longest > c.path || w.Datagrams < 2*pings*parts {
				t.Errorf("for %d pings beta was sent %+v, want at least %d datagrams of at most %d bytes", 2*pings, w, 2*pings*parts, c.path)
			}
			end = beginWatch(t, h.beta, "eth0", "51820")
			everyContent(t, h)
			if w := end(); w.Fragments > 0 || w.Longest > c.path {
				t.Errorf("for content beta was sent %+v", w)
			}
			for _, host := range []*lab.Host{h.alpha, h.beta} {
				if n := counters(host, "FragCreates", "ReasmReqds"); len(n) > 0 {
					t.Errorf("%s has cut packets as IP does: %v", host.Name, n)
				}
			}
			mustBeSound(t, h.alpha, h.beta)
		})
	}
}
