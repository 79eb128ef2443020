package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

// What hosts say to each other on a LAN, other than ARP and IP from one to one,
// they say across the sites too.
func TestWhatOneCableCarriesTheTunnelCarries(t *testing.T) {
	t.Parallel()
	n := newLAN(t, 2, 1500)
	n.mesh("")
	n.up()
	neighbourDiscovery(t, n)
	vlanTags(t, n)
	multicast(t, n)
	dhcp(t, n)
}

// icmp6 is for messages of a type from one host about another, which for both
// kinds of neighbour discovery is named at the same place.
func icmp6(kind byte, from, about *lanHost) func(capture.Frame) bool {
	return func(f capture.Frame) bool {
		return len(f.Data) >= 14+40+24 && bytes.Equal(f.Data[6:14], append(bytes.Clone(from.mac), 0x86, 0xdd)) &&
			f.Data[14+6] == 58 && f.Data[14+40] == kind && bytes.Equal(f.Data[14+40+8:14+40+24], about.ip6.AsSlice())
	}
}

func neighbourDiscovery(t *testing.T, n *lan) {
	const solicitation, advertisement = 135, 136
	h5, h3, h4 := n.sites[0].hosts[0], n.sites[1].hosts[0], n.sites[1].hosts[1]
	wire5, wire3, wire4 := h5.Capture("eth0"), h3.Capture("eth0"), h4.Capture("eth0")
	ping(t, h5.Host, h3.ip6.String(), 1)
	asked := wire3.Await("a solicitation", icmp6(solicitation, h5, h3))
	if group := []byte{0x33, 0x33, 0xff, 0, 0, 3}; asked.Sent || !bytes.HasPrefix(asked.Data, group) {
		t.Errorf("host3 was asked by %x, want one to the group %x", asked.Data, group)
	}
	if answer := wire5.Await("an advertisement", icmp6(advertisement, h3, h3)); !bytes.HasPrefix(answer.Data, h5.mac) {
		t.Errorf("host5 was answered by %x, want an answer to it alone", answer.Data)
	}
	fence(wire3, 10, h3, wire4)
	if len(wire4.Frames(icmp6(solicitation, h5, h3))) == 0 || len(wire4.Frames(icmp6(advertisement, h3, h3))) > 0 {
		t.Errorf("host4 has heard %v, want the question, which is multicast, and not the answer", wire4.Frames(func(f capture.Frame) bool { return !f.Sent }))
	}
}

func vlanTags(t *testing.T, n *lan) {
	h5, h3, h4 := n.sites[0].hosts[0], n.sites[1].hosts[0], n.sites[1].hosts[1]
	wire5, wire3, wire4 := h5.Capture("eth0"), h3.Capture("eth0"), h4.Capture("eth0")
	const full = 14 + 1500
	for i, c := range []struct {
		name string
		size int // in bytes, without tags
		tags []uint16
		key  string // of the station that is learned; "" none but that without a tag
	}{
		{"no tag", full, nil, ""},
		{"802.1Q", 60, []uint16{0x8100, 100}, " 100"},
		{"802.1Q with priority 7", 60, []uint16{0x8100, 0xe065}, " 101"},
		{"802.1Q, full", full, []uint16{0x8100, 102}, " 102"},
		{"QinQ", 60, []uint16{0x88a8, 200, 0x8100, 100}, " 200 100"},
		{"QinQ, as long as an interface for 1500 bytes lets it", full - 8, []uint16{0x88a8, 201, 0x8100, 100}, " 201 100"},
		{"the two customary tags of others", 60, []uint16{0x9100, 300, 0x8100, 100}, ""},
		{"no EtherType but a length (802.3), LLC and SNAP", 60, []uint16{46, 0xaaaa}, ""},
		{"three tags", 60, []uint16{0x88a8, 400, 0x8100, 401, 0x8100, 402}, " 400 401"},
	} {
		one := testFrame(h3.mac, h5.mac, uint32(2*i), c.size, c.tags...)
		all := testFrame(everybody, h5.mac, uint32(2*i+1), c.size, c.tags...)
		many := testFrame(net.HardwareAddr{0x33, 0x33, 0, 0, 1, 2}, h5.mac, uint32(2*i+1), c.size, c.tags...)
		for _, frame := range [][]byte{one, all, many} {
			wire5.Send(frame)
		}
		wire3.Await(c.name+", to one", same(one))
		for _, wire := range []*lab.Capture{wire3, wire4} {
			wire.Await(c.name+", to all", same(all))
			wire.Await(c.name+", to many", same(many))
		}
		if c.key == "" {
			continue
		}
		for s, side := range map[*lanSite]string{n.sites[0]: "", n.sites[1]: "vpn1"} {
			if got, known := n.stations(s)[h5.mac.String()+c.key]; !known || got != side {
				t.Errorf("%s: %s has host5 at %q (known: %v), want %q: %v", c.name, s.vpn.Name, got, known, side, n.stations(s))
			}
		}
	}
}

