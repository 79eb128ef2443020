package statedir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestADirectoryInWhichOthersCanWriteIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give directories away")
	}
	for _, c := range []struct {
		what     string
		uid, gid int
		mode     fs.FileMode
		refused  bool
	}{
		{"root's", 0, 0, 0o755, false},
		{"root's alone", 0, 0, 0o700, false},
		{"root's, for root's group", 0, 0, 0o775, false},
		{"for a group to read", 0, 65534, 0o750, false},
		{"for a group to write", 0, 65534, 0o770, true},
		{"for all to write", 0, 0, 0o777, true},
		{"for all to write, as /tmp", 0, 0, 0o777 | fs.ModeSticky, true},
		{"another user's", 65534, 0, 0o755, true},
	} {
		dir := filepath.Join(t.TempDir(), "above", "state")
		if err := Make(dir); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chown(dir, c.uid, c.gid), os.Chmod(dir, c.mode)); err != nil {
			t.Fatal(err)
		}
		untrusted := (*UntrustedError)(nil)
		if err := Make(dir); errors.As(err, &untrusted) != c.refused || err != nil && !c.refused {
			t.Errorf("%s (%d:%d %v): %v", c.what, c.uid, c.gid, c.mode, err)
		}
	}
}

func TestADirectoryThatIsNotThereIsToldFromOneThatIsRefused(t *testing.T) {
	if err := Check(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(file); err == nil {
		t.Error("a file passes for a directory")
	}
}

func TestALockKeepsOthersOutAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	var inside atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				unlock, err := Lock(dir)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d are in it", n)
				}
				inside.Add(-1)
				unlock()
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestWhoCanReadTheDirectoryCannotHoldTheLock(t *testing.T) {
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	unlock, err := Lock(dir) // waits for ever if it is the directory that is locked
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	info, err := os.Stat(filepath.Join(dir, lockName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
