package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"stunnel/test/lab"
)

// Addresses of two hosts, outside and inside.
const (
	outerA, outerB   = "192.0.2.1", "192.0.2.2"
	outerA6, outerB6 = "2001:db8::1", "2001:db8::2"
	innerA, innerB   = "10.9.0.1", "10.9.0.2"
	innerA6, innerB6 = "fd09::1", "fd09::2"
)

// twoHosts are alpha and beta with a cable between them, and a configuration
// file for each.
type twoHosts struct {
	*lab.Lab
	alpha, beta     *lab.Host
	alphaKeys       pair
	betaKeys        pair
	alphaConf, conf string
}

func newTwoHosts(t *testing.T, remoteA, remoteB string) *twoHosts {
	t.Helper()
	l := lab.New(t)
	lab.Need(t, "ping")
	h := &twoHosts{Lab: l, alpha: l.Host("alpha"), beta: l.Host("beta"), alphaKeys: newPair(t), betaKeys: newPair(t)}
	l.Link("eth0", h.alpha, []string{outerA + "/24", outerA6 + "/64"}, h.beta, []string{outerB + "/24", outerB6 + "/64"})
	h.alphaConf = l.File("alpha/tun0.conf", config(h.alphaKeys, innerA, innerA6, h.betaKeys, "beta", innerB, innerB6, remoteB))
	h.conf = l.File("beta/tun0.conf", config(h.betaKeys, innerB, innerB6, h.alphaKeys, "alpha", innerA, innerA6, remoteA))
	return h
}

func config(self pair, inner, inner6 string, peer pair, name, peerInner, peerInner6, endpoint string) string {
	c := fmt.Sprintf(`[Interface]
PrivateKey = %s
Address = %s/24, %s/64
ListenPort = 51820

[Peer]
Name = %s
PublicKey = %s
AllowedIPs = %s/32, %s/128
`, self.private, inner, inner6, name, peer.public, peerInner, peerInner6)
	if endpoint != "" {
		c += "Endpoint = " + endpoint + "\n"
	}
	return c
}

func TestTwoHostsReachEachOther(t *testing.T) {
	for _, c := range []struct{ outside, remoteA, remoteB string }{
		{"IPv4", outerA + ":51820", outerB + ":51820"},
		{"IPv6", "[" + outerA6 + "]:51820", "[" + outerB6 + "]:51820"},
		{"one end without an endpoint", "", outerB + ":51820"},
	} {
		t.Run(c.outside, func(t *testing.T) {
			t.Parallel()
			h := newTwoHosts(t, c.remoteA, c.remoteB)
			beforeA, beforeB := state(h.alpha), state(h.beta)
			a, b := up(h.alpha, h.alphaConf), up(h.beta, h.conf)
			ping(t, h.alpha, innerB, 5)
			ping(t, h.alpha, innerB6, 5)
			ping(t, h.beta, innerA, 5, "-s", "1392") // a full packet
			a.Await("first handshake")
			transfer(t, h.alpha, h.beta, innerB+":7000", 20<<20)
			transfer(t, h.beta, h.alpha, "["+innerA6+"]:7000", 20<<20)

			peer := show(t, h.alpha, "tun0").Interfaces[0].Peers[0]
			if peer.Name != "beta" || peer.Endpoint != c.remoteB || peer.LatestHandshake == "" || peer.TxBytes < 20<<20 || peer.RxBytes < 20<<20 {
				t.Errorf("show tells %+v", peer)
			}
			for _, p := range []*lab.Process{a, b} {
				if status := p.Stop(); status != 0 {
					t.Errorf("up, ended by SIGTERM: exit status %d, want 0", status)
				}
			}
			sameState(t, h.alpha, beforeA)
			sameState(t, h.beta, beforeB)
		})
	}
}

func TestHostsWithOneFamilyOnly(t *testing.T) {
	t.Run("no IPv6", func(t *testing.T) {
		h := newTwoHosts(t, outerA+":51820", outerB+":51820")
		for _, host := range []*lab.Host{h.alpha, h.beta} {
			host.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
		}
		v4 := func(keys, peer pair, inner, peerInner, endpoint string) string {
			return fmt.Sprintf("[Interface]\nPrivateKey=%s\nAddress=%s/24\nListenPort=51820\n[Peer]\nPublicKey=%s\nAllowedIPs=%s/32\nEndpoint=%s\n",
				keys.private, inner, peer.public, peerInner, endpoint)
		}
		up(h.alpha, h.File("a4/tun0.conf", v4(h.alphaKeys, h.betaKeys, innerA, innerB, outerB+":51820")))
		up(h.beta, h.File("b4/tun0.conf", v4(h.betaKeys, h.alphaKeys, innerB, innerA, outerA+":51820")))
		ping(t, h.alpha, innerB, 3)
	})
	t.Run("no IPv4", func(t *testing.T) {
		h := newTwoHosts(t, "["+outerA6+"]:51820", "["+outerB6+"]:51820")
		h.alpha.Run("ip", "-4", "address", "flush", "dev", "eth0")
		h.beta.Run("ip", "-4", "address", "flush", "dev", "eth0")
		up(h.alpha, h.alphaConf)
		up(h.beta, h.conf)
		ping(t, h.alpha, innerB6, 3)
	})
}

