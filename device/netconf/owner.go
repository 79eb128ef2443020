package netconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf/statedir"
)

// stateRoot has a directory for each network namespace, with the journals of its tunnels and what they share. It does not
// outlive a boot.
const stateRoot = "/run/stunnel"

const journalSuffix = ".journal"

// crossed is the first byte of a line that does not count any more.
const crossed = '-'

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
	ErrInUse     = errors.New("its process is still alive")
)

func (h *Handle) owner(name string) Owner {
	return Owner{Interface: name, PID: os.Getpid(), Boot: statedir.Boot(), NetNS: h.netns}
}

func (o Owner) line() ([]byte, error) {
	line, err := json.Marshal(o)
	return append(line, '\n'), err
}

// stateDir is where this network namespace's journals are, and what tunnels share in it.
func (h *Handle) stateDir() string { return filepath.Join(stateRoot, strconv.FormatUint(h.netns, 16)) }

// inStateDir makes it and calls open, which opens a file there. Who leaves it empty removes it, perhaps between the two.
func (h *Handle) inStateDir(open func() error) (err error) {
	const tries = 100 // each fails only if another process comes and goes in that very moment
	for range tries {
		if err = statedir.Make(stateRoot); err == nil {
			err = statedir.Make(h.stateDir())
		}
		if err == nil {
			err = open()
		}
		// The library's MkdirAll says that the directory is there if it is and then is no more.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return err
}

// leaveStateDir removes it, and stateRoot, if nothing is in there any more.
func (h *Handle) leaveStateDir() {
	_ = unix.Rmdir(h.stateDir()) // refused while a file is there
	_ = unix.Rmdir(stateRoot)
}

// checkStateDir says whether what is there, if anything, is ours.
func (h *Handle) checkStateDir() error {
	for _, dir := range []string{stateRoot, h.stateDir()} {
		if err := statedir.Check(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (h *Handle) journalPath(name string) string {
	return filepath.Join(h.stateDir(), name+journalSuffix)
}

// OpenJournal reads what a tunnel of that name has left, to undo it; until Undo or Close nobody else can open it. ErrNoJournal:
// nothing. ErrInUse: its process lives, and the journal can be read only. ErrElsewhere: there is none here but one in another
// network namespace, of which only the Owner is returned. One of an earlier boot is removed, as nothing of what it tells is
// there any more, and so ErrNoJournal.
func (h *Handle) OpenJournal(name string) (*Journal, error) {
	j := &Journal{h: h, path: h.journalPath(name)}
	if err := h.checkStateDir(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	f, err := lockedFile(j.path, os.O_RDWR)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return h.elsewhere(name)
	case errors.Is(err, unix.EWOULDBLOCK):
		text, err := os.ReadFile(j.path)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if _, err := j.read(text); err != nil {
			return nil, err
		}
		return j, fmt.Errorf("%s: %w", j.path, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("journal: %w", err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), f.Close())
	}
	whole, err := j.read(text)
	switch {
	case err != nil:
		f.Close()
		return nil, err
	case !whole || j.owner.Boot != statedir.Boot():
		err := errors.Join(ErrNoJournal, os.Remove(j.path), f.Close())
		h.leaveStateDir()
		return nil, err
	}
	j.file = f
	return j, nil
}

// UnreadableError is a journal that is not understood.
type UnreadableError struct {
	Path string
	Err  error
}

func (e *UnreadableError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }
func (e *UnreadableError) Unwrap() error { return e.Err }

// Advice says what to do about it.
func (e *UnreadableError) Advice() string {
	return fmt.Sprintf("if a newer stunnel has made it, its `stunnel down` takes back what was changed; else each line of %s says what that is: take it back by hand and remove the file", e.Path)
}

// read takes the journal from its file's text. Not whole: there is no owner in it. The error is an *UnreadableError.
func (j *Journal) read(text []byte) (whole bool, err error) {
	first, rest, whole := bytes.Cut(text, []byte("\n"))
	if !whole {
		return false, nil
	}
	if err := json.Unmarshal(first, &j.owner); err != nil {
		return false, &UnreadableError{j.path, fmt.Errorf("journal: %w", err)}
	}
	j.end = int64(len(first) + 1)
	for {
		var line []byte
		if line, rest, whole = bytes.Cut(rest, []byte("\n")); !whole {
			return true, nil // one that was not written to its end was not made
		}
		if len(line) > 0 && line[0] != crossed {
			s, err := readStep(line)
			if err != nil {
				return true, &UnreadableError{j.path, err}
			}
			j.steps = append(j.steps, entry{s, j.end})
		}
		j.end += int64(len(line) + 1)
	}
}

// Resume makes a journal that another process has left, with the steps in it, this process's own.
func (j *Journal) Resume() error {
	owner := j.h.owner(j.owner.Interface)
	text, err := owner.line()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	steps := slices.Clone(j.steps)
	for i, e := range steps {
		line, err := stepLine(e.step)
		if err != nil {
			return err
		}
		steps[i].begins = int64(len(text))
		text = append(text, line...)
	}
	// It is there as a whole or not at all, and locked from the first moment.
	temporary := j.path + ".new"
	f, err := lockedFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err = f.Write(text); err == nil {
		err = os.Rename(temporary, j.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("journal: %w", err), os.Remove(temporary), f.Close())
	}
	j.Close()
	j.owner, j.file, j.steps, j.end, j.fault = owner, f, steps, int64(len(text)), faults
	return nil
}

// elsewhere looks for a journal of that name in other network namespaces.
func (h *Handle) elsewhere(name string) (*Journal, error) {
	all, _ := filepath.Glob(filepath.Join(stateRoot, "*", "*"+journalSuffix)) // the pattern is right
	for _, path := range all {
		if filepath.Base(path) != name+journalSuffix {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		j := &Journal{h: h, path: path}
		if first, _, whole := bytes.Cut(text, []byte("\n")); whole && json.Unmarshal(first, &j.owner) == nil && j.owner.Boot == statedir.Boot() {
			return j, fmt.Errorf("%s: %w", path, ErrElsewhere)
		}
	}
	return nil, ErrNoJournal
}

// journalLine is how a step stands in the file.
type journalLine struct {
	Kind string          `json:"kind"`
	Step json.RawMessage `json:"step"`
}

func stepLine(s Step) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	line, err := json.Marshal(journalLine{kindOf(s), body})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return append(line, '\n'), nil
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
	var l journalLine
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
