package main

import (
	"os"
	"path/filepath"
	"testing"

	"stunnel/crypto"
)

func TestPeersThatSpokeTCPAreKeptByTheirKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stunnel")
	office, laptop := crypto.PublicKey{1}, crypto.PublicKey{2}
	for range 2 { // the second time nothing is new
		if err := openSpokeTCP(dir, "tun0").add(office); err != nil {
			t.Fatal(err)
		}
	}
	if s := openSpokeTCP(dir, "tun0"); !s.has(office) || s.has(laptop) || len(s.peers) != 1 {
		t.Errorf("known are %v", s.peers)
	}
	if s := openSpokeTCP(dir, "tun1"); s.has(office) {
		t.Error("another tunnel knows it")
	}
	path := filepath.Join(dir, "tun0.tcp")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	for _, broken := range []string{"", "{", "null", `{"a":1}`} {
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		s := openSpokeTCP(dir, "tun0")
		if s.has(office) {
			t.Errorf("%q is understood", broken)
		}
		if err := s.add(laptop); err != nil || !openSpokeTCP(dir, "tun0").has(laptop) {
			t.Errorf("after %q nothing is kept: %v", broken, err)
		}
	}
}
