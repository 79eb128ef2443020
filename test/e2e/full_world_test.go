package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"stunnel/test/lab"
)

// Addresses of fullWorld: the client has two cables to the router, the servers one.
const (
	cableA, routerA   = "192.0.2.2", "192.0.2.1"
	cableA6, routerA6 = "2001:db8:a::2", "2001:db8:a::1"
	cableB, routerB   = "198.51.100.2", "198.51.100.1"
	cableB6, routerB6 = "2001:db8:b::2", "2001:db8:b::1"

	// farAway is an address of each server's that the router knows nothing of: the way there is a tunnel or none.
	farAway, farAway6 = "10.77.0.1", "fd77::1"
)

// fullWorld is a client, a router, and servers that are the far ends of tunnels for everything.
type fullWorld struct {
	*lab.Lab
	t              *testing.T
	client, router *lab.Host
	servers        []*fullServer
}

type fullServer struct {
	*lab.Host
	keys, clientKeys pair
	outer, outer6    string
	inner, inner6    string // the client's
}

func newFullWorld(t *testing.T, servers int) *fullWorld {
	t.Helper()
	l := lab.New(t)
	for _, command := range []string{"ping", "nft", "sysctl"} {
		lab.Need(t, command)
	}
	w := &fullWorld{Lab: l, t: t, client: l.Host("client"), router: l.Host("router")}
	w.router.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0")
	l.Link("eth0", w.client, []string{cableA + "/24", cableA6 + "/64"}, w.router, []string{routerA + "/24", routerA6 + "/64"})
	l.Link("eth1", w.client, []string{cableB + "/24", cableB6 + "/64"}, w.router, []string{routerB + "/24", routerB6 + "/64"})
	// What comes from where nothing would be sent to is dropped: so marks must be right in both directions.
	w.client.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1")
	w.client.Run("ip", "route", "add", "default", "via", routerA)
	w.client.Run("ip", "-6", "route", "add", "default", "via", routerA6)
	for i := range servers {
		device := fmt.Sprintf("srv%d", i)
		s := &fullServer{
			Host: l.Host(fmt.Sprintf("server%d", i)), keys: newPair(t), clientKeys: newPair(t),
			outer: fmt.Sprintf("203.0.113.%d", 4*i+2), outer6: fmt.Sprintf("2001:db8:c%d::2", i),
			inner: fmt.Sprintf("10.9.%d.2", i), inner6: fmt.Sprintf("fd09:%d::2", i+1),
		}
		near, near6 := fmt.Sprintf("203.0.113.%d", 4*i+1), fmt.Sprintf("2001:db8:c%d::1", i)
		l.Link(device, s.Host, []string{s.outer + "/30", s.outer6 + "/64"}, w.router, []string{near + "/30", near6 + "/64"})
		s.Run("ip", "route", "add", "default", "via", near)
		s.Run("ip", "-6", "route", "add", "default", "via", near6)
		s.Address(farAway+"/32", "lo")
		s.Address(farAway6+"/128", "lo")
		// No sealed packet has any business inside a tunnel.
		s.Run("nft", "add table inet watch; add chain inet watch in { type filter hook prerouting priority -400; }; add rule inet watch in iifname tun0 udp dport 51820 counter")
		up(s.Host, l.File(fmt.Sprintf("server%d/tun0.conf", i), fmt.Sprintf(
			"[Interface]\nPrivateKey = %s\nListenPort = 51820\n[Peer]\nPublicKey = %s\nAllowedIPs = %s/32, %s/128\n",
			s.keys.private, s.clientKeys.public, s.inner, s.inner6)))
		w.servers = append(w.servers, s)
	}
	return w
}

// file is the client's configuration for server i; more goes into [Interface].
func (w *fullWorld) file(name string, i int, allowed, more string) string {
	w.t.Helper()
	s := w.servers[i]
	return w.File("client/"+name+".conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/32, %s/128\n%s\n[Peer]\nPublicKey = %s\nAllowedIPs = %s\nEndpoint = %s:51820\nPersistentKeepalive = 25\n",
		s.clientKeys.private, s.inner, s.inner6, more, s.keys.public, allowed, s.outer))
}

