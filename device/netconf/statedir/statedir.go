// Package statedir makes the directories of what root reads again and acts upon: journals, and what a file had before.
//
// Who can write there could have root change what he likes, by a journal of his own or by a link in the place of a file. On
// some systems such a directory is there already, for another program and its user: the TLS wrapper that is called stunnel too.
package statedir

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// UntrustedError is a directory in which somebody else can write.
type UntrustedError struct {
	Path string
	UID  int // its owner
	Mode fs.FileMode
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("%s belongs to user %d and has mode %#o: others than root can write there, and what root keeps there could be theirs", e.Path, e.UID, e.Mode)
}

// Advice says what to do about it.
func (e *UntrustedError) Advice() string {
	return fmt.Sprintf("ls -la %s shows what is there; if no other program needs it: chown root:root %s; chmod 755 %s", e.Path, e.Path, e.Path)
}

// Make makes the directory at path, with those above it, or checks one that is there.
func Make(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return Check(path)
}

// Check says whether nobody but root, or the user of this process, can write in the directory at path. Errors: an
// *UntrustedError; of one that is not there it wraps fs.ErrNotExist.
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	owner := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	const group, others = 0o020, 0o002
	if owner.Uid != 0 && int(owner.Uid) != os.Geteuid() || mode&others != 0 || mode&group != 0 && owner.Gid != 0 {
		return &UntrustedError{path, int(owner.Uid), mode}
	}
	return nil
}

// Boot tells this boot of the machine from all others: what was kept in an earlier one may not be so any more.
func Boot() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // "" is as good, where there is none
	return strings.TrimSpace(string(id))
}
