package statedir

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockName is a file and not the directory itself: whoever can read that could lock it, and hold us up for as long as he likes.
const lockName = ".lock"

// Lock keeps other processes out of the directory until unlock, which leaves nothing behind.
func Lock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, lockName)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		for {
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
				break
			}
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		ours, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(ours, there) {
			return func() {
				_ = os.Remove(path) // one that stays does no harm
				f.Close()
			}, nil
		}
		f.Close() // its last holder has removed it since we opened it
	}
}
