package dns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf/statedir"
)

// state is what is known of a resolv.conf in whose place ours stands. It is in a directory of its own below /var/lib/stunnel,
// with the original byte for byte, and is written before the file is: after a crash at any moment it is known whose text
// is in there.
type state struct {
	Path    string      `json:"path"`   // of the file, behind its links
	Boot    string      `json:"boot"`   // the last in which it was written
	Absent  bool        `json:"absent"` // there was none before
	Mode    fs.FileMode `json:"mode"`   // of the original, as are
	UID     int         `json:"uid"`
	GID     int         `json:"gid"`
	Written string      `json:"written"` // what stands in the file
	Next    string      `json:"next"`    // what is being written; "" when nothing is
	Owners  []owner     `json:"owners"`  // in the order in which they came up

	dir  string
	gone []string // interfaces of owners that live no more
}

func (st *state) originalPath() string { return filepath.Join(st.dir, "original") }
func (st *state) path() string         { return filepath.Join(st.dir, "state.json") }

// isOurs says whether the file has what we have written, or were about to write.
func (st *state) isOurs(p *place) bool {
	if !p.exists {
		return st.Absent // not made yet, or taken away already
	}
	if p.text == st.Written || p.text == st.Next || p.text == "" && st.Next != "" {
		return true
	}
	if st.Written != "" && len(st.Owners) > 0 {
		return false
	}
	original, err := st.original() // not replaced yet, or back already
	return err == nil && p.text == original
}

func (st *state) drop(name string, netns uint64) {
	st.Owners = slices.DeleteFunc(st.Owners, func(o owner) bool { return o.Interface == name && o.NetNS == netns })
}

// write puts body into the file.
func (st *state) write(p *place, body string) error {
	if p.exists && p.text == body {
		st.Written, st.Next = body, ""
		return st.save()
	}
	st.Next = body
	if err := st.save(); err != nil {
		return err
	}
	if err := p.put(body, st.Mode, st.UID, st.GID); err != nil {
		return err
	}
	st.Written, st.Next = body, ""
	return st.save()
}

// restore brings the original back.
func (st *state) restore(p *place, original string) error {
	switch {
	case st.Absent && !p.mount:
		return p.remove()
	case p.exists && p.text == original:
		return nil
	}
	st.Next = original
	if err := st.save(); err != nil {
		return err
	}
	return p.put(original, st.Mode, st.UID, st.GID)
}

func (st *state) original() (string, error) {
	body, err := os.ReadFile(st.originalPath())
	if err != nil {
		return "", fmt.Errorf("what was in %s before: %w", st.Path, err)
	}
	return string(body), nil
}

// keepOriginal is written to the disk before anything refers to it.
func (st *state) keepOriginal(body string) error {
	if err := os.MkdirAll(st.dir, 0o755); err != nil {
		return err
	}
	return writeWhole(st.originalPath(), []byte(body), 0o644)
}

func (st *state) save() error {
	body, err := json.MarshalIndent(st, "", "\t")
	if err != nil {
		return err
	}
	return writeWhole(st.path(), append(body, '\n'), 0o644)
}

// forget removes the state; the original stays where somebody may miss it.
func (st *state) forget(keepOriginal bool) error {
	if err := dropped(st.path()); err != nil || keepOriginal {
		return err
	}
	crash()
	return os.RemoveAll(st.dir)
}

// writeWhole writes a file that is there whole or not at all, also after a power cut.
func writeWhole(path string, body []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	crash()
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	crash()
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	crash()
	return nil
}

// states are the directories with states, of all files there may be.
func (f *file) states() ([]string, error) {
	if err := statedir.Check(f.dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(f.dir)
	var found []string
	for _, e := range entries {
		dir := filepath.Join(f.dir, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "state.json")); err == nil {
			found = append(found, dir)
		}
	}
	return found, err
}

// stateOf is the state that belongs to the file, or nil. After a boot, or for a service with mounts of its own, its numbers may
// be others: then it is known by its text, which names the directory of its state.
func (f *file) stateOf(p *place) (*state, error) {
	found, err := f.states()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var byText *state
	for _, dir := range found {
		st, err := readState(dir)
		if err != nil {
			return nil, err
		}
		if filepath.Base(dir) == p.id && st.Path == p.path {
			return st, nil
		}
		if p.exists && p.text != "" && (p.text == st.Written || p.text == st.Next) {
			byText = st
		}
	}
	return byText, nil
}

func readState(dir string) (*state, error) {
	st := &state{dir: dir}
	body, err := os.ReadFile(st.path())
	if err == nil {
		err = json.Unmarshal(body, st)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", st.path(), err)
	}
	return st, nil
}

// locked keeps other processes out while change runs.
func (f *file) locked(change func() error) error {
	if err := statedir.Make(f.dir); err != nil {
		return err
	}
	unlock, err := statedir.Lock(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	return change()
}