func TestThreePeersEachWithTheirOwnAddresses(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	lab.Need(t, "ping")
	hub, keys := l.Host("hub"), newPair(t)
	conf := fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = 10.9.0.100/24\nListenPort = 51820\n", keys.private)
	var hosts []*lab.Host
	for i := 1; i <= 3; i++ {
		host, k := l.Host(fmt.Sprintf("peer%d", i)), newPair(t)
		device := fmt.Sprintf("eth%d", i)
		l.Link(device, hub, []string{fmt.Sprintf("192.0.2.%d/30", 4*i+1)}, host, []string{fmt.Sprintf("192.0.2.%d/30", 4*i+2)})
		conf += fmt.Sprintf("[Peer]\nName = peer%d\nPublicKey = %s\nAllowedIPs = 10.9.0.%d/32\n", i, k.public, i)
		hosts = append(hosts, host)
		up(host, l.File(host.Name+"/tun0.conf", fmt.Sprintf(
			"[Interface]\nPrivateKey = %s\nAddress = 10.9.0.%d/24\n[Peer]\nName = hub\nPublicKey = %s\nAllowedIPs = 10.9.0.0/24\nEndpoint = 192.0.2.%d:51820\n",
			k.private, i, keys.public, 4*i+1)))
	}
	up(hub, l.File("hub/tun0.conf", conf))
	for i, host := range hosts {
		ping(t, host, "10.9.0.100", 3)
		ping(t, hub, fmt.Sprintf("10.9.0.%d", i+1), 3)
	}

	// What does not come from a peer's own address is dropped and counted.
	liar := hosts[0]
	liar.Run("ip", "address", "add", "10.9.0.77/32", "dev", "tun0")
	if out, err := liar.Try("ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", "-I", "10.9.0.77", "10.9.0.100"); err == nil {
		t.Errorf("a ping from an address that is not the peer's was answered:\n%s", out)
	}
	if got := show(t, hub, "tun0").Interfaces[0].Peers[0].DroppedPackets["bad_source"]; got != 3 {
		t.Errorf("bad_source counts %d packets, want 3", got)
	}

	// What goes to nobody is refused at once.
	hub.Run("ip", "route", "add", "10.8.0.0/24", "dev", "tun0")
	out, err := hub.Try("ping", "-n", "-c", "1", "-W", "5", "10.8.0.1")
	if err == nil || !strings.Contains(out, "Destination Host Unreachable") {
		t.Errorf("ping to an address of no peer: %v\n%s", err, out)
	}
}

func TestEndpointChangesInMidTransfer(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	up(h.alpha, h.alphaConf)
	up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 1)
	const moved = "192.0.2.77"
	transfer(t, h.beta, h.alpha, innerA+":7000", 12<<20, func() {
		h.beta.Run("ip", "address", "del", outerB+"/24", "dev", "eth0")
		h.beta.Address(moved+"/24", "eth0")
	})
	if got := show(t, h.alpha, "tun0").Interfaces[0].Peers[0].Endpoint; got != moved+":51820" {
		t.Errorf("beta's endpoint is %s, want %s:51820", got, moved)
	}
}

func TestPeerKilledAndRestartedUnderTraffic(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	up(h.alpha, h.alphaConf)
	b := up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 3)
	b.Kill()
	pinging := h.alpha.Start("ping", "-n", "-i", "0.2", "-w", "40", "-c", "20", innerB)
	up(h.beta, h.conf) // what the dead one left must not be in the way
	if status := pinging.Wait(); status != 0 {
		t.Errorf("beta restarted, but did not answer again:\n%s", pinging.Output())
	}
	transfer(t, h.alpha, h.beta, innerB+":7000", 1<<20)
}

func TestInterfaceDeletedFromOutsideEndsTheProgram(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	before := state(h.alpha)
	a := up(h.alpha, h.alphaConf)
	h.alpha.Run("ip", "link", "del", "tun0")
	if status := a.Wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	sameState(t, h.alpha, before)
}

func TestInterruptIsDown(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	before := state(h.alpha)
	a := up(h.alpha, h.alphaConf)
	a.Signal(syscall.SIGINT)
	if status := a.Wait(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	sameState(t, h.alpha, before)
}

func TestMTUAndLinkChangesAreFollowed(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	a := up(h.alpha, h.alphaConf)
	up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 1)
	for _, host := range []*lab.Host{h.alpha, h.beta} {
		host.Run("ip", "link", "set", "tun0", "mtu", "1300")
	}
	ping(t, h.alpha, innerB, 3, "-s", "1272", "-M", "do")
	h.alpha.Run("ip", "link", "set", "tun0", "down")
	h.alpha.Run("ip", "link", "set", "tun0", "up")
	a.Await("put back: address " + innerA6)
	ping(t, h.alpha, innerB, 3)
	ping(t, h.alpha, innerB6, 3)
}
