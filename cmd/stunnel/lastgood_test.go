package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTheLastGoodAddressesOfNamesAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stunnel")
	path := filepath.Join(dir, "tun0.endpoints")
	const named, other = "vpn.example.net", "b.example.net"
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::9")
	keep := func(now map[string][]netip.Addr) {
		t.Helper()
		if err := openLastGood(dir, "tun0").keep(now); err != nil {
			t.Fatal(err)
		}
	}
	known := func(want int) {
		t.Helper()
		l := openLastGood(dir, "tun0")
		if len(l.found) != want || want == 1 && !slices.Equal(l.found[named], []netip.Addr{there, here}) {
			t.Errorf("known are %v", l.found)
		}
	}

	keep(map[string][]netip.Addr{named: nil})
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made of nothing")
	}
	keep(map[string][]netip.Addr{other: nil, named: {there, here}})
	known(1)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if l := openLastGood(dir, "tun1"); len(l.found) != 0 {
		t.Errorf("another tunnel knows %v", l.found)
	}
	for _, broken := range []string{"", "{", "null", `{"a":"b"}`, `{"a":["b"]}`} {
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		known(0)
		keep(map[string][]netip.Addr{named: {there, here}})
		known(1)
	}
	keep(map[string][]netip.Addr{other: nil})
	if _, err := os.Stat(path); err == nil {
		t.Error("what the file no longer names was kept")
	}
}
