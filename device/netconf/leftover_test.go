package netconf

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestJournalsAreReadWithoutTouchingThem(t *testing.T) {
	inNamespace(t, func(h host) {
		ours := h.netns
		journals := func() (all []Left) {
			found, err := h.Journals()
			if err != nil {
				t.Error(err)
			}
			for _, left := range found {
				if left.Owner.NetNS == ours { // other tests run at the same time, in the same /run
					all = append(all, left)
				}
			}
			return all
		}
		if all := journals(); len(all) != 0 {
			t.Errorf("without any: %+v", all)
		}
		j := h.NewJournal("tun0")
		for _, s := range []Step{&stubborn{File: "/nowhere/1"}, &stubborn{File: "/nowhere/2"}} {
			if err := j.Do(context.Background(), s); err != nil {
				t.Error(err)
				return
			}
		}
		text, err := os.ReadFile(h.journalPath("tun0"))
		if err != nil {
			t.Error(err)
		}
		look := func(when string, want error) {
			all := journals()
			if len(all) != 1 {
				t.Errorf("%s: %+v", when, all)
				return
			}
			left := all[0]
			if left.Owner.Interface != "tun0" || left.Owner.PID != os.Getpid() || len(left.Steps) != 2 || left.Steps[1].String() != "stubborn /nowhere/2" {
				t.Errorf("%s: %+v", when, left)
			}
			if !errors.Is(left.Err, want) {
				t.Errorf("%s: %v, want %v", when, left.Err, want)
			}
		}
		look("while it is in use", ErrInUse)
		j.Close()
		look("when its process is gone", nil)

		// Another namespace's lies in another directory, and says whose it is.
		elsewhere := h.stateDir() + "-moved"
		if err := errors.Join(os.Mkdir(elsewhere, 0o755), os.Rename(h.journalPath("tun0"), filepath.Join(elsewhere, "tun0"+journalSuffix))); err != nil {
			t.Error(err)
		}
		h.netns++
		look("in another namespace", ErrElsewhere)
		h.netns = ours
		path := filepath.Join(elsewhere, "tun0"+journalSuffix)
		if now, err := os.ReadFile(path); err != nil || string(now) != string(text) {
			t.Errorf("it was changed: %v\n%s\n%s", err, now, text)
		}
		if err := os.WriteFile(path, append(text, "{\"kind\":\"of tomorrow\"}\n"...), 0o600); err != nil {
			t.Error(err)
		}
		if all := journals(); len(all) != 1 || all[0].Err == nil {
			t.Errorf("a step of a newer version: %+v", all)
		}
		os.RemoveAll(elsewhere)
	})
}
