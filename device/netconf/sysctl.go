package netconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Sysctl sets a value below /proc/sys, for as long as at least one tunnel needs it.
type Sysctl struct {
	Key   string // with '/': net/ipv4/conf/all/src_valid_mark
	Value string
	For   string // the interface that needs it
}

func (s *Sysctl) String() string {
	return fmt.Sprintf("sysctl %s = %s", strings.ReplaceAll(s.Key, "/", "."), s.Value)
}

func (s *Sysctl) path() string { return filepath.Join("/proc/sys", s.Key) }

// thing is the name under which it is shared.
func (s *Sysctl) thing() string { return "sysctl." + strings.ReplaceAll(s.Key, "/", ".") }

func (s *Sysctl) read() (string, error) {
	text, err := os.ReadFile(s.path())
	return strings.TrimSpace(string(text)), err
}

func (s *Sysctl) set(value string) error {
	err := os.WriteFile(s.path(), []byte(value), 0)
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s can't be set to %s (a container may have to be started with it): %w", strings.ReplaceAll(s.Key, "/", "."), value, err)
	}
	return err
}

// Look is done only where the value is right and nobody of us has set it: else it is shared.
func (s *Sysctl) Look(h *Handle) (done bool, err error) {
	now, err := s.read()
	if err != nil {
		return false, err
	}
	shared, err := h.claimed(s.thing())
	return now == s.Value && !shared, err
}

func (s *Sysctl) Make(h *Handle) error {
	if _, err := h.claim(s.thing(), s.For, s.read); err != nil {
		return err
	}
	return s.set(s.Value)
}

// Undo brings back what was there before the first of us, if it is still ours.
func (s *Sysctl) Undo(h *Handle) error {
	return h.release(s.thing(), s.For, func(original string) error {
		now, err := s.read()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || now != s.Value {
			return err
		}
		return s.set(original)
	})
}

// StrictReversePath says whether the kernel drops, on any interface, IPv4 packets that come from where it would not send the
// answer (rp_filter = 1).
func (h *Handle) StrictReversePath() bool {
	files, _ := filepath.Glob("/proc/sys/net/ipv4/conf/*/rp_filter") // the pattern is right
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == "1" {
			return true
		}
	}
	return false
}
