package conf

import (
	"net/netip"

	"stunnel/crypto"
)

// check finds what is wrong between the lines of a file.
func (p *parser) check() {
	p.checkPrivateKey()
	p.checkIdentities()
	p.checkMode()
	if !p.file.Interface.Ethernet {
		p.checkRoutes()
	}
	p.checkMTU()
	p.checkDNS()
	p.checkSourceRules()
	p.checkGateway()
	p.checkListening()
	for i, peer := range p.file.Peers {
		lines := p.peers[i]
		if lines.psk != 0 && lines.pskFile != 0 {
			p.fail(max(lines.psk, lines.pskFile), "", "this peer has a PresharedKey in line %d and a PresharedKeyFile in line %d; one of them is enough",
				lines.psk, lines.pskFile)
		}
		if len(peer.AllowedIPs) == 0 && !p.file.Interface.Ethernet {
			p.warn(peer.Line, "this peer has no AllowedIPs: no packet goes to it, and none that it sends is let in")
		}
		p.checkEndpoints(i)
	}
}

func (p *parser) checkPrivateKey() {
	in := &p.file.Interface
	inline, file := p.interfaceLines["PrivateKey"], p.interfaceLines["PrivateKeyFile"]
	switch {
	case inline != 0 && file != 0:
		p.fail(max(inline, file), "", "there is a PrivateKey in line %d and a PrivateKeyFile in line %d; one of them is enough", inline, file)
	case inline == 0 && file == 0 && in.Line != 0 && len(in.PreUp)+len(in.PostUp) == 0:
		p.fail(in.Line, "`stunnel genkey` makes one; a PreUp or PostUp hook may set it too (wg set %i private-key FILE)",
			"[Interface] has neither PrivateKey nor PrivateKeyFile")
	}
}

// checkIdentities looks for keys that stand for more than one host.
func (p *parser) checkIdentities() {
	var own crypto.PublicKey
	ownLine := max(p.interfaceLines["PrivateKey"], p.interfaceLines["PrivateKeyFile"])
	if k := p.file.Interface.PrivateKey; k != nil {
		own = k.Public()
	}
	seen := make(map[crypto.PublicKey]int)
	for i, peer := range p.file.Peers {
		at := p.peers[i].publicKey
		switch {
		case at == 0:
			p.fail(peer.Line, "", "this [Peer] has no PublicKey")
			continue
		case peer.PublicKey.IsZero():
			continue // reported where it stands
		case peer.PublicKey == own:
			p.fail(at, "a file names the other hosts as peers, each with its own key",
				"this PublicKey is our own: it belongs to the private key of line %d", ownLine)
		}
		if first, again := seen[peer.PublicKey]; again {
			p.fail(at, "one [Peer] can have many AllowedIPs", "this PublicKey is that of the peer in line %d already", first)
			continue
		}
		seen[peer.PublicKey] = at
	}
}

// checkRoutes looks for prefixes that belong to two peers, for a default route of one family, and for loops.
func (p *parser) checkRoutes() {
	seen := make(map[netip.Prefix]int)
	in := &p.file.Interface
	for i, peer := range p.file.Peers {
		for j, prefix := range peer.AllowedIPs {
			at := p.peers[i].prefixes[j]
			if first, again := seen[prefix]; again {
				p.fail(at, "", "AllowedIPs %s is that of another peer in line %d already; a packet can go to one of them only", prefix, first)
			} else {
				seen[prefix] = at
			}
		}
	}
	p.checkOneFamily(seen)
	if in.Table.Auto {
		return // up keeps the tunnel's own packets out of such a route
	}
	if own := in.Table.Number != 0 && in.Table.Number != mainTable; in.Table.Off || own || in.FwMark != nil && *in.FwMark != 0 {
		return // whoever sets these has rules of his own
	}
	for i := range p.file.Peers {
		for e := range p.literals(i) {
			addr := e.remote.Addr().Unmap().WithZone("")
			for bits := addr.BitLen(); bits >= 0; bits-- {
				prefix, _ := addr.Prefix(bits) // bits are in range
				if at, inside := seen[prefix]; inside {
					p.warn(e.line, "%s %s lies within AllowedIPs %s of line %d: packets of the tunnel would be routed into the tunnel",
						e.key, e.remote, prefix, at)
					break
				}
			}
		}
	}
}

// mainTable is the number of the routing table that is used where nothing else is said.
const mainTable = 254

// checkOneFamily: who sends all of one family through the tunnel is easily surprised by the other.
func (p *parser) checkOneFamily(seen map[netip.Prefix]int) {
	v4, v6 := netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	at4, all4 := seen[v4]
	at6, all6 := seen[v6]
	switch {
	case !p.file.Interface.Table.Auto:
	case p.file.Interface.KillSwitch && all4 && !all6:
		p.warn(at4, "AllowedIPs has %s and not %s: KillSwitch = yes blocks all IPv6", v4, v6)
	case p.file.Interface.KillSwitch && all6 && !all4:
		p.warn(at6, "AllowedIPs has %s and not %s: KillSwitch = yes blocks all IPv4", v6, v4)
	case all4 && !all6:
		p.warn(at4, "AllowedIPs has %s and not %s: where this host has IPv6, that goes on outside the tunnel", v4, v6)
	case all6 && !all4:
		p.warn(at6, "AllowedIPs has %s and not %s: IPv4 goes on outside the tunnel", v6, v4)
	}
}

// checkSourceRules: a rule that leads to the main table would say what holds already.
func (p *parser) checkSourceRules() {
	in := &p.file.Interface
	if in.Metric != 0 && in.Table.Off {
		p.warn(p.interfaceLines["Metric"], "Metric is of routes, and with Table = off there are none")
	}
	if in.SourceRules && (in.Table.Number == 0 || in.Table.Number == mainTable) {
		p.fail(p.interfaceLines["SourceRules"], "Table = 51820 (any number that is free) gives the tunnel a table of its own",
			"SourceRules = yes leads what is sent from an Address into a table of the tunnel's own, and Table names none")
	}
}

// checkMTU: the kernel takes IPv6 off an interface of less than 1280 bytes.
func (p *parser) checkMTU() {
	in := &p.file.Interface
	at := p.interfaceLines["MTU"]
	if in.MTU == 0 || in.MTU >= 1280 {
		return
	}
	for i, a := range in.Address {
		if a.Addr().Is6() {
			p.fail(at, "", "MTU %d is too small for IPv6, which needs 1280 (Address %s in line %d)", in.MTU, a, p.addressLines[i])
			return
		}
	}
	for i, peer := range p.file.Peers {
		for j, prefix := range peer.AllowedIPs {
			if prefix.Addr().Is6() {
				p.fail(at, "", "MTU %d is too small for IPv6, which needs 1280 (AllowedIPs %s in line %d)", in.MTU, prefix, p.peers[i].prefixes[j])
				return
			}
		}
	}
}

// hasSecrets tells whether keys stand in the file itself.
func (p *parser) hasSecrets() bool {
	if p.interfaceLines["PrivateKey"] != 0 {
		return true
	}
	for _, lines := range p.peers {
		if lines.psk != 0 {
			return true
		}
	}
	return false
}
