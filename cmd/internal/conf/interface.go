package conf

import (
	"net/netip"
	"strings"
	"unicode"

	"stunnel/crypto"
)

// interfaceKeys are the keys of [Interface], in the order in which messages list them. It is filled in init, since
// the functions in it look keys up themselves.
var interfaceKeys []key

func init() {
	interfaceKeys = []key{
		{name: "PrivateKey", right: "44 characters of base64, as `stunnel genkey` prints them", set: setPrivateKey},
		{name: "PrivateKeyFile", right: "the name of a file that holds the private key", set: setPrivateKeyFile},
		{name: "ListenPort", right: "a UDP port from 1 to 65535, or 0 for any", set: setListenPort},
		{name: "ListenTCP", right: "a TCP port from 1 to 65535, or off", set: setListenTCP},
		{name: "ListenAddress", right: "one of this host's addresses, as 192.0.2.1 or 2001:db8::1", set: setListenAddress},
		{name: "BindDevice", right: "the name of an interface, as eth1", set: setBindDevice},
		{name: "FwMark", right: "off, or a number as 51820 or 0xca6c", set: setFwMark},
		{name: "Address", right: "addresses as 10.9.0.1/24 or fd00::1/64, separated by commas", many: true, mayBeEmpty: true, set: setAddress},
		{name: "DNS", right: "addresses of name servers and search domains, separated by commas", many: true, mayBeEmpty: true, set: setDNS},
		{name: "MTU", right: "a number of bytes from 576 to 65535", set: setMTU},
		{name: "Table", right: "auto, off, or the number or name of a routing table", set: setTable},
		{name: "Metric", right: "a number from 1 to 4294967295", set: setMetric},
		{name: "SourceRules", right: "yes or no", set: setSourceRules},
		hook("PreUp", func(i *Interface) *[]string { return &i.PreUp }),
		hook("PostUp", func(i *Interface) *[]string { return &i.PostUp }),
		hook("PreDown", func(i *Interface) *[]string { return &i.PreDown }),
		hook("PostDown", func(i *Interface) *[]string { return &i.PostDown }),
		{name: "Offload", right: "yes or no", set: setOffload},
		{name: "TrustedChecksums", right: "yes or no", set: setTrustedChecksums},
		{name: "Lanes", right: "a number from 1 to 64", set: setLanes},
		{name: "Mode", right: "tun or tap", set: setMode},
		{name: "Bridge", right: "the name of a Linux bridge, as br0", set: setBridge},
		{name: "MAC", right: "a MAC address as fe:00:00:00:00:01", set: setMAC},
		{name: "SaveConfig", right: "true or false", set: setSaveConfig},
		{name: "KillSwitch", right: "yes or no", set: setKillSwitch},
		{name: "KillSwitchAllow", right: "lan, or prefixes as 192.168.0.0/16, separated by commas", many: true, set: setKillSwitchAllow},
		{name: "Masquerade", right: "yes, no, or the names of the interfaces through which packets leave this host", set: setMasquerade},
		{name: "MSSClamp", right: "yes, no, or a number of bytes from 536 to 65495", set: setMSSClamp},
	}
	interfaceKeys = append(interfaceKeys, switchKeys()...)
}

// MaxLanes is more than any machine is known to gain from.
const MaxLanes = 64

func hook(name string, list func(*Interface) *[]string) key {
	return key{name: name, right: "a shell command", many: true, set: func(p *parser, l line) {
		commands := list(&p.file.Interface)
		*commands = append(*commands, l.value)
	}}
}

func isHook(name string) bool {
	for _, h := range []string{"PreUp", "PostUp", "PreDown", "PostDown"} {
		if strings.EqualFold(h, name) {
			return true
		}
	}
	return false
}

// wrong reports a value that its key cannot have.
func (p *parser) wrong(keys []key, l line, hint string) {
	k := keys[indexOf(keys, l.key)]
	p.fail(l.number, hint, "%s %s is wrong; right is %s", k.name, quote(l.value), k.right)
}

func setPrivateKey(p *parser, l line) {
	k, err := crypto.ParsePrivateKey(squeeze(l.value))
	switch {
	case err != nil:
		p.fail(l.number, keyHint(l.value, "genkey"), "PrivateKey: %v", err)
	case k.IsZero():
		p.fail(l.number, keyHint(l.value, "genkey"), "PrivateKey: it is all zeros, which means no key")
	default:
		p.file.Interface.PrivateKey = &k
	}
}

