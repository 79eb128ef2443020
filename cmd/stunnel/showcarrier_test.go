package main

import (
	"net/netip"
	"testing"
	"time"

	"stunnel/transport"
)

func TestShowSaysOverWhatAPeerIsReachedWhereThatMatters(t *testing.T) {
	const udp, tcp, auto = transport.TransportUDP, transport.TransportTCP, transport.TransportAuto
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	there := netip.MustParseAddrPort("192.0.2.1:7")
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, test := range []struct {
		name string
		peer transport.PeerStatus
		want string
	}{
		{"a plain peer at rest", transport.PeerStatus{Endpoint: there}, ""},
		{"a plain peer at work", transport.PeerStatus{Endpoint: there, TxBytes: 148, LastHandshake: ago(time.Minute), CarrierSince: ago(time.Hour)}, ""},
		{"a peer that never answered", transport.PeerStatus{Endpoint: there, TxBytes: 148},
			"UDP alone; if a network on the way blocks it: " + tcpRemedy},
		{"a peer that does not answer any more", transport.PeerStatus{Endpoint: there, TxBytes: 148, LastHandshake: ago(time.Hour), PersistentKeepalive: 25 * time.Second},
			"UDP alone; if a network on the way blocks it: " + tcpRemedy},
		{"one with an old session and nothing to send", transport.PeerStatus{Endpoint: there, TxBytes: 148, LastHandshake: ago(time.Hour)}, ""},
		{"one that has said goodbye", transport.PeerStatus{Endpoint: there, TxBytes: 148, Goodbye: ago(time.Hour)}, ""},
		{"both, and none yet", transport.PeerStatus{Endpoint: there, TxBytes: 148, Transport: auto}, "UDP or TCP; there is no session"},
		{"TCP alone, and none yet", transport.PeerStatus{TxBytes: 148, Transport: tcp}, "TCP alone; there is no session"},
		{"both, by UDP", transport.PeerStatus{Transport: auto, CarrierSince: ago(time.Hour), CarrierWhy: "UDP works again"}, "UDP, begun 1 hour ago: UDP works again"},
		{"both, by TCP", transport.PeerStatus{Transport: auto, Carrier: tcp, CarrierSince: ago(time.Minute), CarrierWhy: "UDP does not get through"},
			"TCP, begun 1 minute ago: UDP does not get through"},
		{"a peer that came by TCP", transport.PeerStatus{Transport: udp, Carrier: tcp, CarrierSince: ago(time.Second)}, "TCP, begun 1 second ago"},
	} {
		if got := carrierText(&test.peer, now); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
