package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The exit statuses, all of them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// hinted is an error together with what to do about it.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string  { return h.err.Error() }
func (h *hinted) Unwrap() error  { return h.err }
func (h *hinted) Advice() string { return h.hint }

// withHint adds to err a line that says what to do, which is printed behind the error as `stunnel: hint: ...`.
// A nil error stays nil.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// usage marks an error of the one who typed the command line: exit status 2.
type usage struct{ err error }

func (u *usage) Error() string { return u.err.Error() }
func (u *usage) Unwrap() error { return u.err }

// usageError makes an error that ends the program with status 2. It may be wrapped further.
func usageError(format string, args ...any) error {
	return &usage{fmt.Errorf(format, args...)}
}

func exitStatus(err error) int {
	var u *usage
	if errors.As(err, &u) {
		return exitUsage
	}
	return exitFailed
}

// report writes err as `stunnel: error: ...`, with each piece of advice it carries (withHint's, or that of a fault in
// a configuration file) as `stunnel: hint: ...` behind it. Joined errors get a line each.
func report(stderr io.Writer, err error) {
	switch e := err.(type) {
	case *usage:
		report(stderr, e.err)
		return
	case *hinted:
		report(stderr, e.err)
		printHint(stderr, e.hint)
		return
	}
	if parts := joined(err); parts != nil {
		for _, part := range parts {
			report(stderr, part)
		}
		return
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "stunnel: error: %s\n", printable(strings.TrimRight(line, "\n")))
	}
	for _, hint := range advice(err) {
		printHint(stderr, hint)
	}
}

// warn writes what does not stop a command but ought to be known.
func warn(stderr io.Writer, format string, args ...any) {
	fmt.Fprintf(stderr, "stunnel: warning: %s\n", printable(fmt.Sprintf(format, args...)))
}

func printHint(stderr io.Writer, hint string) {
	if hint != "" {
		fmt.Fprintf(stderr, "stunnel: hint: %s\n", printable(hint))
	}
}

// joined returns the parts of an error that errors.Join made, and nil for every other, also for that of a
// fmt.Errorf with several %w, whose text is more than its parts.
func joined(err error) []error {
	j, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var texts []string
	for _, part := range j.Unwrap() {
		texts = append(texts, part.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return nil
	}
	return j.Unwrap()
}

// advice collects what err and the errors that it wraps advise, outermost first.
func advice(err error) (hints []string) {
	if a, ok := err.(interface{ Advice() string }); ok && a.Advice() != "" {
		hints = append(hints, a.Advice())
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			hints = append(hints, advice(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			hints = append(hints, advice(inner)...)
		}
	}
	return hints
}

// printable escapes control characters: file names and the like come from outside, and stderr may be a terminal.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
