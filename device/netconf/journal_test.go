package netconf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stunnel/device/netconf/statedir"
)

// stubborn is a step whose Undo fails for as long as its file of /run is there.
type stubborn struct{ File string }

func init() { kinds["stubborn"] = func() Step { return new(stubborn) } }

func (s *stubborn) String() string             { return "stubborn " + s.File }
func (s *stubborn) Look(*Handle) (bool, error) { return false, nil }
func (s *stubborn) Make(*Handle) error         { return nil }
func (s *stubborn) Undo(*Handle) error {
	if _, err := os.Stat(s.File); err == nil {
		return fmt.Errorf("%s is there", s.File)
	}
	return nil
}

// doAll takes steps until one fails.
func doAll(j *Journal, steps []Step) error {
	for _, s := range steps {
		if err := j.Do(context.Background(), s); err != nil {
			return err
		}
	}
	return nil
}

// sameAs checks that the host is as it was, and that no journal is left.
func (h host) sameAs(before, when string) {
	h.t.Helper()
	if after := h.state(); after != before {
		h.t.Errorf("%s: there is\n%s\nwhere there was\n%s", when, after, before)
	}
	if _, err := os.Stat(h.journalPath("tun0")); !errors.Is(err, os.ErrNotExist) {
		h.t.Errorf("%s: the journal is still there (%v)", when, err)
	}
}

func TestAFaultAtAnyMomentOfAnyStepLeavesNothing(t *testing.T) {
	broken := errors.New("broken")
	injected := 0
	for step := range len(steps()) {
		for _, when := range []moment{beforeLook, beforeMake, afterMake} {
			inNamespace(t, func(h host) {
				before := h.state()
				j := h.NewJournal("tun0")
				j.fault = func(n int, at moment) error {
					if n == step+1 && at == when {
						injected++
						return broken
					}
					return nil
				}
				if err := doAll(j, steps()); !errors.Is(err, broken) {
					t.Errorf("step %d, %s: error %v", step+1, when, err)
				}
				if got := len(j.Steps()); got != step {
					t.Errorf("step %d, %s: %d steps are in the journal", step+1, when, got)
				}
				if err := j.Undo(); err != nil {
					t.Error(err)
				}
				h.sameAs(before, fmt.Sprintf("step %d, %s", step+1, when))
			})
		}
	}
	if want := 3 * len(steps()); injected != want && os.Geteuid() == 0 {
		t.Errorf("%d faults, want %d", injected, want)
	}
}

func TestWhatAKilledProcessHasLeftIsTakenBackByAnother(t *testing.T) {
	for step := range len(steps()) {
		for _, when := range []moment{beforeMake, afterMake} {
			inNamespace(t, func(h host) {
				before := h.state()
				j := h.NewJournal("tun0")
				died := errors.New("died")
				j.fault = func(n int, at moment) error {
					if n == step+1 && at == when {
						j.Close() // the kernel lets go of the lock, and nothing else happens any more
						return died
					}
					return nil
				}
				if err := doAll(j, steps()); !errors.Is(err, died) {
					t.Error(err)
				}
				left, err := h.OpenJournal("tun0")
				if err != nil {
					t.Error(err)
					return
				}
				if got := len(left.Steps()); got != step+1 {
					t.Errorf("step %d, %s: %d steps are left", step+1, when, got)
				}
				if left.Owner().PID != os.Getpid() || left.Owner().Interface != "tun0" {
					t.Errorf("owner %+v", left.Owner())
				}
				if err := left.Undo(); err != nil {
					t.Error(err)
				}
				h.sameAs(before, fmt.Sprintf("killed at step %d, %s", step+1, when))
			})
		}
	}
}

func TestTheJournalOfALivingProcessIsOnlyRead(t *testing.T) {
	inNamespace(t, func(h host) {
		j := h.NewJournal("tun0")
		if err := doAll(j, steps()); err != nil {
			t.Error(err)
		}
		state := h.state()
		seen, err := h.OpenJournal("tun0")
		if !errors.Is(err, ErrInUse) || len(seen.Steps()) != len(steps()) {
			t.Errorf("%v", err)
			return
		}
		if err := seen.Undo(); !errors.Is(err, ErrInUse) {
			t.Errorf("undo: %v", err)
		}
		if err := doAll(h.NewJournal("tun0"), []Step{tunMTU(1333)}); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("a second journal: %v", err)
		}
		if after := h.state(); after != state {
			t.Errorf("it was touched:\n%s\nbefore\n%s", after, state)
		}
		if err := j.Undo(); err != nil {
			t.Error(err)
		}
	})
}

