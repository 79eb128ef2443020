package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"stunnel/transport"
)

// checkResolution: the names of endpoints must lead to addresses. A tunnel that runs looks them up again while a peer is silent.
func checkResolution(m *Machine, t *Tunnel) (found []Finding) {
	for _, p := range t.Peers {
		for _, n := range p.Configured {
			switch {
			case n.Err != nil:
				found = append(found, n.unresolvable(m, t, p))
			case p.Status != nil && p.unanswered(m.Clock.Now) && n.Key == "Endpoint" && n.moved(p):
				found = append(found, Finding{
					ID: "endpoint_moved", Peer: p.Title, What: "the name of its endpoint has another address now, and at the old one nobody answers",
					Evidence: []Evidence{
						{"getent ahosts " + n.host(), n.Now[0].String()},
						{"stunnel show " + t.Name, "endpoint: " + p.Endpoint.String()},
					},
					Remedies: []Remedy{
						{fmt.Sprintf("sudo wg set %s peer %s endpoint %s", t.Name, p.Status.PublicKey, n.Now[0]), "at once; by itself the tunnel looks the name up again a few minutes later at most, while it has something to send"},
					},
				})
			}
		}
	}
	return found
}

// host is the name without the port.
func (n *Named) host() string { return n.Endpoint[:strings.LastIndexByte(n.Endpoint, ':')] }

// moved: the name leads to none of the addresses that the tunnel knows.
func (n *Named) moved(p Peer) bool {
	return len(n.Now) > 0 && !slices.ContainsFunc(n.Now, func(a netip.AddrPort) bool {
		return a == p.Endpoint || slices.Contains(p.Status.Endpoints, a)
	})
}

func (n *Named) unresolvable(m *Machine, t *Tunnel, p Peer) Finding {
	f := Finding{
		ID: "endpoint_unresolvable", Peer: p.Title, What: "the name of its endpoint can't be resolved",
		Evidence: []Evidence{{n.Key + " = " + n.Endpoint, n.Err.Error()}, m.servers()},
	}
	if dns := (*net.DNSError)(nil); errors.As(n.Err, &dns) && dns.IsNotFound {
		f.Remedies = []Remedy{{Why: t.Path + ": correct the name in " + n.Key + ", or write an address"}}
	} else {
		f.Remedies = []Remedy{
			{"getent ahosts " + n.host(), "is what other programs get"},
			{Why: t.Path + ": an address in " + n.Key + " needs no name server"},
		}
	}
	f.Note = p.Status != nil && !p.unanswered(m.Clock.Now) && p.Endpoint.IsValid() // it has an address that works
	return f
}

func (m *Machine) servers() Evidence {
	var texts []string
	for _, s := range m.Servers {
		texts = append(texts, "nameserver "+s.String())
	}
	if texts == nil {
		texts = []string{"no name server"}
	}
	return Evidence{"/etc/resolv.conf", strings.Join(texts, ", ")}
}

// checkWay: sealed packets need a way to each endpoint, and not one into the tunnel itself.
func checkWay(m *Machine, t *Tunnel) (found []Finding) {
	for _, p := range t.Peers {
		if !p.Endpoint.IsValid() {
			continue
		}
		f := Finding{Peer: p.Title, Evidence: []Evidence{p.Way.evidence()}}
		host := hostPrefix(p.Endpoint.Addr())
		switch {
		case p.Way.Err != nil:
			f.ID, f.What = "endpoint_unreachable", "there is no way to its endpoint "+p.Endpoint.String()
			f.Remedies = []Remedy{
				{"ip route show default", "must show a default route, or another that fits; is the network up?"},
				{"sudo ip route add " + host + " via GATEWAY", "makes one to this host alone"},
			}
			if p.Endpoint.Addr().Is6() {
				f.Remedies[0].Command = "ip -6 route show default"
				f.Remedies = append(f.Remedies, Remedy{Why: t.arg() + ": an IPv4 address in Endpoint, where there is no IPv6"})
			}
		case p.Way.Interface == t.Name && t.Status != nil:
			f.ID, f.What = "endpoint_in_tunnel", "the way to its endpoint leads into the tunnel itself: sealed packets would be sealed again, for ever"
			f.Remedies = []Remedy{
				{"sudo ip route add " + host + " via GATEWAY dev DEVICE", "leads the endpoint around the tunnel, with the gateway of `ip route show default`"},
				{Why: t.arg() + ": without Table = off, up keeps sealed packets out of the tunnel by a mark"},
			}
		case p.Way.Local:
			f.ID, f.What = "endpoint_is_here", "its endpoint is an address of this very host"
			f.Remedies = words(t.arg() + ": Endpoint is the other host's address")
		case p.Silent:
			next := p.Way.next()
			f.ID, f.What = "next_hop_silent", fmt.Sprintf("nothing gets to its endpoint: %s, to which packets go first, does not answer on %s", next, p.Way.Interface)
			f.Evidence = append(f.Evidence, Evidence{fmt.Sprintf("ip neigh show to %s dev %s", next, p.Way.Interface), "FAILED or INCOMPLETE"})
			f.Remedies = []Remedy{
				{"ip link show " + p.Way.Interface, "must say LOWER_UP: is the cable plugged in, the Wi-Fi joined?"},
				{"ip route show default", "must have the router that is there now"},
			}
		default:
			continue
		}
		found = append(found, f)
	}
	return found
}

func hostPrefix(a netip.Addr) string {
	return netip.PrefixFrom(a.WithZone(""), a.BitLen()).String()
}

// silence is after which a session is over and a new one should be there.
const silence = transport.RejectAfterTime + transport.RekeyTimeout

// unanswered: handshakes go out, and nothing comes back. A tunnel at rest, which sends nothing, is not that.
func (p *Peer) unanswered(now time.Time) bool {
	s := p.Status
	switch {
	case s == nil || !s.Goodbye.IsZero():
		return false
	case s.Silent(now): // also before there is a TCP connection by which anything could be sent
		return true
	case s.LastHandshake.IsZero():
		return s.TxBytes != 0 || s.Drops["no_handshake"] != 0
	}
	return s.PersistentKeepalive != 0 && now.Sub(s.LastHandshake) > silence // the keepalive makes that something is sent
}
