package conf

import (
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// KillSwitchAllow says what a kill switch lets pass beside the tunnel.
type KillSwitchAllow struct {
	LAN      bool           // the networks that the machine is connected to when the tunnel comes up
	Prefixes []netip.Prefix // masked
}

// Masquerade says where packets from the tunnel leave the host with its own address as their source.
type Masquerade struct {
	On         bool
	Interfaces []string // empty: those of the default routes when the tunnel comes up
}

// MSSClamp says how much TCP connections through the tunnel are told to put into a packet.
type MSSClamp struct {
	On   bool // if the file does not say: as Masquerade
	Size int  // in bytes; 0: what fits the path
}

const (
	// leastMSS is what every IPv4 host has room for (RFC 9293, section 3.7.1).
	leastMSS = 536
	mostMSS  = 65495
)

func setKillSwitch(p *parser, l line) {
	p.yesOrNo(l, &p.file.Interface.KillSwitch, "without the line it is no; yes lets nothing leave this host but through the tunnel")
}

func setKillSwitchAllow(p *parser, l line) {
	allow := &p.file.Interface.KillSwitchAllow
	p.allowLine = l.number
	for _, entry := range entries(l.value) {
		if strings.EqualFold(entry, "lan") {
			allow.LAN = true
			continue
		}
		prefix, why := parsePrefix(entry)
		switch {
		case why != "":
			p.fail(l.number, "", "KillSwitchAllow %s: it is neither lan nor a prefix, as 192.168.0.0/16", quote(entry))
		case prefix.Bits() == 0:
			p.fail(l.number, "KillSwitch = no has the same effect, and says so", "KillSwitchAllow %s would let everything pass", prefix)
		case !slices.Contains(allow.Prefixes, prefix.Masked()):
			allow.Prefixes = append(allow.Prefixes, prefix.Masked())
		}
	}
}

func setMasquerade(p *parser, l line) {
	m := &p.file.Interface.Masquerade
	switch words := entries(l.value); {
	case len(words) == 1 && strings.EqualFold(words[0], "yes"):
		*m = Masquerade{On: true}
	case len(words) == 1 && strings.EqualFold(words[0], "no"):
		*m = Masquerade{}
	default:
		*m = Masquerade{On: true, Interfaces: words}
		for _, name := range words {
			if why := nameFault(name); why != "" || strings.EqualFold(name, "yes") || strings.EqualFold(name, "no") {
				p.wrong(interfaceKeys, l, why)
				return
			}
		}
	}
}

func setMSSClamp(p *parser, l line) {
	c := &p.file.Interface.MSSClamp
	switch strings.ToLower(l.value) {
	case "yes":
		*c = MSSClamp{On: true}
	case "no":
		*c = MSSClamp{}
	default:
		n, ok := number(squeeze(l.value), mostMSS)
		if !ok || n < leastMSS {
			p.wrong(interfaceKeys, l, "yes fits the path; without the line it is yes where Masquerade is")
			return
		}
		*c = MSSClamp{On: true, Size: int(n)}
	}
}

// entries are the parts of a list, which commas or blanks separate.
func entries(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// checkGateway completes the four keys, and finds what they do to each other.
func (p *parser) checkGateway() {
	in := &p.file.Interface
	if p.interfaceLines["MSSClamp"] == 0 {
		in.MSSClamp.On = in.Masquerade.On
	}
	if slices.Contains(in.Masquerade.Interfaces, p.file.Name) {
		p.fail(p.interfaceLines["Masquerade"], "it is the interface through which packets leave this host, as eth0",
			"Masquerade = %s names the tunnel itself", p.file.Name)
	}
	if (in.KillSwitchAllow.LAN || len(in.KillSwitchAllow.Prefixes) > 0) && !in.KillSwitch {
		p.warn(p.allowLine, "KillSwitchAllow does nothing without KillSwitch = yes")
	}
	if in.KillSwitch && in.KillSwitchAllow.LAN && len(in.DNS.Servers) == 0 {
		p.warn(p.allowLine, "KillSwitchAllow = lan, and there is no DNS: a name server in the local network goes on being asked, and asks outside the tunnel")
	}
	if in.KillSwitch && in.Masquerade.On && len(in.Masquerade.Interfaces) == 0 {
		p.warn(p.interfaceLines["Masquerade"], "with KillSwitch = yes what comes out of the tunnel may still leave this host, as Masquerade = yes wants it; only this host's own packets, and those of its networks, may not")
	}
}
