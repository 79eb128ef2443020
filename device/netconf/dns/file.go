package dns

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// file is a resolv.conf and what is known of it while ours stands in its place. Tunnels share it: the one that came up last
// has its name servers in it, and what was there before the first comes back with the last, in whatever order they go.
type file struct {
	path  string // /etc/resolv.conf
	dir   string // where states are kept
	boot  string // the present one
	pid   int    // of the process that owns what it claims
	alive func(pid int, start string) bool
}

// owner is a tunnel that has a say in the file.
type owner struct {
	Settings
	PID   int    `json:"pid"`
	Start string `json:"start"` // of that process, see startOf
}

// claim makes s hold, above what other tunnels want.
func (f *file) claim(s Settings) error {
	return f.locked(func() error {
		p, st, err := f.look()
		if err != nil {
			return err
		}
		if st == nil || !st.isOurs(p) {
			// Who has written it meanwhile is the one whose text is to come back.
			if st, err = f.keep(p, st); err != nil {
				return err
			}
		}
		st.drop(s.Interface, s.NetNS)
		st.Owners = append(st.Owners, owner{Settings: s, PID: f.pid, Start: startOf(f.pid)})
		_, err = f.settle(p, st)
		return err
	})
}

// release takes what a tunnel wants out of the file.
func (f *file) release(name string, netns uint64) (note string, err error) {
	if _, err := f.states(); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	err = f.locked(func() error {
		p, st, err := f.look()
		if errors.Is(err, fs.ErrNotExist) {
			note = fmt.Sprintf("%s was changed by another program meanwhile, and is left as it is: %v", f.path, err)
			return nil
		}
		if err != nil || st == nil {
			return err
		}
		st.drop(name, netns)
		note, err = f.settle(p, st)
		return err
	})
	return note, err
}

// mend is release for all tunnels whose process has gone.
func (f *file) mend() (note string, err error) {
	if found, err := f.states(); errors.Is(err, fs.ErrNotExist) || len(found) == 0 {
		return "", nil
	}
	err = f.locked(func() error {
		p, st, err := f.look()
		if err != nil || st == nil || len(st.gone) == 0 && len(st.Owners) > 0 {
			return err
		}
		if note, err = f.settle(p, st); err == nil && note == "" {
			note = fmt.Sprintf("%s: what was there before %s has been brought back", f.path, st.gone[0])
			if len(st.Owners) > 0 {
				note = fmt.Sprintf("%s: what %s has left there was taken out", f.path, st.gone[0])
			}
		}
		return err
	})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) { // the latter: a link to nowhere, which is not ours
		return "", nil
	}
	return note, err
}

// look reads the file, and the state that belongs to it, nil if there is none, without the owners that live no more.
func (f *file) look() (*place, *state, error) {
	p, err := findPlace(f.path)
	if err != nil {
		return nil, nil, err
	}
	p.sweep()
	st, err := f.stateOf(p)
	if err != nil || st == nil {
		return p, nil, err
	}
	st.Owners = slices.DeleteFunc(st.Owners, func(o owner) bool {
		gone := st.Boot != f.boot || !f.alive(o.PID, o.Start)
		if gone {
			st.gone = append(st.gone, o.Interface)
		}
		return gone
	})
	if len(st.gone)+len(st.Owners) == 0 { // its way down was cut off half way
		st.gone = append(st.gone, "a tunnel")
	}
	st.Boot = f.boot
	return p, st, nil
}

// keep makes p's text the one that is to come back. st is the state there is, or nil.
func (f *file) keep(p *place, st *state) (*state, error) {
	if st == nil {
		st = &state{dir: filepath.Join(f.dir, p.id), Boot: f.boot}
	}
	st.Path, st.Absent, st.Mode, st.UID, st.GID = p.path, !p.exists, p.mode, p.uid, p.gid
	st.Written, st.Next = "", ""
	return st, st.keepOriginal(p.text)
}

// settle writes what the owners of st want, or, when none is left, what was there before all of them; unless somebody else
// has written the file meanwhile, which note then tells.
func (f *file) settle(p *place, st *state) (note string, err error) {
	fresh := st.Written == "" && st.Next == ""
	if !fresh && !st.isOurs(p) {
		note = fmt.Sprintf("%s was changed by another program meanwhile, and is left as it is; what was there before the tunnel is in %s",
			f.path, st.originalPath())
		if len(st.Owners) > 0 {
			return note, st.save()
		}
		return note, st.forget(true)
	}
	original, err := st.original()
	if err != nil {
		return "", err
	}
	if len(st.Owners) > 0 {
		return "", st.write(p, render(original, st.Owners, st.originalPath()))
	}
	if !fresh {
		if err := st.restore(p, original); err != nil {
			return "", err
		}
	}
	return "", st.forget(false)
}
