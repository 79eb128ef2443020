package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"stunnel/cmd/internal/conf"
)

func TestAnErrorIsReportedWithWhatToDoAboutIt(t *testing.T) {
	plain := errors.New("no way")
	a := &conf.Error{File: "a.conf", Line: 3, Msg: "wrong", Hint: "right it"}
	b := &conf.Error{File: "a.conf", Line: 7, Msg: "worse"}
	for _, test := range []struct {
		err  error
		want string
	}{
		{plain, "error: no way"},
		{withHint(plain, "turn round"), "error: no way|hint: turn round"},
		{fmt.Errorf("up: %w", withHint(plain, "turn round")), "error: up: no way|hint: turn round"},
		{withHint(withHint(plain, "inner"), "outer"), "error: no way|hint: inner|hint: outer"},
		{errors.Join(a, b), "error: a.conf:3: wrong|hint: right it|error: a.conf:7: worse"},
		{withHint(errors.Join(a, b), "see wg-quick(8)"), "error: a.conf:3: wrong|hint: right it|error: a.conf:7: worse|hint: see wg-quick(8)"},
		{errors.Join(plain, errors.Join(a, b)), "error: no way|error: a.conf:3: wrong|hint: right it|error: a.conf:7: worse"},
		{fmt.Errorf("both: %w: %w", plain, a), "error: both: no way: a.conf:3: wrong|hint: right it"},
		{errors.New("two\nlines"), "error: two|error: lines"},
		{errors.New("red \x1b[31m"), `error: red \x1b[31m`},
		{usageError("no %s", "flag"), "error: no flag"},
	} {
		var b strings.Builder
		report(&b, test.err)
		want := "stunnel: " + strings.ReplaceAll(test.want, "|", "\nstunnel: ") + "\n"
		if b.String() != want {
			t.Errorf("got\n%swant\n%s", &b, want)
		}
	}
}

func TestTheExitStatusTellsWrongUsageFromFailure(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{errors.New("failed"), exitFailed},
		{usageError("wrong"), exitUsage},
		{fmt.Errorf("x: %w", withHint(usageError("wrong"), "hint")), exitUsage},
		{errors.Join(errors.New("a"), usageError("b")), exitUsage},
	} {
		if got := exitStatus(test.err); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
	if withHint(nil, "hint") != nil {
		t.Error("a hint makes an error of nothing")
	}
}
