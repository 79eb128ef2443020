package netconf

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

// What several tunnels change alike (a sysctl, resolv.conf, a bridge) is taken back by the last one that needs it, in
// whatever order they go. Who needs it, and what was there before the first, stands in a file of its own beside the
// journals.

// claim is such a file.
type claim struct {
	Boot     string   `json:"boot"`     // the one in which it was made: of an earlier one nothing holds any more
	Original string   `json:"original"` // what was there before the first owner
	Owners   []string `json:"owners"`   // interfaces
}

// claim makes owner one of those that need thing; first: nobody did before, and original, which is called then, tells what
// is there. It may be called again by the same owner.
func (h *Handle) claim(thing, owner string, original func() (string, error)) (first bool, err error) {
	err = h.changeClaim(thing, func(c *claim) error {
		if first = len(c.Owners) == 0; first {
			if c.Original, err = original(); err != nil {
				return err
			}
		}
		if !slices.Contains(c.Owners, owner) {
			c.Owners = append(c.Owners, owner)
		}
		return nil
	})
	return first, err
}

// release takes owner out, and calls restore with what was there before the first if it was the last one. What restore
// returns is returned, and then owner is still in. An owner that is not in: nothing happens.
func (h *Handle) release(thing, owner string, restore func(original string) error) error {
	return h.changeClaim(thing, func(c *claim) error {
		i := slices.Index(c.Owners, owner)
		if i < 0 {
			return nil
		}
		if c.Owners = slices.Delete(c.Owners, i, i+1); len(c.Owners) == 0 {
			return restore(c.Original)
		}
		return nil
	})
}

// claimed says whether somebody needs thing.
func (h *Handle) claimed(thing string) (bool, error) {
	_, claimed, err := h.original(thing)
	return claimed, err
}

// original is what was there before somebody needed thing; shared: somebody does.
func (h *Handle) original(thing string) (original string, shared bool, err error) {
	err = h.changeClaim(thing, func(c *claim) error {
		original, shared = c.Original, len(c.Owners) > 0
		return nil
	})
	return original, shared, err
}

// changeClaim reads thing's file, lets change at it, and writes it again unless that failed; one process at a time.
func (h *Handle) changeClaim(thing string, change func(*claim) error) error {
	dir := h.stateDir()
	var unlock func()
	err := h.inStateDir(func() (err error) {
		unlock, err = statedir.Lock(dir)
		return err
	})
	if err != nil {
		return fmt.Errorf("shared changes: %w", err)
	}
	defer h.leaveStateDir()
	defer unlock()
	path := filepath.Join(dir, thing+".json")
	var c claim
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("shared changes: %s: %w", path, err)
	}
	if c.Boot != "" && c.Boot != statedir.Boot() {
		c = claim{}
	}
	if err := change(&c); err != nil {
		return err
	}
	if len(c.Owners) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("shared changes: %w", err)
		}
		return nil
	}
	c.Boot = statedir.Boot()
	if text, err = json.Marshal(c); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("shared changes: %w", err)
	}
	return os.Rename(temporary, path)
}

// namespaceID tells the network namespace of the calling thread from all others until the next boot.
func namespaceID() (uint64, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	if cookie, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil {
		return cookie, nil
	}
	var st unix.Stat_t // before Linux 5.14; the number of a namespace that has gone may come again
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}
