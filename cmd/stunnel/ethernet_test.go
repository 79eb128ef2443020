package main

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stunnel/crypto"
)

// tapFile is a file for the interface lan that carries Ethernet, with a peer that is nowhere.
func (b *box) tapFile(lines string) string {
	return b.file("lan.conf", "[Interface]\nMode = tap\nPrivateKey = "+crypto.NewPrivateKey().Base64()+"\n"+lines+
		"[Peer]\nPublicKey = "+crypto.NewPrivateKey().Public().String()+"\nEndpoint = 192.0.2.9:1\n")
}

func TestATAPsAddressIsUnicastLocalAndHigh(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		mac := tapMAC(crypto.NewPrivateKey().Public())
		if len(mac) != 6 || mac[0] != 0xfe || mac[0]&1 != 0 || mac[0]&2 == 0 {
			t.Fatal(mac)
		}
		seen[mac.String()] = true
	}
	if len(seen) != 1000 {
		t.Errorf("1000 keys make %d addresses", len(seen))
	}
	if got := tapMAC(crypto.PublicKey{}).String(); got != "fe:66:68:7a:ad:f8" { // SHA-256 of 32 zeros
		t.Errorf("the address of a known key is %s", got)
	}
}

// What a bridge forwards was made for other bounds: ours would only have the kernel cut it.
func TestBurstsOfABridgeAreNotBounded(t *testing.T) {
	b := newBox(t)
	p := b.start(nil, "stunnel", "up", b.tapFile("Bridge = br0\n")).untilReady()
	if out := b.sh("ip -d link show lan"); !strings.Contains(out, "gso_max_size 65536 ") || !strings.Contains(out, "master br0") {
		t.Errorf("the TAP of a bridge:\n%s", out)
	}
	b.start(nil, "stunnel", "down", "lan").wants(0)
	p.wants(0)
}

func TestATAPTakesTheMTUOfItsBridgeAndGivesEverythingBack(t *testing.T) {
	for _, c := range []struct{ lines, prepare, want string }{
		{"Bridge = br0\nAddress = 10.5.0.1/24\n", "", "lan mtu 1500 br0 mtu 1500"},
		{"Bridge = br0\n", "ip link add br0 mtu 1400 type bridge", "lan mtu 1400 br0 mtu 1400"},
		{"Bridge = br0\nMTU = 1300\n", "ip link add lan0 type veth peer lan1; ip link add br0 type bridge; ip link set lan0 master br0", "lan mtu 1300 br0 mtu 1300"},
		{"Address = 10.5.0.1/24\n", "", "lan mtu 1500"},
	} {
		b := newBox(t)
		b.sh("mkdir -p /var/run/wireguard; " + c.prepare)
		before := b.state()
		p := b.start(nil, "stunnel", "up", b.tapFile(c.lines)).untilReady()
		got := b.sh("for i in lan br0; do ip -o link show $i 2>/dev/null | sed -E 's/^[0-9]+: ([^:]*):.* mtu ([0-9]+) .*/\\1 mtu \\2/'; done | tr '\\n' ' '")
		if strings.TrimSpace(got) != c.want {
			t.Errorf("%q: %q, want %q", c.lines, got, c.want)
		}
		if said := "br0 is down"; strings.Contains(p.said(), said) != strings.Contains(c.prepare, "bridge") {
			t.Errorf("%q: %q said: %v", c.lines, said, strings.Contains(p.said(), said))
		}
		if said := "becomes less too"; strings.Contains(p.said(), said) != strings.Contains(c.lines, "1300") {
			t.Errorf("%q: %q said: %v", c.lines, said, strings.Contains(p.said(), said))
		}
		p.signal(unix.SIGTERM)
		p.wants(0)
		b.same(before)
	}
}

