package netconf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Journal is the record of what was changed for one tunnel, in a file of /run/stunnel. Each step is written down before it
// is made, and crossed out after it was taken back: whatever becomes of the process, the next one that opens the journal
// finds what is left. Not safe for concurrent use.
//
// The file is locked (flock(2)) for as long as the process that writes it lives. It has a line of JSON for the tunnel, an
// [Owner], and then one for each step; a line whose first byte is '-' is crossed out.
type Journal struct {
	h     *Handle
	path  string
	owner Owner
	file  *os.File // nil: nothing was written yet, or it is another process's
	end   int64    // of what is in the file
	steps []entry
	taken int                               // by Do, those that were done already too
	fault func(step int, when moment) error // nil but in tests
}

// entry is a step that is in the file.
type entry struct {
	step   Step
	begins int64 // where its line begins
}

// moment is a place in a step's life where tests let it fail.
type moment string

const (
	beforeLook moment = "look"   // nothing has happened
	beforeMake moment = "before" // it is written down
	afterMake  moment = "after"  // it is made
)

// faults, in a build for tests, is the fault of every new journal.
var faults func(step int, when moment) error

// NewJournal is the journal of a tunnel that begins. Nothing is written before the first step. What an earlier tunnel of that
// name may have left must have been undone: see OpenJournal.
func (h *Handle) NewJournal(name string) *Journal {
	return &Journal{h: h, path: h.journalPath(name), owner: h.owner(name), fault: faults}
}

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
	j.taken++
	if err := j.fail(beforeLook); err != nil {
		return err
	}
	done, err := s.Look(j.h)
	if done || err != nil {
		return err
	}
	if err := j.write(s); err != nil {
		return err
	}
	err = j.fail(beforeMake)
	if err == nil {
		err = s.Make(j.h)
	}
	if err == nil {
		err = j.fail(afterMake)
	}
	if err != nil {
		return errors.Join(err, j.undo(len(j.steps)-1))
	}
	return nil
}

func (j *Journal) fail(when moment) error {
	if j.fault == nil {
		return nil
	}
	return j.fault(j.taken, when)
}

// Undo takes all steps back, the last one first, each one even if others failed. Those that failed stay in the journal, for
// another try.
func (j *Journal) Undo() error { return j.UndoBut(func(Step) bool { return false }) }

// UndoBut is Undo for all steps but those that stay.
func (j *Journal) UndoBut(stays func(Step) bool) error {
	var errs []error
	for i := len(j.steps) - 1; i >= 0; i-- {
		if stays(j.steps[i].step) {
			continue
		}
		if err := j.undo(i); err != nil {
			errs = append(errs, err)
		}
	}
	if len(j.steps) == 0 && j.file != nil {
		errs = append(errs, os.Remove(j.path))
		j.Close()
		j.h.leaveStateDir()
	}
	return errors.Join(errs...)
}

// undo takes the step i back and, where that succeeds, crosses it out.
func (j *Journal) undo(i int) error {
	if j.file == nil {
		return fmt.Errorf("journal of %s: %w", j.owner.Interface, ErrInUse)
	}
	if err := j.steps[i].step.Undo(j.h); err != nil {
		return err
	}
	// What can't be crossed out is undone twice some day, which does no harm.
	_, _ = j.file.WriteAt([]byte{crossed}, j.steps[i].begins)
	j.steps = slices.Delete(j.steps, i, i+1)
	return nil
}

// write adds the step's line to the file.
func (j *Journal) write(s Step) error {
	if j.file == nil {
		if err := j.create(); err != nil {
			return fmt.Errorf("a journal must be kept of what is changed: %w", err)
		}
	}
	line, err := stepLine(s)
	if err != nil {
		return err
	}
	if _, err := j.file.WriteAt(line, j.end); err != nil {
		return errors.Join(fmt.Errorf("journal: %w", err), j.file.Truncate(j.end))
	}
	j.steps = append(j.steps, entry{s, j.end})
	j.end += int64(len(line))
	return nil
}

// create makes the file and locks it. A file without an owner in it is left by a process that died right here, or is
// another's that is right here now, and will find that it has lost.
func (j *Journal) create() error {
	var f *os.File
	err := j.h.inStateDir(func() (err error) {
		f, err = lockedFile(j.path, os.O_RDWR|os.O_CREATE)
		return err
	})
	if err != nil {
		return err
	}
	if rest, err := io.ReadAll(f); err != nil || len(rest) > 0 {
		f.Close()
		return errors.Join(fmt.Errorf("%s: %w", j.path, os.ErrExist), err)
	}
	line, err := j.owner.line()
	if err == nil {
		_, err = f.Write(line)
	}
	if err != nil {
		return errors.Join(err, os.Remove(j.path), f.Close())
	}
	j.file, j.end = f, int64(len(line))
	return nil
}

// Close lets go of the journal as it is.
func (j *Journal) Close() {
	if j.file != nil {
		j.file.Close() // nothing that could fail: it was written without a buffer
		j.file = nil
	}
}

// lockedFile opens the file that has this path and no process locks, and locks it. The error wraps EWOULDBLOCK when one does.
func lockedFile(path string, flags int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, flags|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		for {
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
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
			return f, nil
		}
		f.Close() // its last user has removed it since we opened it
	}
}
