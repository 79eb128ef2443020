package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// astray is a way to an address of n that does not lead into the tunnel though no narrower route says so; nil: there is none.
func (t *Tunnel) astray(n Network, ways []Way) *Way {
	for i, w := range ways {
		if w.Err == nil && (w.Interface == t.Name || w.Local || w.Prefix.Bits() > n.Prefix.Bits()) {
			continue
		}
		return &ways[i]
	}
	return nil
}

// checkRoutes: what is in a peer's allowed IPs must be led into the tunnel, where the file leaves that to `up`.
func checkRoutes(m *Machine, t *Tunnel) (found []Finding) {
	table, known := t.table()
	link := m.link(t.Name)
	if t.Status == nil || !known || !table.Auto || link == nil || !link.Up {
		return nil
	}
	var missing []string
	var evidence []Evidence
	var remedies []Remedy
	const most = 5 // of a hundred the reader knows by the first few
	for _, n := range t.Networks {
		w := t.astray(n, n.Ways)
		if w == nil || t.apart(n.Prefix) {
			continue
		}
		missing = append(missing, n.Prefix.String())
		if len(missing) <= most {
			evidence = append(evidence, w.evidence())
			remedies = append(remedies, Remedy{fmt.Sprintf("sudo ip route add %s dev %s", n.Prefix, t.Name), otherRoute(*w)})
		}
	}
	if missing == nil {
		return nil
	}
	return one(Finding{
		ID: "route_missing", What: "allowed IPs are not led into the tunnel: " + shorten(missing, most),
		Evidence: evidence, Remedies: append(remedies, Remedy{"sudo stunnel down " + t.Name, "and up again, which makes all of them"}),
	})
}

func otherRoute(w Way) string {
	if w.Err != nil {
		return ""
	}
	return fmt.Sprintf("a route of %s has it now: take that away first, if it is not needed", w.Interface)
}