func TestAKilledTunnelsBridgeIsTakenBackByDown(t *testing.T) {
	b := newBox(t)
	b.sh("mkdir -p /var/run/wireguard")
	before := b.state()
	for _, used := range []bool{false, true} {
		p := b.start(nil, "stunnel", "up", b.tapFile("Bridge = br0\nAddress = 10.5.0.1/24\n")).untilReady()
		p.signal(unix.SIGKILL)
		p.status()
		if used {
			b.sh("ip link add lan0 type veth peer lan1; ip link set lan0 master br0")
			b.start(nil, "stunnel", "down", "lan").wants(0, "bridge br0, which was made for lan, is left", "port lan0")
			b.sh("ip link del lan0; ip link del br0")
		} else {
			b.start(nil, "stunnel", "down", "lan").wants(0, "bridge br0", "taken back")
		}
		b.same(before)
	}
}

func TestAnInterfaceOfAnotherKindIsInTheWay(t *testing.T) {
	b := newBox(t)
	b.sh("ip tuntap add dev lan mode tun")
	b.start(nil, "stunnel", "check", b.tapFile("")).wants(0, "there is an interface lan, of kind TUN, and a TAP is needed: up will refuse")
	b.start(nil, "stunnel", "up", b.tapFile("")).wants(1, "it is a TUN (IP) interface, a TAP (Ethernet) is needed")
	b.sh("ip link del lan; ip tuntap add dev lan mode tap; ip link add br0 type veth peer br1")
	b.start(nil, "stunnel", "check", b.tapFile("Bridge = br0\n")).wants(0, "there is an interface br0, of kind veth, and a bridge is needed: up will refuse")
	b.start(nil, "stunnel", "up", b.tapFile("Bridge = br0\n")).wants(1, "br0 is no bridge, but an interface of kind veth")
}

// The address of an interface that somebody has made is his choice, unless the file wants another.
func TestATAPThatWasThereKeepsItsAddress(t *testing.T) {
	b := newBox(t)
	b.sh("mkdir -p /var/run/wireguard; ip tuntap add dev lan mode tap; ip link set lan address 02:00:00:00:00:05")
	before := b.state()
	for lines, want := range map[string]string{"": "02:00:00:00:00:05", "MAC = 02:00:00:00:00:06\n": "02:00:00:00:00:06"} {
		p := b.start(nil, "stunnel", "up", b.tapFile(lines)).untilReady()
		if out := b.sh("ip -o link show lan"); !strings.Contains(out, want) {
			t.Errorf("%q: %s", lines, out)
		}
		p.signal(unix.SIGTERM)
		p.wants(0)
		b.same(before)
	}
}

func TestAFilterThatWouldDropBridgedFramesIsToldByCheckAndUp(t *testing.T) {
	b := newBox(t)
	b.sh("type nft > /dev/null || { echo 'NOT TESTED: needs nft(8)' >&2; exit 1; }; mkdir -p /var/run/wireguard; ip link add br0 type bridge")
	b.sh("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; counter jump other; }; chain other { }; }'")
	if b.sh("cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || echo none") != "1\n" {
		t.Skip("NOT TESTED: needs br_netfilter, switched on: modprobe br_netfilter")
	}
	const mend = "nft insert rule ip filter FORWARD iifname br0 oifname br0 accept"
	file := b.tapFile("Bridge = br0\n")
	b.start(nil, "stunnel", "check", file).wants(0, "net.bridge.bridge-nf-call-iptables is 1, and the chain ip filter FORWARD (its policy is drop)",
		"sysctl -w net.bridge.bridge-nf-call-iptables=0, or "+mend)
	p := b.start(nil, "stunnel", "up", file).untilReady()
	waitFor(t, p, mend)
	p.signal(unix.SIGTERM)
	p.wants(0)
	for _, remedy := range []string{mend, "nft flush chain ip filter FORWARD; sysctl -qw net.bridge.bridge-nf-call-iptables=0"} {
		b.sh(remedy)
		check := b.start(nil, "stunnel", "check", file)
		check.wants(0)
		if strings.Contains(check.said(), "bridge-nf") {
			t.Errorf("after %s it says still:\n%s", remedy, check.said())
		}
	}
}