func multicast(t *testing.T, n *lan) {
	h5, h3 := n.sites[0].hosts[0], n.sites[1].hosts[0]
	group := &net.UDPAddr{IP: net.IPv4(239, 1, 2, 3), Port: 7001}
	var member *net.UDPConn
	h3.Do(func() error {
		device, err := net.InterfaceByName("eth0")
		if err == nil {
			member, err = net.ListenMulticastUDP("udp4", device, group)
		}
		return err
	})
	defer member.Close()
	h5.Run("ip", "route", "add", "224.0.0.0/4", "dev", "eth0")
	text := bytes.Repeat([]byte("to whom it may concern "), 60)
	h5.Do(func() error {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: h5.ip.AsSlice()}, group)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(text)
		return err
	})
	if err := member.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2000)
	k, from, err := member.ReadFromUDPAddrPort(got)
	if err != nil || !bytes.Equal(got[:k], text) || from.Addr().Unmap() != h5.ip {
		t.Errorf("the member of the group got %q from %v, %v", got[:k], from, err)
	}
}

// dhcp has a host at one site get its address from a server at the other.
func dhcp(t *testing.T, n *lan) {
	lab.Need(t, "dnsmasq")
	lab.Need(t, "busybox")
	server := n.sites[1].hosts[0]
	client := &lanHost{Host: n.Host("client"), mac: net.HardwareAddr{2, 0, 0, 0, 0, 99}}
	n.Plug(client.Host, "eth0", n.sites[0].sw, "client")
	client.Run("ip", "link", "set", "eth0", "address", client.mac.String())
	daemon := server.Start("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--port=0", "--user=root",
		"--interface=eth0", "--bind-interfaces", "--pid-file=", "--dhcp-leasefile=/run/leases", "--dhcp-authoritative", "--no-ping",
		"--dhcp-range=192.168.0.100,192.168.0.150,1h", "--dhcp-option=option:router,192.168.0.6")
	daemon.Await("DHCP, sockets bound")
	// The client's script only tells what it was given: nothing of this machine changes.
	script := n.File("lease", "#!/bin/sh\necho \"$1 ip=$ip/$mask router=$router server=$serverid\"\n")
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	said := client.Run("busybox", "udhcpc", "--interface", "eth0", "--foreground", "--quit", "--now", "--retries", "10", "--timeout", "1",
		"--script", script)
	var ip string
	for line := range strings.Lines(said) {
		if rest, found := strings.CutPrefix(line, "bound ip="); found {
			ip, _, _ = strings.Cut(rest, " ")
			if want := fmt.Sprintf("%s router=%s server=%s", ip, n.sites[0].hosts[1].ip, server.ip); strings.TrimSpace(rest) != want {
				t.Errorf("the lease is %q, want %q", strings.TrimSpace(rest), want)
			}
		}
	}
	if !strings.HasPrefix(ip, "192.168.0.1") || !strings.HasSuffix(ip, "/24") {
		t.Fatalf("no lease from %s: the client says\n%s", filepath.Base(script), said)
	}
	client.Address(ip, "eth0")
	ping(t, client.Host, server.ip.String(), 3)
	ping(t, server.Host, strings.TrimSuffix(ip, "/24"), 3)
	if leases := server.Run("cat", "/run/leases"); !strings.Contains(leases, client.mac.String()) {
		t.Errorf("the server's leases are\n%s", leases)
	}
	if status := daemon.Stop(); status != 0 {
		t.Errorf("dnsmasq ended with %d", status)
	}
}
