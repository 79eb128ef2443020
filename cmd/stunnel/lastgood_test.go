package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"stunnel/cmd/internal/conf"
)

func TestTheLastGoodAddressesOfNamesAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stunnel")
	path := filepath.Join(dir, "tun0.endpoints")
	named, literal, roaming := conf.Peer{Endpoint: "vpn.example.net:7"}, conf.Peer{Endpoint: "192.0.2.1:7"}, conf.Peer{}
	there := netip.MustParseAddrPort("192.0.2.9:7")
	keep := func(peers []conf.Peer, at ...netip.AddrPort) {
		t.Helper()
		if err := openLastGood(dir, "tun0").keep(peers, at); err != nil {
			t.Fatal(err)
		}
	}
	known := func(want int) {
		t.Helper()
		l := openLastGood(dir, "tun0")
		if len(l.found) != want || want == 1 && l.found[named.Endpoint] != there {
			t.Errorf("known are %v", l.found)
		}
	}

	keep([]conf.Peer{literal, roaming}, netip.MustParseAddrPort(literal.Endpoint), netip.AddrPort{})
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made of nothing")
	}
	keep([]conf.Peer{literal, named}, netip.MustParseAddrPort(literal.Endpoint), there)
	known(1)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if l := openLastGood(dir, "tun1"); len(l.found) != 0 {
		t.Errorf("another tunnel knows %v", l.found)
	}
	for _, broken := range []string{"", "{", "null", `{"a":"b"}`} {
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		known(0)
		keep([]conf.Peer{named}, there)
		known(1)
	}
	keep([]conf.Peer{literal}, netip.MustParseAddrPort(literal.Endpoint))
	if _, err := os.Stat(path); err == nil {
		t.Error("what the file no longer names was kept")
	}
}
