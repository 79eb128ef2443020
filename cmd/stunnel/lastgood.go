package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"stunnel/device/netconf/statedir"
)

// lastGood is where the named endpoints of a tunnel were found last. It outlives a boot, since it is for the time when no
// name server can be reached, as when a machine starts behind its own kill switch.
type lastGood struct {
	path  string
	found map[string][]netip.AddrPort // by the endpoint as the file has it
}

const lastGoodDir = "/var/lib/stunnel"

// openLastGood reads what an earlier tunnel of that name has kept. What can't be read is as good as nothing.
func openLastGood(dir, name string) *lastGood {
	l := &lastGood{path: filepath.Join(dir, name+".endpoints"), found: make(map[string][]netip.AddrPort)}
	if text, err := os.ReadFile(l.path); err == nil && statedir.Check(dir) == nil {
		if json.Unmarshal(text, &l.found) != nil || l.found == nil {
			l.found = make(map[string][]netip.AddrPort)
		}
	}
	return l
}

// keep remembers the addresses of the endpoints that have names, and forgets all others. now has them by the endpoint as the
// file has it.
func (l *lastGood) keep(now map[string][]netip.AddrPort) error {
	found := make(map[string][]netip.AddrPort)
	for endpoint, addrs := range now {
		if _, err := netip.ParseAddrPort(endpoint); err != nil && len(addrs) > 0 {
			found[endpoint] = addrs
		}
	}
	l.found = found
	if len(found) == 0 {
		if err := os.Remove(l.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return keepJSON(l.path, found)
}

// keepJSON replaces the file at path in one step.
func keepJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	if err := statedir.Make(filepath.Dir(path)); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
