package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"stunnel/test/lab"
)

// With an MTU in the file the interface does not follow, and so whoever sends what is too long is told, also a host
// behind the tunnel's end that has never heard of a tunnel.
func TestSendersLearnWhatThePathCarriesAndNothingIsLostMeanwhile(t *testing.T) {
	c := newCrossing(t)
	c.narrow(1300)
	c.hinder(dropICMP)
	const behind, behind6 = "10.1.0.2", "fd01::2"
	host := c.Host("behind")
	c.Link("lan", c.client, []string{"10.1.0.1/24", "fd01::1/64"}, host, []string{behind + "/24", behind6 + "/64"})
	c.client.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	host.Batch("route add default via 10.1.0.1", "route add default via fd01::1")
	up(c.server, withPeerKeys(t, c.Lab, c.serverFile("MTU = 1420\n", ""), "AllowedIPs = 10.1.0.0/24, fd01::/64\n"))
	up(c.client, c.clientFile("MTU = 1420\n", "Endpoint = "+farServer+":51820\n"))
	c.firstPing(time.Now())
	ping(t, c.client, innerB, 30, "-s", "1392") // all of them pass, from the first on
	for _, from := range []*lab.Host{c.client, host} {
		for to, mtu := range map[string]int{innerB: 1300 - 60, innerB6: 1280} {
			// Nobody is told before the search is at its end.
			await(t, fmt.Sprintf("%s is told what fits the way to %s", from.Name, to), func() bool {
				out, _ := from.Try("ping", "-n", "-c", "2", "-i", "0.2", "-M", "do", "-s", "1360", to)
				return strings.Contains(out, "Frag needed") || strings.Contains(out, "Packet too big") || strings.Contains(out, "message too long")
			})
			m := regexp.MustCompile(`mtu (\d+)`).FindStringSubmatch(from.Run("ip", "route", "get", to))
			if len(m) == 0 {
				t.Errorf("%s has not learnt what fits the way to %s", from.Name, to)
			} else if got, _ := strconv.Atoi(m[1]); got > mtu || got <= mtu-8 {
				t.Errorf("%s takes the way to %s for one of %d, want %d", from.Name, to, got, mtu)
			}
		}
	}
	transfer(t, host, c.server, innerB+":7000", 4<<20)
	transfer(t, c.server, host, "["+behind6+"]:7000", 4<<20)
	mustBeSound(t, c.client, c.server)
}
