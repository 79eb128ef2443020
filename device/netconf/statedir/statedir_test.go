package statedir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
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
