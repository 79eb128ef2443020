package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"stunnel/test/lab"
)

// Addresses of scenario 3: the gateway is IP2, the server IP1.
const (
	clientOuter, clientOuter6 = "192.0.2.2", "2001:db8:1::2"
	ip2, ip26                 = "198.51.100.2", "2001:db8:2::2"
	ip1, ip16                 = "203.0.113.2", "2001:db8:3::2"
	clientPort                = 51821
)

// friends are a client behind a firewall that passes nothing but what goes to
// the gateway and comes from it, the Internet, and a server there.
type friends struct {
	*lab.Lab
	client, firewall, internet, gateway, server *lab.Host
	clientConf, gatewayConf                     string
	log                                         *lab.Process // of the server
}

// newFriends makes them; the client's path to the Internet has this MTU. The
// lines are for the two [Interface] sections.
func newFriends(t *testing.T, mtu int, clientLines, gatewayLines string) *friends {
	t.Helper()
	l := lab.New(t)
	for _, command := range []string{"ping", "nft", "curl"} {
		lab.Need(t, command)
	}
	f := &friends{Lab: l, client: l.Host("client"), firewall: l.Host("firewall"), internet: l.Host("internet"), gateway: l.Host("gateway"), server: l.Host("server")}
	l.Link("eth0", f.client, []string{clientOuter + "/24", clientOuter6 + "/64"}, f.firewall, []string{"192.0.2.1/24", "2001:db8:1::1/64"})
	l.Link("eth1", f.firewall, []string{"192.0.3.1/24", "2001:db8:4::1/64"}, f.internet, []string{"192.0.3.2/24", "2001:db8:4::2/64"})
	l.Link("eth2", f.gateway, []string{ip2 + "/24", ip26 + "/64"}, f.internet, []string{"198.51.100.1/24", "2001:db8:2::1/64"})
	l.Link("eth3", f.server, []string{ip1 + "/24", ip16 + "/64"}, f.internet, []string{"203.0.113.1/24", "2001:db8:3::1/64"})
	for _, router := range []*lab.Host{f.firewall, f.internet} {
		router.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
		router.Run("ip", "link", "set", "eth1", "mtu", fmt.Sprint(mtu))
	}
	for _, way := range []struct {
		h          *lab.Host
		via4, via6 string
	}{
		{f.client, "192.0.2.1", "2001:db8:1::1"}, {f.firewall, "192.0.3.2", "2001:db8:4::2"},
		{f.gateway, "198.51.100.1", "2001:db8:2::1"}, {f.server, "203.0.113.1", "2001:db8:3::1"},
	} {
		way.h.Run("ip", "route", "add", "default", "via", way.via4)
		way.h.Run("ip", "-6", "route", "add", "default", "via", way.via6)
	}
	f.internet.Run("ip", "route", "add", "192.0.2.0/24", "via", "192.0.3.1")
	f.internet.Run("ip", "-6", "route", "add", "2001:db8:1::/64", "via", "2001:db8:4::1")
	f.firewall.Input(fmt.Sprintf(`table inet filter { chain forward { type filter hook forward priority 0; policy drop;
		ip daddr %[1]s accept; ip saddr %[1]s accept; ip6 daddr %[2]s accept; ip6 saddr %[2]s accept; }; }`, ip2, ip26), "nft", "-f", "-")

	client, gateway := newPair(t), newPair(t)
	f.clientConf = l.File("client/tun0.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/24, %s/64\nListenPort = %d\n%s[Peer]\nName = gateway\nPublicKey = %s\nEndpoint = %s:51820\nAllowedIPs = 0.0.0.0/0, ::/0\n",
		client.private, innerA, innerA6, clientPort, clientLines, gateway.public, ip2))
	f.gatewayConf = l.File("gateway/tun0.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/24, %s/64\nListenPort = 51820\n%s[Peer]\nName = client\nPublicKey = %s\nAllowedIPs = %s/32, %s/128\n",
		gateway.private, innerB, innerB6, gatewayLines, client.public, innerA, innerA6))
	f.log = f.server.Start(tool("tool-web", ":80")...)
	f.log.Await("serving")
	return f
}

