package e2e

import (
	"bytes"
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

// lan is one Ethernet made of sites: each has a switch, hosts on it, and a VPN
// host whose bridge br0 connects the switch, at eth1, with the tunnel lan0. By
// eth0 the VPN hosts reach each other, over a network that carries 1500 bytes.
type lan struct {
	*lab.Lab
	t       *testing.T
	between *lab.Host // the switch that is the network between the sites
	sites   []*lanSite
}

type lanSite struct {
	number  int // from 1 on
	vpn, sw *lab.Host
	hosts   []*lanHost
	keys    pair
	conf    string
	up      *lab.Process // nil before lan.up
}

// lanHost is a host that knows of no tunnel. Its interface is eth0, its port at
// the switch is called as the host.
type lanHost struct {
	*lab.Host
	ip, ip6 netip.Addr
	mac     net.HardwareAddr
}

// Last bytes of the addresses of the hosts at each site.
var lanHosts = [][]byte{{5, 6}, {3, 4}, {7}}

func newLANHost(l *lab.Lab, n byte) *lanHost {
	return &lanHost{l.Host(fmt.Sprintf("host%d", n)), netip.AddrFrom4([4]byte{192, 168, 0, n}),
		netip.MustParseAddr(fmt.Sprintf("fd68::%d", n)), net.HardwareAddr{2, 0, 0, 0, 0, n}}
}

// newLAN makes a LAN of so many sites. Everything within them has the MTU.
func newLAN(t *testing.T, sites, mtu int) *lan {
	t.Helper()
	n := &lan{Lab: lab.New(t), t: t}
	lab.Need(t, "ping")
	n.between = n.Switch("between")
	for i := range sites {
		s := &lanSite{number: i + 1, vpn: n.Host(fmt.Sprintf("vpn%d", i+1)), sw: n.Switch(fmt.Sprintf("switch%d", i+1)), keys: newPair(t)}
		n.Plug(s.vpn, "eth0", n.between, s.vpn.Name, s.outside().String()+"/24")
		// No protocol of its own speaks at the VPN host's side of the LAN.
		s.vpn.Run("sysctl", "-qew", "net.ipv6.conf.default.disable_ipv6=1",
			"net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0", "net.bridge.bridge-nf-call-arptables=0")
		n.Plug(s.vpn, "eth1", s.sw, "vpn")
		s.vpn.Batch("link add br0 type bridge", "link set eth1 master br0", "link set br0 up")
		for _, last := range lanHosts[i] {
			h := newLANHost(n.Lab, last)
			n.Plug(h.Host, "eth0", s.sw, h.Name, h.ip.String()+"/24", h.ip6.String()+"/64")
			h.Batch("link set eth0 address "+h.mac.String(), fmt.Sprintf("link set eth0 mtu %d", mtu))
			s.hosts = append(s.hosts, h)
		}
		if mtu != 1500 {
			s.vpn.Batch(fmt.Sprintf("link set eth1 mtu %d", mtu))
			s.sw.Batch(fmt.Sprintf("link set vpn mtu %d", mtu))
			for _, h := range s.hosts {
				s.sw.Batch(fmt.Sprintf("link set %s mtu %d", h.Name, mtu))
			}
		}
		n.sites = append(n.sites, s)
	}
	return n
}

// outside is the VPN host's address on the network between the sites.
func (s *lanSite) outside() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(s.number)}) }

// configure writes the file of a site, with peers at these others. lines are for
// [Interface].
func (n *lan) configure(s *lanSite, lines string, others ...*lanSite) {
	n.t.Helper()
	var c strings.Builder
	fmt.Fprintf(&c, "[Interface]\nMode = tap\nBridge = br0\nPrivateKey = %s\nListenPort = 51820\n%s", s.keys.private, lines)
	for _, o := range others {
		// The keepalive makes them meet before a host says anything.
		fmt.Fprintf(&c, "\n[Peer]\nName = %s\nPublicKey = %s\nEndpoint = %s:51820\nPersistentKeepalive = 25\n", o.vpn.Name, o.keys.public, o.outside())
	}
	s.conf = n.File(s.vpn.Name+"/lan0.conf", c.String())
}

// mesh configures every site with all others as peers.
func (n *lan) mesh(lines string) {
	n.t.Helper()
	for i, s := range n.sites {
		others := append(append([]*lanSite(nil), n.sites[:i]...), n.sites[i+1:]...)
		n.configure(s, lines, others...)
	}
}

// up starts the tunnels, and waits until all peers have met.
func (n *lan) up() {
	n.t.Helper()
	for _, s := range n.sites {
		s.up = up(s.vpn, s.conf)
	}
	for _, s := range n.sites {
		for _, p := range show(n.t, s.vpn, "lan0").Interfaces[0].Peers {
			s.up.Await("the peer speaks our extensions peer=" + p.Name)
		}
	}
}

// down ends the tunnels.
func (n *lan) down() {
	n.t.Helper()
	for _, s := range n.sites {
		if status := s.up.Stop(); status != 0 {
			n.t.Errorf("%s: up, ended by SIGTERM: exit status %d, want 0", s.vpn.Name, status)
		}
	}
}

// stations tells on which side each address was heard: "" is the VPN host's own,
// others are names of peers.
func (n *lan) stations(s *lanSite) map[string]string {
	n.t.Helper()
	var shown struct {
		Interfaces []struct {
			Ethernet struct {
				Stations []struct {
					MAC, Peer string
					VLAN      int `json:"vlan"`
					Inner     int `json:"inner_vlan"`
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(s.vpn.Run(binary, "show", "--json", "--macs", "lan0")), &shown); err != nil {
		n.t.Fatal(err)
	}
	sides := make(map[string]string)
	for _, one := range shown.Interfaces[0].Ethernet.Stations {
		name := one.MAC
		for _, vlan := range []int{one.VLAN, one.Inner} {
			if vlan != 0 {
				name += fmt.Sprintf(" %d", vlan)
			}
		}
		sides[name] = one.Peer
	}
	return sides
}

// testFrame is one under an EtherType for experiments, which no host speaks, with
// tags (TPID and TCI each) and a number that tells it from others.
func testFrame(to, from net.HardwareAddr, number uint32, size int, tags ...uint16) []byte {
	f := append(append(make([]byte, 0, size+8), to...), from...)
	for _, word := range append(tags, 0x88b6) {
		f = endian.BigEndian.AppendUint16(f, word)
	}
	f = endian.BigEndian.AppendUint32(f, number)
	for len(f) < size+2*len(tags) {
		f = append(f, byte(len(f)))
	}
	return f
}

var (
	everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	// fenceNumber is that of frames that end a test: what comes behind them on a
	// wire was sent later.
	fenceNumber = uint32(0xfe9ce000)
)

// same is for frames that have exactly these bytes.
func same(want []byte) func(capture.Frame) bool {
	return func(f capture.Frame) bool { return bytes.Equal(f.Data, want) }
}

// fence sends a broadcast and waits until all have heard it. What was sent before
// has come by then, or comes no more.
func fence(from *lab.Capture, number uint32, source *lanHost, captures ...*lab.Capture) {
	frame := testFrame(everybody, source.mac, fenceNumber+number, 60)
	from.Send(frame)
	for _, c := range captures {
		c.Await("the frame that ends the test", same(frame))
	}
}