const everything = "0.0.0.0/0, ::/0"

// carries checks that pings to far away go to server i, and that nothing sealed goes through a tunnel.
func (w *fullWorld) carries(i int, when string) {
	w.t.Helper()
	before := w.received()
	ping(w.t, w.client, farAway, 3)
	ping(w.t, w.client, farAway6, 3)
	for n, received := range w.received() {
		if got := received - before[n]; n == i && got < 6*84 || n != i && got > 6*84 {
			w.t.Errorf("%s: %d bytes came to server %d, and %d should carry it", when, got, n, i)
		}
	}
	w.noneInside(when)
}

// received is how many bytes have come out of each server's tunnel: packets, not what two stunnels say to each other.
func (w *fullWorld) received() (bytes []int) {
	w.t.Helper()
	for _, s := range w.servers {
		var links []struct {
			Stats struct{ RX struct{ Bytes int } } `json:"stats64"`
		}
		if err := json.Unmarshal([]byte(s.Run("ip", "-j", "-s", "link", "show", "tun0")), &links); err != nil || len(links) != 1 {
			w.t.Fatalf("the statistics of tun0: %v", err)
		}
		bytes = append(bytes, links[0].Stats.RX.Bytes)
	}
	return bytes
}

// noneInside checks that no sealed packet came to a server through a tunnel.
func (w *fullWorld) noneInside(when string) {
	w.t.Helper()
	for n, s := range w.servers {
		rule := s.Run("nft", "list", "chain", "inet", "watch", "in")
		_, count, found := strings.Cut(rule, "counter packets ")
		packets, err := strconv.Atoi(strings.Fields(count + " ?")[0])
		if !found || err != nil || packets != 0 {
			w.t.Errorf("%s: sealed packets came to server %d through its tunnel:\n%s", when, n, rule)
		}
	}
}

// noneFiltered checks that the client's reverse path filter has dropped nothing: no answer was lost, not even the first.
func (w *fullWorld) noneFiltered(when string) {
	w.t.Helper()
	names, values, _ := strings.Cut(w.client.Run("grep", "TcpExt:", "/proc/net/netstat"), "\n")
	value := strings.Fields(values)
	for i, name := range strings.Fields(names) {
		if name == "IPReversePathFilter" {
			if value[i] != "0" {
				w.t.Errorf("%s: the reverse path filter has dropped %s packets", when, value[i])
			}
			return
		}
	}
	w.t.Error("/proc/net/netstat knows no IPReversePathFilter")
}

// forgetInside lets noneInside count from now on.
func (w *fullWorld) forgetInside() {
	w.t.Helper()
	for _, s := range w.servers {
		s.Run("nft", "flush chain inet watch in; add rule inet watch in iifname tun0 udp dport 51820 counter")
	}
}

// unreachable checks that there is no way to far away.
func (w *fullWorld) unreachable(when string) {
	w.t.Helper()
	for _, a := range []string{farAway, farAway6} {
		if out, err := w.client.Try("ping", "-n", "-c", "1", "-W", "1", a); err == nil {
			w.t.Errorf("%s: %s is there without a tunnel:\n%s", when, a, out)
		}
	}
}

// wholeState is state and everything else that a tunnel for everything may change.
func wholeState(h *lab.Host) string {
	return state(h) + h.Run("sh", "-c", `nft list ruleset; cat /etc/resolv.conf; ip -o rule; ip -6 -o rule
		sysctl -a --pattern '^net\.(ipv4|ipv6)\.' 2>/dev/null`)
}

func sameWholeState(t *testing.T, h *lab.Host, before, when string) {
	t.Helper()
	after := wholeState(h)
	if after == before {
		return
	}
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	t.Errorf("%s: %s is not as it was before\ngone: %s\nnew:  %s", when, h.Name, strings.Join(missing(was, is), "\n      "), strings.Join(missing(is, was), "\n      "))
}

// missing are the lines of one that are not in the other.
func missing(one, other []string) (lines []string) {
	have := map[string]int{}
	for _, l := range other {
		have[l]++
	}
	for _, l := range one {
		if have[l]--; have[l] < 0 {
			lines = append(lines, l)
		}
	}
	return lines
}
