package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestHelpOfEachCommandHasAnExample(t *testing.T) {
	for _, c := range newApp(io.Discard, io.Discard).Commands {
		var out, errs bytes.Buffer
		if got := run([]string{"stunnel", c.Name, "--help"}, &out, &errs); got != exitDone || errs.Len() > 0 {
			t.Errorf("%s: status %d, stderr %q", c.Name, got, &errs)
		}
		_, example, found := strings.Cut(out.String(), "Example:\n")
		if !found || !strings.Contains(example, "stunnel "+c.Name) {
			t.Errorf("%s: no example in\n%s", c.Name, &out)
		}
	}
}

func TestAResultThatCannotBeWrittenIsAFailure(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("this test needs /dev/full: %v", err)
	}
	defer full.Close()
	for _, command := range []string{"version", "genkey", "--help"} {
		var errs bytes.Buffer
		if got := run([]string{"stunnel", command}, full, &errs); got != exitFailed || !strings.HasPrefix(errs.String(), "stunnel: error: ") {
			t.Errorf("%s: status %d, stderr %q", command, got, &errs)
		}
	}
}

func TestAPanicDoesNotReachTheUser(t *testing.T) {
	t.Setenv("STUNNEL_TRACE", "")
	var errs bytes.Buffer
	app := newApp(io.Discard, &errs)
	app.Commands = []*cli.Command{{Name: "fall", Action: func(*cli.Context) error { panic("fell") }}}
	if got := runApp(app, []string{"stunnel", "fall"}, &resultWriter{w: io.Discard}, &errs); got != exitFailed {
		t.Errorf("status %d", got)
	}
	if got := errs.String(); !strings.HasPrefix(got, "stunnel: error: internal error: fell\nstunnel: hint: ") || strings.Contains(got, "goroutine") {
		t.Errorf("stderr %q", got)
	}
}

func TestALinkNamedWireguardGoIsUserspace(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"stunnel up x", "stunnel up x"},
		{"/usr/bin/wireguard-go wg0", "stunnel userspace wg0"},
		{"./my-wireguard-go -f wg0", "stunnel userspace -f wg0"},
		{"wireguard-go", "stunnel userspace"},
		{"wireguard-go --version", "stunnel version"},
		{"wireguard-gopher x", "wireguard-gopher x"},
		{"", "stunnel"},
	} {
		if got := strings.Join(asUserspace(strings.Fields(test.args)), " "); got != test.want {
			t.Errorf("%q: got %q, want %q", test.args, got, test.want)
		}
	}
}
