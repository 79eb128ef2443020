package conf

import (
	"errors"
	"strings"
	"testing"
)

// Keys of the tests and of nothing else.
const (
	private = "wDNiYI0I5KvHxPvbz9XBRtgEcUpR3iKhKjZLtlGIbX0="
	own     = "SnwmG+fg6Y8m4EyGDjACdmHcvPqTpV3Jo1MU/l5SgBE=" // of private
	alice   = "Qhd5lE1CNXXuPjZJVIlCyNCJ0tfJdQ5q9vLt9VQGQRo="
	bob     = "ji9hiWXUCfTbIS8D1u7zUIRSMy5SCSMWnRwfBwNP8TI="
	psk     = "R4dEE2nkJUR6zfD2dkYyhv5KhB8xaze5SCCQVmYHHHM="
)

// valid is a file to which one fault is added: four lines of [Interface], then [Peer] from line 5.
const valid = "[Interface]\nPrivateKey = " + private + "\nAddress = 10.9.0.1/24\nMTU = 1420\n" +
	"[Peer]\nPublicKey = " + alice + "\nAllowedIPs = 10.9.0.2/32\n"

// inInterface puts a line into valid's [Interface], as line 5.
func inInterface(text string) string { return strings.Replace(valid, "[Peer]", text+"\n[Peer]", 1) }

// inPeer appends a line to valid's [Peer], as line 8.
func inPeer(text string) string { return valid + text + "\n" }

// second appends a second peer from line 8, whose own lines begin with line 10.
func second(text string) string { return valid + "[Peer]\nPublicKey = " + bob + "\n" + text + "\n" }

