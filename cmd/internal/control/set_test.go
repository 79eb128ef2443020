package control

import (
	"bufio"
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

func always(int) error { return nil }

func parseSet(text string) (request, error, error) {
	return readSet(bufio.NewReaderSize(strings.NewReader(text), maxLine), always)
}

func to[T any](v T) *T { return &v }

func TestSetBecomesAConfig(t *testing.T) {
	a, b := publicKey(0x11), publicKey(0x22)
	peer := func(p transport.PeerConfig) transport.Config {
		p.PublicKey = a
		return transport.Config{Peers: []transport.PeerConfig{p}}
	}
	for name, test := range map[string]struct {
		lines string
		want  transport.Config
	}{
		"nothing":             {"", transport.Config{}},
		"private key":         {"private_key=" + privateKey(7).Hex() + "\n", transport.Config{PrivateKey: to(privateKey(7))}},
		"private key removed": {"private_key=" + strings.Repeat("0", 64) + "\n", transport.Config{PrivateKey: &crypto.PrivateKey{}}},
		"device": {"listen_port=51820\nfwmark=4294967295\nreplace_peers=true\n",
			transport.Config{ListenPort: to(uint16(51820)), FwMark: to(uint32(4294967295)), ReplacePeers: true}},
		"trusted checksums off": {"trusted_checksums=false\n", transport.Config{TrustedChecksums: to(false)}},
		"trusted checksums on":  {"trusted_checksums=true\n", transport.Config{TrustedChecksums: to(true)}},
		"port and mark zero":    {"listen_port=0\nfwmark=0\n", transport.Config{ListenPort: to(uint16(0)), FwMark: to(uint32(0))}},
		"a new peer":            {"public_key=" + a.Hex() + "\n", peer(transport.PeerConfig{})},
		"all of a peer": {"public_key=" + a.Hex() + "\nupdate_only=true\nprotocol_version=1\npreshared_key=" + b.Hex() +
			"\nendpoint=[2001:db8::1]:7\npersistent_keepalive_interval=65535\nreplace_allowed_ips=true\nallowed_ip=10.1.2.3/8\nallowed_ip=-::/0\nname=caf\u00e9 %3d%25\n",
			peer(transport.PeerConfig{UpdateOnly: true, PresharedKey: to(crypto.PresharedKey(b)), Endpoint: to(netip.MustParseAddrPort("[2001:db8::1]:7")),
				PersistentKeepalive: to(65535 * time.Second), ReplaceAllowedIPs: true, Name: to("caf\u00e9 =%"),
				AllowedIPs: []transport.AllowedIPChange{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::/0"), Remove: true}}})},
		"remove":           {"public_key=" + a.Hex() + "\nremove=true\n", peer(transport.PeerConfig{Remove: true})},
		"name removed":     {"public_key=" + a.Hex() + "\nname=\n", peer(transport.PeerConfig{Name: to("")})},
		"name with equals": {"public_key=" + a.Hex() + "\nname=a=b\n", peer(transport.PeerConfig{Name: to("a=b")})},
		"keepalive off":    {"public_key=" + a.Hex() + "\npersistent_keepalive_interval=0\n", peer(transport.PeerConfig{PersistentKeepalive: to(time.Duration(0))})},
		"extensions off":   {"public_key=" + a.Hex() + "\nextensions=off\n", peer(transport.PeerConfig{Extensions: to(transport.ExtensionsOff)})},
		"extensions auto":  {"public_key=" + a.Hex() + "\nextensions=auto\n", peer(transport.PeerConfig{Extensions: to(transport.ExtensionsAuto)})},
		"extensions required of one, and nothing said of another": {"public_key=" + a.Hex() + "\nextensions=required\npublic_key=" + b.Hex() + "\n",
			transport.Config{Peers: []transport.PeerConfig{{PublicKey: a, Extensions: to(transport.ExtensionsRequired)}, {PublicKey: b}}}},
		"TCP of the device": {"listen_tcp=443\n", transport.Config{ListenTCP: to(uint16(443))}},
		"ways to a peer": {"public_key=" + a.Hex() + "\ntransport=auto\nendpoints=192.0.2.1:9,[::ffff:192.0.2.2]:9\nendpoints_tcp=\n",
			peer(transport.PeerConfig{Transport: to(transport.TransportAuto), EndpointsTCP: to([]netip.AddrPort(nil)),
				Endpoints: to([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("192.0.2.2:9")})})},
		"mapped endpoint": {"public_key=" + a.Hex() + "\nendpoint=[::ffff:192.0.2.1]:9\n", peer(transport.PeerConfig{Endpoint: to(netip.MustParseAddrPort("192.0.2.1:9"))})},
		"zone":            {"public_key=" + a.Hex() + "\nendpoint=[fe80::1%eth0]:9\n", peer(transport.PeerConfig{Endpoint: to(netip.MustParseAddrPort("[fe80::1%eth0]:9"))})},
		"replacing comes before adding, whatever the order": {"public_key=" + a.Hex() + "\nallowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=11.0.0.0/8\n",
			peer(transport.PeerConfig{ReplaceAllowedIPs: true, AllowedIPs: []transport.AllowedIPChange{{Prefix: netip.MustParsePrefix("11.0.0.0/8")}}})},
		"two peers": {"public_key=" + a.Hex() + "\nremove=true\npublic_key=" + b.Hex() + "\nupdate_only=true\n",
			transport.Config{Peers: []transport.PeerConfig{{PublicKey: a, Remove: true}, {PublicKey: b, UpdateOnly: true}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r, refused, err := parseSet(test.lines + "\n")
			if refused != nil || err != nil {
				t.Fatal(refused, err)
			}
			if !reflect.DeepEqual(r.config, test.want) {
				t.Errorf("got  %+v\nwant %+v", r.config, test.want)
			}
			if r.stop {
				t.Error("it was not asked to stop")
			}
		})
	}
}

func TestSetRefusesWhatItDoesNotUnderstand(t *testing.T) {
	peer := "public_key=" + publicKey(1).Hex() + "\n"
	upper := strings.ToUpper(publicKey(0xab).Hex())
	for lines, want := range map[string]syscall.Errno{
		"listen_port\n":                   syscall.EPROTO,
		"=1\n":                            syscall.EPROTO,
		"listen_port=1\r\n":               syscall.EPROTO,
		"listen_port=65536\n":             syscall.EINVAL,
		"listen_port=-1\n":                syscall.EINVAL,
		"listen_port=+1\n":                syscall.EINVAL,
		"listen_port=\n":                  syscall.EINVAL,
		"listen_port= 1\n":                syscall.EINVAL,
		"listen_port=0x10\n":              syscall.EINVAL,
		"fwmark=4294967296\n":             syscall.EINVAL,
		"fwmark=off\n":                    syscall.EINVAL,
		"replace_peers=false\n":           syscall.EINVAL,
		"replace_peers=1\n":               syscall.EINVAL,
		"stop=yes\n":                      syscall.EINVAL,
		"private_key=00\n":                syscall.EINVAL,
		"private_key=\n":                  syscall.EINVAL,
		"private_key=" + upper + "\n":     syscall.EINVAL,
		"no_such_key=1\n":                 syscall.EINVAL,
		"allowed_ip=10.0.0.0/8\n":         syscall.EINVAL, // of a peer, and there is none yet
		"trusted_checksums=\n":            syscall.EINVAL,
		"trusted_checksums=1\n":           syscall.EINVAL,
		"trusted_checksums=no\n":          syscall.EINVAL,
		"extensions=off\n":                syscall.EINVAL, // of a peer
		"listen_tcp=https\n":              syscall.EINVAL,
		"transport=tcp\n":                 syscall.EINVAL, // of a peer
		peer + "transport=\n":             syscall.EINVAL,
		peer + "transport=TCP\n":          syscall.EINVAL,
		peer + "endpoints=192.0.2.1\n":    syscall.EINVAL,
		peer + "endpoints=192.0.2.1:1,\n": syscall.EINVAL,
		peer + "endpoints=" + strings.Repeat("192.0.2.1:1,", 50) + "192.0.2.1:1\n": syscall.EINVAL,
		peer + "carrier=tcp\n":                           syscall.EINVAL, // that is not for others to say
		peer + "extensions=\n":                           syscall.EINVAL,
		peer + "extensions=Off\n":                        syscall.EINVAL,
		peer + "extensions=yes\n":                        syscall.EINVAL,
		peer + "trusted_checksums=true\n":                syscall.EINVAL,
		"name=x\n":                                       syscall.EINVAL,
		"public_key=" + upper + "\n":                     syscall.EINVAL,
		"public_key=" + upper[2:] + "\n":                 syscall.EINVAL,
		peer + "listen_port=1\n":                         syscall.EINVAL, // of the device, and it is too late
		peer + "stop=true\n":                             syscall.EINVAL,
		peer + "no_such_key=1\n":                         syscall.EINVAL,
		peer + "protocol_version=2\n":                    syscall.EINVAL,
		peer + "remove=TRUE\n":                           syscall.EINVAL,
		peer + "update_only=false\n":                     syscall.EINVAL,
		peer + "replace_allowed_ips=\n":                  syscall.EINVAL,
		peer + "preshared_key=" + upper + "\n":           syscall.EINVAL,
		peer + "endpoint=host:1\n":                       syscall.EINVAL,
		peer + "endpoint=10.0.0.1\n":                     syscall.EINVAL,
		peer + "endpoint=10.0.0.1:65536\n":               syscall.EINVAL,
		peer + "persistent_keepalive_interval=-1\n":      syscall.EINVAL,
		peer + "persistent_keepalive_interval=65536\n":   syscall.EINVAL,
		peer + "allowed_ip=10.0.0.0\n":                   syscall.EINVAL,
		peer + "allowed_ip=10.0.0.0/33\n":                syscall.EINVAL,
		peer + "allowed_ip=--10.0.0.0/8\n":               syscall.EINVAL,
		peer + "allowed_ip=fe80::1%eth0/64\n":            syscall.EINVAL,
		peer + "name=%zz\n":                              syscall.EINVAL,
		peer + "name=%1b[31m\n":                          syscall.EINVAL,
		peer + "name=%ff\n":                              syscall.EINVAL,
		peer + "name=x%4\n":                              syscall.EINVAL,
		peer + "name=" + strings.Repeat("x", 256) + "\n": syscall.EINVAL,
		"fwmark=" + strings.Repeat("0", maxLine) + "\n":  syscall.EINVAL,
	} {
		// What is fine before and behind a faulty line must not be applied either, and the
		// operation is read to its end, so that the next one is found.
		br := bufio.NewReaderSize(strings.NewReader(lines+"\nset=1\n"), maxLine)
		r, refused, err := readSet(br, always)
		var errno syscall.Errno
		if err != nil || !errors.As(refused, &errno) || errno != want {
			t.Errorf("%.80q: %v, %v, want %v", lines, refused, err, want)
			continue
		}
		if !reflect.DeepEqual(r, request{}) {
			t.Errorf("%.80q: something is left of the request: %+v", lines, r)
		}
		if next, err := nextLine(br); err != nil || string(next) != "set=1" {
			t.Errorf("%.80q: the next operation begins with %q, %v", lines, next, err)
		}
	}
}

func TestRefusalsNeverQuoteKeys(t *testing.T) {
	text := strings.Repeat("5e", 31)
	peer := "public_key=" + publicKey(1).Hex() + "\n"
	for _, lines := range []string{"private_key=" + text + "\n", peer + "preshared_key=" + text + "\n", peer + "extensions=" + text + "\n"} {
		_, refused, _ := parseSet(lines + "\n")
		if refused == nil || strings.Contains(refused.Error(), "5e5e") {
			t.Errorf("%v", refused)
		}
	}
}

func TestSetIsRefusedWhenThereIsNoRoomForIt(t *testing.T) {
	line := "public_key=" + publicKey(1).Hex() + "\n"
	room := 2 * len(line)
	br := bufio.NewReaderSize(strings.NewReader(line+line+line+line+"\nnext\n"), maxLine)
	_, refused, err := readSet(br, func(n int) error {
		if room -= n; room < 0 {
			return syscall.ENOMEM
		}
		return nil
	})
	if !errors.Is(refused, syscall.ENOMEM) || err != nil || room != -len(line) {
		t.Errorf("%v, %v, room %d", refused, err, room)
	}
	if next, err := nextLine(br); err != nil || string(next) != "next" {
		t.Errorf("what follows is %q, %v", next, err)
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte("private_key=" + privateKey(1).Hex() + "\nlisten_port=1\nfwmark=2\nreplace_peers=true\ntrusted_checksums=false\nstop=true\npublic_key=" + publicKey(1).Hex() + "\nremove=true\n\n"))
	f.Add([]byte("listen_tcp=443\npublic_key=" + publicKey(1).Hex() + "\ntransport=auto\nendpoints=192.0.2.1:1,[fe80::1%25eth0]:2\nendpoints_tcp=\n\n"))
	f.Add([]byte("public_key=" + publicKey(1).Hex() + "\nupdate_only=true\nextensions=required\nname=a%25b\npreshared_key=" + publicKey(2).Hex() +
		"\nendpoint=[fe80::1%e]:1\npersistent_keepalive_interval=1\nreplace_allowed_ips=true\nallowed_ip=-1.2.3.4/5\nallowed_ip=::/0\nprotocol_version=1\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, refused, err := readSet(bufio.NewReaderSize(bytes.NewReader(text), maxLine), always)
		if err != nil || refused != nil {
			if !reflect.DeepEqual(r, request{}) {
				t.Fatalf("a refused request left %+v", r)
			}
			return
		}
		for i, p := range r.config.Peers {
			if p.Remove { // the client writes no more than that
				r.config.Peers[i] = transport.PeerConfig{PublicKey: p.PublicKey, Remove: true}
			}
		}
		again, refused, err := parseSet(string(appendConfig(nil, &r.config)) + "\n")
		if err != nil || refused != nil || !reflect.DeepEqual(again.config, r.config) {
			t.Fatalf("%q became %+v\nthen %+v, %v, %v", text, r.config, again.config, refused, err)
		}
	})
}
