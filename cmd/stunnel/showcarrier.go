package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"stunnel/transport"
)

// listening prints how the interface is reached over TCP, if it is, or peers are.
func (b block) listening(s *transport.Status) {
	var parts []string
	if s.ListenTCP != 0 {
		parts = append(parts, fmt.Sprintf("port %d", s.ListenTCP))
	}
	if s.ListenTCP != 0 || s.Streams != 0 {
		parts = append(parts, count(int64(s.Streams), "connection")+" open")
	}
	if s.Strangers != 0 {
		parts = append(parts, count(s.Strangers, "stranger")+" turned away")
	}
	if parts != nil {
		b.line("tcp", strings.Join(parts, ", "))
	}
}

// carrier prints by which way the peer is reached, and by which others it may be.
func (b block) carrier(p *transport.PeerStatus, now time.Time) {
	if others := otherEndpoints(p); len(others) > 0 {
		b.line("other endpoints", strings.Join(others, ", "))
	}
	if text := carrierText(p, now); text != "" {
		b.line("transport", text)
	}
	if p.PathMTU != 0 {
		b.line("path mtu", fmt.Sprint(p.PathMTU))
	}
}

// otherEndpoints are the places where the peer may be and is not spoken to.
func otherEndpoints(p *transport.PeerStatus) (others []string) {
	udp := slices.DeleteFunc(slices.Clone(p.Endpoints), func(e netip.AddrPort) bool { return p.Carrier != transport.TransportTCP && e == p.Endpoint })
	others = texts(udp)
	for _, e := range p.EndpointsTCP {
		if p.Carrier != transport.TransportTCP || e != p.Endpoint {
			others = append(others, e.String()+" (TCP)")
		}
	}
	return others
}

// carrierText says over what the peer is reached, since when and why; "" where that goes without saying.
func carrierText(p *transport.PeerStatus, now time.Time) string {
	if p.CarrierSince.IsZero() {
		switch {
		case p.Transport == transport.TransportTCP:
			return "TCP alone; there is no session"
		case p.Transport == transport.TransportAuto:
			return "UDP or TCP; there is no session"
		case isSilent(p, now):
			return "UDP alone; if a network on the way blocks it: " + tcpRemedy
		}
		return ""
	}
	text := strings.ToUpper(p.Carrier.String()) + ", begun " + ago(now.Sub(p.CarrierSince))
	switch {
	case p.Carrier == transport.TransportUDP && p.Transport == transport.TransportUDP && isSilent(p, now):
		return text + "; if a network on the way blocks it now: " + tcpRemedy
	case p.Carrier == transport.TransportUDP && p.Transport == transport.TransportUDP:
		return ""
	case p.CarrierWhy != "":
		text += ": " + p.CarrierWhy
	}
	return text
}

// tcpRemedy is for UDP that does not get through, where TCP is not tried.
const tcpRemedy = "Transport = auto in its [Peer], or EndpointTCP = HOST:PORT, tries TCP too, where the other end has ListenTCP = PORT"

// isSilent says whether a peer ought to have answered and has not.
func isSilent(p *transport.PeerStatus, now time.Time) bool {
	switch {
	case !p.Endpoint.IsValid() || !p.Goodbye.IsZero() || p.TxBytes == 0:
		return false
	case p.LastHandshake.IsZero(), p.Silent(now):
		return true
	}
	return p.PersistentKeepalive != 0 && now.Sub(p.LastHandshake) > transport.RejectAfterTime+transport.RekeyTimeout
}
