package main

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

var update = flag.Bool("update", false, "write the golden files anew")

// shown is one tunnel with all that can be told, and one of another program with as little as possible.
func shown(t *testing.T) ([]tunnel, showOptions) {
	t.Helper()
	private, err := crypto.ParsePrivateKeyHex(strings.Repeat("40", 32))
	if err != nil {
		t.Fatal(err)
	}
	psk, err := crypto.ParsePresharedKeyHex(strings.Repeat("5e", 32))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC)
	return []tunnel{
		{name: "peer", status: transport.Status{
			PrivateKey: private, PublicKey: private.Public(), ListenPort: 51820, ListenTCP: 443, Streams: 1, Strangers: 12, FwMark: 0xca6c, Up: true, MTU: 1420,
			Lanes: 4,
			Offloads: []transport.Offload{{Name: "csum"}, {Name: "gro"}, {Name: "gso", Off: "a device on the way (EIO)"},
				{Name: "tso4"}, {Name: "uso4", Off: "the kernel refuses it"}, {Name: "uso6", Off: "the kernel refuses it"}},
			TrustedChecksums: true,
			Drops:            map[string]uint64{"malformed": 1, "no_peer": 30, "never": 0, "no_peer_multicast": 9, "of_tomorrow": 2},
			Peers: []transport.PeerStatus{
				{
					Name: "laptop", PublicKey: crypto.PublicKey{1}, PresharedKey: psk,
					Endpoint: netip.MustParseAddrPort("192.0.2.7:4500"), PathMTU: 1460,
					Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:4500"), netip.MustParseAddrPort("[2001:db8::7]:4500")}, LastHandshake: now.Add(-63*time.Second - 500*time.Millisecond),
					RxBytes: 1023, TxBytes: 5 << 30, PersistentKeepalive: 25 * time.Second,
					AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("fd00::/64")},
					Extensions: transport.ExtensionsRequired, Software: "stunnel 0.3.0", Announced: []string{"echo", "fragments", "trusted_checksums"},
					RoundTrip: 310 * time.Microsecond, EchoesSent: 20,
					Drops: map[string]uint64{"replayed": 2},
				},
				{PublicKey: crypto.PublicKey{2}, Endpoint: netip.MustParseAddrPort("[fe80::1%eth0]:51820")},
				{
					Name: "cut off", PublicKey: crypto.PublicKey{7}, Endpoint: netip.MustParseAddrPort("192.0.2.12:51820"), TxBytes: 4 << 20,
					LastHandshake: now.Add(-time.Minute), UnansweredSince: now.Add(-12 * time.Second), CarrierSince: now.Add(-time.Hour),
				},
				{
					Name: "silent", PublicKey: crypto.PublicKey{4}, Endpoint: netip.MustParseAddrPort("192.0.2.8:51820"), TxBytes: 148,
					Extensions: transport.ExtensionsRequired,
				},
				{
					Name: "gone", PublicKey: crypto.PublicKey{5}, Endpoint: netip.MustParseAddrPort("192.0.2.9:51820"),
					LastHandshake: now.Add(-10 * time.Minute), PersistentKeepalive: 25 * time.Second,
					Software: "stunnel 0.2.0", Goodbye: now.Add(-9*time.Minute - 1500*time.Millisecond),
				},
				{
					Name: "router", PublicKey: crypto.PublicKey{6}, Endpoint: netip.MustParseAddrPort("192.0.2.10:443"), Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:51820")},
					EndpointsTCP: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:443"), netip.MustParseAddrPort("192.0.2.11:443")},
					Transport:    transport.TransportAuto, Carrier: transport.TransportTCP,
					CarrierSince: now.Add(-2*time.Minute - 1500*time.Millisecond), CarrierWhy: "UDP does not get through",

					LastHandshake: now.Add(-time.Second), Software: "wireguard", Downgrades: 2,
				},
			},
		}},
		{name: "wg0", elsewhere: 4321, status: transport.Status{Peers: []transport.PeerStatus{{PublicKey: crypto.PublicKey{3}}}}},
	}, showOptions{now: now}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func TestShowPrintsText(t *testing.T) {
	tunnels, o := shown(t)
	var b strings.Builder
	showText(&b, tunnels, o)
	golden(t, "testdata/show.golden", b.String())
}