func TestEveryFaultSaysWhereItIsWhatIsWrongAndWhatWouldBeRight(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string // the error, all of it; or several, a line each
		hint string // of the first; a part of it
	}{
		{"a typo in [Interface]", inInterface("ListenProt = 1"), `peer.conf:5: unknown key "ListenProt"`, "did you mean ListenPort?"},
		{"a typo in [Peer]", inPeer("AllowedIP = 10.0.0.0/8"), `peer.conf:8: unknown key "AllowedIP"`, "did you mean AllowedIPs?"},
		{"a key that nobody knows", inPeer("Colour = blue"), `peer.conf:8: unknown key "Colour"`, "known here are Name, PublicKey"},
		{"a typo of the other section", inInterface("Endpont = a:1"), `peer.conf:5: unknown key "Endpont"`, "Endpoint of [Peer]"},
		{"a key of the other section", inInterface("AllowedIPs = 10.0.0.0/8"), "peer.conf:5: AllowedIPs belongs into [Peer]", ""},
		{"a key of [Interface] in [Peer]", inPeer("MTU = 1420"), "peer.conf:8: MTU belongs into [Interface]", ""},
		{"a key before the first section", "Address = 10.0.0.1\n" + valid, `peer.conf:1: key "Address" stands before the first section; write it below [Interface] or [Peer]`, ""},
		{"an unknown section, once", valid + "[Colour]\nPublicKey = x\nFoo = y\n", "peer.conf:8: unknown section [Colour]; there are [Interface] and [Peer]", ""},
		{"a typo in [Peer] itself, and one under it", valid + "[Pear]\nPublicKey = " + bob + "\nAllowedIP = 10.0.0.0/8\nEndpiont = a:1",
			"peer.conf:8: unknown section [Pear]; there are [Interface] and [Peer]\npeer.conf:10: unknown key \"AllowedIP\"\npeer.conf:11: unknown key \"Endpiont\"", "did you mean [Peer]?"},
		{"no [Interface]", "[Peer]\nPublicKey = " + alice + "\nFoo = 1", "peer.conf: there is no [Interface] section\npeer.conf:3: unknown key \"Foo\"", "begins with [Interface]"},
		{"some other file", "a = b\nc = d\n", "peer.conf: there is no [Interface] section", "begins with [Interface]"},
		{"a typo in [Interface] itself", "# ours\n[Interfcae]\nPrivateKey = " + private + "\nListenPrt = 1", "peer.conf:2: unknown section [Interfcae]; there are [Interface] and [Peer]\npeer.conf:4: unknown key \"ListenPrt\"", "did you mean [Interface]?"},
		{"no header at all", "\nPrivateKey = " + private + "\nListenPrt = 1\n[Peer]\nPublicKey = " + alice + "\nFoo = 1", "peer.conf:2: key \"PrivateKey\" stands before the first section\n" +
			"peer.conf:3: unknown key \"ListenPrt\"\npeer.conf:6: unknown key \"Foo\"", "write [Interface] above this line"},
		{"[Interface] without its bracket", "[Interface\nPrivateKey = " + private + "\nFoo = 1", "peer.conf:1: \"[Interface\" is neither [Section] nor Key = Value\npeer.conf:3: unknown key \"Foo\"", "did you mean [Interface]?"},
		{"an empty file", "", "peer.conf: there is no [Interface] section", "the file is empty"},
		{"the TLS wrapper's file", "cert = /etc/x.pem\n[https]\naccept = 443\nconnect = 80\n", "peer.conf: there is no [Interface] section", "TLS wrapper"},
		{"no equals sign", inPeer("Endpoint 192.0.2.1:5"), `peer.conf:8: "Endpoint 192.0.2.1:5" is neither [Section] nor Key = Value`, ""},
		{"a comment of another language", inPeer("; note"), `peer.conf:8: "; note" is neither [Section] nor Key = Value`, "comments begin with #"},
		{"an open bracket", inPeer("[Peer\nPublicKey = " + bob), `peer.conf:8: "[Peer" is neither [Section] nor Key = Value`, "did you mean [Peer]?"},
		{"a key without a name", inPeer("= x"), "peer.conf:8: there is no key before the =", ""},
		{"a binary file", "\x7fELF\n\x01\x00\n\x02\n", "peer.conf: it is no text file", ""},
		{"UTF-16", "\xff\xfe[\x00I\x00", "peer.conf: the file is in UTF-16; UTF-8 is needed", "iconv"},
		{"a control character", inPeer("Name = a\x1b[31m"), "peer.conf:8: character 9 is a control character; only text may stand here", ""},
		{"bytes that are no text", inPeer("Name = a\xffb"), "peer.conf:8: character 9 is not UTF-8; only text may stand here", ""},
		{"a value that is missing", inInterface("ListenPort ="), "peer.conf:5: ListenPort has no value; a UDP port from 1 to 65535, or 0 for any", ""},

		{"a short private key", "[Interface]\nPrivateKey = abcd\n", "peer.conf:2: PrivateKey: a key has 44 characters of base64, not 4", "stunnel genkey"},
		{"a private key with a wrong letter", "[Interface]\nPrivateKey = " + private[:9] + "!" + private[10:] + "\n", "peer.conf:2: PrivateKey: character 10 of the key is not base64", "stunnel genkey"},
		{"a private key in hexadecimal", "[Interface]\nPrivateKey = " + strings.Repeat("a1", 32) + "\n", "peer.conf:2: PrivateKey: a key has 44 characters of base64, not 64", "hexadecimal"},
		{"a private key in quotation marks", "[Interface]\nPrivateKey = \"" + private + "\"\n", "peer.conf:2: PrivateKey: a key has 44 characters of base64, not 46", "without quotation marks"},
		{"the zero key", "[Interface]\nPrivateKey = " + strings.Repeat("A", 43) + "=\n", "peer.conf:2: PrivateKey: it is all zeros, which means no key", ""},
		{"no private key", "[Interface]\nAddress = 10.9.0.1/24\n", "peer.conf:1: [Interface] has neither PrivateKey nor PrivateKeyFile", "stunnel genkey"},
		{"no private key but a PostDown", "[Interface]\nPostDown = true\n", "peer.conf:1: [Interface] has neither PrivateKey nor PrivateKeyFile", ""},
		{"two private keys", inInterface("PrivateKeyFile = k"), "peer.conf:5: there is a PrivateKey in line 2 and a PrivateKeyFile in line 5; one of them is enough", ""},
		{"a private key as a file's name", "[Interface]\nPrivateKeyFile = " + private, "peer.conf:2: PrivateKeyFile has 44 characters that look like the key itself; write PrivateKey = ... for it", ""},
		{"a preshared key as a file's name", inPeer("PresharedKeyFile = " + psk), "peer.conf:8: PresharedKeyFile has 44 characters that look like the key itself; write PresharedKey = ... for it", ""},
		{"a port that is none", inInterface("ListenPort = 70000"), `peer.conf:5: ListenPort "70000" is wrong; right is a UDP port from 1 to 65535, or 0 for any`, ""},
		{"a negative port", inInterface("ListenPort = -1"), `peer.conf:5: ListenPort "-1" is wrong; right is a UDP port from 1 to 65535, or 0 for any`, ""},
		{"a mark that is no number", inInterface("FwMark = blue"), `peer.conf:5: FwMark "blue" is wrong; right is off, or a number as 51820 or 0xca6c`, ""},
		{"a mark that is too large", inInterface("FwMark = 0x100000000"), `peer.conf:5: FwMark "0x100000000" is wrong; right is off, or a number as 51820 or 0xca6c`, ""},
		{"an address that is none", inInterface("Address = 10.9.0.300/24"), `peer.conf:5: Address "10.9.0.300/24": it is no IP address, such as 10.9.0.1 or fd00::1`, ""},
		{"too many bits", inInterface("Address = 10.9.0.1/33"), `peer.conf:5: Address "10.9.0.1/33": behind the / stands a number from 0 to 32`, ""},
		{"an address with a zone", inInterface("Address = fe80::1%eth0/64"), `peer.conf:5: Address "fe80::1%eth0/64": a zone cannot stand here`, ""},
		{"an IPv4 address as IPv6", inInterface("Address = ::ffff:10.9.0.7"), `peer.conf:5: Address "::ffff:10.9.0.7": write IPv4 as IPv4, 10.9.0.7`, ""},
		{"a multicast address", inInterface("Address = 224.0.0.1"), `peer.conf:5: Address "224.0.0.1": no host can have it`, ""},
		{"an address twice", inInterface("Address = 10.9.0.1/24"), `peer.conf:5: Address "10.9.0.1/24" is in line 3 already`, ""},
		{"an IPv6 address with two lengths", inInterface("Address = fd00::1/64,fd00::1/128"), `peer.conf:5: Address "fd00::1/128" is in line 5 already`, ""},
		{"a name server that is none", inInterface("DNS = 10.9.0.300"), `peer.conf:5: DNS "10.9.0.300": it is no IP address, such as 10.9.0.1 or fd00::1`, ""},
		{"a name server with a port", inInterface("DNS = 9.9.9.9:53"), `peer.conf:5: DNS "9.9.9.9:53": a port cannot stand here; name servers are asked at port 53: 9.9.9.9`, ""},
		{"an IPv6 name server with a port", inInterface("DNS = [2001:db8::1]:53"), `peer.conf:5: DNS "[2001:db8::1]:53": a port cannot stand here; name servers are asked at port 53: 2001:db8::1`, ""},
		{"a name server with bits", inInterface("DNS = 10.9.0.1/32"), `peer.conf:5: DNS "10.9.0.1/32": the address of a name server stands here without a /`, ""},
		{"a name server with a zone", inInterface("DNS = fe80::1%eth0"), `peer.conf:5: DNS "fe80::1%eth0": a zone cannot stand here`, ""},
		{"an IPv4 name server as IPv6", inInterface("DNS = ::ffff:9.9.9.9"), `peer.conf:5: DNS "::ffff:9.9.9.9": write IPv4 as IPv4, 9.9.9.9`, ""},
		{"a name server at no host", inInterface("DNS = 0.0.0.0"), `peer.conf:5: DNS "0.0.0.0": no name server can have this address`, ""},
		{"a search domain with a blank label", inInterface("DNS = 9.9.9.9, corp..example"), `peer.conf:5: DNS "corp..example": each part of a host name has 1 to 63 characters`, ""},
		{"a search domain of nothing", inInterface("DNS = ."), `peer.conf:5: DNS ".": a domain is missing; right is corp.example, ~corp.example, or ~. for all names`, ""},
		{"a ~ alone", inInterface("DNS = 9.9.9.9, ~"), `peer.conf:5: DNS "~": a domain is missing; right is corp.example, ~corp.example, or ~. for all names`, ""},
		{"two ~", inInterface("DNS = 9.9.9.9, ~~corp.example"), `peer.conf:5: DNS "~~corp.example": a ~ stands before a domain only`, ""},
		{"a domain with a strange letter", inInterface("DNS = corp!example"), `peer.conf:5: DNS "corp!example": '!' cannot stand in a host name`, ""},
		{"names for no name server", inInterface("DNS = corp.example\nDNS = ~corp.example"), "peer.conf:6: DNS ~corp.example says which names are asked of the tunnel's name servers, and there are none", "the address"},
		{"a metric that is none", inInterface("Metric = 0"), `peer.conf:5: Metric "0" is wrong; right is a number from 1 to 4294967295`, "smaller"},
		{"a metric of frames", "[Interface]\nPreUp = true\nMode = tap\nMetric = 5\n", "peer.conf:4: Metric is of the routes of AllowedIPs, which Mode = tap has not", "take the line out"},
		{"SourceRules that are neither", inInterface("SourceRules = true"), `peer.conf:5: SourceRules "true" is wrong; right is yes or no`, "Table = N"},
		{"SourceRules without a table", inInterface("SourceRules = yes"), "peer.conf:5: SourceRules = yes leads what is sent from an Address into a table of the tunnel's own, and Table names none", "51820"},
		{"SourceRules for the main table", inInterface("Table = main\nSourceRules = yes"), "peer.conf:6: SourceRules = yes leads what is sent from an Address into a table of the tunnel's own, and Table names none", "51820"},
		{"SaveConfig", inInterface("SaveConfig = true"), "peer.conf:5: SaveConfig = true is not supported yet", "false"},
		{"SaveConfig with a third value", inInterface("SaveConfig = yes"), `peer.conf:5: SaveConfig "yes" is wrong; right is true or false`, ""},
		{"an Offload that is neither", inInterface("Offload = tso"), `peer.conf:5: Offload "tso" is wrong; right is yes or no`, "faults"},
		{"TrustedChecksums that are neither", inInterface("TrustedChecksums = off"), `peer.conf:5: TrustedChecksums "off" is wrong; right is yes or no`, "without the line it is yes"},
		{"a typo in TrustedChecksums", inInterface("TrustedChecksum = no"), `peer.conf:5: unknown key "TrustedChecksum"`, "did you mean TrustedChecksums?"},
		{"TrustedChecksums of a peer", inPeer("TrustedChecksums = no"), "peer.conf:8: TrustedChecksums belongs into [Interface]", ""},
		{"a KillSwitch that is neither", inInterface("KillSwitch = on"), `peer.conf:5: KillSwitch "on" is wrong; right is yes or no`, "nothing leave this host"},
		{"a typo in KillSwitch", inInterface("Killswich = yes"), `peer.conf:5: unknown key "Killswich"`, "did you mean KillSwitch?"},
		{"a name in KillSwitchAllow", inInterface("KillSwitchAllow = wlan0"), `peer.conf:5: KillSwitchAllow "wlan0": it is neither lan nor a prefix, as 192.168.0.0/16`, ""},
		{"everything in KillSwitchAllow", inInterface("KillSwitchAllow = ::/0"), "peer.conf:5: KillSwitchAllow ::/0 would let everything pass", "KillSwitch = no"},
		{"a Masquerade of two minds", inInterface("Masquerade = yes, eth0"), `peer.conf:5: Masquerade "yes, eth0" is wrong; right is yes, no, or the names of the interfaces through which packets leave this host`, ""},
		{"a Masquerade of no interface", inInterface("Masquerade = eth/0"), `peer.conf:5: Masquerade "eth/0" is wrong; right is yes, no, or the names of the interfaces through which packets leave this host`, "characters"},
		{"a Masquerade through the tunnel", inInterface("Masquerade = peer"), "peer.conf:5: Masquerade = peer names the tunnel itself", "eth0"},
		{"an MSSClamp that is too small", inInterface("MSSClamp = 500"), `peer.conf:5: MSSClamp "500" is wrong; right is yes, no, or a number of bytes from 536 to 65495`, "fits the path"},
		{"no lane", inInterface("Lanes = 0"), `peer.conf:5: Lanes "0" is wrong; right is a number from 1 to 64`, "cores"},
		{"too many lanes", inInterface("Lanes = 65"), `peer.conf:5: Lanes "65" is wrong; right is a number from 1 to 64`, "cores"},
		{"an MTU that is too small", inInterface("MTU = 500"), `peer.conf:5: MTU "500" is wrong; right is a number of bytes from 576 to 65535`, ""},
		{"an MTU that is too large", inInterface("MTU = 65536"), `peer.conf:5: MTU "65536" is wrong; right is a number of bytes from 576 to 65535`, ""},
		{"an MTU too small for an IPv6 address", inInterface("MTU = 1279\nAddress = fd00::1/64"), "peer.conf:5: MTU 1279 is too small for IPv6, which needs 1280 (Address fd00::1/64 in line 6)", ""},
		{"an MTU too small for an IPv6 route", strings.Replace(inPeer("AllowedIPs = fd00::/64"), "1420", "1000", 1), "peer.conf:4: MTU 1000 is too small for IPv6, which needs 1280 (AllowedIPs fd00::/64 in line 8)", ""},
		{"a table that is unknown", inInterface("Table = mian"), `peer.conf:5: Table "mian" is wrong; right is auto, off, or the number or name of a routing table`, "did you mean main?"},
		{"an empty hook", inInterface("PostUp ="), "peer.conf:5: PostUp has no value; a shell command", ""},

		{"a peer without a key", valid + "[Peer]\nAllowedIPs = 10.9.0.3/32\n", "peer.conf:8: this [Peer] has no PublicKey", ""},
		{"a public key that is none", inPeer("[Peer]\nPublicKey = abc"), "peer.conf:9: PublicKey: a key has 44 characters of base64, not 3", ""},
		{"the zero public key", inPeer("[Peer]\nPublicKey = " + strings.Repeat("A", 43) + "="), "peer.conf:9: PublicKey: it is all zeros, which nobody can have", ""},
		{"a forgotten [Peer]", inPeer("PublicKey = " + bob), "peer.conf:8: this peer has a PublicKey in line 6 already", "begins with a line [Peer]"},
		{"the same public key twice", valid + "[Peer]\nPublicKey = " + alice + "\n", "peer.conf:9: this PublicKey is that of the peer in line 6 already", ""},
		{"our own key as a peer", valid + "[Peer]\nPublicKey = " + own + "\n", "peer.conf:9: this PublicKey is our own: it belongs to the private key of line 2", ""},
		{"a preshared key that is none", inPeer("PresharedKey = " + psk[:43]), "peer.conf:8: PresharedKey: a key has 44 characters of base64, not 43", "stunnel genpsk"},
		{"two preshared keys", inPeer("PresharedKeyFile = k\nPresharedKey = " + psk), "peer.conf:9: this peer has a PresharedKey in line 9 and a PresharedKeyFile in line 8; one of them is enough", ""},
		{"the same prefix at two peers", second("AllowedIPs = 10.9.0.2"), "peer.conf:10: AllowedIPs 10.9.0.2/32 is that of another peer in line 7 already; a packet can go to one of them only", ""},
		{"the same prefix but for host bits", inPeer("AllowedIPs = 10.8.0.0/16\n[Peer]\nPublicKey = " + bob + "\nAllowedIPs = 10.8.1.1/16"), "peer.conf:11: AllowedIPs 10.8.0.0/16 is that of another peer in line 8 already; a packet can go to one of them only", ""},
		{"a prefix that is added", inPeer("AllowedIPs = +10.8.0.0/16"), `peer.conf:8: AllowedIPs "+10.8.0.0/16": + and - change the list of a running tunnel (wg set, wg syncconf); a file says all of it`, "the whole list"},
		{"a prefix that is removed", inPeer("AllowedIPs = 10.1.0.0/16, -10.8.0.0/16"), `peer.conf:8: AllowedIPs "-10.8.0.0/16": + and - change the list of a running tunnel (wg set, wg syncconf); a file says all of it`, ""},
		{"a host name as a prefix", inPeer("AllowedIPs = example.net"), `peer.conf:8: AllowedIPs "example.net": it is no IP address, such as 10.9.0.1 or fd00::1`, ""},
		{"prefixes without a comma", inPeer("AllowedIPs = 10.1.0.0/16 10.2.0.0/16"), `peer.conf:8: AllowedIPs "10.1.0.0/16 10.2.0.0/16": prefixes are separated by commas`, ""},
		{"addresses without a comma", inPeer("AllowedIPs = 10.1.0.2 10.1.0.3"), `peer.conf:8: AllowedIPs "10.1.0.2 10.1.0.3": prefixes are separated by commas`, ""},
		{"semicolons", inPeer("AllowedIPs = 10.1.0.2;10.1.0.3"), `peer.conf:8: AllowedIPs "10.1.0.2;10.1.0.3": prefixes are separated by commas`, ""},
		{"blanks in a prefix", inPeer("AllowedIPs = 10. 1.0.300"), `peer.conf:8: AllowedIPs "10. 1.0.300": it is no IP address, such as 10.9.0.1 or fd00::1`, ""},
		{"blanks in an endpoint", inPeer("Endpoint = bad host"), `peer.conf:8: Endpoint "bad host": there is no port; it is host:port, as vpn.example.net:51820, 192.0.2.1:51820 or [2001:db8::1]:51820`, ""},
		{"a comma too many", inPeer("AllowedIPs = 10.1.0.0/16,"), `peer.conf:8: AllowedIPs "": there is nothing between the commas`, ""},
		{"an endpoint without a port", inPeer("Endpoint = vpn.example.net"), `peer.conf:8: Endpoint "vpn.example.net": there is no port; it is host:port, as vpn.example.net:51820, 192.0.2.1:51820 or [2001:db8::1]:51820`, ""},
		{"an IPv4 endpoint without a port", inPeer("Endpoint = 192.0.2.1"), `peer.conf:8: Endpoint "192.0.2.1": there is no port; write 192.0.2.1:51820 with the right one`, ""},
		{"an IPv6 endpoint without a port", inPeer("Endpoint = [2001:db8::1]"), `peer.conf:8: Endpoint "[2001:db8::1]": there is no port; write [2001:db8::1]:51820 with the right one`, ""},
		{"an IPv6 endpoint without brackets", inPeer("Endpoint = 2001:db8:0:0:0:0:0:0:1:51820"), `peer.conf:8: Endpoint "2001:db8:0:0:0:0:0:0:1:51820": an IPv6 address stands in brackets: [2001:db8::1]:51820`, ""},
		{"a zone that is no interface", inPeer("Endpoint = [fe80::1%a/b]:1"), `peer.conf:8: Endpoint "[fe80::1%a/b]:1": behind the % stands the name of an interface, as in [fe80::1%eth0]:51820`, ""},
		{"a name in brackets", inPeer("Endpoint = [example.net]:1"), `peer.conf:8: Endpoint "[example.net]:1": only an IPv6 address stands in brackets`, ""},
		{"port 0", inPeer("Endpoint = example.net:0"), `peer.conf:8: Endpoint "example.net:0": the port is a number from 1 to 65535`, ""},
		{"a port by name", inPeer("Endpoint = example.net:https"), `peer.conf:8: Endpoint "example.net:https": the port is a number from 1 to 65535`, ""},
		{"no host", inPeer("Endpoint = :51820"), `peer.conf:8: Endpoint ":51820": there is no host before the port`, ""},
		{"a URL", inPeer("Endpoint = udp://example.net:1"), `peer.conf:8: Endpoint "udp://example.net:1": it is no URL; it is host:port, as vpn.example.net:51820, 192.0.2.1:51820 or [2001:db8::1]:51820`, ""},
		{"a bad IPv4 address", inPeer("Endpoint = 192.0.2.256:1"), `peer.conf:8: Endpoint "192.0.2.256:1": it is neither an IPv4 address nor a host name`, ""},
		{"a host name with a slash", inPeer("Endpoint = a/b:1"), `peer.conf:8: Endpoint "a/b:1": '/' cannot stand in a host name`, ""},
		{"a host name beyond ASCII", inPeer("Endpoint = bücher.example:1"), `peer.conf:8: Endpoint "bücher.example:1": write a host name in ASCII (its xn-- form)`, ""},
		{"nothing between the commas", inPeer("Endpoint = a.example:1,,b.example:2"), `peer.conf:8: Endpoint "a.example:1,,b.example:2": there is nothing between the commas`, ""},
		{"one of several endpoints", inPeer("EndpointTCP = a.example:1, b.example"), `peer.conf:8: EndpointTCP "b.example": there is no port; it is host:port, as vpn.example.net:51820, 192.0.2.1:51820 or [2001:db8::1]:51820`, ""},
		{"too many endpoints", inPeer("Endpoint = a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,a:10,a:11,a:12,a:13,a:14,a:15,a:16,a:17"),
			`peer.conf:8: Endpoint "a:17": this peer has 16 already, which is the most`, "many addresses"},
		{"a transport that is none", inPeer("Transport = quic"), `peer.conf:8: Transport "quic" is wrong; right is udp, tcp or auto`, "without the line it is udp"},
		{"a transport of all peers", inInterface("Transport = tcp"), "peer.conf:5: Transport belongs into [Peer]", ""},
		{"TCP with nobody who could begin", inPeer("Transport = tcp"), "peer.conf:5: with Transport = tcp this peer has no Endpoint, and without ListenTCP it can't begin either", "EndpointTCP"},
		{"a TCP port that is none", inInterface("ListenTCP = yes"), `peer.conf:5: ListenTCP "yes" is wrong; right is a TCP port from 1 to 65535, or off`, "443"},
		{"a listen address that is none", inInterface("ListenAddress = eth0"), `peer.conf:5: ListenAddress "eth0" is wrong; right is one of this host's addresses, as 192.0.2.1 or 2001:db8::1`, "without the line"},
		{"a listen address with a port", inInterface("ListenAddress = 192.0.2.1:5"), `peer.conf:5: ListenAddress "192.0.2.1:5" is wrong; right is one of this host's addresses, as 192.0.2.1 or 2001:db8::1`, ""},
		{"a listen address with a zone", inInterface("ListenAddress = fe80::1%eth0"), `peer.conf:5: ListenAddress "fe80::1%eth0": a zone cannot stand here`, "BindDevice = eth0"},
		{"all listen addresses", inInterface("ListenAddress = ::"), "peer.conf:5: ListenAddress :: means all addresses, which is so without the line", "take the line out"},
		{"a listen address of a group", inInterface("ListenAddress = ff02::1"), "peer.conf:5: ListenAddress ff02::1: no host can have it", ""},
		{"a listen address of a link", inInterface("ListenAddress = fe80::1"), "peer.conf:5: ListenAddress fe80::1 is link-local, and there is no BindDevice that says on which interface", "BindDevice"},
		{"the tunnel's address to listen at", inInterface("ListenAddress = 10.9.0.1"), "peer.conf:5: ListenAddress 10.9.0.1 is the tunnel's own Address of line 3", "by which the peers are reached"},
		{"the tunnel as its own device", inInterface("BindDevice = peer"), "peer.conf:5: BindDevice peer is the tunnel itself", "eth0"},
		{"a device that is none", inInterface("BindDevice = eth0/1"), `peer.conf:5: BindDevice: "eth0/1" has other characters than a-z, A-Z, 0-9 and _=+.-`, "any interface"},
		{"the unspecified address", inPeer("Endpoint = 0.0.0.0:1"), `peer.conf:8: Endpoint "0.0.0.0:1": no host can have this address`, ""},
		{"a keepalive with a unit", inPeer("PersistentKeepalive = 25s"), `peer.conf:8: PersistentKeepalive "25s" is wrong; right is off, or a number of seconds from 1 to 65535`, "25"},
		{"Extensions that are none of the three", inPeer("Extensions = yes"), `peer.conf:8: Extensions "yes" is wrong; right is off, auto or required`, "without the line it is auto"},
		{"Extensions without a value", inPeer("Extensions ="), "peer.conf:8: Extensions has no value; off, auto or required", ""},
		{"a typo in Extensions", inPeer("Extension = off"), `peer.conf:8: unknown key "Extension"`, "did you mean Extensions?"},
		{"Extensions of the interface", inInterface("Extensions = off"), "peer.conf:5: Extensions belongs into [Peer]", ""},
		{"a name with an equals sign", inPeer("Name = a=b"), `peer.conf:8: Name "a=b": '=' cannot stand in a name`, ""},
		{"a name that is too long", inPeer("Name = " + strings.Repeat("ab ", 23)), `peer.conf:8: Name "` + strings.Repeat("ab ", 22) + `ab": a name has at most 64 bytes`, ""},
		{"a name that writes backwards", inPeer("Name = a\u202eb"), `peer.conf:8: Name "a\u202eb": it has a character that cannot be printed`, ""},
		{"a name that two peers have", inPeer("Name = laptop\n[Peer]\nName = laptop\nPublicKey = " + bob), `peer.conf:10: Name "laptop" is that of the peer in line 8 already`, ""},

		{"several, in the order of their lines", inPeer("Endpoint = x\n[Interface]\nMTU = 5"),
			"peer.conf:8: Endpoint \"x\": there is no port; it is host:port, as vpn.example.net:51820, 192.0.2.1:51820 or [2001:db8::1]:51820\n" +
				`peer.conf:10: MTU "5" is wrong; right is a number of bytes from 576 to 65535`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file, err := Parse("peer.conf", []byte(test.text))
			if err == nil || file != nil {
				t.Fatalf("it was taken: %+v", file)
			}
			if err.Error() != test.want {
				t.Errorf("\n got %s\nwant %s", err, test.want)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatal("no *Error in it")
			}
			if !strings.Contains(e.Advice(), test.hint) {
				t.Errorf("hint %q, want %q in it", e.Advice(), test.hint)
			}
		})
	}
}

