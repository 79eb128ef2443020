package doctor

import (
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf/ruleset"
)

// checkForwarding: who leads others' packets on has to forward.
func checkForwarding(m *Machine, t *Tunnel) (found []Finding) {
	link := m.link(t.Name)
	if t.Status == nil || link == nil {
		return nil
	}
	key := "net/ipv4/conf/" + t.Name + "/forwarding"
	if m.Sysctls[key] == "0" && (t.gateway() || t.serves() && m.AddressErrors != 0) {
		f := Finding{
			ID: "not_forwarding", What: "packets come out of the tunnel for other hosts, and this one does not forward",
			Evidence: []Evidence{m.sysctl(key)},
			Remedies: []Remedy{
				{fmt.Sprintf("sudo sysctl -w net.ipv4.conf.%s.forwarding=1", t.Name), "and the same of the interface where they leave; Masquerade = yes in " + t.arg() + " does both, and NAT"},
			},
		}
		if t.gateway() {
			f.What = "this is a gateway (Masquerade), and its interface does not forward"
		}
		if m.AddressErrors != 0 {
			f.Evidence = append(f.Evidence, Evidence{"/proc/net/snmp", fmt.Sprintf("Ip InAddrErrors %d", m.AddressErrors)})
		}
		found = append(found, f)
	}
	found = append(found, m.outerForwarding(t)...)
	if link.AddressErrors != 0 && !m.forwards6(t.Name) {
		found = append(found, Finding{
			ID: "not_forwarding", What: "IPv6 packets come out of the tunnel for other hosts, and this one does not forward",
			Evidence: []Evidence{{"/proc/net/dev_snmp6/" + t.Name, "Ip6InAddrErrors and Ip6InNoRoutes: " + strconv.FormatUint(link.AddressErrors, 10)}, m.sysctl("net/ipv6/conf/all/forwarding")},
			Remedies: []Remedy{{"sudo sysctl -w net.ipv6.conf.all.forwarding=1", "takes its default route from a host that has it by router advertisements, unless their accept_ra is 2; Masquerade = yes in " + t.arg() + " sees to that"}},
		})
	}
	return found
}

// outerForwarding: answers to what a gateway has sent on come in by its outer interface, and that must forward too. The
// tunnel sees to it, also for one that comes anew or that a default route has moved to; but somebody may have switched it off since.
func (m *Machine) outerForwarding(t *Tunnel) (found []Finding) {
	if !t.gateway() {
		return nil
	}
	outer := t.File.Interface.Masquerade.Interfaces
	if len(outer) == 0 && t.Onward.Err == nil && t.Onward.Interface != t.Name {
		outer = []string{t.Onward.Interface}
	}
	for _, name := range outer {
		key := "net/ipv4/conf/" + name + "/forwarding"
		if m.Sysctls[key] != "0" {
			continue
		}
		found = append(found, Finding{
			ID: "not_forwarding", What: fmt.Sprintf("this is a gateway (Masquerade), and answers that come in by %s are not forwarded", name),
			Evidence: []Evidence{m.sysctl(key)},
			Remedies: []Remedy{
				{"sudo stunnel down " + t.Name, "and up again, which sees to it, for IPv6 too: somebody has switched it off since, or the tunnel has failed to (its log says why)"},
				{fmt.Sprintf("sudo sysctl -w net.ipv4.conf.%s.forwarding=1", name), "until it comes anew the next time"},
			},
		})
	}
	return found
}

func (m *Machine) forwards6(name string) bool {
	return m.Sysctls["net/ipv6/conf/all/forwarding"] == "1" || m.Sysctls["net/ipv6/conf/"+name+"/force_forwarding"] == "1"
}

// checkForward: the firewall of one who forwards must let it pass (Docker and ufw set the policy of FORWARD to drop).
func checkForward(m *Machine, t *Tunnel) []Finding {
	out := t.Onward
	if t.Status == nil || m.link(t.Name) == nil || !out.To.IsValid() || out.Err != nil || out.Interface == t.Name {
		return nil
	}
	if !t.gateway() && m.Sysctls["net/ipv4/conf/"+t.Name+"/forwarding"] != "1" {
		return nil
	}
	for _, n := range t.Networks {
		if !n.Prefix.Addr().Is4() {
			continue
		}
		p := ruleset.Packet{Way: ruleset.Through, InInterface: t.Name, InIndex: m.index(t.Name), OutInterface: out.Interface, OutIndex: m.index(out.Interface),
			Source: samples(n.Prefix)[0], Destination: out.To, Protocol: unix.IPPROTO_ICMP}
		by, drops := m.dropped(p)
		match := fmt.Sprintf("iifname %q", t.Name)
		if !drops {
			p.InInterface, p.OutInterface, p.InIndex, p.OutIndex = p.OutInterface, p.InInterface, p.OutIndex, p.InIndex
			p.Source, p.Destination, p.State = p.Destination, p.Source, ruleset.Established
			by, drops = m.dropped(p)
			match = fmt.Sprintf("oifname %q ct state established,related", t.Name)
		}
		if drops {
			return one(Finding{
				ID: "firewall_forwards_nothing", Note: !t.gateway(),
				What:     fmt.Sprintf("the firewall does not let pass what is forwarded between %s and %s", t.Name, out.Interface),
				Evidence: m.judged(by), Remedies: let(by, match),
			})
		}
	}
	return nil
}

// farAway is an address of the Internet that nobody has (RFC 5737), to ask the way to.
var farAway = netip.AddrFrom4([4]byte{198, 51, 100, 1})
