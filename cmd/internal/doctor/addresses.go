package doctor

import (
	"fmt"
	"net/netip"
	"strconv"
)

// checkLink: while the tunnel runs its interface has to be there, by its name, and up.
func checkLink(m *Machine, t *Tunnel) []Finding {
	link := m.link(t.Name)
	if t.Status != nil && t.Elsewhere == 0 && link == nil && len(m.Links) > 0 {
		return one(Finding{
			ID: "interface_renamed", What: "the tunnel runs, and there is no interface of its name: it was renamed, or moved to another network namespace",
			Evidence: []Evidence{{"ip link show " + t.Name, "does not exist"}},
			Remedies: []Remedy{{"ip -d link", "shows the interfaces with their kinds; ip link set OTHER name " + t.Name + " undoes it"},
				{"sudo stunnel down " + t.Name, "and up again: what goes by the name, as a kill switch, does not know it by another"}},
		})
	}
	if t.Status == nil || link == nil || link.Up {
		return nil
	}
	return one(Finding{
		ID: "interface_down", What: "the interface is down",
		Evidence: []Evidence{{"ip link show " + t.Name, "no UP among its flags"}},
		Remedies: []Remedy{{"sudo ip link set " + t.Name + " up", "which says so if the UDP port is taken meanwhile"},
			{"sudo stunnel down " + t.Name, "and up again: with the interface went its routes"}},
	})
}

// wants6: the tunnel is to carry IPv6.
func (t *Tunnel) wants6(m *Machine) bool {
	if t.File == nil {
		return false
	}
	for _, a := range t.File.Interface.Address {
		if a.Addr().Is6() {
			return true
		}
	}
	return false
}

// checkIPv6: addresses of IPv6 need a kernel that speaks it, on this interface.
func checkIPv6(m *Machine, t *Tunnel) []Finding {
	if !t.wants6(m) {
		return nil
	}
	name := "default" // whose settings a new interface gets
	if t.Status != nil {
		name = t.Name
	}
	key := "net/ipv6/conf/" + name + "/disable_ipv6"
	value, there := m.Sysctls[key]
	f := Finding{ID: "no_ipv6", What: "the file has IPv6 addresses, and IPv6 is switched off", Evidence: []Evidence{m.sysctl(key)}}
	drop := Remedy{Why: t.Path + ": or take the IPv6 addresses out of Address and AllowedIPs"}
	switch {
	case !there && len(m.Sysctls) > 0:
		f.Evidence[0].Says = "there is no such file: the kernel runs without IPv6 (ipv6.disable=1?)"
		f.Remedies = []Remedy{drop}
	case value == "1":
		f.Remedies = []Remedy{
			{"sudo sysctl -w net.ipv6.conf." + name + ".disable_ipv6=0", "for a container: docker run --sysctl net.ipv6.conf.all.disable_ipv6=0"}, drop,
		}
	default:
		return nil
	}
	return one(f)
}

// checkOwnAddress: a peer's allowed IPs are the peer's addresses; who writes his own there keeps what comes for himself.
func checkOwnAddress(m *Machine, t *Tunnel) (found []Finding) {
	for _, own := range t.addresses(m) {
		for _, p := range t.Peers {
			for _, a := range p.AllowedIPs {
				if !a.IsSingleIP() || a.Addr() != own.Addr() {
					continue
				}
				found = append(found, Finding{
					ID: "own_address_allowed", Peer: p.Title, What: fmt.Sprintf("its AllowedIPs have %s, which is this host's own address", own.Addr()),
					Evidence: []Evidence{{"Address", own.String()}, {"AllowedIPs", a.String()}},
					Remedies: words(t.arg() + ": AllowedIPs are the addresses of the other end, Address is that of this one"),
				})
			}
		}
	}
	return found
}

// checkMTU: a packet, sealed, must fit the way to the peer.
func checkMTU(m *Machine, t *Tunnel) (found []Finding) {
	mtu, source := 0, Evidence{}
	if link := m.link(t.Name); t.Status != nil && link != nil {
		mtu, source = link.MTU, Evidence{"ip link show " + t.Name, "mtu " + strconv.Itoa(link.MTU)}
	} else if t.File != nil && t.File.Interface.MTU != 0 {
		mtu, source = t.File.Interface.MTU, Evidence{t.Path, "MTU = " + strconv.Itoa(t.File.Interface.MTU)}
	}
	for _, p := range t.Peers {
		if mtu == 0 || t.ethernet() || !p.Endpoint.IsValid() || p.Way.Err != nil || p.Way.MTU == 0 || p.Way.Local || p.Way.Interface == t.Name {
			continue
		}
		room := p.Way.MTU - overhead(p.Endpoint.Addr())
		if mtu <= room {
			continue
		}
		way := p.Way.evidence()
		f := Finding{
			ID: "mtu_too_large", Peer: p.Title,
			What: fmt.Sprintf("the MTU is too large: sealed, a packet of %d bytes has %d, and the way has room for %d; it travels in fragments, which some firewalls drop",
				mtu, mtu+overhead(p.Endpoint.Addr()), p.Way.MTU),
			Evidence: []Evidence{source, {way.Source, way.Says + " mtu " + strconv.Itoa(p.Way.MTU)}},
			Remedies: []Remedy{{fmt.Sprintf("sudo ip link set %s mtu %d", t.Name, room), "tries it, at both ends"},
				{Why: fmt.Sprintf("%s: MTU = %d, in the files of both ends, keeps it so", t.arg(), room)}},
		}
		const least = 1280
		if room < least && t.wants6(m) {
			f.Note = mtu == least
			f.Remedies = words(fmt.Sprintf("IPv6 needs %d: without IPv6 addresses in the tunnel, MTU = %d would fit", least, room))
		}
		found = append(found, f)
	}
	return found
}

// overhead is what sealing adds to a packet in bytes: header and tag of WireGuard (32), UDP (8) and IP.
func overhead(endpoint netip.Addr) int {
	if endpoint.Unmap().Is4() {
		return 32 + 8 + 20
	}
	return 32 + 8 + 40
}