func TestASecretInTheWrongPlaceIsNotQuoted(t *testing.T) {
	broken := private[:20] + " " + private[21:]
	for _, text := range []string{
		inPeer(private),
		inPeer(private[:43]),
		inPeer("PrivateKey " + private),
		inPeer("Prvate" + private + " = x"),
		inPeer("[" + private + "]"),
		inPeer("Endpoint = " + private),
		inPeer("Endpoint = " + private + ":1"),
		inPeer("Name = " + private),
		inPeer("AllowedIPs = " + private),
		inPeer("AllowedIPs = 10.9.0.0/24 " + private),
		inPeer("AllowedIPs = " + broken),
		inPeer("Endpoint = " + broken + ":1"),
		inPeer("PersistentKeepalive = " + private),
		inPeer("PresharedKey = " + psk + psk),
		inInterface("Address = " + private),
		inInterface("Table = " + private),
		inInterface("FwMark = " + private),
		inInterface("SaveConfig = " + private),
		inInterface("DNS = " + private),
		inInterface("PrivateKey = " + private + "x"),
		inInterface("PrivateKey = " + broken[:43]),
		private + "\n" + valid,
		"[" + private + "]\n",
	} {
		_, err := Parse("peer.conf", []byte(text))
		if err == nil {
			t.Errorf("it was taken: %s", text)
			continue
		}
		for _, secret := range []string{private, psk} {
			// Half of a key is too much as well.
			for i := 0; i+secretRun <= len(secret); i++ {
				if said := everything(err); strings.Contains(said, secret[i:i+secretRun]) {
					t.Fatalf("a secret is in the error: %s", said)
				}
			}
		}
	}
}

// everything is what the command line may print of err.
func everything(err error) string {
	var b strings.Builder
	b.WriteString(err.Error())
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			var ce *Error
			if errors.As(e, &ce) {
				b.WriteString("\n" + ce.Hint)
			}
		}
	}
	return b.String()
}