// curl asks the server, and returns who it says has asked; "": no answer in so
// many seconds.
func (f *friends) curl(address string, seconds int) string {
	out, err := f.client.Try("curl", "-sS", "--max-time", fmt.Sprint(seconds), "http://"+address+"/")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// mustPass: both families come through, as from the gateway.
func (f *friends) mustPass(t *testing.T) {
	t.Helper()
	for address, from := range map[string]string{ip1: ip2, "[" + ip16 + "]": ip26} {
		if got := f.curl(address, 10); got != from {
			t.Errorf("the server at %s was asked by %q, want %q", address, got, from)
		}
	}
}

// mustNotPass: the server does not answer.
func (f *friends) mustNotPass(t *testing.T) {
	t.Helper()
	for _, address := range []string{ip1, "[" + ip16 + "]"} {
		if got := f.curl(address, 1); got != "" {
			t.Errorf("the server at %s has answered %q", address, got)
		}
	}
}

func TestOutThroughAFriend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, lines, rules string }{
		{"the interface of the default route", "Masquerade = yes\n", ""},
		{"a named interface", "Masquerade = eth2\n", ""},
		{"a firewall that drops what is forwarded", "Masquerade = yes\n", `table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }`},
		{"Docker's firewall", "Masquerade = yes\n", `
			table ip filter { chain DOCKER-USER { return; }; chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }; }
			table ip6 filter { chain DOCKER-USER { return; }; chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }; }`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFriends(t, 1400, "", c.lines)
			f.gateway.Input(c.rules+"\n", "nft", "-f", "-")
			f.mustNotPass(t)
			beforeClient, beforeGateway := wholeState(f.client), wholeState(f.gateway)
			g := up(f.gateway, f.gatewayConf)
			end := beginFlows(t, f.firewall, "eth0")
			a := up(f.client, f.clientConf)
			f.mustPass(t)
			for _, from := range []string{ip2, ip26} {
				f.log.Await("asked by " + from)
			}
			if strings.Contains(f.log.Output(), "asked by "+innerA) || strings.Contains(f.log.Output(), "asked by "+innerA6) {
				t.Errorf("the server saw an address of the tunnel:\n%s", f.log.Output())
			}
			// The path is narrower than the tunnel thinks.
			f.mustDownload(t, ip1, 8<<20)
			f.mustDownload(t, "["+ip16+"]", 8<<20)
			// What the firewall says itself is of probes for which its way is too narrow.
			expected := append(sealed(clientOuter, ip2), "protocol 1 192.0.2.1 > "+clientOuter)
			if left := others(end(), expected...); len(left) > 0 {
				t.Errorf("the firewall saw %q beside UDP between the client and the gateway", left)
			}
			for _, p := range []*lab.Process{a, g} {
				if status := p.Stop(); status != 0 {
					t.Errorf("up, ended by SIGTERM: exit status %d\n%s", status, p.Output())
				}
			}
			sameWholeState(t, f.client, beforeClient, "at the end")
			sameWholeState(t, f.gateway, beforeGateway, "at the end")
			f.mustNotPass(t)
		})
	}
}

// sealed are the kinds of packets that a tunnel over IPv4 has outside.
func sealed(client, gateway string) []string {
	return []string{fmt.Sprintf("udp %s > %s:51820", client, gateway), fmt.Sprintf("udp %s > %s:%d", gateway, client, clientPort),
		fmt.Sprintf("fragment %s > %s", client, gateway), fmt.Sprintf("fragment %s > %s", gateway, client)}
}

// mustDownload gets that many bytes from the server, unharmed and soon.
func (f *friends) mustDownload(t *testing.T, address string, size int) {
	t.Helper()
	got := f.client.Run("sh", "-c", fmt.Sprintf("curl -sS --max-time 50 http://%s/%d | sha256sum", address, size))
	if want := contentHash(size); !strings.HasPrefix(got, want) {
		t.Errorf("%d bytes from %s have the hash %s, want %s", size, address, got, want)
	}
}

