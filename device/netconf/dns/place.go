package dns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// place is where a resolv.conf stands in truth: behind its symbolic links, which stay as they are.
type place struct {
	path   string
	id     string // tells the file from those of other mount namespaces; good for one boot
	mount  bool   // it is a mount of its own, as in containers: it can't be replaced, only written
	exists bool
	text   string
	mode   fs.FileMode
	uid    int
	gid    int
}

// usualMode is that of a resolv.conf that was not there.
const usualMode = 0o644

// sizeLimit bounds a resolv.conf, in bytes.
const sizeLimit = 1 << 20

func findPlace(path string) (*place, error) {
	path, err := follow(path)
	if err != nil {
		return nil, err
	}
	p := &place{path: path, mode: usualMode}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	case info.Size() > sizeLimit:
		return nil, fmt.Errorf("%s has %d bytes", path, info.Size())
	default:
		p.exists, p.mode = true, info.Mode().Perm()
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			p.uid, p.gid = int(owner.Uid), int(owner.Gid)
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		p.text = string(body)
		p.mount = isMount(path)
	}
	identified := filepath.Dir(path)
	if p.mount {
		identified = path
	}
	var st unix.Stat_t
	if err := unix.Stat(identified, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: identified, Err: err}
	}
	p.id = fmt.Sprintf("resolv.conf-%x-%x", st.Dev, st.Ino)
	return p, nil
}

// follow is where the links at path end. What they end at need not exist; the directory must.
func follow(path string) (string, error) {
	const most = 40 // as the kernel has it
	start := path
	for range most {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			if path != start {
				return "", fmt.Errorf("%s is a link to %s, whose directory is not there: %w", start, path, err)
			}
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil // no link, or nothing
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return "", &fs.PathError{Op: "readlink", Path: start, Err: unix.ELOOP}
}

// isMount says whether the file is the root of a mount. Before Linux 5.8 that is found out by the rename that fails.
func isMount(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// crash is called between any two changes to the disk. Tests end there as if they were killed.
var crash = func() {}

// temporary is what a text is written to before it takes the file's place.
func (p *place) temporary() string {
	return filepath.Join(filepath.Dir(p.path), ".resolv.conf.stunnel")
}

// sweep removes what a process that was killed has left in the directory.
func (p *place) sweep() { _ = os.Remove(p.temporary()) }

// put makes body the file's text: at once, by a rename, so that no program reads half of it; or, where the file or its
// directory allows no rename, in place.
func (p *place) put(body string, mode fs.FileMode, uid, gid int) error {
	if !p.mount {
		err := p.replace(body, mode, uid, gid)
		if err == nil {
			return nil
		}
		for _, inPlace := range []error{unix.EBUSY, unix.EROFS, unix.EACCES, unix.EPERM} {
			if errors.Is(err, inPlace) {
				return errors.Join(p.overwrite(body), dropped(p.temporary()))
			}
		}
		return errors.Join(err, dropped(p.temporary()))
	}
	return p.overwrite(body)
}

func (p *place) replace(body string, mode fs.FileMode, uid, gid int) error {
	f, err := os.OpenFile(p.temporary(), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	crash()
	_, err = f.WriteString(body)
	// All before the rename: who reads the new file finds it whole, also after a power cut.
	err = errors.Join(err, f.Chown(uid, gid), f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	crash()
	return os.Rename(p.temporary(), p.path)
}

// overwrite leaves the file empty for a moment. An empty one with a state that tells of a write is taken for ours.
func (p *place) overwrite(body string) error {
	f, err := os.OpenFile(p.path, os.O_WRONLY|os.O_TRUNC|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (lsattr shows whether it was made immutable; chattr -i undoes that)", err)
	}
	if err != nil {
		return err
	}
	crash()
	_, err = f.WriteString(body)
	return errors.Join(err, f.Sync(), f.Close())
}

// remove takes the file away.
func (p *place) remove() error { return dropped(p.path) }

func dropped(path string) error {
	crash()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EROFS) {
		return err
	}
	return nil
}