func TestAJournalOfAnotherNamespaceIsNotUndoneHere(t *testing.T) {
	inNamespace(t, func(h host) {
		j := h.NewJournal("tun0")
		if err := doAll(j, steps()); err != nil {
			t.Error(err)
		}
		j.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		other, err := New()
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close()
		seen, err := other.OpenJournal("tun0")
		if !errors.Is(err, ErrElsewhere) || seen.Owner().NetNS != h.netns || h.netns == other.netns {
			t.Errorf("%v, %+v", err, seen)
		}
		if _, err := other.OpenJournal("tun1"); !errors.Is(err, ErrNoJournal) {
			t.Errorf("one that nobody has: %v", err)
		}
		left, err := h.OpenJournal("tun0") // this handle is still there
		if err != nil {
			t.Error(err)
			return
		}
		if err := left.Undo(); err != nil {
			t.Error(err)
		}
	})
}

func TestAJournalThatTellsOfNothingIsRemoved(t *testing.T) {
	for name, text := range map[string]string{
		"an earlier boot": `{"interface":"tun0","pid":1,"boot":"other","netns":%d}` + "\n" + `{"kind":"mtu","step":{"Index":2,"Bytes":1500,"Before":1300}}` + "\n",
		"empty":           "",
		"torn":            `{"interface":"tun0","pid":1`,
	} {
		inNamespace(t, func(h host) {
			if strings.Contains(text, "%d") {
				text = fmt.Sprintf(text, h.netns)
			}
			before := h.state()
			h.journalHas(text)
			if _, err := h.OpenJournal("tun0"); !errors.Is(err, ErrNoJournal) {
				t.Errorf("%s: %v", name, err)
			}
			h.sameAs(before, name)
		})
	}
}

// journalHas writes the journal of tun0.
func (h host) journalHas(text string) {
	h.t.Helper()
	h.must(nil, os.MkdirAll(h.stateDir(), 0o755))
	h.must(nil, os.WriteFile(h.journalPath("tun0"), []byte(text), 0o600))
}

func TestAnEmptyJournalIsNotInTheWay(t *testing.T) {
	inNamespace(t, func(h host) {
		before := h.state()
		h.journalHas("")
		j := h.NewJournal("tun0")
		if err := doAll(j, steps()); err != nil {
			t.Error(err)
		}
		if err := j.Undo(); err != nil {
			t.Error(err)
		}
		h.sameAs(before, "after all")
	})
}

func TestALineThatWasNotWrittenToItsEndWasNotMade(t *testing.T) {
	inNamespace(t, func(h host) {
		before := h.state()
		j := h.NewJournal("tun0")
		if err := doAll(j, steps()[:2]); err != nil {
			t.Error(err)
		}
		j.Close()
		text, err := os.ReadFile(h.journalPath("tun0"))
		if err != nil {
			t.Error(err)
		}
		h.journalHas(string(text) + `{"kind":"mtu","step":{"In`)
		left, err := h.OpenJournal("tun0")
		if err != nil || len(left.Steps()) != 2 {
			t.Errorf("%v", err)
			return
		}
		if err := left.Undo(); err != nil {
			t.Error(err)
		}
		h.sameAs(before, "after all")
	})
}

func TestAStepThatThisVersionDoesNotKnowIsSaid(t *testing.T) {
	inNamespace(t, func(h host) {
		line, _ := h.owner("tun0").line()
		for _, step := range []string{`{"kind":"magic","step":{}}`, `{"kind":"mtu","step":7}`, `nonsense`} {
			h.journalHas(string(line) + step + "\n")
			if _, err := h.OpenJournal("tun0"); err == nil || errors.Is(err, ErrNoJournal) || !strings.Contains(err.Error(), h.journalPath("tun0")) {
				t.Errorf("%s: %v", step, err)
			}
			if _, err := os.Stat(h.journalPath("tun0")); err != nil {
				t.Errorf("%s: %v", step, err)
			}
		}
	})
}

