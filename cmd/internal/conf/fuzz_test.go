package conf

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"stunnel/transport"
)

var keyLike = regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)

// FuzzParse: no text makes the parser panic, none of its keys comes back in an error or a warning, and what it takes
// it takes again.
func FuzzParse(f *testing.F) {
	all, err := os.ReadFile("testdata/full.conf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(all), "")
	for _, text := range []string{
		valid, inInterface("PrivateKeyFile = " + private), inPeer(private), inPeer("Endpoint = [fe80::1%" + private + "]:5"),
		inPeer("Endpoint = " + private[:43] + ":5"), inInterface("Table = " + private), inPeer("Name = " + private),
		second("AllowedIPs = 10.9.0.2"), inPeer("AllowedIPs = fe80::1%" + private), "[" + private + "]", "\xff\xfe",
		inPeer("PublicKey=\"" + private + "\""), inPeer(private + " = " + psk), inPeer("AllowedIPs = 0.0.0.0/0, +::/0"),
		inInterface("DNS = 9.9.9.9, ~., corp.example, ~" + private[:40]), inPeer("Extensions = required"), inPeer("Extensions = " + private), inInterface("TrustedChecksums = no"),
		inPeer("Endpoint = a.example:1, 192.0.2.1:2\nEndpointTCP = " + private[:40] + ":3\nTransport = auto"), inPeer("Transport = " + private),
		inInterface("ListenTCP = 443\nListenAddress = fe80::1%" + private + "\nBindDevice = " + private),
	} {
		f.Add(text, private)
	}
	f.Add("[Interface]\nPrivateKeyFile = key", private[1:])
	f.Add(inPeer("PresharedKeyFile = /key"), psk+"x")
	f.Fuzz(func(t *testing.T, text, key string) {
		read := func(string) (string, access, error) {
			if key == "" {
				return "", access{}, fs.ErrNotExist
			}
			return key, access{}, nil
		}
		file, err := parse("peer.conf", []byte(text), source{readKey: read})
		said := ""
		if err != nil {
			said = everything(err)
		} else {
			said = strings.Join(file.Warnings, "\n")
		}
		for _, key := range keyLike.FindAllString(text+"\n"+key, -1) {
			if strings.Contains(said, key) || strings.Contains(said, key[:43]) {
				t.Fatalf("a key of the file is in: %s", said)
			}
		}
		if err != nil {
			if file != nil || !strings.HasPrefix(err.Error(), "peer.conf:") {
				t.Fatalf("%v, %v", file, err)
			}
			return
		}
		if file.Name != "peer" || file.Interface.Line == 0 || len(file.Interface.DNS.Route) > 0 && len(file.Interface.DNS.Servers) == 0 || file.Interface.SaveConfig {
			t.Fatalf("%+v", file)
		}
		for i := range file.Peers {
			p := &file.Peers[i]
			if p.PublicKey.IsZero() || p.Extensions > transport.ExtensionsRequired || strings.ContainsAny(p.Name, "=\n") || p.Title() == "" {
				t.Fatalf("%+v", p)
			}
			for _, a := range p.AllowedIPs {
				if a != a.Masked() || !a.IsValid() {
					t.Fatal(a)
				}
			}
			if len(p.Endpoints) > maxEndpoints || len(p.EndpointsTCP) > maxEndpoints {
				t.Fatalf("%+v", p)
			}
			for _, e := range slices.Concat(p.Endpoints, p.EndpointsTCP) {
				if _, _, why := splitEndpoint(e); why != "" {
					t.Fatal(why)
				}
			}
		}
	})
}
