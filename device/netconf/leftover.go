package netconf

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf/statedir"
)

// Left is a journal as it stands in its file: what a tunnel has changed and not taken back.
type Left struct {
	Owner Owner
	Path  string
	Steps []Step // in the order in which they were made
	Err   error  // why it can't be undone here and now: ErrInUse, ErrElsewhere, or a line that is not understood
}

// Journals reads the journals that there are of this boot, those of other network namespaces too. It changes nothing, and locks
// nothing either.
func (h *Handle) Journals() (all []Left, err error) {
	paths, err := filepath.Glob(filepath.Join(stateRoot, "*", "*"+journalSuffix))
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	locked, err := lockedInodes()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		var st unix.Stat_t
		text, err := os.ReadFile(path)
		if err == nil {
			err = unix.Stat(path, &st)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("journal: %w", err))
			continue
		}
		j := &Journal{h: h, path: path}
		whole, err := j.read(text)
		if err != nil && !whole {
			j.owner.Interface = strings.TrimSuffix(filepath.Base(path), journalSuffix)
		} else if !whole || j.owner.Boot != statedir.Boot() {
			continue // nothing of what it tells is there any more
		}
		left := Left{Owner: j.owner, Path: path, Steps: j.Steps(), Err: err}
		switch {
		case locked[inodeText(&st)]:
			left.Err = fmt.Errorf("%s: %w", path, ErrInUse)
		case whole && j.owner.NetNS != h.netns:
			left.Err = fmt.Errorf("%s: %w", path, ErrElsewhere)
		}
		all = append(all, left)
	}
	return all, errors.Join(errs...)
}

// lockedInodes are the files that processes have locked by flock(2), as /proc/locks has them: 3f:01:1234, device and inode.
func lockedInodes() (map[string]bool, error) {
	f, err := os.Open("/proc/locks")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	locked := make(map[string]bool)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) >= 6 && words[1] == "FLOCK" {
			locked[words[5]] = true
		}
	}
	return locked, lines.Err()
}

func inodeText(st *unix.Stat_t) string {
	return fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
}