func shorten(list []string, most int) string {
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// apart: the routes of such allowed IPs are in a table of their own, to which rules lead: default routes, what some use in
// their place, and what an endpoint lies in.
func (t *Tunnel) apart(p netip.Prefix) bool {
	short := 8
	if p.Addr().Is6() {
		short = 16
	}
	return p.Bits() < short || slices.ContainsFunc(t.Peers, func(x Peer) bool {
		return slices.ContainsFunc(x.places(), func(a netip.AddrPort) bool { return p.Contains(a.Addr().WithZone("")) })
	})
}

// places are all addresses at which the peer may be.
func (p *Peer) places() (all []netip.AddrPort) {
	if p.Endpoint.IsValid() {
		all = append(all, p.Endpoint)
	}
	if p.Status != nil {
		return append(append(all, p.Status.Endpoints...), p.Status.EndpointsTCP...)
	}
	for _, n := range p.Configured {
		all = append(all, n.Now...)
	}
	return all
}

// checkPolicyRouting: what is apart needs a kernel that knows rules.
func checkPolicyRouting(m *Machine, t *Tunnel) []Finding {
	table, known := t.table()
	if m.RulesErr == nil || !known || !table.Auto {
		return nil
	}
	for _, p := range t.Peers {
		for _, a := range p.AllowedIPs {
			if t.apart(a) {
				return one(Finding{
					ID: "no_policy_routing", Peer: p.Title, What: fmt.Sprintf("a route for %s needs rules of routing, and this kernel has none", a),
					Evidence: []Evidence{{"ip rule", m.RulesErr.Error()}},
					Remedies: words("a kernel with CONFIG_IP_MULTIPLE_TABLES; or " + t.arg() + ": Table = off, and routes by PostUp"),
				})
			}
		}
	}
	return nil
}

// checkRules: the default route into the tunnel hangs on rules, and another program's may come before them.
func checkRules(m *Machine, t *Tunnel) (found []Finding) {
	table, known := t.table()
	link := m.link(t.Name)
	if t.Status == nil || !known || !table.Auto || link == nil || !link.Up {
		return nil
	}
	for _, n := range t.Networks {
		if !t.apart(n.Prefix) {
			continue
		}
		w := t.astray(n, n.Ways)
		if w == nil {
			continue
		}
		f := Finding{ID: "default_route_elsewhere", Evidence: []Evidence{w.evidence()}}
		command := "ip rule"
		if n.Prefix.Addr().Is6() {
			command = "ip -6 rule"
		}
		ours, theirs := m.rulesTo(n.Prefix.Addr(), t.mark(), w.Table)
		switch {
		case ours == nil:
			f.What = fmt.Sprintf("ordinary traffic to %s does not go into the tunnel: its rules are not there", n.Prefix)
			f.Evidence = append(f.Evidence, Evidence{command, "no rule for the mark " + fmt.Sprintf("%#x", t.mark())})
		case theirs != nil && theirs.Priority < ours.Priority:
			f.What = fmt.Sprintf("ordinary traffic to %s does not go into the tunnel: another program's rule comes first and leads it to %s", n.Prefix, w.Interface)
			f.Evidence = append(f.Evidence, Evidence{command, theirs.Text}, Evidence{command, ours.Text})
			f.Note = slices.Contains(m.Running, w.Interface) // of two full tunnels the later one carries it
			f.Remedies = []Remedy{{Why: "end the other tunnel or VPN (" + w.Interface + "), if this one is to carry the traffic"}}
		default:
			f.What = fmt.Sprintf("ordinary traffic to %s does not go into the tunnel: its rule is there, but no route, as after the interface was set down", n.Prefix)
			f.Evidence = append(f.Evidence, Evidence{command, ours.Text})
		}
		f.Remedies = append(f.Remedies, Remedy{"sudo stunnel down " + t.Name, "and up again: of several full tunnels the last one carries the traffic"})
		found = append(found, f)
	}
	return found
}

// rulesTo finds, of the family of sample, the rule that leads packets without our mark into the tunnel, and the first one of
// others that leads into that other table.
func (m *Machine) rulesTo(sample netip.Addr, mark uint32, table int) (ours, theirs *Rule) {
	for i, r := range m.Rules {
		if r.Is6 != sample.Is6() {
			continue
		}
		if ours == nil && mark != 0 && r.Mark == mark && r.Table != unix.RT_TABLE_MAIN {
			ours = &m.Rules[i]
		}
		if theirs == nil && r.Table == table && table != 0 && (mark == 0 || r.Mark != mark) {
			theirs = &m.Rules[i]
		}
	}
	return ours, theirs
}

// checkReversePath: with rp_filter = 1 the kernel drops what comes in where an answer would not go out.
func checkReversePath(m *Machine, t *Tunnel) (found []Finding) {
	if t.Status == nil {
		return nil
	}
	if key := m.strict(t.Name); key != "" {
		var astray []string
		var evidence []Evidence
		for _, n := range t.Networks {
			if table, known := t.table(); !n.Prefix.Addr().Is4() || known && table.Auto {
				continue // checkRoutes tells of those
			}
			if w := t.astray(n, n.Back); w != nil {
				astray = append(astray, n.Prefix.String())
				evidence = append(evidence, w.evidence())
			}
		}
		if astray != nil {
			found = append(found, Finding{
				ID: "rp_filter", What: "the kernel drops packets that come out of the tunnel from " + shorten(astray, 5) + ", since answers would go elsewhere",
				Evidence: append([]Evidence{m.sysctl(key)}, evidence[:min(len(evidence), 5)]...),
				Remedies: []Remedy{{fmt.Sprintf("sudo sysctl -w net.ipv4.conf.%s.rp_filter=2", t.Name), "takes what has any way back"}},
			})
		}
	}
	for _, p := range t.Peers {
		key := m.strict(p.Way.Interface)
		if !p.Endpoint.IsValid() || !p.Endpoint.Addr().Is4() || p.Way.Err != nil || key == "" ||
			p.Unmarked.Interface != t.Name || p.Way.Interface == t.Name || m.Sysctls["net/ipv4/conf/all/src_valid_mark"] == "1" {
			continue
		}
		found = append(found, Finding{
			ID: "rp_filter_of_sealed", Peer: p.Title, What: "the kernel drops its sealed packets as they come in, since packets without the mark would leave elsewhere",
			Evidence: []Evidence{m.sysctl(key), m.sysctl("net/ipv4/conf/all/src_valid_mark"), p.Unmarked.evidence()},
			Remedies: commands("sudo sysctl -w net.ipv4.conf.all.src_valid_mark=1"),
		})
	}
	return found
}

// strict is the sysctl by which rp_filter is strict on an interface, "" if it is not: the greater of the two counts.
func (m *Machine) strict(name string) string {
	all, own := "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/"+name+"/rp_filter"
	keys := []string{all, own}
	key := slices.MaxFunc(keys, func(a, b string) int { return strings.Compare(m.Sysctls[a], m.Sysctls[b]) })
	if m.Sysctls[key] != "1" {
		return ""
	}
	return key
}
