package doctor

import "net/netip"

// ethernet: it carries frames (Mode = tap), for which allowed IPs mean nothing, and which it cuts up itself where the way is narrow.
func (t *Tunnel) ethernet() bool {
	return t.Status != nil && t.Status.Ethernet != nil || t.File != nil && t.File.Interface.Ethernet
}

// gateway: the file makes this host one.
func (t *Tunnel) gateway() bool { return t.File != nil && t.File.Interface.Masquerade.On }

// nameServers are those that the file sets.
func (t *Tunnel) nameServers() []netip.Addr {
	if t.File == nil {
		return nil
	}
	return t.File.Interface.DNS.Servers
}

// needsNftables names what the file wants that is made of rules of nftables; "": nothing.
func (t *Tunnel) needsNftables() string {
	in := &t.File.Interface
	switch {
	case in.KillSwitch:
		return "KillSwitch"
	case in.Masquerade.On:
		return "Masquerade"
	}
	for _, p := range t.File.Peers {
		for _, a := range p.AllowedIPs {
			if a.Bits() == 0 && in.Table.Auto {
				return "a default route through the tunnel (AllowedIPs " + a.String() + ")"
			}
		}
	}
	return ""
}
