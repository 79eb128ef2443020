package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/conf"
	"stunnel/crypto"
	"stunnel/device/netconf"
	"stunnel/device/netconf/ruleset"
	"stunnel/transport"
)

var (
	now    = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	remote = netip.MustParseAddrPort("198.51.100.7:51820")
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// firewall drops what drops says.
type firewall func(ruleset.Packet) bool

func (f firewall) Judge(p ruleset.Packet) ruleset.Verdict {
	if f(p) {
		return ruleset.Verdict{Drops: true, Sure: true, By: ruleset.Place{Family: "inet", Table: "filter", Chain: "input"}}
	}
	return ruleset.Verdict{Sure: true}
}

// healthy is a machine and a tunnel that runs on it, with one peer, without a fault.
func healthy() (*Machine, *Tunnel) {
	m := &Machine{
		NetAdmin: true,
		Clock:    Clock{Now: now, Built: now.Add(-time.Hour)},
		Links: []Link{
			{Name: "lo", Index: 1, MTU: 65536, Up: true, Addresses: []netip.Prefix{prefix("127.0.0.1/8")}},
			{Name: "eth0", Index: 2, MTU: 1500, Up: true, Addresses: []netip.Prefix{prefix("192.0.2.1/24")}},
			{Name: "work", Index: 3, Kind: "tuntap", MTU: 1420, Up: true, Addresses: []netip.Prefix{prefix("10.20.0.2/24"), prefix("fd20::2/64")}},
		},
		Sockets: []Socket{{Network: "udp", Local: netip.MustParseAddrPort("0.0.0.0:51820"), Inode: 77, Program: "stunnel", PID: 4}},
		Sysctls: map[string]string{
			"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/eth0/rp_filter": "0", "net/ipv4/conf/work/rp_filter": "0",
			"net/ipv4/conf/work/forwarding": "0", "net/ipv4/conf/all/src_valid_mark": "0",
			"net/ipv6/conf/all/disable_ipv6": "0", "net/ipv6/conf/default/disable_ipv6": "0", "net/ipv6/conf/work/disable_ipv6": "0",
		},
		Servers:  []netip.Addr{addr("192.0.2.53")},
		Firewall: firewall(func(ruleset.Packet) bool { return false }),
		Running:  []string{"work"},
	}
	port := uint16(51820)
	key := crypto.PrivateKey{1}
	status := &transport.Status{
		PrivateKey: key, PublicKey: key.Public(), ListenPort: port, Up: true, MTU: 1420,
		Peers: []transport.PeerStatus{{
			Name: "office", PublicKey: crypto.PublicKey{2}, Endpoint: remote, LastHandshake: now.Add(-time.Minute), TxBytes: 10000, RxBytes: 20000,
			PersistentKeepalive: 25 * time.Second, AllowedIPs: []netip.Prefix{prefix("10.20.0.1/32")},
		}},
	}
	t := &Tunnel{
		Name: "work", Path: "/etc/stunnel/work.conf",
		File: &conf.File{
			Path: "/etc/stunnel/work.conf", Name: "work",
			Interface: conf.Interface{
				ListenPort: &port, Address: []netip.Prefix{prefix("10.20.0.2/24"), prefix("fd20::2/64")}, Table: conf.Table{Auto: true},
			},
			Peers: []conf.Peer{{Name: "office", PublicKey: crypto.PublicKey{2}, Endpoints: []string{"office.example:51820"}, AllowedIPs: []netip.Prefix{prefix("10.20.0.1/32")}}},
		},
		Status: status,
		Peers: []Peer{{
			Title: "office", Configured: []Named{{Key: "Endpoint", Endpoint: "office.example:51820", Now: []netip.AddrPort{remote}}}, Status: &status.Peers[0],
			AllowedIPs: status.Peers[0].AllowedIPs, Endpoint: remote, Way: outside(remote.Addr()), Unmarked: outside(remote.Addr()),
		}},
		Networks: []Network{{Prefix: prefix("10.20.0.1/32"), Peer: "office", Ways: []Way{inside("10.20.0.1")}, Back: []Way{inside("10.20.0.1")}}},
		Onward:   outside(farAway),
	}
	return m, t
}

// stopped makes of t one that does not run.
func stopped(m *Machine, t *Tunnel) {
	t.Status, t.Networks, t.Peers[0].Status, t.Onward = nil, nil, nil, Way{}
	m.Links, m.Sockets, m.Running = m.Links[:2], nil, nil
}

func outside(to netip.Addr) Way {
	return Way{To: to, Interface: "eth0", Gateway: addr("192.0.2.254"), Source: addr("192.0.2.1"), Prefix: prefix("0.0.0.0/0"), MTU: 1500, Table: unix.RT_TABLE_MAIN}
}

func inside(to string) Way {
	return Way{To: addr(to), Interface: "work", Source: addr("10.20.0.2"), Prefix: prefix("10.20.0.0/24"), MTU: 1420, Table: unix.RT_TABLE_MAIN}
}

// defaultRoute makes of t one that carries everything, which it does by the given way.
func defaultRoute(m *Machine, t *Tunnel, w Way) {
	t.Status.FwMark = 51820
	t.Networks = []Network{{Prefix: prefix("0.0.0.0/0"), Peer: "office", Ways: []Way{w}, Back: []Way{w}}}
	m.Rules = []Rule{
		{Priority: 0, Table: unix.RT_TABLE_LOCAL, Text: "0: from all lookup local"},
		{Priority: 32764, Table: unix.RT_TABLE_MAIN, Mark: 51820, Text: "32764: not from all fwmark 0xca6c lookup main suppress_prefixlength 0"},
		{Priority: 32765, Table: 51820, Mark: 51820, Text: "32765: not from all fwmark 0xca6c lookup 51820"},
		{Priority: 32766, Table: unix.RT_TABLE_MAIN, Text: "32766: from all lookup main"},
	}
}

func TestEachFaultIsFoundByWhatItLeavesToSee(t *testing.T) {
	status := func(m *Machine, x *Tunnel) *transport.PeerStatus { return x.Peers[0].Status }
	silent := func(m *Machine, x *Tunnel) {
		s := status(m, x)
		s.LastHandshake, s.TxBytes, s.RxBytes = time.Time{}, 592, 0
	}
	doors := func(m *Machine, x *Tunnel, by transport.Transport) {
		status(m, x).Transport = by
		to := netip.AddrPortFrom(remote.Addr(), 443)
		x.Peers[0].Doors = []Door{{To: to, Way: outside(to.Addr())}}
	}
	unresolved := func(x *Tunnel, err error) {
		x.Peers[0].Configured[0].Now, x.Peers[0].Configured[0].Err = nil, err
	}
	serving := func(m *Machine, x *Tunnel) {
		x.File.Peers[0].Endpoints, x.Peers[0].Configured = nil, nil
	}
	for _, c := range []struct {
		name   string
		change func(*Machine, *Tunnel)
		want   []string // findings, and notes as note:ID, in their order
	}{
		{"a tunnel at work", func(*Machine, *Tunnel) {}, nil},
		{"a tunnel that does not run, and could", stopped, nil},
		{"no TUN driver", func(m *Machine, x *Tunnel) { stopped(m, x); m.TUN = fmt.Errorf("open: %w", fs.ErrNotExist) }, []string{"no_tun"}},
		{"a TUN device that root may not open", func(m *Machine, x *Tunnel) { stopped(m, x); m.TUN = unix.EPERM }, []string{"no_tun"}},
		{"a user without rights", func(m *Machine, x *Tunnel) { stopped(m, x); m.NetAdmin, m.TUN = false, unix.EACCES }, []string{"no_rights"}},
		{"a clock before the build", func(m *Machine, x *Tunnel) { m.Clock.Now, m.Clock.Built = now, now.Add(time.Hour) }, []string{"clock_in_the_past"}},
		{"a clock that nobody keeps", func(m *Machine, x *Tunnel) { m.Clock.Unsynced = true }, []string{"note:clock_not_synchronised"}},
		{"a clock that nobody keeps, and a peer that answers no more", func(m *Machine, x *Tunnel) {
			m.Clock.Unsynced = true
			status(m, x).LastHandshake = now.Add(-time.Hour)
		}, []string{"no_handshake", "clock_set_back", "note:clock_not_synchronised"}},
		{"a journal without a process", func(m *Machine, x *Tunnel) {
			m.Leftovers = []Leftover{{Name: "old", Path: "/run/stunnel/1/old.journal", PID: 9}}
		}, []string{"leftovers"}},
		{"a journal of another namespace", func(m *Machine, x *Tunnel) {
			m.Leftovers = []Leftover{{Name: "old", Path: "/run/stunnel/2/old.journal", Err: netconf.ErrElsewhere}}
		}, []string{"note:leftovers"}},
		{"a kill switch without a tunnel", func(m *Machine, x *Tunnel) { m.KillSwitches = []string{"work", "old"} }, []string{"kill_switch"}},
		{"a tunnel in another namespace", func(m *Machine, x *Tunnel) { *x = Tunnel{Name: "work", Status: x.Status, Elsewhere: 12} }, []string{"note:elsewhere"}},
		{"errors in the file", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			x.File, x.Peers = nil, nil
			x.Faults = errors.Join(&conf.Error{File: "f", Line: 3, Msg: "a"}, &conf.Error{File: "f", Line: 4, Msg: "b", Hint: "c"})
		}, []string{"configuration", "configuration"}},
		{"the name is another interface's", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			m.Links = append(m.Links, Link{Name: "work", Kind: "dummy"})
		}, []string{"name_taken"}},
		{"the name is that of the kernel's WireGuard", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			m.Links = append(m.Links, Link{Name: "work", Kind: "wireguard"})
		}, []string{"name_taken"}},
		{"the interface is held by a process", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			m.Links = append(m.Links, Link{Name: "work", Kind: "tuntap"})
			x.Holder = 99
		}, []string{"name_taken"}},
		{"a persistent interface of that name", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			m.Links = append(m.Links, Link{Name: "work", Kind: "tuntap"})
		}, nil},
		{"the port is another program's", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			m.Sockets = []Socket{{Network: "udp", Local: netip.MustParseAddrPort("[::]:51820"), Program: "dnsmasq", PID: 7}}
		}, []string{"port_taken"}},
		{"the TCP port is another program's", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			x.File.Interface.ListenTCP = 443
			m.Sockets = []Socket{{Network: "tcp", Local: netip.MustParseAddrPort("[::]:443"), Program: "nginx", PID: 7}}
		}, []string{"port_taken"}},
		{"the port is another program's, by another device perhaps", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			x.File.Interface.BindDevice = "eth1"
			m.Sockets = []Socket{{Network: "udp", Local: netip.MustParseAddrPort("[::]:51820"), Program: "dnsmasq", PID: 7}}
		}, nil},
		{"the interface has another name", func(m *Machine, x *Tunnel) { m.Links[2].Name = "other" }, []string{"interface_renamed"}},
		{"the interface is down", func(m *Machine, x *Tunnel) { m.Links[2].Up = false }, []string{"interface_down"}},
		{"IPv6 is off on the interface", func(m *Machine, x *Tunnel) { m.Sysctls["net/ipv6/conf/work/disable_ipv6"] = "1" }, []string{"no_ipv6"}},
		{"IPv6 is off", func(m *Machine, x *Tunnel) { stopped(m, x); m.Sysctls["net/ipv6/conf/default/disable_ipv6"] = "1" }, []string{"no_ipv6"}},
		{"the kernel has no IPv6", func(m *Machine, x *Tunnel) { stopped(m, x); delete(m.Sysctls, "net/ipv6/conf/default/disable_ipv6") }, []string{"no_ipv6"}},
		{"no nftables, and no need of them", func(m *Machine, x *Tunnel) { stopped(m, x); m.Firewall, m.FirewallErr = nil, unix.EPROTONOSUPPORT }, nil},
		{"no nftables for a kill switch", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			m.Firewall, m.FirewallErr, x.File.Interface.KillSwitch = nil, unix.EPROTONOSUPPORT, true
		}, []string{"no_nftables"}},
		{"a name that does not exist", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			unresolved(x, &net.DNSError{Err: "no such host", Name: "office.example", IsNotFound: true})
			x.Peers[0].Endpoint = netip.AddrPort{}
		}, []string{"endpoint_unresolvable"}},
		{"a name server that is silent, while the tunnel works", func(m *Machine, x *Tunnel) {
			unresolved(x, &net.DNSError{Err: "i/o timeout", IsTimeout: true})
		}, []string{"note:endpoint_unresolvable"}},
		{"a name that has moved", func(m *Machine, x *Tunnel) {
			silent(m, x)
			x.Peers[0].Configured[0].Now = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:51820")}
		}, []string{"endpoint_moved", "no_handshake"}},
		{"a name that has moved, which the tunnel knows", func(m *Machine, x *Tunnel) {
			silent(m, x)
			x.Peers[0].Configured[0].Now = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:51820")}
			status(m, x).Endpoints = x.Peers[0].Configured[0].Now
		}, []string{"no_handshake"}},
		{"no way to the endpoint", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			x.Peers[0].Way = Way{To: remote.Addr(), Err: errors.New("network is unreachable")}
		}, []string{"endpoint_unreachable"}},
		{"a way to the endpoint through the tunnel", func(m *Machine, x *Tunnel) { x.Peers[0].Way = inside("198.51.100.7") }, []string{"endpoint_in_tunnel"}},
		{"an endpoint that is this host", func(m *Machine, x *Tunnel) { x.Peers[0].Way.Local = true }, []string{"endpoint_is_here"}},
		{"a router that is not there", func(m *Machine, x *Tunnel) { x.Peers[0].Silent = true }, []string{"next_hop_silent"}},
		{"a kernel without rules, and no need of them", func(m *Machine, x *Tunnel) { stopped(m, x); m.RulesErr = unix.EOPNOTSUPP }, nil},
		{"a kernel without rules", func(m *Machine, x *Tunnel) {
			stopped(m, x)
			m.RulesErr = unix.EOPNOTSUPP
			x.Peers[0].AllowedIPs = []netip.Prefix{prefix("0.0.0.0/0")}
		}, []string{"no_policy_routing"}},
		{"no private key", func(m *Machine, x *Tunnel) {
			x.Status.PrivateKey, x.Status.PublicKey = crypto.PrivateKey{}, crypto.PublicKey{}
		}, []string{"no_key"}},
		{"no peer", func(m *Machine, x *Tunnel) { x.Status.Peers, x.Peers, x.Networks = nil, nil, nil }, []string{"no_peer"}},
		{"a peer that has said goodbye", func(m *Machine, x *Tunnel) {
			status(m, x).Goodbye, status(m, x).LastHandshake = now.Add(-time.Minute), now.Add(-time.Hour)
		}, []string{"peer_down"}},
		{"packets for a peer of which nobody knows where it is", func(m *Machine, x *Tunnel) {
			serving(m, x)
			s := status(m, x)
			*s = transport.PeerStatus{PublicKey: s.PublicKey, AllowedIPs: s.AllowedIPs, Drops: map[string]uint64{"no_endpoint": 3}}
			x.Peers[0].Endpoint = netip.AddrPort{}
		}, []string{"no_endpoint"}},
		{"a peer that has not come yet", func(m *Machine, x *Tunnel) {
			serving(m, x)
			s := status(m, x)
			*s = transport.PeerStatus{PublicKey: s.PublicKey, AllowedIPs: s.AllowedIPs}
			x.Peers[0].Endpoint = netip.AddrPort{}
		}, nil},
		{"a peer without allowed IPs", func(m *Machine, x *Tunnel) { x.Peers[0].AllowedIPs, x.Networks = nil, nil }, []string{"no_allowed_ips"}},
		{"our own address among a peer's", func(m *Machine, x *Tunnel) { x.Peers[0].AllowedIPs = []netip.Prefix{prefix("10.20.0.2/32")} }, []string{"own_address_allowed"}},
		{"a handshake without an answer", silent, []string{"no_handshake"}},
		{"a session that is over", func(m *Machine, x *Tunnel) { status(m, x).LastHandshake = now.Add(-10 * time.Minute) }, []string{"no_handshake"}},
		{"a session that gets no successor", func(m *Machine, x *Tunnel) {
			status(m, x).PersistentKeepalive, status(m, x).UnansweredSince = 0, now.Add(-11*time.Second)
		}, []string{"no_handshake"}},
		{"a peer to which no TCP connection can be made", func(m *Machine, x *Tunnel) {
			silent(m, x)
			status(m, x).TxBytes, status(m, x).UnansweredSince = 0, now.Add(-15*time.Second)
		}, []string{"no_handshake"}},
		{"a handshake that is under way", func(m *Machine, x *Tunnel) { status(m, x).UnansweredSince = now.Add(-9 * time.Second) }, nil},
		{"a tunnel at rest", func(m *Machine, x *Tunnel) {
			status(m, x).LastHandshake, status(m, x).PersistentKeepalive = now.Add(-10*time.Minute), 0
		}, nil},
		{"a tunnel that may be at rest", func(m *Machine, x *Tunnel) {
			status(m, x).LastHandshake, status(m, x).PersistentKeepalive = now.Add(-10*time.Minute), 0
			status(m, x).Drops = map[string]uint64{"no_handshake": 4}
		}, []string{"note:session_over"}},
		{"nothing was sent yet", func(m *Machine, x *Tunnel) { silent(m, x); status(m, x).TxBytes = 0 }, nil},
		{"somebody knocks for another key", func(m *Machine, x *Tunnel) {
			silent(m, x)
			status(m, x).TxBytes, x.Status.Drops = 0, map[string]uint64{"bad_mac1": 5}
		}, []string{"wrong_key"}},
		{"somebody knocks with an unknown key", func(m *Machine, x *Tunnel) {
			silent(m, x)
			status(m, x).TxBytes, x.Status.Drops = 0, map[string]uint64{"unknown_peer": 5}
		}, []string{"unknown_key"}},
		{"the preshared keys differ", func(m *Machine, x *Tunnel) {
			silent(m, x)
			status(m, x).TxBytes, status(m, x).Drops = 0, map[string]uint64{"bad_handshake": 5}
		}, []string{"preshared_key"}},
		{"a stray handshake on an open port", func(m *Machine, x *Tunnel) { x.Status.Drops = map[string]uint64{"bad_mac1": 5, "unknown_peer": 1} }, nil},
		{"a route that is missing", func(m *Machine, x *Tunnel) { x.Networks[0].Ways[0] = outside(addr("10.20.0.1")) }, []string{"route_missing"}},
		{"a route that refuses", func(m *Machine, x *Tunnel) { x.Networks[0].Ways[0] = Way{To: addr("10.20.0.1"), Err: unix.ENETUNREACH} }, []string{"route_missing"}},
		{"a network inside the peer's that is on a cable here", func(m *Machine, x *Tunnel) {
			near := outside(addr("10.20.5.1"))
			near.Prefix = prefix("10.20.5.0/24")
			x.Networks[0] = Network{Prefix: prefix("10.20.0.0/16"), Ways: []Way{inside("10.20.0.1"), near}}
		}, nil},
		{"routes that are the user's to make", func(m *Machine, x *Tunnel) {
			x.File.Interface.Table = conf.Table{Off: true}
			x.Networks[0].Ways[0] = outside(addr("10.20.0.1"))
		}, nil},
		{"a default route", func(m *Machine, x *Tunnel) { defaultRoute(m, x, inside("198.51.100.1")) }, nil},
		{"another VPN's rules come first", func(m *Machine, x *Tunnel) {
			w := outside(farAway)
			w.Interface, w.Table = "vpn0", 99
			defaultRoute(m, x, w)
			m.Rules = slices.Insert(m.Rules, 1, Rule{Priority: 100, Table: 99, Text: "100: from all lookup 99"})
		}, []string{"default_route_elsewhere"}},
		{"a later tunnel carries everything", func(m *Machine, x *Tunnel) {
			w := outside(farAway)
			w.Interface, w.Table = "late", 51821
			defaultRoute(m, x, w)
			m.Rules = slices.Insert(m.Rules, 1, Rule{Priority: 32763, Table: 51821, Mark: 51821, Text: "32763: not from all fwmark 0xca6d lookup 51821"})
			m.Running = append(m.Running, "late")
		}, []string{"note:default_route_elsewhere"}},
		{"the rules of the default route are gone", func(m *Machine, x *Tunnel) {
			defaultRoute(m, x, outside(farAway))
			m.Rules = m.Rules[3:]
		}, []string{"default_route_elsewhere"}},
		{"a strict reverse path filter, and routes that are the user's", func(m *Machine, x *Tunnel) {
			m.Sysctls["net/ipv4/conf/all/rp_filter"] = "1"
			x.File.Interface.Table = conf.Table{Off: true}
			x.Networks[0].Back[0] = outside(addr("10.20.0.1"))
		}, []string{"rp_filter"}},
		{"a loose reverse path filter", func(m *Machine, x *Tunnel) {
			m.Sysctls["net/ipv4/conf/all/rp_filter"], m.Sysctls["net/ipv4/conf/work/rp_filter"] = "1", "2"
			x.File.Interface.Table = conf.Table{Off: true}
			x.Networks[0].Back[0] = outside(addr("10.20.0.1"))
		}, nil},
		{"a strict reverse path filter on sealed packets", func(m *Machine, x *Tunnel) {
			defaultRoute(m, x, inside("198.51.100.1"))
			m.Sysctls["net/ipv4/conf/eth0/rp_filter"] = "1"
			x.Peers[0].Unmarked = inside("198.51.100.7")
		}, []string{"rp_filter_of_sealed"}},
		{"the same with src_valid_mark", func(m *Machine, x *Tunnel) {
			defaultRoute(m, x, inside("198.51.100.1"))
			m.Sysctls["net/ipv4/conf/eth0/rp_filter"], m.Sysctls["net/ipv4/conf/all/src_valid_mark"] = "1", "1"
			x.Peers[0].Unmarked = inside("198.51.100.7")
		}, nil},
		{"a gateway that does not forward", func(m *Machine, x *Tunnel) { x.File.Interface.Masquerade.On = true }, []string{"not_forwarding"}},
		{"a gateway whose outer interface has come anew", func(m *Machine, x *Tunnel) {
			x.File.Interface.Masquerade.On = true
			m.Sysctls["net/ipv4/conf/work/forwarding"], m.Sysctls["net/ipv4/conf/eth0/forwarding"] = "1", "0"
		}, []string{"not_forwarding"}},
		{"a gateway that is as up has made it", func(m *Machine, x *Tunnel) {
			x.File.Interface.Masquerade.On = true
			m.Sysctls["net/ipv4/conf/work/forwarding"], m.Sysctls["net/ipv4/conf/eth0/forwarding"] = "1", "1"
		}, nil},
		{"a kill switch that was lifted", func(m *Machine, x *Tunnel) { x.File.Interface.KillSwitch = true }, []string{"note:kill_switch_lifted"}},
		{"a kill switch in force", func(m *Machine, x *Tunnel) { x.File.Interface.KillSwitch, m.KillSwitches = true, []string{"work"} }, nil},
		{"others' packets at a server that does not forward", func(m *Machine, x *Tunnel) { serving(m, x); m.AddressErrors = 3 }, []string{"not_forwarding"}},
		{"stray packets at a client", func(m *Machine, x *Tunnel) { m.AddressErrors = 3 }, nil},
		{"others' IPv6 packets out of the tunnel", func(m *Machine, x *Tunnel) { m.Links[2].AddressErrors = 3 }, []string{"not_forwarding"}},
		{"UDP is blocked, and TCP carries", func(m *Machine, x *Tunnel) {
			p := status(m, x)
			p.Transport, p.Carrier, p.CarrierSince, p.CarrierWhy = transport.TransportAuto, transport.TransportTCP, now, "UDP does not get through"
		}, []string{"note:udp_blocked"}},
		{"a peer that is reached over TCP alone, as the file has it", func(m *Machine, x *Tunnel) {
			p := status(m, x)
			p.Transport, p.Carrier, p.CarrierSince = transport.TransportTCP, transport.TransportTCP, now
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.Protocol == unix.IPPROTO_UDP })
		}, nil},
		{"the firewall lets no TCP connection out", func(m *Machine, x *Tunnel) {
			doors(m, x, transport.TransportAuto)
			m.Firewall = firewall(func(p ruleset.Packet) bool {
				return p.Way == ruleset.Out && p.Protocol == unix.IPPROTO_TCP && p.DestinationPort == 443
			})
		}, []string{"firewall_sends_nothing"}},
		{"the firewall lets nobody begin by TCP", func(m *Machine, x *Tunnel) {
			serving(m, x)
			x.Status.ListenTCP = 443
			m.Firewall = firewall(func(p ruleset.Packet) bool {
				return p.Way == ruleset.In && p.Protocol == unix.IPPROTO_TCP && p.DestinationPort == 443
			})
		}, []string{"firewall_takes_nothing"}},
		{"TCP alone, and nobody is there", func(m *Machine, x *Tunnel) {
			doors(m, x, transport.TransportTCP)
			p := status(m, x)
			p.LastHandshake, p.TxBytes, p.RxBytes, p.Drops = time.Time{}, 0, 0, map[string]uint64{"no_handshake": 1}
		}, []string{"no_handshake"}},
		{"a firewall that lets nothing out", func(m *Machine, x *Tunnel) {
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.Way == ruleset.Out && p.Protocol == unix.IPPROTO_UDP })
		}, []string{"firewall_sends_nothing"}},
		{"a firewall that lets no answer in", func(m *Machine, x *Tunnel) {
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.Way == ruleset.In && p.Protocol == unix.IPPROTO_UDP })
		}, []string{"firewall_takes_nothing"}},
		{"a firewall that lets answers in, at a client", func(m *Machine, x *Tunnel) {
			m.Firewall = firewall(func(p ruleset.Packet) bool {
				return p.Way == ruleset.In && p.Protocol == unix.IPPROTO_UDP && p.State == ruleset.New
			})
		}, nil},
		{"a firewall that lets answers in, at a server", func(m *Machine, x *Tunnel) {
			serving(m, x)
			m.Firewall = firewall(func(p ruleset.Packet) bool {
				return p.Way == ruleset.In && p.Protocol == unix.IPPROTO_UDP && p.State == ruleset.New
			})
		}, []string{"firewall_takes_nothing"}},
		{"a firewall on the interface", func(m *Machine, x *Tunnel) {
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.InInterface == "work" })
		}, []string{"firewall_on_interface"}},
		{"a firewall on the interface that lets answers pass", func(m *Machine, x *Tunnel) {
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.InInterface == "work" && p.State == ruleset.New })
		}, []string{"note:firewall_refuses_new"}},
		{"a gateway whose firewall forwards nothing", func(m *Machine, x *Tunnel) {
			x.File.Interface.Masquerade.On, m.Sysctls["net/ipv4/conf/work/forwarding"] = true, "1"
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.Way == ruleset.Through })
		}, []string{"firewall_forwards_nothing"}},
		{"a gateway whose firewall forwards no answers", func(m *Machine, x *Tunnel) {
			x.File.Interface.Masquerade.On, m.Sysctls["net/ipv4/conf/work/forwarding"] = true, "1"
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.Way == ruleset.Through && p.State == ruleset.Established })
		}, []string{"firewall_forwards_nothing"}},
		{"a bridge that a firewall sees, and drops", func(m *Machine, x *Tunnel) {
			m.Links = append(m.Links, Link{Name: "br0", Index: 9, Kind: "bridge", Up: true})
			m.Links[2].Master, m.Sysctls[bridgeFilter] = "br0", "1"
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.Way == ruleset.Through && p.InInterface == "br0" })
		}, []string{"firewall_on_bridge"}},
		{"a bridge that no firewall sees", func(m *Machine, x *Tunnel) {
			m.Links = append(m.Links, Link{Name: "br0", Index: 9, Kind: "bridge", Up: true})
			m.Links[2].Master, m.Sysctls[bridgeFilter] = "br0", "0"
			m.Firewall = firewall(func(p ruleset.Packet) bool { return p.Way == ruleset.Through })
		}, nil},
		{"a tunnel of frames, which has no allowed IPs and cuts its frames up", func(m *Machine, x *Tunnel) {
			x.File.Interface.Ethernet = true
			m.Links[2].MTU, x.Peers[0].AllowedIPs, x.Networks = 1500, nil, nil
		}, nil},
		{"wrong allowed IPs here", func(m *Machine, x *Tunnel) {
			status(m, x).RxBytes, status(m, x).Drops = 532, map[string]uint64{"bad_source": 3}
		}, []string{"source_not_allowed"}},
		{"a few packets from elsewhere", func(m *Machine, x *Tunnel) { status(m, x).Drops = map[string]uint64{"bad_source": 3} }, []string{"note:source_not_allowed"}},
		{"a few packets to elsewhere", func(m *Machine, x *Tunnel) { x.Status.Drops = map[string]uint64{"no_peer": 3} }, []string{"note:destination_not_allowed"}},
		{"an MTU that is too large", func(m *Machine, x *Tunnel) { x.Peers[0].Way.MTU = 1400 }, []string{"mtu_too_large"}},
		{"an MTU that just fits", func(m *Machine, x *Tunnel) { x.Peers[0].Way.MTU = 1480 }, nil},
		{"an MTU in the file that is too large", func(m *Machine, x *Tunnel) { stopped(m, x); x.File.Interface.MTU = 1500 }, []string{"mtu_too_large"}},
		{"the least MTU that IPv6 has, on a way that is too narrow", func(m *Machine, x *Tunnel) { m.Links[2].MTU, x.Peers[0].Way.MTU = 1280, 1300 }, []string{"note:mtu_too_large"}},
		{"a private name server outside the tunnel", func(m *Machine, x *Tunnel) { x.Servers = []Way{outside(addr("10.20.0.53"))} }, []string{"dns_not_in_tunnel"}},
		{"a public name server outside the tunnel", func(m *Machine, x *Tunnel) { x.Servers = []Way{outside(addr("9.9.9.9"))} }, []string{"note:dns_not_in_tunnel"}},
		{"a name server in the tunnel", func(m *Machine, x *Tunnel) { x.Servers = []Way{inside("10.20.0.1")} }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, x := healthy()
			c.change(m, x)
			r := Examine(m, []*Tunnel{x})
			var got []string
			for _, f := range r.Findings {
				got = append(got, f.ID)
			}
			for _, f := range r.Notes {
				got = append(got, "note:"+f.ID)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v\n%+v\n%+v", got, c.want, r.Findings, r.Notes)
			}
			for _, f := range slices.Concat(r.Findings, r.Notes) {
				complete(t, f)
			}
		})
	}
}

