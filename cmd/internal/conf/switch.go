package conf

import (
	"strings"
	"time"

	"stunnel/transport"
)

// The most that keys of the learning switch can be.
const (
	maxMACAgeing  = 1_000_000 // seconds, as IEEE 802.1Q has it
	maxMACLimit   = 1 << 20
	maxStormLimit = 10_000_000
)

// switchKeys are the keys of [Interface] for how frames are switched.
func switchKeys() []key {
	return []key{
		{name: "MACAgeing", right: "a number of seconds from 1 to 1000000", set: setMACAgeing},
		{name: "MACLimit", right: "a number of addresses from 1 to 1048576", set: setMACLimit},
		{name: "StormLimit", right: "off, or a number of frames per second from 1 to 10000000", set: setStormLimit},
		{name: "Forward", right: "yes or no", set: setForward},
		{name: "PortSecurity", right: "yes or no", set: setPortSecurity},
		{name: "LinkLocalFrames", right: "drop or pass", set: setLinkLocalFrames},
	}
}

func setMACAgeing(p *parser, l line) {
	n, ok := number(squeeze(l.value), maxMACAgeing)
	if !ok || n == 0 {
		p.wrong(interfaceKeys, l, "without the line it is 300: a station that says nothing for so long is forgotten")
		return
	}
	p.file.Interface.MACAgeing = time.Duration(n) * time.Second
}

func setMACLimit(p *parser, l line) {
	n, ok := number(squeeze(l.value), maxMACLimit)
	if !ok || n == 0 {
		p.wrong(interfaceKeys, l, "without the line it is 4096 behind each peer")
		return
	}
	p.file.Interface.MACLimit = int(n)
}

func setStormLimit(p *parser, l line) {
	text := squeeze(l.value)
	n := uint64(0)
	if !strings.EqualFold(text, "off") {
		var ok bool
		if n, ok = number(text, maxStormLimit); !ok || n == 0 {
			p.wrong(interfaceKeys, l, "without the line it is 2000 of broadcast, multicast and unknown stations from each peer")
			return
		}
	}
	limit := int(n)
	p.file.Interface.StormLimit = &limit
}

func setForward(p *parser, l line) {
	p.yesOrNo(l, &p.file.Interface.Forward, "without the line it is no; yes is for a hub whose peers do not know each other")
}

func setPortSecurity(p *parser, l line) {
	p.yesOrNo(l, &p.file.Interface.PortSecurity, "without the line it is no; yes keeps peers from claiming addresses of others")
}

func setLinkLocalFrames(p *parser, l line) {
	switch strings.ToLower(l.value) {
	case "drop":
		p.file.Interface.LinkLocalFrames = false
	case "pass":
		p.file.Interface.LinkLocalFrames = true
	default:
		p.wrong(interfaceKeys, l, "without the line it is drop: spanning tree, LACP, 802.1X and LLDP stay at their site")
	}
}

func setMACs(p *parser, l line) {
	peer, lines := p.peer()
	lines.macs = l.number
	for entry := range strings.SplitSeq(l.value, ",") {
		entry = strings.TrimSpace(entry)
		mac, err := transport.ParseMAC(entry)
		switch {
		case err != nil:
			p.fail(l.number, "addresses are separated by commas", "MACs %s: it is no MAC address, such as 02:00:5e:10:00:01", quoteWithBlanks(entry))
			continue
		case mac.IsGroup():
			p.fail(l.number, "the first byte of a station's address is even", "MACs %s: that is the address of a group, which no station can have", mac)
			continue
		case !mac.IsStation():
			p.fail(l.number, "", "MACs %s: no station can have it", mac)
			continue
		}
		if first, again := p.macs[mac]; again {
			p.fail(l.number, "", "MACs %s is in line %d already", mac, first)
			continue
		}
		if p.macs == nil {
			p.macs = make(map[transport.MAC]int)
		}
		p.macs[mac] = l.number
		peer.MACs = append(peer.MACs, mac)
	}
}
