package conf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Error is one thing that is wrong with a configuration file.
type Error struct {
	File string // path as given
	Line int    // 0 when it is about the file as a whole
	Msg  string // what is wrong and what would be right
	Hint string // what to do about it; may be empty

	cause error // of the system; may be nil
}

func (e *Error) Error() string { return located(e.File, e.Line, e.Msg) }

// Unwrap gives the system's error if that is what is wrong: fs.ErrPermission, fs.ErrNotExist.
func (e *Error) Unwrap() error { return e.cause }

// Advice returns the hint; the command line prints it behind the error.
func (e *Error) Advice() string { return e.Hint }

func located(file string, line int, msg string) string {
	if line == 0 {
		return file + ": " + msg
	}
	return file + ":" + strconv.Itoa(line) + ": " + msg
}

// faults collects what is wrong and what is odd about one file.
type faults struct {
	path     string
	errs     []*Error
	warnings []*Error
}

func (f *faults) fail(line int, hint, format string, args ...any) {
	f.errs = append(f.errs, &Error{File: f.path, Line: line, Msg: fmt.Sprintf(format, args...), Hint: hint})
}

func (f *faults) warn(line int, format string, args ...any) {
	f.warnings = append(f.warnings, &Error{File: f.path, Line: line, Msg: fmt.Sprintf(format, args...)})
}

func byLine(a, b *Error) int { return cmp.Compare(a.Line, b.Line) }

// err joins the errors in the order of their lines; nil when there is none.
func (f *faults) err() error {
	slices.SortStableFunc(f.errs, byLine)
	all := make([]error, len(f.errs))
	for i, e := range f.errs {
		all[i] = e
	}
	return errors.Join(all...)
}

func (f *faults) warningTexts() (texts []string) {
	slices.SortStableFunc(f.warnings, byLine)
	for _, w := range f.warnings {
		texts = append(texts, w.Error())
	}
	return texts
}

// quote shows a text of the file in an error, unless it is long or could be a secret or a part of one that has
// slipped into the wrong place: then it gives the length only.
func quote(s string) string {
	run := 0
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/' || c == '=' {
			run++
		} else {
			run = 0
		}
		if run >= secretRun {
			return fmt.Sprintf("(%d characters, not shown: they could be a key)", len(s))
		}
	}
	if len(s) > 80 {
		return fmt.Sprintf("(%d characters)", len(s))
	}
	return strconv.Quote(s)
}

// quoteWithBlanks is quote for a text whose blanks do not count: a secret is one also with blanks in it.
func quoteWithBlanks(s string) string {
	if hidden := quote(squeeze(s)); hidden[0] != '"' {
		return hidden
	}
	return quote(s)
}

// secretRun is how many characters of base64 in a row are no longer quoted: more than any known key of the format
// has, and few enough that what is shown of a mangled secret leaves it unknown.
const secretRun = 22