func TestAFirewallThatDropsForwardedPacketsAfterUp(t *testing.T) {
	t.Parallel()
	f := newFriends(t, 1500, "", "Masquerade = yes\n")
	lab.Need(t, "iptables-nft")
	before := wholeState(f.gateway)
	g := up(f.gateway, f.gatewayConf)
	up(f.client, f.clientConf)
	f.mustPass(t)
	// A tunnel that runs does not know; the next one does.
	for _, iptables := range []string{"iptables-nft", "ip6tables-nft"} {
		f.gateway.Run(iptables, "-P", "FORWARD", "DROP")
	}
	f.mustNotPass(t)
	g.Stop()
	g = up(f.gateway, f.gatewayConf)
	f.mustPass(t)
	for _, iptables := range []string{"iptables-nft", "ip6tables-nft"} {
		if rules := f.gateway.Run(iptables, "-S", "FORWARD"); strings.Count(rules, `"stunnel tun0"`) != 2 {
			t.Errorf("%s prints\n%s", iptables, rules)
		}
	}
	g.Stop()
	for _, family := range []string{"ip", "ip6"} {
		f.gateway.Run("nft", "delete", "table", family, "filter")
	}
	sameWholeState(t, f.gateway, before, "at the end")
}

func TestAGatewayThatCannotPassFirewalldSaysWhatToDo(t *testing.T) {
	t.Parallel()
	f := newFriends(t, 1500, "", "Masquerade = yes\n")
	f.gateway.Input(`table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;
		ct state { established, related } accept; reject with icmpx admin-prohibited; }; }`, "nft", "-f", "-")
	before := wholeState(f.gateway)
	p := f.gateway.Start(binary, "up", f.gatewayConf)
	if status := p.Wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	for _, says := range []string{"table inet firewalld, chain filter_FORWARD: reject", "firewall-cmd --zone=trusted --add-interface=tun0", "--permanent"} {
		if !strings.Contains(p.Output(), says) {
			t.Errorf("it does not say %q but\n%s", says, p.Output())
		}
	}
	sameWholeState(t, f.gateway, before, "at the end")
}

func TestAGatewayKeepsItsDefaultRouteFromRouterAdvertisements(t *testing.T) {
	t.Parallel()
	f := newFriends(t, 1500, "", "Masquerade = yes\n")
	f.gateway.Run("ip", "-6", "route", "del", "default")
	f.gateway.Run("sysctl", "-qw", "net.ipv6.conf.eth2.accept_ra=1")
	f.internet.Start(tool("tool-advertise", "eth2")...).Await("advertising")
	advertised := func() bool {
		return strings.Contains(f.gateway.Run("ip", "-6", "route", "show", "default", "proto", "ra"), "default")
	}
	for end := time.Now().Add(10 * time.Second); !advertised() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	g := up(f.gateway, f.gatewayConf)
	up(f.client, f.clientConf)
	f.mustPass(t)
	if !advertised() {
		t.Error("up has cost the default route")
	}
	g.Stop()
	if !advertised() {
		t.Error("down has cost the default route")
	}
}

func TestTwoGatewaysOnOneHostInAllOrders(t *testing.T) {
	t.Parallel()
	f := newFriends(t, 1500, "", "Masquerade = yes\n")
	f.gateway.Input("table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }", "nft", "-f", "-")
	other := newPair(t)
	second := f.File("gateway/tun1.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = 10.8.0.1/24, fd08::1/64\nMasquerade = yes\n", other.private))
	before := wholeState(f.gateway)
	for _, order := range []string{"a+b+a-b-", "a+b+b-a-", "b+a+b-a-", "b+a+a-b-", "a+b+aXbXa-b-", "b+a+aXbXb-a-"} {
		confs := map[byte]string{'a': f.gatewayConf, 'b': second}
		running := make(map[byte]*lab.Process)
		for i := 0; i < len(order); i += 2 {
			which := order[i]
			name := map[byte]string{'a': "tun0", 'b': "tun1"}[which]
			switch order[i+1] {
			case '+':
				running[which] = up(f.gateway, confs[which])
			case 'X':
				running[which].Kill()
				delete(running, which)
			default:
				f.gateway.Run(binary, "down", name)
				delete(running, which)
			}
			if running['a'] != nil {
				if got := f.gateway.Run("sysctl", "-n", "net.ipv4.conf.eth2.forwarding", "net.ipv4.conf.tun0.forwarding"); got != "1\n1" {
					t.Errorf("%s: after %s forwarding is %q", order, order[:i+2], got)
				}
			}
		}
		sameWholeState(t, f.gateway, before, "at the end")
	}
}

