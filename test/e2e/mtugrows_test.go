package e2e

import (
	"strings"
	"testing"

	"stunnel/test/lab"
)

// The MTU that up has chosen by itself grows when the host's own network does.
func TestTheMTUGrowsWithTheHostsOwnNetwork(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	for _, host := range []*lab.Host{h.alpha, h.beta} {
		host.Run("ip", "link", "set", "eth0", "mtu", "1400")
	}
	a, b := up(h.alpha, h.alphaConf), up(h.beta, h.conf)
	introduce(t, h, a, b)
	mtu := func(want string) func() bool {
		return func() bool {
			h.alpha.Run("ping", "-n", "-c", "2", "-i", "0.1", innerB)
			return strings.Contains(h.alpha.Run("ip", "link", "show", "tun0"), "mtu "+want+" ")
		}
	}
	await(t, "the MTU is 1320", mtu("1320"))
	for _, host := range []*lab.Host{h.alpha, h.beta} {
		host.Run("ip", "link", "set", "eth0", "mtu", "1500")
	}
	await(t, "the MTU is 1420", mtu("1420"))
}
