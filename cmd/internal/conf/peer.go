package conf

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"stunnel/crypto"
	"stunnel/transport"
)

// nameLimit bounds a peer's name, in bytes: it goes into tables, logs and the control socket.
const nameLimit = 64

// peerKeys are the keys of [Peer], see interfaceKeys.
var peerKeys []key

func init() {
	peerKeys = []key{
		{name: "Name", right: "a word for this peer", set: setName},
		{name: "PublicKey", right: "44 characters of base64, as `stunnel pubkey` prints them", many: true, set: setPublicKey},
		{name: "PresharedKey", right: "44 characters of base64, as `stunnel genpsk` prints them", set: setPresharedKey},
		{name: "PresharedKeyFile", right: "the name of a file that holds the preshared key", set: setPresharedKeyFile},
		{name: "AllowedIPs", right: "prefixes as 10.9.0.0/24 or fd00::/64, separated by commas", many: true, mayBeEmpty: true, set: setAllowedIPs},
		{name: "Endpoint", right: "host:port, as vpn.example.net:51820, 192.0.2.1:51820 or [2001:db8::1]:51820; several are separated by commas", many: true, set: setEndpoint},
		{name: "EndpointTCP", right: "host:port, as vpn.example.net:443; several are separated by commas", many: true, set: setEndpointTCP},
		{name: "Transport", right: "udp, tcp or auto", set: setTransport},
		{name: "PersistentKeepalive", right: "off, or a number of seconds from 1 to 65535", set: setPersistentKeepalive},
		{name: "Extensions", right: "off, auto or required", set: setExtensions},
		{name: "MACs", right: "MAC addresses as 02:00:5e:10:00:01, separated by commas", many: true, set: setMACs},
	}
}

// peer returns the peer whose section is read now, and where its parts stand.
func (p *parser) peer() (*Peer, *peerLines) {
	last := len(p.file.Peers) - 1
	return &p.file.Peers[last], &p.peers[last]
}

func setName(p *parser, l line) {
	peer, _ := p.peer()
	why := ""
	for _, r := range l.value {
		if r == '=' {
			// It would break the lines of the control socket, and it keeps keys from being taken for names.
			why = "'=' cannot stand in a name"
		} else if !unicode.IsPrint(r) {
			why = "it has a character that cannot be printed"
		}
	}
	if len(l.value) > nameLimit || !utf8.ValidString(l.value) {
		why = "a name has at most 64 bytes"
	}
	if why != "" {
		p.fail(l.number, "", "Name %s: %s", quote(l.value), why)
		return
	}
	if first, again := p.names[l.value]; again && p.names[peer.Name] != first {
		p.fail(l.number, "", "Name %s is that of the peer in line %d already", quote(l.value), first)
		return
	}
	delete(p.names, peer.Name) // of a Name that this one replaces
	p.names[l.value] = l.number
	peer.Name = l.value
}

func setPublicKey(p *parser, l line) {
	peer, lines := p.peer()
	if lines.publicKey != 0 {
		p.fail(l.number, "a new peer begins with a line [Peer]", "this peer has a PublicKey in line %d already", lines.publicKey)
		return
	}
	lines.publicKey = l.number
	k, err := crypto.ParsePublicKey(squeeze(l.value))
	switch {
	case err != nil:
		p.fail(l.number, keyHint(l.value, "pubkey"), "PublicKey: %v", err)
	case k.IsZero():
		p.fail(l.number, keyHint(l.value, "pubkey"), "PublicKey: it is all zeros, which nobody can have")
	default:
		peer.PublicKey = k
	}
}

func setPresharedKey(p *parser, l line) {
	k, err := crypto.ParsePresharedKey(squeeze(l.value))
	if err != nil {
		p.fail(l.number, keyHint(l.value, "genpsk"), "PresharedKey: %v", err)
		return
	}
	peer, lines := p.peer()
	peer.PresharedKey, lines.psk = &k, l.number
	if k.IsZero() { // as wg(8) has it
		peer.PresharedKey = nil
		p.warn(l.number, "PresharedKey is all zeros, which means none")
	}
}

func setPresharedKeyFile(p *parser, l line) {
	if name, ok := p.keyFileName(l, "PresharedKey"); ok {
		peer, lines := p.peer()
		peer.PresharedKeyFile, lines.pskFile = name, l.number
	}
}

func setAllowedIPs(p *parser, l line) {
	if l.value == "" {
		return
	}
	for entry := range strings.SplitSeq(l.value, ",") {
		entry = strings.TrimSpace(entry)
		if several(entry) {
			p.fail(l.number, "", "AllowedIPs %s: prefixes are separated by commas", quoteWithBlanks(entry))
			continue
		}
		p.allowedIP(l.number, entry)
	}
}

// several tells whether other things than commas stand between prefixes.
func several(entry string) bool {
	parts := strings.FieldsFunc(entry, func(r rune) bool { return r == ';' || unicode.IsSpace(r) })
	if len(parts) < 2 || parts[1][0] == '/' || strings.HasSuffix(parts[0], "/") {
		return false
	}
	_, why := parsePrefix(parts[0])
	return why == ""
}

func (p *parser) allowedIP(number int, entry string) {
	peer, lines := p.peer()
	if strings.HasPrefix(entry, "+") || strings.HasPrefix(entry, "-") {
		p.fail(number, "write the whole list, without + and -",
			"AllowedIPs %s: + and - change the list of a running tunnel (wg set, wg syncconf); a file says all of it", quoteWithBlanks(entry))
		return
	}
	prefix, why := parsePrefix(squeeze(entry))
	if why != "" {
		p.fail(number, "", "AllowedIPs %s: %s", quoteWithBlanks(entry), why)
		return
	}
	if masked := prefix.Masked(); masked != prefix {
		p.warn(number, "AllowedIPs %s has bits set behind its mask; it is taken for %s", entry, masked)
		prefix = masked
	}
	for i, other := range peer.AllowedIPs {
		if other == prefix {
			p.warn(number, "AllowedIPs %s is in line %d already", prefix, lines.prefixes[i])
			return
		}
	}
	peer.AllowedIPs = append(peer.AllowedIPs, prefix)
	lines.prefixes = append(lines.prefixes, number)
}

func setPersistentKeepalive(p *parser, l line) {
	text := squeeze(l.value)
	peer, _ := p.peer()
	if strings.EqualFold(text, "off") {
		peer.PersistentKeepalive = 0
		return
	}
	n, ok := number(text, 65535)
	if !ok {
		p.wrong(peerKeys, l, "25 is usual behind a NAT")
		return
	}
	peer.PersistentKeepalive = time.Duration(n) * time.Second
}

func setExtensions(p *parser, l line) {
	e, err := transport.ParseExtensions(strings.ToLower(l.value))
	if err != nil {
		p.wrong(peerKeys, l, "without the line it is auto: with a stunnel what both know, with any other peer plain WireGuard")
		return
	}
	peer, lines := p.peer()
	peer.Extensions, lines.extensions = e, l.number
}