func TestAFaultOrAKillAtAnyStepOfALockedGatewayLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	w.client.Input("table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }\n", "nft", "-f", "-")
	n := w.failAtEveryStep(w.file("full", 0, everything, "KillSwitch = yes\nKillSwitchAllow = lan\nMasquerade = eth0, eth1\n"),
		"error:look", "error:before", "error:after", "kill:before", "kill:after")
	t.Logf("%d faults and kills, nothing left after any", n)
}

func TestAGatewayOrKillSwitchThatCannotBeMadeIsSaidAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ prepare, lines, words, hint string }{
		"kill switch without nftables": {"", "KillSwitch = yes\n", "this kernel lacks nftables", ""},
		"gateway without nftables":     {"", "Masquerade = yes\n", "this kernel lacks nftables", ""},
		"read-only sysctls":            {"mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys", "Masquerade = yes\n", "net.ipv4.conf.full.forwarding can't be set to 1", "container"},
		"no such interface":            {"true", "Masquerade = eth7\n", "there is no interface eth7", "ip link"},
		"no default route":             {"ip route flush table main; ip -6 route flush default", "Masquerade = yes\n", "there is no default route", "Masquerade = eth0"},
		"another's kill switch":        {"nft 'table inet stunnel-other/killswitch { chain forward { type filter hook forward priority 400; policy drop; }; }'", "Masquerade = yes\n", "would be dropped by nftables: table inet stunnel-other/killswitch", "stunnel unlock other"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFullWorld(t, 1)
			command := []string{binary, "up"}
			if c.prepare == "" {
				command = append(tool("tool-without-nft"), command...)
			} else {
				w.client.Run("sh", "-ec", c.prepare)
			}
			before := wholeState(w.client)
			out, err := w.client.Try(append(command, w.file("full", 0, farAway+"/32", c.lines))...)
			if err == nil || !strings.Contains(out, c.words) || !strings.Contains(out, c.hint) {
				t.Errorf("%v\n%s", err, out)
			}
			sameWholeState(t, w.client, before, "after the failure")
		})
	}
}

func TestAGatewayTellsBothEndsWhatFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lines               string
		atServer, atServer6 int // what the client's first packet says
		atClient, atClient6 int // and the server's
	}{
		{"Masquerade = yes\n", 1380, 1360, 1380, 1360}, // the tunnel's MTU of 1420 less the headers
		{"Masquerade = yes\nMSSClamp = 1200\n", 1200, 1200, 1200, 1200},
		{"Masquerade = yes\nMSSClamp = no\n", 1380, 1360, 1460, 1440},
	} {
		f := newFriends(t, 1500, "", c.lines)
		up(f.gateway, f.gatewayConf)
		up(f.client, f.clientConf)
		for _, end := range []struct {
			h    *lab.Host
			want [2]int
		}{{f.server, [2]int{c.atServer, c.atServer6}}, {f.client, [2]int{c.atClient, c.atClient6}}} {
			end.h.Run("nft", fmt.Sprintf(`table inet sizes { chain in { type filter hook input priority -200;
				meta nfproto ipv4 tcp flags & syn == syn tcp option maxseg size %d counter comment "expected"
				meta nfproto ipv6 tcp flags & syn == syn tcp option maxseg size %d counter comment "expected"
				}; }`, end.want[0], end.want[1]))
		}
		f.mustPass(t)
		for _, h := range []*lab.Host{f.server, f.client} {
			if rules := h.Run("nft", "list", "table", "inet", "sizes"); strings.Count(rules, "counter packets 1 ") != 2 {
				t.Errorf("with %q %s got other segment sizes:\n%s", c.lines, h.Name, rules)
			}
		}
	}
}
