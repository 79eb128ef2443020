package e2e

import (
	"slices"
	"strings"
	"testing"
)

func TestTheDoctorFindsTheKillSwitchOfADeadTunnel(t *testing.T) {
	p := newPage(t)
	path := p.config(t, "KillSwitch = yes")
	tunnel := up(p.client, path)
	p.asked(t, "http://"+pageServer)
	findsNothing(t, p.client)
	tunnel.Kill()
	d := examine(t, p.client)
	if got := d.ids(); !slices.Equal(got, []string{"leftovers", "kill_switch"}) {
		t.Errorf("found %v", got)
	}
	// What the kill switch stops is not blamed on anything else when the tunnel is to come up again.
	if got := examine(t, p.client, path).ids(); !slices.Equal(got, []string{"leftovers", "kill_switch"}) {
		t.Errorf("of the file: found %v", got)
	}
	p.client.Run(binary, "unlock", "work")
	if got := examine(t, p.client).ids(); !slices.Equal(got, []string{"leftovers"}) {
		t.Errorf("unlocked: found %v", got)
	}
	p.client.Run(binary, "down", "work")
	findsNothing(t, p.client)
}

func TestTheDoctorSeesTheKillSwitchOfAnotherTunnel(t *testing.T) {
	p := newPage(t)
	text := strings.Replace(p.client.Run("cat", p.config(t, "KillSwitch = yes")), "0.0.0.0/0, ::/0", "10.20.0.1/32", 1) + "\n"
	up(p.client, p.File("client/work.conf", text))
	other := p.File("client/other.conf", strings.NewReplacer("10.20.0.", "10.30.0.", "fd20:", "fd30:", "KillSwitch = yes\n", "").Replace(text))
	d := examine(t, p.client, other)
	if !slices.Equal(d.ids(), []string{"firewall_sends_nothing"}) || d.Findings[0].Remedies[0].Command != "sudo stunnel unlock work" {
		t.Errorf("%+v", d)
	}
}

func TestTheDoctorLooksAfterAGateway(t *testing.T) {
	p := newPage(t)
	up(p.client, p.config(t, "MTU = 1400"))
	p.asked(t, "http://"+pageServer)
	conf := p.Dir + "/gateway/office.conf"
	findsNothing(t, p.gateway, conf)
	run := func(args ...string) func() { return func() { p.gateway.Run(args...) } }
	cure(t, p.gateway, conf, []ailment{
		// A firewall that is loaded when the tunnel is up already: it could not be seen before.
		{"firewall_forwards_nothing", run("nft", "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"), run("nft", "delete table ip filter")},
		{"firewall_forwards_nothing", run("nft", "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; iifname office accept; }; }"), run("nft", "delete table ip filter")},
		{"firewall_takes_nothing", run("nft", "table inet f { chain i { type filter hook input priority 0; policy drop; ct state established accept; }; }"), run("nft", "delete table inet f")},
		{"not_forwarding", run("sysctl", "-qw", "net.ipv4.conf.office.forwarding=0"), run("sysctl", "-qw", "net.ipv4.conf.office.forwarding=1")},
	})
	// The way has become narrower than the client's interface thinks.
	p.router.Run("ip", "link", "set", "eth1", "mtu", "1300")
	p.gateway.Run("ip", "link", "set", "eth1", "mtu", "1300")
	p.client.Try("ping", "-n", "-c", "2", "-i", "0.2", "-w", "1", "-M", "do", "-s", "1400", pageGateway)
	p.client.Try("ping", "-n", "-c", "2", "-i", "0.2", "-w", "1", "-m", "51820", "-M", "do", "-s", "1400", pageGateway)
	finds(t, p.client, "mtu_too_large", "work")
}

func TestTheDoctorFollowsNames(t *testing.T) {
	p := newPage(t)
	hosts := func(address string) { p.File("hosts", address+" gateway.test\n") }
	hosts(pageGateway)
	p.client.Run("mount", "--bind", p.Dir+"/hosts", "/etc/hosts")
	p.client.Run("sh", "-c", "echo nameserver 192.0.2.53 > /etc/resolv.conf")
	text := strings.Replace(p.client.Run("cat", p.config(t, "DNS = 10.99.0.53")), pageGateway+":", "gateway.test:", 1)
	narrow := p.File("client/work.conf", strings.Replace(text, "0.0.0.0/0, ::/0", "10.20.0.1/32", 1)+"\n")
	up(p.client, narrow)
	ping(t, p.client, "10.20.0.1", 3)
	if got := examine(t, p.client, narrow).ids(); !slices.Equal(got, []string{"dns_not_in_tunnel"}) {
		t.Errorf("a private name server that is not reached through the tunnel: found %v", got)
	}
	// The gateway moves: what is heard from it no more is at another address now.
	p.client.Run("ip", "route", "add", "blackhole", "203.0.113.8/32")
	p.client.Run("wg", "set", "work", "peer", p.gatewayKeys.public, "endpoint", "203.0.113.9:51820")
	p.client.Run("wg", "set", "work", "peer", p.gatewayKeys.public, "remove")
	p.client.Run("wg", "set", "work", "peer", p.gatewayKeys.public, "endpoint", "203.0.113.9:51820", "allowed-ips", "10.20.0.1/32")
	p.client.Try("ping", "-n", "-c", "1", "-W", "1", "10.20.0.1")
	ids := examine(t, p.client, narrow).ids()
	if !slices.Contains(ids, "endpoint_moved") || !slices.Contains(ids, "no_handshake") {
		t.Errorf("a name that leads elsewhere now: found %v", ids)
	}
}

func TestOfTwoTunnelsForEverythingTheEarlierOneIsNotIll(t *testing.T) {
	w := newFullWorld(t, 2)
	first, second := w.file("first", 0, everything, ""), w.file("second", 1, everything, "")
	up(w.client, first)
	up(w.client, second)
	for _, name := range []string{"first", "second"} {
		await(t, name+" has a handshake", func() bool { return show(t, w.client, name).Interfaces[0].Peers[0].LatestHandshake != "" })
	}
	w.carries(1, "with both")
	for _, path := range []string{first, second} {
		if d := examine(t, w.client, path); len(d.Findings) != 0 {
			t.Errorf("%s: %+v", path, d)
		}
	}
	d := examine(t, w.client, first)
	if !slices.ContainsFunc(d.Notes, func(n finding) bool { return n.ID == "default_route_elsewhere" && strings.Contains(n.What, "second") }) {
		t.Errorf("who carries the traffic is not said: %+v", d.Notes)
	}
}

func TestTheDoctorLooksAfterATunnelOfFrames(t *testing.T) {
	h := newTwoTAPs(t, true, "")
	a, b := up(h.alpha, h.alphaConf), up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 3)
	met(t, a, b)
	findsNothing(t, h.alpha, h.alphaConf)
	findsNothing(t, h.beta)
	// As a port of a bridge that shows what it passes on to a firewall for what is forwarded, as Docker has it.
	if _, err := h.alpha.Try("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"); err != nil {
		t.Skip("needs a kernel with br_netfilter")
	}
	h.alpha.Run("ip", "link", "add", "br0", "type", "bridge")
	h.alpha.Run("ip", "link", "set", "br0", "up")
	h.alpha.Run("ip", "link", "set", "tun0", "master", "br0")
	cure(t, h.alpha, h.alphaConf, []ailment{{"firewall_on_bridge",
		func() {
			h.alpha.Run("nft", "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }")
		},
		func() { h.alpha.Run("nft", "delete table ip filter") }}})
}
