package doctor

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf"
	"stunnel/device/netconf/ruleset"
	"stunnel/transport"
)

// dropped says that the firewall lets packets like p not pass, as far as that is sure.
func (m *Machine) dropped(p ruleset.Packet) (by ruleset.Place, drops bool) {
	if m.Firewall == nil {
		return by, false
	}
	v := m.Firewall.Judge(p)
	return v.By, v.Drops && v.Sure
}

// let is what lets pass what by drops, in a rule that says it by match.
func let(by ruleset.Place, match string) []Remedy {
	if name, is := netconf.KillSwitchOf(by.Table); is {
		return []Remedy{{"sudo stunnel unlock " + name, "lifts the kill switch of " + name}}
	}
	return []Remedy{
		{fmt.Sprintf("sudo nft insert rule %s %s %s %s accept", by.Family, by.Table, by.Chain, match), "until the firewall is loaded anew; then in its own configuration (ufw allow, firewall-cmd)"},
	}
}

func (m *Machine) judged(by ruleset.Place) []Evidence {
	return []Evidence{{by.Command(), by.String()}}
}

// port is where the tunnel listens, 0 if nobody knows yet.
func (t *Tunnel) port() uint16 {
	switch {
	case t.Status != nil:
		return t.Status.ListenPort
	case t.File != nil && t.File.Interface.ListenPort != nil:
		return *t.File.Interface.ListenPort
	}
	return 0
}

// portTCP is where it takes TCP connections, 0 if it does not.
func (t *Tunnel) portTCP() uint16 {
	switch {
	case t.Status != nil:
		return t.Status.ListenTCP
	case t.File != nil:
		return t.File.Interface.ListenTCP
	}
	return 0
}

// checkSealedOut: sealed packets must get out of the machine.
func checkSealedOut(m *Machine, t *Tunnel) (found []Finding) {
	for _, p := range t.Peers {
		if !p.Endpoint.IsValid() || p.Way.Err != nil || p.Way.Local || t.transport(&p) == transport.TransportTCP {
			continue
		}
		by, drops := m.dropped(ruleset.Packet{
			Way: ruleset.Out, OutInterface: p.Way.Interface, OutIndex: m.index(p.Way.Interface), Source: p.Way.Source, Destination: p.Endpoint.Addr().WithZone(""),
			Protocol: unix.IPPROTO_UDP, SourcePort: t.port(), DestinationPort: p.Endpoint.Port(), Mark: t.mark(),
		})
		if !drops || t.Status == nil && by.Table == netconf.KillSwitchTable(t.Name) { // which will let the mark pass that up chooses
			continue
		}
		found = append(found, Finding{
			ID: "firewall_sends_nothing", Peer: p.Title, What: "this host's firewall drops what is sent to " + p.Endpoint.String(),
			Evidence: m.judged(by), Remedies: let(by, fmt.Sprintf("udp dport %d", p.Endpoint.Port())),
		})
	}
	return found
}

func (m *Machine) index(name string) int {
	if l := m.link(name); l != nil {
		return l.Index
	}
	return 0
}

// checkSealedIn: what peers send must get in: as answers, and where a peer begins, as something new.
func checkSealedIn(m *Machine, t *Tunnel) (found []Finding) {
	for _, p := range t.Peers {
		if !p.Endpoint.IsValid() || p.Way.Err != nil || p.Way.Local || t.serves() || t.transport(&p) == transport.TransportTCP {
			continue
		}
		by, drops := m.dropped(ruleset.Packet{
			Way: ruleset.In, InInterface: p.Way.Interface, InIndex: m.index(p.Way.Interface), Source: p.Endpoint.Addr().WithZone(""), Destination: p.Way.Source,
			Protocol: unix.IPPROTO_UDP, SourcePort: p.Endpoint.Port(), DestinationPort: t.port(), State: ruleset.Established,
		})
		if drops {
			return one(Finding{
				ID: "firewall_takes_nothing", Peer: p.Title, What: "this host's firewall drops what " + p.Endpoint.String() + " answers",
				Evidence: m.judged(by), Remedies: let(by, "ct state established,related"),
			})
		}
	}
	if !t.serves() {
		return nil
	}
	if f := t.checkBegin(m, "UDP", unix.IPPROTO_UDP, t.port()); f != nil {
		found = append(found, *f)
	}
	if f := t.checkBegin(m, "TCP", unix.IPPROTO_TCP, t.portTCP()); f != nil {
		found = append(found, *f)
	}
	return found
}

