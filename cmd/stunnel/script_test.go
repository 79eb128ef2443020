package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test program be stunnel, when it is called by one of these names.
func TestMain(m *testing.M) {
	if slices.Contains(programNames, filepath.Base(os.Args[0])) {
		main()
	}
	os.Exit(m.Run())
}

var programNames = []string{"stunnel", "wireguard-go"}

// TestScripts runs testdata/script: what a user types, and what he gets. Beside testscript's own commands there is
// `status N PROGRAM ARGS`, which wants exit status N.
func TestScripts(t *testing.T) {
	// Not by testscript.Main: its PATH is that of all tests, and some want the real wireguard-go.
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range programNames {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"status": status},
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
			e.Setenv("LC_ALL", "C")
			return os.Chmod(e.WorkDir, 0o700)
		},
	})
}

func status(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM [ARGS]")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("it ended with status %d", got)
	}
}
