package conf

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"stunnel/crypto"
	"stunnel/transport"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestAFileWithAllKeysIsUnderstood(t *testing.T) {
	text, err := os.ReadFile("testdata/full.conf")
	if err != nil {
		t.Fatal(err)
	}
	file, err := Parse("testdata/full.conf", text)
	if err != nil {
		t.Fatal(err)
	}
	if k := file.Interface.PrivateKey; k == nil || k.Base64() != private {
		t.Error("the private key is another")
	}
	if k := file.Peers[0].PresharedKey; k == nil || k.Base64() != psk {
		t.Error("the preshared key is another")
	}
	got, err := json.MarshalIndent(file, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile("testdata/full.golden", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/full.golden")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// mustParse parses a text that is valid.
func mustParse(t *testing.T, text string) *File {
	t.Helper()
	file, err := Parse("peer.conf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestValuesThatAreTaken(t *testing.T) {
	mark := func(f *File) uint32 { return *f.Interface.FwMark }
	tests := []struct {
		text string
		ok   func(*File) bool
	}{
		{inInterface("FwMark = off"), func(f *File) bool { return mark(f) == 0 }},
		{inInterface("FwMark = 51820"), func(f *File) bool { return mark(f) == 51820 }},
		{inInterface("FwMark = 0xffffffff"), func(f *File) bool { return mark(f) == 0xffffffff }},
		{valid, func(f *File) bool { return f.Interface.FwMark == nil && f.Interface.ListenPort == nil }},
		{inInterface("DNS = # none"), func(f *File) bool { return f.Interface.DNS.IsZero() }},
		{inInterface("DNS = 9.9.9.9, fd00::53,[2001:db8::1] corp.example\nDNS = Lan. ~Corp.example, ~."), func(f *File) bool {
			return f.Interface.DNS.String() == "9.9.9.9, fd00::53, 2001:db8::1, corp.example, lan, ~corp.example, ~."
		}},
		{inInterface("DNS = corp.example"), func(f *File) bool {
			return len(f.Interface.DNS.Servers) == 0 && slices.Equal(f.Interface.DNS.Search, []string{"corp.example"})
		}},
		{inInterface("Metric = 4294967295"), func(f *File) bool { return f.Interface.Metric == 4294967295 }},
		{inInterface("Table = 7\nSourceRules = yes"), func(f *File) bool { return f.Interface.SourceRules }},
		{inInterface("SourceRules = no"), func(f *File) bool { return !f.Interface.SourceRules }},
		{inInterface("Address = 10.9.0.1/32"), func(f *File) bool { return len(f.Interface.Address) == 2 }},
		{inInterface("ListenPort = 0"), func(f *File) bool { return *f.Interface.ListenPort == 0 }},
		{valid, func(f *File) bool { return f.Interface.Table == Table{Auto: true} }},
		{inInterface("Table = Auto"), func(f *File) bool { return f.Interface.Table == Table{Auto: true} }},
		{inInterface("Table = off"), func(f *File) bool { return f.Interface.Table == Table{Off: true} }},
		{inInterface("Table = 0x10"), func(f *File) bool { return f.Interface.Table == Table{Number: 16} }},
		{inInterface("Table = main"), func(f *File) bool { return f.Interface.Table == Table{Number: 254} }},
		{inInterface("Table = off") + "AllowedIPs = 0.0.0.0/0, ::/0", func(f *File) bool { return len(f.Peers[0].AllowedIPs) == 3 }},
		{inInterface("Table = 7") + "AllowedIPs = 0.0.0.0/0", func(f *File) bool { return len(f.Peers[0].AllowedIPs) == 2 }},
		{inInterface("PrivateKeyFile = key")[:0] + "[Interface]\nPrivateKeyFile = key", func(f *File) bool { return f.Interface.PrivateKeyFile == "key" && f.Interface.PrivateKey == nil }},
		{"[Interface]\nPostUp = wg set %i private-key /k", func(f *File) bool { return f.Interface.PostUp[0] == "wg set %i private-key /k" }},
		{"[Interface]\nPreUp = true", func(f *File) bool { return f.Interface.PrivateKey == nil }},
		{"[Interface]\nPreUp = echo 'a # b'  # c  ", func(f *File) bool { return f.Interface.PreUp[0] == "echo 'a # b'  # c" }},
		{inPeer("# PostUp = x"), func(f *File) bool { return f.Interface.PostUp == nil }},
		{inPeer("AllowedIPs = 10.1.2.3, fd00::1"), func(f *File) bool {
			return slices.Equal(f.Peers[0].AllowedIPs[1:], []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("fd00::1/128")})
		}},
		{inPeer("PersistentKeepalive = off"), func(f *File) bool { return f.Peers[0].PersistentKeepalive == 0 }},
		{valid, func(f *File) bool {
			return f.Interface.TrustedChecksums && f.Peers[0].Extensions == transport.ExtensionsAuto
		}},
		{inInterface("TrustedChecksums = yes"), func(f *File) bool { return f.Interface.TrustedChecksums }},
		{inInterface("TrustedChecksums = no"), func(f *File) bool { return !f.Interface.TrustedChecksums && f.Interface.Offload }},
		{inPeer("Extensions = off"), func(f *File) bool { return f.Peers[0].Extensions == transport.ExtensionsOff }},
		{inPeer("Extensions = Auto"), func(f *File) bool { return f.Peers[0].Extensions == transport.ExtensionsAuto }},
		{second("AllowedIPs = 10.7.0.0/16\nExtensions = required"), func(f *File) bool {
			return f.Peers[0].Extensions == transport.ExtensionsAuto && f.Peers[1].Extensions == transport.ExtensionsRequired
		}},
		{inPeer("Endpoint = host_1.example.net.:51820"), func(f *File) bool { return slices.Equal(f.Peers[0].Endpoints, []string{"host_1.example.net.:51820"}) }},
		{inPeer("Endpoint = a.example:1, 192.0.2.1:2\nEndpoint = [2001:db8::1]:3"), func(f *File) bool {
			p := &f.Peers[0]
			return slices.Equal(p.Endpoints, []string{"a.example:1", "192.0.2.1:2", "[2001:db8::1]:3"}) && p.EndpointsTCP == nil && p.Transport == nil && len(f.Warnings) == 0
		}},
		{inPeer("EndpointTCP = a.example:443 , b.example:443\nEndpoint TCP = 192.0.2.1:443\nTransport = TCP"), func(f *File) bool {
			p := &f.Peers[0]
			return slices.Equal(p.EndpointsTCP, []string{"a.example:443", "b.example:443", "192.0.2.1:443"}) && *p.Transport == transport.TransportTCP && len(f.Warnings) == 0
		}},
		{inInterface("ListenTCP = 443\nListenAddress = 192.0.2.1\nBindDevice = eth1"), func(f *File) bool {
			i := &f.Interface
			return i.ListenTCP == 443 && i.ListenAddress == netip.MustParseAddr("192.0.2.1") && i.BindDevice == "eth1"
		}},
		{inInterface("ListenTCP = Off"), func(f *File) bool { return f.Interface.ListenTCP == 0 }},
		{inInterface("ListenAddress = fe80::1\nBindDevice = eth1"), func(f *File) bool { return f.Interface.ListenAddress == netip.MustParseAddr("fe80::1") }},
		{valid, func(f *File) bool {
			i := &f.Interface
			return !i.KillSwitch && !i.KillSwitchAllow.LAN && i.KillSwitchAllow.Prefixes == nil && !i.Masquerade.On && i.MSSClamp == MSSClamp{}
		}},
		{inInterface("KillSwitch = Yes"), func(f *File) bool { return f.Interface.KillSwitch && len(f.Warnings) == 0 }},
		{inInterface("KillSwitch = yes\nKillSwitchAllow = LAN, 10.1.2.3/8\nKillSwitchAllow = 10.0.0.0/8 fd00::1"), func(f *File) bool {
			a := f.Interface.KillSwitchAllow
			return a.LAN && slices.Equal(a.Prefixes, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")})
		}},
		{inInterface("Masquerade = yes"), func(f *File) bool {
			return f.Interface.Masquerade.On && f.Interface.Masquerade.Interfaces == nil && f.Interface.MSSClamp == MSSClamp{On: true}
		}},
		{inInterface("Masquerade = NO"), func(f *File) bool { return !f.Interface.Masquerade.On && !f.Interface.MSSClamp.On }},
		{inInterface("MSSClamp = no\nMasquerade = eth0, wlan0.7"), func(f *File) bool {
			return slices.Equal(f.Interface.Masquerade.Interfaces, []string{"eth0", "wlan0.7"}) && !f.Interface.MSSClamp.On
		}},
		{inInterface("MSSClamp = yes"), func(f *File) bool { return f.Interface.MSSClamp == MSSClamp{On: true} && !f.Interface.Masquerade.On }},
		{inInterface("MSSClamp = 1200"), func(f *File) bool { return f.Interface.MSSClamp == MSSClamp{On: true, Size: 1200} }},
		{strings.ReplaceAll(valid, " = ", "="), func(f *File) bool { return len(f.Peers) == 1 }},
		{strings.ReplaceAll(valid, "\n", "\n\u00a0\t"), func(f *File) bool { return len(f.Peers) == 1 }},
		{valid + "[Interface]\nMTU = 1300", func(f *File) bool { return f.Interface.MTU == 1300 && len(f.Warnings) == 2 }},
		{"[Interface]\nPrivateKey = " + private, func(f *File) bool { return len(f.Peers) == 0 && f.Name == "peer" }},
	}
	for _, test := range tests {
		if f := mustParse(t, test.text); !test.ok(f) {
			t.Errorf("wrong: %+v\nof\n%s", f, test.text)
		}
	}
}

func TestOddThingsAreTakenWithAWarning(t *testing.T) {
	tests := []struct{ text, want string }{
		{inPeer("AllowedIPs = 10.8.1.2/16"), "peer.conf:8: AllowedIPs 10.8.1.2/16 has bits set behind its mask; it is taken for 10.8.0.0/16"},
		{inPeer("AllowedIPs = 10.9.0.2"), "peer.conf:8: AllowedIPs 10.9.0.2/32 is in line 7 already"},
		{inInterface("KillSwitch = yes\nKillSwitchAllow = lan"), "peer.conf:6: KillSwitchAllow = lan, and there is no DNS: a name server in the local network goes on being asked, and asks outside the tunnel"},
		{inInterface("KillSwitchAllow = lan"), "peer.conf:5: KillSwitchAllow does nothing without KillSwitch = yes"},
		{inInterface("KillSwitch = yes\nMasquerade = yes"), "peer.conf:6: with KillSwitch = yes what comes out of the tunnel may still leave this host, as Masquerade = yes wants it; only this host's own packets, and those of its networks, may not"},
		{inInterface("MTU = 1400"), "peer.conf:5: MTU again: it replaces that of line 4"},
		{inPeer("PresharedKey = " + strings.Repeat("A", 43) + "="), "peer.conf:8: PresharedKey is all zeros, which means none"},
		{valid + "[Peer]\nPublicKey = " + bob, "peer.conf:8: this peer has no AllowedIPs: no packet goes to it, and none that it sends is let in"},
		{inPeer("Endpoint = a.example:5, a.example:5"), `peer.conf:8: Endpoint "a.example:5" is in line 8 already`},
		{inPeer("EndpointTCP = a.example:5\nTransport = udp"), "peer.conf:8: EndpointTCP has no use with Transport = udp"},
		{inInterface("ListenAddress = 192.0.2.1") + "EndpointTCP = [2001:db8::1]:443", "peer.conf:9: EndpointTCP [2001:db8::1]:443 can't be reached from ListenAddress 192.0.2.1, which is of the other family"},
		{inInterface("Table = main") + "AllowedIPs = 192.0.2.0/24\nEndpoint = 198.51.100.1:1\nEndpointTCP = 192.0.2.1:443", "peer.conf:11: EndpointTCP 192.0.2.1:443 lies within AllowedIPs 192.0.2.0/24 of line 9: packets of the tunnel would be routed into the tunnel"},
		{inPeer("Endpoint = [fe80::1]:5"), "peer.conf:8: Endpoint [fe80::1]:5 is link-local and needs a zone, as in [fe80::1%eth0]:5"},
		{inInterface("Table = main") + "AllowedIPs = 192.0.2.0/24\nEndpoint = 192.0.2.1:5", "peer.conf:10: Endpoint 192.0.2.1:5 lies within AllowedIPs 192.0.2.0/24 of line 9: packets of the tunnel would be routed into the tunnel"},
		{inPeer("AllowedIPs = 0.0.0.0/0"), "peer.conf:8: AllowedIPs has 0.0.0.0/0 and not ::/0: where this host has IPv6, that goes on outside the tunnel"},
		{"[Interface]\nKillSwitch = yes\n" + inPeer("AllowedIPs = 0.0.0.0/0")[len("[Interface]\n"):], "peer.conf:9: AllowedIPs has 0.0.0.0/0 and not ::/0: KillSwitch = yes blocks all IPv6"},
		{"[Interface]\nKillSwitch = yes\n" + inPeer("AllowedIPs = ::/0")[len("[Interface]\n"):], "peer.conf:9: AllowedIPs has ::/0 and not 0.0.0.0/0: KillSwitch = yes blocks all IPv4"},
		{inPeer("AllowedIPs = ::/0"), "peer.conf:8: AllowedIPs has ::/0 and not 0.0.0.0/0: IPv4 goes on outside the tunnel"},
		{inInterface("Table = main") + "AllowedIPs = 0.0.0.0/0\nEndpoint = 192.0.2.1:5", "peer.conf:10: Endpoint 192.0.2.1:5 lies within AllowedIPs 0.0.0.0/0 of line 9: packets of the tunnel would be routed into the tunnel"},
		{inPeer("Endpoint = bad host:1"), `peer.conf:8: Endpoint "bad host:1" has blanks in it; it is taken for "badhost:1"`},
		{inInterface("Address ="), "peer.conf:5: Address is empty"},
		{inInterface("DNS = 10.9.0.53\nDNS = 10.9.0.53"), "peer.conf:6: DNS 10.9.0.53 is there already"},
		{inInterface("Table = off\nMetric = 5"), "peer.conf:6: Metric is of routes, and with Table = off there are none"},
		{"[Interface]\nPreUp = true\nMode = tap\nAddress = 10.9.0.1/24\nDNS = 9.9.9.9, 9.9.9.9\n", "peer.conf:5: DNS 9.9.9.9 is there already"},
		{inInterface("DNS = lan, Lan."), `peer.conf:5: DNS "Lan." is there already`},
		{inInterface("DNS = 10.9.0.1, 10.9.0.2\nDNS = 10.9.0.3, 10.9.0.4"), "peer.conf:6: DNS has 4 name servers; without systemd-resolved, programs ask the first 3 only"},
		{inInterface("DNS = 9.9.9.9"), "peer.conf:5: DNS 9.9.9.9 is in no peer's AllowedIPs: it is asked outside the tunnel"},
	}
	for _, test := range tests {
		if f := mustParse(t, test.text); !slices.Equal(f.Warnings, []string{test.want}) {
			t.Errorf("\n got %q\nwant %q", f.Warnings, test.want)
		}
	}
	for _, quiet := range []string{
		valid, inInterface("Table = off") + "AllowedIPs = 192.0.2.0/24\nEndpoint = 192.0.2.1:5",
		inPeer("AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 192.0.2.1:5"), inPeer("AllowedIPs = 192.0.2.0/24\nEndpoint = 192.0.2.1:5"),
		inInterface("Table = 7") + "AllowedIPs = 0.0.0.0/0", inInterface("Table = 7\nDNS = 9.9.9.9"),
		inInterface("DNS = 10.9.0.53, corp.example"), inInterface("DNS = 9.9.9.9") + "AllowedIPs = 0.0.0.0/0, ::/0",
	} {
		if f := mustParse(t, quiet); f.Warnings != nil {
			t.Errorf("warnings %q about\n%s", f.Warnings, quiet)
		}
	}
}

func TestTheInterfaceIsNamedAfterTheFile(t *testing.T) {
	for path, want := range map[string]string{
		"peer.conf":                 "peer",
		"/etc/x/wg_0=+.-Z.conf":     "wg_0=+.-Z",
		"fifteen-letters.conf":      "fifteen-letters",
		"sixteen--letters.conf":     `sixteen--letters.conf: the interface is named after the file: "sixteen--letters" has 16 characters, and an interface can have 15`,
		"peer.txt":                  "peer.txt: the name of a configuration file is that of the interface and .conf, as peer.conf",
		".conf":                     ".conf: the interface is named after the file: the name is empty",
		"Büro.conf":                 `Büro.conf: the interface is named after the file: "Büro" has other characters than a-z, A-Z, 0-9 and _=+.-`,
		"a b.conf":                  `a b.conf: the interface is named after the file: "a b" has other characters than a-z, A-Z, 0-9 and _=+.-`,
		"a\n.conf":                  "a\n.conf: the interface is named after the file: \"a\\n\" has other characters than a-z, A-Z, 0-9 and _=+.-",
		"..conf":                    `..conf: the interface is named after the file: the kernel keeps "." for itself`,
		"all.conf":                  `all.conf: the interface is named after the file: the kernel keeps "all" for itself`,
		"/etc/wireguard/peer..conf": "peer.",
	} {
		f, err := Parse(path, []byte(valid))
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = f.Name
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

func TestManyPeersAreReadInReasonableTime(t *testing.T) {
	var b strings.Builder
	b.WriteString("[Interface]\nPrivateKey = " + private + "\n")
	for i := range 20000 {
		k := [32]byte{byte(i), byte(i >> 8), 1}
		b.WriteString("[Peer]\nPublicKey = " + base64of(k) + "\nName = p" + netip.AddrFrom4([4]byte{0, 0, byte(i >> 8), byte(i)}).String() +
			"\nAllowedIPs = " + netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String() + "\n")
	}
	if f := mustParse(t, b.String()); len(f.Peers) != 20000 {
		t.Error(len(f.Peers))
	}
}

func base64of(k [32]byte) string { return crypto.PublicKey(k).Base64() }

func TestTCPIsTriedByItselfWhereThePeerSpeaksIt(t *testing.T) {
	for _, tt := range []struct {
		text  string
		spoke bool
		want  transport.Transport
	}{
		{valid, false, transport.TransportUDP},
		{valid, true, transport.TransportAuto},
		{inPeer("EndpointTCP = a.example:443"), false, transport.TransportAuto},
		{inPeer("Transport = udp"), true, transport.TransportUDP},
		{inPeer("Transport = tcp\nEndpoint = a.example:443"), false, transport.TransportTCP},
		{inPeer("Transport = auto"), false, transport.TransportAuto},
	} {
		if got := mustParse(t, tt.text).Peers[0].TransportOf(tt.spoke); got != tt.want {
			t.Errorf("spoke TCP %v, and got %v of\n%s", tt.spoke, got, tt.text)
		}
	}
}
