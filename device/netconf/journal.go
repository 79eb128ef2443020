package netconf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"
)

// stateDir is where journals are, and what tunnels share. It does not outlive a boot.
const stateDir = "/run/stunnel"

// Journal is the record of what was changed for one tunnel, in a file of /run/stunnel. Each step is written down before it
// is made, and crossed out after it was taken back: whatever becomes of the process, the next one that opens the journal
// finds what is left. Not safe for concurrent use.
//
// The file has a line of JSON for the tunnel, an [Owner], and then one for each step.
type Journal struct {
	h     *Handle
	path  string
	owner Owner
	file  *os.File // nil: nothing was written yet
	steps []entry
}

// entry is a step that is in the file.
type entry struct {
	step   Step
	begins int64 // where its line begins
}

// Owner says whose journal it is.
type Owner struct {
	Interface string `json:"interface"`
	PID       int    `json:"pid"`
	Boot      string `json:"boot"`  // /proc/sys/kernel/random/boot_id
	NetNS     uint64 `json:"netns"` // SO_NETNS_COOKIE, unique until the next boot; or the inode of the namespace
}

// Errors of OpenJournal.
var (
	ErrNoJournal = errors.New("there is no journal")
	ErrElsewhere = errors.New("it belongs to another network namespace")
)

// NewJournal is the journal of a tunnel that begins. Nothing is written before the first step. Left is what an earlier
// tunnel of that name may have left: see OpenJournal; it must have been undone.
func (h *Handle) NewJournal(name string) *Journal {
	return &Journal{h: h, path: journalPath(name), owner: Owner{Interface: name, PID: os.Getpid(), Boot: bootID(), NetNS: h.netns}}
}

// OpenJournal reads what a tunnel of that name has left, to undo it. ErrNoJournal: nothing. ErrElsewhere: it was not
// here. One of an earlier boot is removed, as nothing of what it tells is there any more, and so ErrNoJournal.
func (h *Handle) OpenJournal(name string) (*Journal, error) {
	path := journalPath(name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoJournal
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{h: h, path: path}
	first, rest, whole := bytes.Cut(text, []byte("\n"))
	if !whole || json.Unmarshal(first, &j.owner) != nil || j.owner.Boot != bootID() {
		return nil, errors.Join(ErrNoJournal, os.Remove(path))
	}
	if j.owner.NetNS != h.netns {
		return j, fmt.Errorf("%s: %w", path, ErrElsewhere)
	}
	at := int64(len(first) + 1)
	for {
		var line []byte
		if line, rest, whole = bytes.Cut(rest, []byte("\n")); !whole {
			break // one that was not written to its end was not made
		}
		s, err := readStep(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		j.steps = append(j.steps, entry{s, at})
		at += int64(len(line) + 1)
	}
	j.file, err = os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	return j, err
}

func journalPath(name string) string { return filepath.Join(stateDir, name+".journal") }

// Owner says whose journal it is.
func (j *Journal) Owner() Owner { return j.owner }

// Steps are those that were made and not taken back, in their order.
func (j *Journal) Steps() (all []Step) {
	for _, e := range j.steps {
		all = append(all, e.step)
	}
	return all
}

// Do takes a step, unless ctx has ended. When it fails it has been taken back.
func (j *Journal) Do(ctx context.Context, s Step) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done, err := s.Look(j.h)
	if done || err != nil {
		return err
	}
	if err := j.write(s); err != nil {
		return err
	}
	if err := s.Make(j.h); err != nil {
		return errors.Join(err, j.undoLast())
	}
	return nil
}

// Undo takes all steps back, the last one first, each one even if others failed. Those that failed stay in the journal, for
// another try.
func (j *Journal) Undo() error {
	var errs []error
	var failed []Step
	for len(j.steps) > 0 {
		last := j.steps[len(j.steps)-1].step
		if err := j.undoLast(); err != nil {
			errs = append(errs, err)
			failed = append(failed, last)
			j.cross()
		}
	}
	for i := len(failed) - 1; i >= 0; i-- {
		errs = append(errs, j.write(failed[i]))
	}
	if len(failed) == 0 && j.file != nil {
		errs = append(errs, os.Remove(j.path), j.file.Close())
		j.file = nil
	}
	return errors.Join(errs...)
}

// undoLast takes the last step back and, where that succeeds, crosses it out.
func (j *Journal) undoLast() error {
	if err := j.steps[len(j.steps)-1].step.Undo(j.h); err != nil {
		return err
	}
	j.cross()
	return nil
}

// cross takes the last step's line off. What can't be crossed out is undone twice some day, which does no harm.
func (j *Journal) cross() {
	last := j.steps[len(j.steps)-1]
	j.steps = j.steps[:len(j.steps)-1]
	_ = j.file.Truncate(last.begins)
}

// write adds the step's line to the file.
func (j *Journal) write(s Step) error {
	if j.file == nil {
		if err := j.create(); err != nil {
			return fmt.Errorf("a journal must be kept of what is changed: %w", err)
		}
	}
	begins, err := j.file.Seek(0, 2)
	if err != nil {
		return err
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	line, err := json.Marshal(stepLine{kindOf(s), body})
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return errors.Join(err, j.file.Truncate(begins))
	}
	j.steps = append(j.steps, entry{s, begins})
	return nil
}

func (j *Journal) create() error {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	line, err := json.Marshal(j.owner)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err != nil {
		return errors.Join(err, os.Remove(j.path), f.Close())
	}
	j.file = f
	return nil
}

// stepLine is how a step stands in the file.
type stepLine struct {
	Kind string          `json:"kind"`
	Step json.RawMessage `json:"step"`
}

func kindOf(s Step) string {
	for kind, make := range kinds {
		if reflect.TypeOf(make()) == reflect.TypeOf(s) {
			return kind
		}
	}
	panic(fmt.Sprintf("netconf: %T is not among the kinds of steps", s))
}

func readStep(line []byte) (Step, error) {
	var l stepLine
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	make, known := kinds[l.Kind]
	if !known {
		return nil, fmt.Errorf("journal: a step of a kind %q, which this version does not know", l.Kind)
	}
	s := make()
	if err := json.Unmarshal(l.Step, s); err != nil {
		return nil, fmt.Errorf("journal: %s: %w", l.Kind, err)
	}
	return s, nil
}

func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // "" is as good, where there is none
	return strings.TrimSpace(string(id))
}
