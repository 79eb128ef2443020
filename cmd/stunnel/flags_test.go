package main

import (
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// sampleApp has flags of all sorts.
func sampleApp() *cli.App {
	app := newApp(io.Discard, io.Discard)
	app.Commands = []*cli.Command{{
		Name:      "go",
		Action:    func(*cli.Context) error { return nil },
		ArgsUsage: "FILE [SECOND]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "fast", Aliases: []string{"f"}},
			&cli.BoolFlag{Name: "xray", Aliases: []string{"x"}},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}},
			&cli.IntFlag{Name: "n"},
		},
	}, {
		Name: "bare",
	}, {
		Name:      "either",
		ArgsUsage: "NAME or FILE",
	}, {
		Name:      "many",
		ArgsUsage: "FILE...",
	}}
	for _, c := range app.Commands {
		adopt(c)
	}
	return app
}

func TestFlagsStandBeforeAndBehindArguments(t *testing.T) {
	for _, test := range []struct{ typed, want string }{
		{"go a", "go -- a"},
		{"go a --fast", "go --fast -- a"},
		{"go --fast a", "go --fast -- a"},
		{"go -fast a", "go --fast -- a"},
		{"go a -f b -x", "go --f --x -- a b"},
		{"go a -fx", "go --f --x -- a"},
		{"go a --out b", "go --out=b -- a"},
		{"go a --out=b", "go --out=b -- a"},
		{"go --out --fast a", "go --out=--fast -- a"},
		{"go a -o b", "go --o=b -- a"},
		{"go a -ob", "go --o=b -- a"},
		{"go a -fxob", "go --f --x --o=b -- a"},
		{"go a -fxo b", "go --f --x --o=b -- a"},
		{"go a -fo=b", "go --f --o=b -- a"},
		{"go a -n5", "go --n=5 -- a"},
		{"go a -n -5", "go --n=-5 -- a"},
		{"go a --fast=false", "go --fast=false -- a"},
		{"go -- --fast", "go -- --fast"},
		{"go a -- -x", "go -- a -x"},
		{"go -", "go -- -"},
		{"go a --help", "go --help"},
		{"go -h --nonsense", "go --help"},
		{"go -- -h", "go -- -h"},
		{"bare", "bare --"},
		{"either a", "either -- a"},
		{"many a b c d", "many -- a b c d"},
		{"help", "--help"},
		{"help go", "go --help"},
		{"help --help", "--help"},
		{"help -h", "--help"},
		{"--help", "--help"},
	} {
		got, err := arrange(sampleApp(), append([]string{"stunnel"}, strings.Fields(test.typed)...))
		if want := "stunnel " + test.want; err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, %v, want %q", test.typed, got, err, want)
		}
	}
}

func TestWrongUsageSaysWhatWouldBeRight(t *testing.T) {
	for _, test := range []struct{ typed, want, hint string }{
		{"", "no command given", "stunnel --help"},
		{"goo", "unknown command goo", "did you mean go?"},
		{"certificate", "unknown command certificate", "stunnel --help lists"},
		{"hlep", "unknown command hlep", "did you mean help?"},
		{"-V", "unknown flag -V before the command", "did you mean --version?"},
		{"go a --fast=maybe", `go: flag --fast takes no value, but got "maybe"`, "stunnel go --help"},
		{"help goo", "unknown command goo", "did you mean go?"},
		{"--fast go", "unknown flag --fast before the command", "behind its name"},
		{"go a --fsat", "go: unknown flag --fsat", "did you mean --fast?"},
		{"go a --fsat=3", "go: unknown flag --fsat", "did you mean --fast?"},
		{"go a -fy", "go: unknown flag -fy", "stunnel go --help"},
		{"go a --out", "go: flag --out needs a value", "stunnel go --help"},
		{"go", "go needs FILE [SECOND]", "stunnel go --help"},
		{"go a b c", `go takes FILE [SECOND], and "c" is one too many`, "stunnel go --help"},
		{"bare a", `bare takes no argument, but got "a"`, "stunnel bare --help"},
		{"either", "either needs NAME or FILE", "stunnel either --help"},
		{"either a b", `either takes NAME or FILE, and "b" is one too many`, ""},
		{"many", "many needs FILE...", ""},
		{"bare aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28=", "bare takes no argument, but got one of 44 characters", ""},
	} {
		_, err := arrange(sampleApp(), append([]string{"stunnel"}, strings.Fields(test.typed)...))
		if err == nil || err.Error() != test.want || exitStatus(err) != exitUsage {
			t.Errorf("%s: got %v, want %s", test.typed, err, test.want)
		} else if got := strings.Join(advice(err), "\n"); !strings.Contains(got, test.hint) {
			t.Errorf("%s: hint %q, want %q", test.typed, got, test.hint)
		}
	}
	if _, err := arrange(sampleApp(), []string{"stunnel", ""}); err == nil || err.Error() != `unknown command ""` {
		t.Errorf("an empty command: %v", err)
	}
	if _, err := arrange(sampleApp(), []string{"stunnel", "go", ""}); err == nil || exitStatus(err) != exitUsage {
		t.Errorf("an empty argument: %v", err)
	}
}

func TestAWrongValueOfAFlagIsWrongUsage(t *testing.T) {
	var errs strings.Builder
	if got := runApp(sampleApp(), []string{"stunnel", "go", "a", "-n", "many"}, &resultWriter{w: io.Discard}, &errs); got != exitUsage {
		t.Errorf("status %d", got)
	}
	if !strings.HasPrefix(errs.String(), "stunnel: error: go: ") || strings.Contains(errs.String(), "Incorrect Usage") {
		t.Errorf("stderr %q", &errs)
	}
}

func TestAnArgumentMayBeCalledAsAFlagOrACommandIs(t *testing.T) {
	for _, word := range []string{"fast", "out", "help", "h", "go", "version", "--fast", "-", "a b"} {
		app := sampleApp()
		var got []string
		app.Commands[0].Action = func(c *cli.Context) error {
			got = c.Args().Slice()
			return nil
		}
		if status := runApp(app, []string{"stunnel", "go", "-f", "--", word, "second"}, &resultWriter{w: io.Discard}, io.Discard); status != exitDone {
			t.Errorf("%s: status %d", word, status)
		}
		if len(got) != 2 || got[0] != word {
			t.Errorf("%s: arguments %q", word, got)
		}
	}
}

// FuzzArrange: whatever is typed becomes a command line for urfave/cli or wrong usage, and never a flag out of what
// stands behind --.
func FuzzArrange(f *testing.F) {
	for _, typed := range []string{"go a -fx", "go -ob -- -x", "go --", "go --=x", "go -=", "go ---", "go -n", "help", "-", "go -f=", "go -é", "bare -\xff"} {
		f.Add(typed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		got, err := arrange(sampleApp(), append([]string{"stunnel"}, strings.Fields(typed)...))
		if err != nil {
			if exitStatus(err) != exitUsage {
				t.Fatalf("%v is no wrong usage", err)
			}
			return
		}
		if len(got) < 2 || got[0] != "stunnel" {
			t.Fatalf("%q", got)
		}
		if status := runApp(sampleApp(), append([]string{"stunnel"}, strings.Fields(typed)...), &resultWriter{w: io.Discard}, io.Discard); status == exitFailed {
			t.Fatalf("%q ended with status 1", typed)
		}
	})
}