func TestAJournalWhoseFirstLineIsNotUnderstoodIsKept(t *testing.T) {
	inNamespace(t, func(h host) {
		h.journalHas("nonsense\n" + `{"kind":"mtu","step":{"Index":2,"Bytes":1500,"Before":1300}}` + "\n")
		_, err := h.OpenJournal("tun0")
		unreadable := (*UnreadableError)(nil)
		if !errors.As(err, &unreadable) || unreadable.Path != h.journalPath("tun0") {
			t.Errorf("%v", err)
		}
		all, err := h.Journals()
		if err != nil || len(all) != 1 || all[0].Owner.Interface != "tun0" || !errors.As(all[0].Err, &unreadable) {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

func TestStateThatOthersCanWriteIsNotBelieved(t *testing.T) {
	for name, spoil := range map[string]func(h host) error{
		"another user's": func(h host) error { return os.Chown(stateRoot, 65534, 65534) },
		"for all":        func(h host) error { return os.Chmod(stateRoot, 0o777) },
		"one namespace":  func(h host) error { return os.Chown(h.stateDir(), 65534, 65534) },
	} {
		inNamespace(t, func(h host) {
			before := h.state()
			line, _ := h.owner("tun0").line()
			h.journalHas(string(line) + `{"kind":"sysctl","step":{"Key":"net/ipv4/conf/all/src_valid_mark","Value":"0","For":"tun0"}}` + "\n")
			h.must(nil, spoil(h))
			untrusted := (*statedir.UntrustedError)(nil)
			if _, err := h.OpenJournal("tun0"); !errors.As(err, &untrusted) {
				t.Errorf("%s: its journal is read: %v", name, err)
			}
			if err := doAll(h.NewJournal("tun1"), steps()); !errors.As(err, &untrusted) {
				t.Errorf("%s: a journal is kept there: %v", name, err)
			}
			if err := h.changeClaim("thing", func(*claim) error { return nil }); !errors.As(err, &untrusted) {
				t.Errorf("%s: a claim is kept there: %v", name, err)
			}
			if after := h.state(); after != before {
				t.Errorf("%s: there is\n%s\nwhere there was\n%s", name, after, before)
			}
		})
	}
}

func TestWhatCannotBeTakenBackStaysInTheJournal(t *testing.T) {
	inNamespace(t, func(h host) {
		before := h.state()
		obstacle := stateRoot + "-obstacle"
		h.must(nil, os.WriteFile(obstacle, nil, 0o600))
		j := h.NewJournal("tun0")
		if err := doAll(j, []Step{steps()[0], &stubborn{obstacle}, steps()[1]}); err != nil {
			t.Error(err)
		}
		if err := j.Undo(); err == nil || !strings.Contains(err.Error(), obstacle) {
			t.Errorf("error %v", err)
		}
		if after := h.state(); after != before {
			t.Errorf("the others were not taken back:\n%s", after)
		}
		j.Close()
		left, err := h.OpenJournal("tun0")
		if err != nil || len(left.Steps()) != 1 {
			t.Errorf("%v", err)
			return
		}
		h.must(nil, os.Remove(obstacle))
		if err := left.Undo(); err != nil {
			t.Error(err)
		}
		h.sameAs(before, "after the second try")
	})
}

func TestAJournalWhoseStepsAreDoneAlreadyWritesNothing(t *testing.T) {
	inNamespace(t, func(h host) {
		for _, s := range linkSteps() {
			h.took(s)
		}
		before := h.state()
		h.must(nil, os.WriteFile(stateRoot, nil, 0o600)) // where nothing can be written
		j := h.NewJournal("tun0")
		if err := doAll(j, linkSteps()); err != nil {
			t.Error(err)
		}
		if err := j.Undo(); err != nil {
			t.Error(err)
		}
		if after := h.state(); after != before {
			t.Errorf("what was there before was taken away:\n%s\nbefore\n%s", after, before)
		}
		if err := doAll(j, []Step{tunMTU(1333)}); err == nil || !strings.Contains(err.Error(), "a journal must be kept") {
			t.Errorf("a change without a journal: %v", err)
		}
		if after := h.state(); after != before {
			t.Errorf("a change without a journal:\n%s\nbefore\n%s", after, before)
		}
	})
}

func TestNoStepIsTakenAfterTheEnd(t *testing.T) {
	inNamespace(t, func(h host) {
		before := h.state()
		over := errors.New("over")
		ctx, end := context.WithCancelCause(context.Background())
		end(over)
		if err := h.NewJournal("tun0").Do(ctx, steps()[0]); !errors.Is(err, over) {
			t.Errorf("error %v", err)
		}
		h.sameAs(before, "after the end")
	})
}

func TestEveryStepReadsBackFromTheJournalAsItWas(t *testing.T) {
	seen := map[string]bool{"stubborn": true, "passage": true} // the latter, which needs rules of others, in tests of its own
	for _, s := range steps() {
		seen[kindOf(s)] = true
	}
	for kind := range kinds {
		if !seen[kind] {
			t.Errorf("no step of kind %q is tried in these tests", kind)
		}
	}
	inNamespace(t, func(h host) {
		for _, s := range steps() {
			if _, err := s.Look(h.Handle); err != nil {
				t.Error(err)
			}
			line, err := stepLine(s)
			if err != nil {
				t.Error(err)
				continue
			}
			got, err := readStep(line)
			if r, isRoutes := s.(*Routes); isRoutes {
				r.Prefixes = nil // what was asked for is of no interest to who undoes what was done
			}
			if err != nil || !reflect.DeepEqual(got, s) {
				t.Errorf("%#v\ncomes back as\n%#v\n%v", s, got, err)
			}
		}
	})
}

func TestAJournalIsGoneOnWithByAnotherProcess(t *testing.T) {
	inNamespace(t, func(h host) {
		before := h.state()
		stays := func(s Step) bool { _, is := s.(*Address); return is }
		j := h.NewJournal("tun0")
		h.must(nil, doAll(j, steps()))
		addresses := 0
		for _, s := range steps() {
			if stays(s) {
				addresses++
			}
		}
		j.owner.PID-- // it was another's
		line, err := j.owner.line()
		h.must(nil, err)
		_, err = j.file.WriteAt(line, 0)
		h.must(nil, err)
		j.Close()

		left, err := h.OpenJournal("tun0")
		h.must(nil, err)
		h.must(nil, left.UndoBut(stays))
		if got := len(left.Steps()); got != addresses {
			t.Errorf("%d steps stay, want %d", got, addresses)
		}
		h.must(nil, left.Resume())
		if _, err := h.OpenJournal("tun0"); !errors.Is(err, ErrInUse) {
			t.Errorf("while it is gone on with, another process gets %v, want %v", err, ErrInUse)
		}
		h.must(nil, left.Do(context.Background(), sysctlFor("tun0")))
		left.Close() // killed too

		again, err := h.OpenJournal("tun0")
		h.must(nil, err)
		if again.Owner().PID != os.Getpid() {
			t.Errorf("it belongs to %d, want %d", again.Owner().PID, os.Getpid())
		}
		if got := len(again.Steps()); got != addresses+1 {
			t.Errorf("%d steps are left, want %d", got, addresses+1)
		}
		h.must(nil, again.Undo())
		h.sameAs(before, "after the last")
		if files, _ := os.ReadDir(h.stateDir()); len(files) > 0 {
			t.Errorf("files are left: %v", files)
		}
	})
}

func TestTheDirectoryGoesWithItsLastUser(t *testing.T) {
	inNamespace(t, func(h host) {
		j := h.NewJournal("tun0")
		h.must(nil, doAll(j, []Step{&stubborn{"/none"}}))
		come := func() error {
			if _, err := h.claim("thing", "tun0", func() (string, error) { return "", nil }); err != nil {
				return err
			}
			return h.release("thing", "tun0", func(string) error { return nil })
		}
		h.must(nil, come())
		if _, err := os.Stat(h.stateDir()); err != nil {
			t.Errorf("with a journal in it: %v", err)
		}
		h.must(nil, j.Undo())
		if _, err := os.Stat(h.stateDir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after all: %v", err)
		}
		// Who comes while another one goes gets a directory all the same.
		var all errgroup.Group
		for range 8 {
			all.Go(func() error {
				for range 50 {
					if err := come(); err != nil {
						return err
					}
				}
				return nil
			})
		}
		h.must(nil, all.Wait())
	})
}