// checkBegin: a port is to be reached by whoever has the key, so by at least one of the host's addresses; 0: there is none.
func (t *Tunnel) checkBegin(m *Machine, word string, protocol uint8, port uint16) *Finding {
	var all []ruleset.Place
	for _, l := range m.Links {
		if l.Name == "lo" || l.Name == t.Name || !l.Up || port == 0 {
			continue
		}
		for _, a := range l.Addresses {
			if a.Addr().IsLinkLocalUnicast() || a.Addr().Is6() {
				continue
			}
			by, drops := m.dropped(ruleset.Packet{
				Way: ruleset.In, InInterface: l.Name, InIndex: l.Index, Destination: a.Addr(), Protocol: protocol, DestinationPort: port,
			})
			if !drops {
				return nil
			}
			all = append(all, by)
		}
	}
	if all == nil {
		return nil
	}
	return &Finding{
		ID: "firewall_takes_nothing", What: fmt.Sprintf("this host's firewall lets nobody begin with %s port %d, and a peer without Endpoint has to", word, port),
		Evidence: m.judged(all[0]), Remedies: let(all[0], fmt.Sprintf("%s dport %d", strings.ToLower(word), port)),
	}
}

// icmp is the protocol of a ping.
func icmp(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.IPPROTO_ICMP
	}
	return unix.IPPROTO_ICMPV6
}

// checkInner: what is in the tunnel must get from programs into it, and out of it to them.
func checkInner(m *Machine, t *Tunnel) (found []Finding) {
	if t.Status == nil || m.link(t.Name) == nil {
		return nil
	}
	for _, n := range t.Networks {
		own, known := t.ownAddress(m, n.Prefix.Addr().Is4())
		if !known {
			continue
		}
		remote := samples(n.Prefix)[0]
		in := ruleset.Packet{Way: ruleset.In, InInterface: t.Name, InIndex: m.index(t.Name), Source: remote, Destination: own, Protocol: icmp(remote)}
		answer := in
		answer.State = ruleset.Established
		out := ruleset.Packet{Way: ruleset.Out, OutInterface: t.Name, OutIndex: m.index(t.Name), Source: own, Destination: remote, Protocol: icmp(remote)}
		if by, drops := m.dropped(out); drops {
			return append(found, Finding{
				ID: "firewall_on_interface", What: "the firewall drops what programs of this host send into the tunnel",
				Evidence: m.judged(by), Remedies: let(by, fmt.Sprintf("oifname %q", t.Name)),
			})
		}
		if by, drops := m.dropped(answer); drops {
			return append(found, Finding{
				ID: "firewall_on_interface", What: "the firewall drops all that comes out of the tunnel, answers too",
				Evidence: m.judged(by), Remedies: let(by, fmt.Sprintf("iifname %q", t.Name)),
			})
		}
		if by, drops := m.dropped(in); drops && found == nil {
			found = one(Finding{
				ID: "firewall_refuses_new", Note: true, What: "the firewall lets answers out of the tunnel pass, but nothing that the other end begins (a ping from there)",
				Evidence: m.judged(by), Remedies: let(by, fmt.Sprintf("iifname %q", t.Name)),
			})
		}
	}
	return found
}

// bridgeFilter shows bridged IPv4 packets to the firewall, as if they were forwarded. Docker sets it.
const bridgeFilter = "net/bridge/bridge-nf-call-iptables"

// checkBridge: what a bridge passes on between the tunnel and its other ports, a firewall for what is forwarded may see and drop.
func checkBridge(m *Machine, t *Tunnel) []Finding {
	link := m.link(t.Name)
	if t.Status == nil || link == nil || link.Master == "" || m.Sysctls[bridgeFilter] != "1" {
		return nil
	}
	bridge := link.Master
	by, drops := m.dropped(ruleset.Packet{
		Way: ruleset.Through, InInterface: bridge, InIndex: m.index(bridge), OutInterface: bridge, OutIndex: m.index(bridge),
		Source: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Destination: netip.AddrFrom4([4]byte{192, 0, 2, 2}), Protocol: unix.IPPROTO_ICMP,
	})
	if !drops {
		return nil
	}
	return one(Finding{
		ID: "firewall_on_bridge", What: fmt.Sprintf("the firewall for forwarded packets drops what the bridge %s passes on to and from the tunnel", bridge),
		Evidence: append(m.judged(by), m.sysctl(bridgeFilter)),
		Remedies: append(let(by, fmt.Sprintf("iifname %q oifname %q", bridge, bridge)),
			Remedy{"sudo sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0", "if nothing on this host filters what is bridged"}),
	})
}