// keyHint tells where a right key comes from. It says no more of the wrong one than what kind of text it is.
func keyHint(text, command string) string {
	text = squeeze(text)
	if len(text) == 64 && strings.Trim(text, "0123456789abcdefABCDEF") == "" {
		return "it seems to be in hexadecimal; a file has it in base64"
	}
	if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "'") {
		return "a key stands there without quotation marks"
	}
	return "`stunnel " + command + "` prints a right one"
}

func setPrivateKeyFile(p *parser, l line) {
	if name, ok := p.keyFileName(l, "PrivateKey"); ok {
		p.file.Interface.PrivateKeyFile = name
	}
}

func setListenPort(p *parser, l line) {
	n, ok := number(squeeze(l.value), 0xffff)
	if !ok {
		p.wrong(interfaceKeys, l, "")
		return
	}
	port := uint16(n)
	p.file.Interface.ListenPort = &port
}

func setFwMark(p *parser, l line) {
	text := squeeze(l.value)
	mark := uint32(0)
	if !strings.EqualFold(text, "off") {
		n, ok := numberOrHex(text, 0xffffffff)
		if !ok {
			p.wrong(interfaceKeys, l, "")
			return
		}
		mark = uint32(n)
	}
	p.file.Interface.FwMark = &mark
}

func setAddress(p *parser, l line) {
	entries := strings.FieldsFunc(l.value, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	if len(entries) == 0 {
		p.warn(l.number, "Address is empty")
	}
	in := &p.file.Interface
	for _, entry := range entries {
		prefix, why := parsePrefix(entry)
		addr := prefix.Addr()
		switch {
		case why != "":
			p.fail(l.number, "", "Address %s: %s", quote(entry), why)
		case addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			p.fail(l.number, "", "Address %s: no host can have it", quote(entry))
		default:
			for i, other := range in.Address {
				if other == prefix || addr.Is6() && other.Addr() == addr { // the kernel's rule
					p.fail(l.number, "", "Address %s is in line %d already", quote(entry), p.addressLines[i])
				}
			}
			in.Address = append(in.Address, prefix)
			p.addressLines = append(p.addressLines, l.number)
		}
	}
}

func setMTU(p *parser, l line) {
	n, ok := number(squeeze(l.value), 65535)
	if !ok || n < 576 {
		p.wrong(interfaceKeys, l, "without the line it fits the network that carries the tunnel")
		return
	}
	p.file.Interface.MTU = int(n)
}

func setSaveConfig(p *parser, l line) {
	switch strings.ToLower(l.value) {
	case "true":
		p.fail(l.number, "set it to false, or take the line out", "SaveConfig = true is not supported yet")
	case "false":
	default:
		p.wrong(interfaceKeys, l, "")
	}
}

func setOffload(p *parser, l line) {
	p.yesOrNo(l, &p.file.Interface.Offload, "without the line it is yes; no is for kernels and devices with faults")
}

func setTrustedChecksums(p *parser, l line) {
	p.yesOrNo(l, &p.file.Interface.TrustedChecksums, "without the line it is yes; no computes and verifies the checksum of every packet")
}

// yesOrNo reads a switch of [Interface].
func (p *parser) yesOrNo(l line, on *bool, hint string) {
	switch strings.ToLower(l.value) {
	case "yes":
		*on = true
	case "no":
		*on = false
	default:
		p.wrong(interfaceKeys, l, hint)
	}
}

func setLanes(p *parser, l line) {
	n, ok := number(squeeze(l.value), MaxLanes)
	if !ok || n < 1 {
		p.wrong(interfaceKeys, l, "without the line it fits the number of cores")
		return
	}
	p.file.Interface.Lanes = int(n)
}

func setMetric(p *parser, l line) {
	n, ok := number(squeeze(l.value), 0xffffffff)
	if !ok || n == 0 {
		p.wrong(interfaceKeys, l, "of two routes to the same prefix the one with the smaller metric is taken; without the line the kernel chooses: 0 for IPv4, 1024 for IPv6")
		return
	}
	p.file.Interface.Metric = uint32(n)
}

func setSourceRules(p *parser, l line) {
	p.yesOrNo(l, &p.file.Interface.SourceRules, "yes adds, for each Address, the rule that what is sent from it takes the table of Table = N")
}

func setTable(p *parser, l line) {
	t := &p.file.Interface.Table
	switch text := strings.ToLower(l.value); text {
	case "auto":
		*t = Table{Auto: true}
	case "off":
		*t = Table{Off: true}
	default:
		if n, ok := numberOrHex(text, 0xffffffff); ok {
			*t = Table{Number: uint32(n)}
			return
		}
		if p.tables == nil {
			p.tables = systemTables()
		}
		n, ok := p.tables[l.value]
		if !ok {
			p.wrong(interfaceKeys, l, p.tables.hint(l.value))
			return
		}
		*t = Table{Number: n}
	}
}
