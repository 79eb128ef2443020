package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"stunnel/cmd/internal/conf"
	"stunnel/device/netconf/statedir"
)

// lastGood is where the named endpoints of a tunnel were found last. It outlives a boot, since it is for the time when no
// name server can be reached, as when a machine starts behind its own kill switch.
type lastGood struct {
	path  string
	found map[string]netip.AddrPort // by the endpoint as the file has it
}

const lastGoodDir = "/var/lib/stunnel"

// openLastGood reads what an earlier tunnel of that name has kept. What can't be read is as good as nothing.
func openLastGood(dir, name string) *lastGood {
	l := &lastGood{path: filepath.Join(dir, name+".endpoints"), found: make(map[string]netip.AddrPort)}
	if text, err := os.ReadFile(l.path); err == nil && statedir.Check(dir) == nil {
		if json.Unmarshal(text, &l.found) != nil || l.found == nil {
			l.found = make(map[string]netip.AddrPort)
		}
	}
	return l
}

// keep remembers the addresses of the endpoints that have names, and forgets all others. addresses[i] is that of peers[i].
func (l *lastGood) keep(peers []conf.Peer, addresses []netip.AddrPort) error {
	found := make(map[string]netip.AddrPort)
	for i, p := range peers {
		if _, err := netip.ParseAddrPort(p.Endpoint); err != nil && p.Endpoint != "" && addresses[i].IsValid() {
			found[p.Endpoint] = addresses[i]
		}
	}
	l.found = found
	if len(found) == 0 {
		if err := os.Remove(l.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.MarshalIndent(found, "", "\t")
	if err != nil {
		return err
	}
	if err := statedir.Make(filepath.Dir(l.path)); err != nil {
		return err
	}
	temporary := l.path + ".new"
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, l.path)
}
