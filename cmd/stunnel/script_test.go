package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestMain lets the test program be stunnel, when it is called by one of these names.
func TestMain(m *testing.M) {
	if slices.Contains(programNames, filepath.Base(os.Args[0])) {
		main()
	}
	os.Exit(m.Run())
}

var programNames = []string{"stunnel", "wireguard-go"}

// TestScripts runs testdata/script: what a user types, and what he gets. The scripts are txtar archives in a part of
// the language of github.com/rogpeppe/go-internal/testscript, see script.line, with one command of our own:
// `status N PROGRAM ARGS` wants exit status N.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, name := range programNames {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{T: t, dir: t.TempDir(), bin: bin}
			if err := os.Chmod(s.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for i, l := range strings.Split(s.unpack(string(text)), "\n") {
				if words := s.words(l); len(words) > 0 {
					s.at = path + ":" + strconv.Itoa(i+1) + ": " + l
					s.line(words)
				}
			}
		})
	}
}

// script is one script while it runs.
type script struct {
	*testing.T
	dir, bin       string
	at             string // the present line, for failures
	stdin          []byte // of the next program only
	stdout, stderr string // of the last program
}

func (s *script) failf(format string, args ...any) {
	s.Helper()
	s.Fatalf("%s\n"+format+"\nstdout:\n%s\nstderr:\n%s", append(append([]any{s.at}, args...), s.stdout, s.stderr)...)
}

var fileHeader = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

// unpack writes the files of the archive, readable to all as most files are, and returns the commands before them.
func (s *script) unpack(archive string) (commands string) {
	marks := fileHeader.FindAllStringSubmatchIndex(archive, -1)
	for i, m := range marks {
		end := len(archive)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		path := filepath.Join(s.dir, archive[m[2]:m[3]])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(archive[m[1]:end]), 0o644); err != nil {
			s.Fatal(err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			s.Fatal(err)
		}
	}
	if len(marks) == 0 {
		return archive
	}
	return archive[:marks[0][0]]
}

// words splits a line at spaces; '...' keeps them, and $WORK is the script's directory.
func (s *script) words(l string) (words []string) {
	word, quoted, any := "", false, false
	for _, r := range l {
		switch {
		case r == '\'':
			quoted, any = !quoted, true
		case r == '#' && !quoted && !any:
			return words
		case r == ' ' && !quoted:
			if any {
				words = append(words, word)
			}
			word, any = "", false
		default:
			word, any = word+string(r), true
		}
	}
	if any {
		words = append(words, word)
	}
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "$WORK", s.dir)
	}
	return words
}

// line obeys one command: [!] exec PROGRAM ARGS, status N PROGRAM ARGS, [!] stdout RE, [!] stderr RE,
// cmp stdout|stderr|FILE FILE, stdin stdout|FILE, cp stdout|FILE FILE, chmod MODE FILE.
func (s *script) line(words []string) {
	negated := words[0] == "!"
	if negated {
		words = words[1:]
	}
	switch args := words[1:]; words[0] {
	case "exec":
		if got := s.exec(args); (got != 0) != negated {
			s.failf("it ended with status %d", got)
		}
	case "status":
		if got := s.exec(args[1:]); strconv.Itoa(got) != args[0] {
			s.failf("it ended with status %d", got)
		}
	case "stdout", "stderr":
		if regexp.MustCompile(`(?m)`+args[0]).MatchString(s.text(words[0])) == negated {
			s.failf("wrong %s", words[0])
		}
	case "cmp":
		if got, want := s.text(args[0]), strings.ReplaceAll(s.text(args[1]), "$WORK", s.dir); got != want {
			s.failf("%s is not\n%s", args[0], want)
		}
	case "stdin":
		s.stdin = []byte(s.text(args[0]))
	case "cp":
		if err := os.WriteFile(filepath.Join(s.dir, args[1]), []byte(s.text(args[0])), 0o600); err != nil {
			s.failf("%v", err)
		}
	case "chmod":
		mode, err := strconv.ParseUint(args[0], 8, 32)
		if err == nil {
			err = os.Chmod(filepath.Join(s.dir, args[1]), os.FileMode(mode))
		}
		if err != nil {
			s.failf("%v", err)
		}
	default:
		s.failf("unknown command")
	}
}

func (s *script) text(name string) string {
	switch name {
	case "stdout":
		return s.stdout
	case "stderr":
		return s.stderr
	}
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.failf("%v", err)
	}
	return string(text)
}

// exec runs a program in the script's directory and returns its exit status.
func (s *script) exec(args []string) int {
	if slices.Contains(programNames, args[0]) {
		args = append([]string{filepath.Join(s.bin, args[0])}, args[1:]...)
	} else if _, err := exec.LookPath(args[0]); err != nil {
		s.Skipf("%s is not installed: apt-get install wireguard-tools (wg) or util-linux", args[0])
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(s.Context(), args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+s.bin+":"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(s.stdin), &stdout, &stderr
	err := cmd.Run()
	s.stdin, s.stdout, s.stderr = nil, stdout.String(), stderr.String()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.failf("%v", err)
	}
	return cmd.ProcessState.ExitCode()
}
