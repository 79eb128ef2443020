package main

import (
	"net/netip"
	"testing"

	"stunnel/device/netconf"
	"stunnel/transport"
)

func TestOnlyAnotherWayToAPeerIsAChangeOfTheNetwork(t *testing.T) {
	office, backup, other := netip.MustParseAddrPort("192.0.2.1:51820"), netip.MustParseAddrPort("[2001:db8::1]:443"), netip.MustParseAddrPort("198.51.100.1:7")
	ways := map[netip.Addr]netconf.Hop{
		office.Addr(): {Link: 2, Gateway: netip.MustParseAddr("10.0.0.1"), Source: netip.MustParseAddr("10.0.0.2")},
	}
	n := newNetwork(func(remote netip.Addr, mark uint32) netconf.Hop {
		if mark != 7 {
			t.Errorf("the way of packets with mark %d is asked for", mark)
		}
		return ways[remote]
	})
	n.meet(&transport.Config{Peers: []transport.PeerConfig{{Endpoint: &office, EndpointsTCP: &[]netip.AddrPort{backup}}}}, func() uint32 { return 7 })
	s := &transport.Status{FwMark: 7, Peers: []transport.PeerStatus{
		{Endpoint: office, Endpoints: []netip.AddrPort{office}, EndpointsTCP: []netip.AddrPort{backup}},
	}}
	step := func(what string, want bool, change func()) {
		t.Helper()
		change()
		if got := n.changed(s); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		if n.changed(s) {
			t.Errorf("%s: it is told twice", what)
		}
	}
	set := func(to netip.AddrPort, change func(*netconf.Hop)) func() {
		return func() {
			h := ways[to.Addr()]
			change(&h)
			ways[to.Addr()] = h
		}
	}
	step("nothing", false, func() {})
	step("the way to somebody else", false, set(other, func(h *netconf.Hop) { h.Link = 3 }))
	step("another router", true, set(office, func(h *netconf.Hop) { h.Gateway = netip.MustParseAddr("10.0.0.3") }))
	step("another address", true, set(office, func(h *netconf.Hop) { h.Source = netip.MustParseAddr("10.0.0.4") }))
	step("another interface", true, set(office, func(h *netconf.Hop) { h.Link = 4 }))
	step("IPv6 is there", true, set(backup, func(h *netconf.Hop) { h.Link = 4 }))
	step("the cable is out, and IPv6 leads to it too", true, set(office, func(h *netconf.Hop) { *h = netconf.Hop{} }))
	step("the cable is in", true, set(office, func(h *netconf.Hop) { h.Link = 4 }))
	step("IPv6, which is not in use, is gone", false, set(backup, func(h *netconf.Hop) { *h = netconf.Hop{} }))
	step("the cable is out, and nothing else leads to it", false, set(office, func(h *netconf.Hop) { *h = netconf.Hop{} }))
	step("the cable is in again", true, set(office, func(h *netconf.Hop) { h.Link = 4 }))
	step("the peer roams", false, func() { s.Peers[0].Endpoint = other })
	step("the way to where it roamed", true, set(other, func(h *netconf.Hop) { h.Link = 5 }))
	step("a peer that has gone", false, func() {
		s.Peers = nil
		ways[office.Addr()] = netconf.Hop{Link: 9}
	})
}
