package conf

import (
	"net"
	"strings"

	"stunnel/transport"
)

// maxTapMTU is the kernel's bound for an interface with an Ethernet header.
const maxTapMTU = 65535 - 14

func setMode(p *parser, l line) {
	switch strings.ToLower(l.value) {
	case "tun":
		p.file.Interface.Ethernet = false
	case "tap":
		p.file.Interface.Ethernet = true
	default:
		p.wrong(interfaceKeys, l, "without the line it is tun, which carries IP packets; tap carries Ethernet frames")
	}
}

func setBridge(p *parser, l line) {
	if why := nameFault(l.value); why != "" {
		p.fail(l.number, "", "Bridge: %s", why)
		return
	}
	p.file.Interface.Bridge = l.value
}

func setMAC(p *parser, l line) {
	mac, err := net.ParseMAC(squeeze(l.value))
	switch {
	case err != nil || len(mac) != 6:
		p.wrong(interfaceKeys, l, "without the line it is made from the public key")
	case mac[0]&1 != 0:
		p.fail(l.number, "its first byte is even, as in fe:00:00:00:00:01", "MAC %s is the address of a group, which no interface can have", mac)
	case mac.String() == "00:00:00:00:00:00":
		p.fail(l.number, "", "MAC %s is no interface's address", mac)
	default:
		p.file.Interface.MAC = mac
	}
}

// onlyTap reports a key that stands in a line, if in any, of a tunnel in tun mode.
func (p *parser) onlyTap(key string, line int) {
	if line != 0 {
		p.fail(line, "write Mode = tap too", "%s is for Ethernet frames, and without Mode = tap the tunnel carries IP packets", key)
	}
}

// checkMode looks for what the mode makes no sense of.
func (p *parser) checkMode() {
	in := &p.file.Interface
	if !in.Ethernet {
		keys := []string{"Bridge", "MAC"}
		for _, k := range switchKeys() {
			keys = append(keys, k.name)
		}
		for _, key := range keys {
			p.onlyTap(key, p.interfaceLines[key])
		}
		for _, lines := range p.peers {
			p.onlyTap("MACs", lines.macs)
		}
		return
	}
	if at := p.interfaceLines["Table"]; at != 0 {
		p.fail(at, "take the line out", "Table says where the routes of AllowedIPs go, which Mode = tap has not")
	}
	if at := p.interfaceLines["Metric"]; at != 0 {
		p.fail(at, "take the line out", "Metric is of the routes of AllowedIPs, which Mode = tap has not")
	}
	if at := p.interfaceLines["MTU"]; in.MTU > maxTapMTU {
		p.fail(at, "", "MTU %d is too large for Mode = tap: at most %d and an Ethernet header are possible", in.MTU, maxTapMTU)
	}
	if in.Bridge != "" && in.Bridge == p.file.Name {
		p.fail(p.interfaceLines["Bridge"], "name the bridge, as br0", "Bridge %s is the interface of this file itself", in.Bridge)
	}
	for key, on := range map[string]bool{
		"KillSwitch": in.KillSwitch, "Masquerade": in.Masquerade.On, "MSSClamp": in.MSSClamp.On || in.MSSClamp.Size != 0,
	} {
		if in.Bridge != "" && on {
			p.fail(p.interfaceLines[key], "take one of the two out", "%s is about the packets of this host that pass %s, and with Bridge they pass %s instead",
				key, p.file.Name, in.Bridge)
		}
	}
	hint := "take AllowedIPs out; who may use which MAC address is another matter, see docs/ethernet.md"
	for i, peer := range p.file.Peers {
		lines := p.peers[i]
		if len(lines.prefixes) > 0 {
			p.fail(lines.prefixes[0], hint, "AllowedIPs has no meaning with Mode = tap: a frame goes to the peer behind which its "+
				"destination's MAC address was learned, whatever it carries")
			hint = "" // once is enough
		}
		if peer.Extensions == transport.ExtensionsOff {
			p.fail(lines.extensions, "take the line out", "Extensions = off is plain WireGuard, which cannot carry the frames of Mode = tap")
		}
	}
}
