package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf"
	"stunnel/device/netconf/ruleset"
	"stunnel/transport"
)

// Door is where a peer takes TCP connections, or should.
type Door struct {
	To    netip.AddrPort
	Way   Way
	Tried bool  // one was made, since the peer is silent
	Err   error // of that; nil: it was taken
}

const (
	dialTime = 3 * time.Second // more than a lost SYN takes to be repeated
	maxDoors = 8               // of one peer
)

// transport is what may carry the peer's messages, as far as is known.
func (t *Tunnel) transport(p *Peer) transport.Transport {
	if p.Status != nil {
		return p.Status.Transport
	}
	if t.File != nil {
		for i := range t.File.Peers {
			if f := &t.File.Peers[i]; f.Title() == p.Title {
				return f.TransportOf(false)
			}
		}
	}
	return transport.TransportUDP
}

// overTCP are the addresses to which TCP is dialled: those of EndpointTCP, or else those of Endpoint.
func (t *Tunnel) overTCP(p *Peer) []netip.AddrPort {
	if t.transport(p) == transport.TransportUDP {
		return nil
	}
	var udp, tcp []netip.AddrPort
	if p.Status != nil {
		udp, tcp = p.Status.Endpoints, p.Status.EndpointsTCP
	}
	for _, n := range p.Configured {
		if n.Key == "EndpointTCP" {
			tcp = append(slices.Clip(tcp), n.Now...)
		} else {
			udp = append(slices.Clip(udp), n.Now...)
		}
	}
	if len(tcp) == 0 {
		tcp = udp
	}
	var all []netip.AddrPort
	for _, a := range tcp {
		if !slices.Contains(all, a) && len(all) < maxDoors {
			all = append(all, a)
		}
	}
	return all
}

// readDoors looks for the ways there, and tries those of peers that do not answer, all at the same time.
func (t *Tunnel) readDoors(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var dialling sync.WaitGroup
	for i := range t.Peers {
		p := &t.Peers[i]
		for _, to := range t.overTCP(p) {
			p.Doors = append(p.Doors, Door{To: to, Way: readWay(to.Addr(), t.mark(), netip.Addr{}), Tried: t.Dial != nil && p.unanswered(now)})
		}
		for j := range p.Doors {
			if d := &p.Doors[j]; d.Tried {
				dialling.Go(func() { d.Err = t.Dial(ctx, d.To) })
			}
		}
	}
	dialling.Wait()
}

// tcpRemedies are for a peer that is not reached, as far as TCP is concerned; f gets what was tried as evidence.
func (t *Tunnel) tcpRemedies(f *Finding, p *Peer) (remedies []Remedy) {
	if t.transport(p) == transport.TransportUDP {
		return []Remedy{{Why: t.arg() + ": Transport = auto in its [Peer], or EndpointTCP = HOST:PORT, tries TCP too, if a network on the way blocks UDP; the other end needs ListenTCP = PORT"}}
	}
	taken, refused, silent := false, false, false
	for _, d := range p.Doors {
		says := "it is taken"
		switch {
		case !d.Tried:
			continue
		case d.Err == nil:
			taken = true
		case errors.Is(d.Err, unix.ECONNREFUSED):
			refused, says = true, d.Err.Error()
		default:
			silent, says = true, d.Err.Error()
		}
		f.Evidence = append(f.Evidence, Evidence{"TCP connection to " + d.To.String(), says})
	}
	if taken {
		remedies = append(remedies, Remedy{"sudo stunnel show NAME", "at the other end: TCP gets there, so the port is another program's, or the keys are wrong"})
	}
	if refused {
		remedies = append(remedies, Remedy{Why: "at the other end: ListenTCP = PORT; nobody takes TCP connections at that port"})
	}
	if silent {
		remedies = append(remedies, Remedy{Why: "TCP does not get through either, or not to that port: ListenTCP = 443 at the other end, and that port in EndpointTCP here, passes most networks"})
	}
	return remedies
}

// checkCarrier: TCP carries what UDP does not get through, slower, and that may be mended.
func checkCarrier(m *Machine, t *Tunnel) (found []Finding) {
	for _, p := range t.Peers {
		s := p.Status
		if s == nil || s.Carrier != transport.TransportTCP || s.Transport != transport.TransportAuto || s.CarrierSince.IsZero() || p.unanswered(m.Clock.Now) {
			continue
		}
		f := Finding{
			ID: "udp_blocked", Peer: p.Title, Note: true, What: "it is reached over TCP, which is slower, since UDP does not get through",
			Evidence: []Evidence{{"stunnel show " + t.Name, fmt.Sprintf("transport: TCP, since %s: %s", s.CarrierSince.UTC().Format(time.RFC3339), s.CarrierWhy)}},
		}
		port := s.Endpoint.Port()
		if len(s.Endpoints) > 0 {
			port = s.Endpoints[0].Port()
		}
		f.Remedies = []Remedy{{fmt.Sprintf("sudo tcpdump -ni any udp port %d", port),
			"at the other end, if UDP is meant to get through: nothing comes, so a firewall or a router on the way stops it; the tunnel tries it again by itself"}}
		found = append(found, f)
	}
	return found
}

// checkTCPOut: TCP connections must get out of the machine.
func checkTCPOut(m *Machine, t *Tunnel) (found []Finding) {
	for _, p := range t.Peers {
		for _, d := range p.Doors {
			to, w := d.To, d.Way
			if w.Err != nil || w.Local {
				continue
			}
			by, drops := m.dropped(ruleset.Packet{
				Way: ruleset.Out, OutInterface: w.Interface, OutIndex: m.index(w.Interface), Source: w.Source, Destination: to.Addr().WithZone(""),
				Protocol: unix.IPPROTO_TCP, DestinationPort: to.Port(), Mark: t.mark(),
			})
			if !drops || t.Status == nil && by.Table == netconf.KillSwitchTable(t.Name) { // which will let the mark pass that up chooses
				continue
			}
			found = append(found, Finding{
				ID: "firewall_sends_nothing", Peer: p.Title, What: "this host's firewall drops TCP connections to " + to.String(),
				Evidence: m.judged(by), Remedies: let(by, fmt.Sprintf("tcp dport %d", to.Port())),
			})
			break // one tells enough
		}
	}
	return found
}