// complete: a finding says what it has seen and what mends it.
func complete(t *testing.T, f Finding) {
	t.Helper()
	if f.ID == "" || f.What == "" || strings.HasSuffix(f.What, ".") || len(f.Evidence) == 0 || len(f.Remedies) == 0 {
		t.Errorf("%+v is not complete", f)
	}
	for _, e := range f.Evidence {
		if e.Source == "" || e.Says == "" {
			t.Errorf("%s: evidence %+v", f.ID, e)
		}
	}
	for _, r := range f.Remedies {
		if r.Command == "" && r.Why == "" {
			t.Errorf("%s: an empty remedy", f.ID)
		}
	}
}

func TestAFirewallThatIsNotSureIsNoFinding(t *testing.T) {
	m, x := healthy()
	m.Firewall = doubtful{}
	if r := Examine(m, []*Tunnel{x}); len(r.Findings)+len(r.Notes) != 0 {
		t.Errorf("%+v", r)
	}
}

type doubtful struct{}

func (doubtful) Judge(ruleset.Packet) ruleset.Verdict { return ruleset.Verdict{Drops: true} }

func TestTheRemedyForAKillSwitchIsToLiftIt(t *testing.T) {
	got := let(ruleset.Place{Table: netconf.KillSwitchTable("old")}, "udp dport 1")
	if len(got) != 1 || got[0].Command != "sudo stunnel unlock old" {
		t.Errorf("%+v", got)
	}
}