func TestShowPrintsJSON(t *testing.T) {
	tunnels, o := shown(t)
	var b strings.Builder
	if err := showJSON(&b, tunnels, o); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/show.json.golden", b.String())
	var any map[string][]map[string]any
	if err := json.Unmarshal([]byte(b.String()), &any); err != nil || len(any["interfaces"]) != 2 {
		t.Errorf("%v", err)
	}
}

func TestTheHelpOfShowNamesAllOfItsJSON(t *testing.T) {
	tunnels, o := shown(t)
	o.keys = true
	var b strings.Builder
	if err := showJSON(&b, tunnels, o); err != nil {
		t.Fatal(err)
	}
	reasons := map[string]bool{"malformed": true, "no_peer": true, "never": true, "no_peer_multicast": true, "of_tomorrow": true, "replayed": true}
	for line := range strings.Lines(b.String()) {
		name, _, ok := strings.Cut(strings.TrimSpace(line), `":`)
		if name = strings.TrimPrefix(name, `"`); ok && !strings.Contains(jsonDescription, name) &&
			!reasons[name] {
			t.Errorf("%s is not described", name)
		}
	}
}

func TestShowHidesKeysUnlessAsked(t *testing.T) {
	tunnels, o := shown(t)
	secrets := []string{tunnels[0].status.PrivateKey.Base64(), tunnels[0].status.Peers[0].PresharedKey.Base64()}
	for _, o.keys = range []bool{false, true} {
		var text, asJSON strings.Builder
		showText(&text, tunnels, o)
		if err := showJSON(&asJSON, tunnels, o); err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if strings.Contains(text.String(), s) != o.keys || strings.Contains(asJSON.String(), s) != o.keys {
				t.Errorf("keys %v:\n%s%s", o.keys, &text, &asJSON)
			}
		}
	}
}

func TestAgesAreWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                         "in the future (was the clock set back?)",
		0:                                    "now",
		999 * time.Millisecond:               "now",
		time.Second:                          "1 second ago",
		59 * time.Second:                     "59 seconds ago",
		time.Minute:                          "1 minute ago",
		2*time.Minute + 3*time.Second:        "2 minutes, 3 seconds ago",
		time.Hour + 59*time.Second:           "1 hour ago",
		25*time.Hour + time.Minute:           "1 day, 1 hour ago",
		(2*365*24 + 24) * time.Hour:          "2 years, 1 day ago",
		23*time.Hour + 59*time.Minute + 59e9: "23 hours, 59 minutes ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestBytesHaveUnits(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 1536: "1.50 KiB", 1 << 20: "1.00 MiB",
		5 << 30: "5.00 GiB", 1 << 40: "1.00 TiB", 1 << 50: "1.00 PiB", 18446744073709551615: "16.00 EiB"} {
		if got := iec(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestUpIsPromisedOnlyWhereThereIsAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("home.conf", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	running := []string{"office", "wg0"}
	for arg, want := range map[string]string{
		"./home.conf":      "stunnel up ./home.conf starts this one",
		"home.conf":        "stunnel up home.conf starts this one",
		"./ofice.conf":     "did you mean office?",
		"ofice":            "did you mean office?",
		"no-such-tunnel":   "running now: office, wg0",
		"/no/such/dir/any": "running now: office, wg0",
	} {
		if got := notRunningHint(arg, running); got != want {
			t.Errorf("%s: %q, want %q", arg, got, want)
		}
	}
	if got := notRunningHint("no-such-tunnel", nil); got != "no tunnel is running" {
		t.Error(got)
	}
}
