package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"stunnel/cmd/internal/control"
	"stunnel/device/netconf"
)

// downLeft takes back what a process has left that was killed. done: there was something.
func downLeft(stderr io.Writer, name string) (done bool, err error) {
	h, err := netconf.New()
	if err != nil {
		return false, err
	}
	defer h.Close()
	left, err := h.OpenJournal(name)
	switch {
	case errors.Is(err, netconf.ErrNoJournal):
		return removeDeadSocket(stderr, name)
	case errors.Is(err, netconf.ErrElsewhere):
		return false, elsewhereHint(left, err)
	case errors.Is(err, netconf.ErrInUse):
		return false, endingHint(left, err)
	case err != nil:
		return false, openHint(err, "stunnel down "+name)
	}
	defer left.Close()
	// Until it is done no other one comes up. This replaces the dead one's socket too.
	l, err := control.Listen(name)
	if err != nil {
		return false, openHint(err, "stunnel down "+name)
	}
	defer l.Close()
	steps := left.Steps()
	fmt.Fprintf(stderr, "stunnel: %s was not running: its process %d has ended, and has left\n", name, left.Owner().PID)
	for i := len(steps) - 1; i >= 0; i-- {
		fmt.Fprintf(stderr, "stunnel:   %s\n", printable(steps[i].String()))
	}
	err = left.Undo()
	for _, note := range h.Notes() {
		fmt.Fprintf(stderr, "stunnel: %s\n", printable(note))
	}
	if err != nil {
		return true, withHint(fmt.Errorf("not all of it could be taken back: %w", err), "stunnel down "+name+" tries the rest again")
	}
	fmt.Fprintf(stderr, "stunnel: that is taken back, and %s is down; commands of PreDown and PostDown were not run\n", name)
	return true, nil
}

// notTakenBack says what a process that has just ended could not take back.
func notTakenBack(name string) error {
	h, err := netconf.New()
	if err != nil {
		return err
	}
	defer h.Close()
	left, err := h.OpenJournal(name)
	switch {
	case errors.Is(err, netconf.ErrNoJournal), errors.Is(err, netconf.ErrElsewhere):
		return nil
	case errors.Is(err, netconf.ErrInUse): // by the next one, whose concern it is
		return nil
	case err != nil:
		return err
	}
	defer left.Close()
	var errs []error
	for _, s := range left.Steps() {
		errs = append(errs, fmt.Errorf("%s was not taken back: %s", name, s))
	}
	return withHint(errors.Join(errs...), "the tunnel's log says why; stunnel down "+name+" tries again")
}

// removeDeadSocket removes the control socket of a process that was killed before it changed anything, or had nothing to change.
func removeDeadSocket(stderr io.Writer, name string) (done bool, err error) {
	if _, err := os.Lstat(filepath.Join(control.Dir, name+".sock")); err != nil {
		return false, nil // to be said by who looks for a tunnel
	}
	l, err := control.Listen(name)
	if err != nil {
		return false, openHint(err, "stunnel down "+name)
	}
	fmt.Fprintf(stderr, "stunnel: %s was not running: its process was killed, and has left nothing but its control socket, which is removed\n", name)
	return true, l.Close()
}

// elsewhereHint is for a journal of another network namespace.
func elsewhereHint(j *netconf.Journal, err error) error {
	return withHint(fmt.Errorf("%s is not running, and what it has left is not here: %w", j.Owner().Interface, err),
		fmt.Sprintf("run stunnel down there; if that namespace (cookie %d) is gone, so is all that was in it", j.Owner().NetNS))
}

// endingHint is for a journal whose process lives, though it has no control socket any more.
func endingHint(j *netconf.Journal, err error) error {
	return withHint(fmt.Errorf("%s is just ending%s, or beginning: %w", j.Owner().Interface, programOf(j.Owner().PID), err), "try again in a moment")
}
