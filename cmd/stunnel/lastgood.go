package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"stunnel/device/netconf/statedir"
)

// lastGood is where the named endpoints of a tunnel were found last. It outlives a boot, since it is for the time when no
// name server can be reached, as when a machine starts behind its own kill switch.
type lastGood struct {
	path  string
	found map[string][]netip.Addr // by the name
}

const lastGoodDir = "/var/lib/stunnel"

// openLastGood reads what an earlier tunnel of that name has kept. What can't be read is as good as nothing.
func openLastGood(dir, name string) *lastGood {
	l := &lastGood{path: filepath.Join(dir, name+".endpoints"), found: make(map[string][]netip.Addr)}
	if text, err := os.ReadFile(l.path); err == nil && statedir.Check(dir) == nil {
		if json.Unmarshal(text, &l.found) != nil || l.found == nil {
			l.found = make(map[string][]netip.Addr)
		}
	}
	return l
}

// keep remembers the addresses of names, and forgets all others. If they are the same as before nothing is written.
func (l *lastGood) keep(now map[string][]netip.Addr) error {
	found := make(map[string][]netip.Addr)
	for host, addrs := range now {
		if len(addrs) > 0 {
			found[host] = addrs
		}
	}
	if maps.EqualFunc(found, l.found, slices.Equal) {
		return nil
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
