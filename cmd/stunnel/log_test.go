package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestALineOfTheLogSaysWhoAndWhat(t *testing.T) {
	for want, say := range map[string]func(*slog.Logger){
		"stunnel: peer: first handshake peer=laptop endpoint=192.0.2.7:51820\n": func(l *slog.Logger) {
			l.Info("first handshake", "peer", "laptop", "endpoint", "192.0.2.7:51820")
		},
		"stunnel: peer: warning: no answer why=\"not today\"\n": func(l *slog.Logger) { l.Warn("no answer", "why", "not today") },
		"stunnel: peer: error: broken error=bad\n":              func(l *slog.Logger) { l.Error("broken", "error", errors.New("bad")) },
		"stunnel: peer: with lane=1 g.h.x=2 g.h.in.y=3\n": func(l *slog.Logger) {
			l.With("lane", 1).WithGroup("g").WithGroup("h").Info("with", "x", 2, slog.Group("in", "y", 3))
		},
		"stunnel: peer: odd name=\\x1b[31mred\\nline empty=\"\" q=\"a 'b'\"\n": func(l *slog.Logger) { l.Info("odd", "name", "\x1b[31mred\nline", "empty", "", "q", `a "b"`) },
		"": func(l *slog.Logger) { l.Debug("not heard") },
	} {
		var out bytes.Buffer
		say(newLogger(newLines(terminalLines{&out}), "peer", slog.LevelInfo))
		if out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}

func TestALogThatGoesNowhereIsNoError(t *testing.T) {
	var out bytes.Buffer
	l := newLines(terminalLines{&out})
	log := newLogger(l, "peer", slog.LevelInfo)
	log.Info("heard")
	l.to(nil)
	log.Info("lost")
	l.to(fileLines{&out})
	log.Info("in a file")
	if got := out.String(); strings.Contains(got, "lost") || !strings.HasSuffix(got, "Z stunnel: peer: in a file\n") && !strings.Contains(got, ":00 stunnel: peer: in a file\n") {
		t.Errorf("%q", got)
	}
}

func TestTheOutputOfAHookIsLoggedInLines(t *testing.T) {
	var got []string
	s := &lineSplitter{log: func(line string) { got = append(got, line) }}
	for _, piece := range []string{"a\nb", "c\n\nd", "e", "\n", strings.Repeat("x", longestLine+1), "\nrest"} {
		if n, err := s.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	want := []string{"a", "bc", "", "de", strings.Repeat("x", longestLine), "x"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%d lines: %.60q", len(got), got)
	}
}

func TestNoKeyOfAHookIsSaid(t *testing.T) {
	const key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	for command, want := range map[string]string{
		"echo " + key + " | wg set %i private-key /dev/stdin":                            "echo (key) | wg set %i private-key /dev/stdin",
		"wg set %i private-key <(echo '" + key + "')":                                    "wg set %i private-key <(echo '(key)')",
		"x 'private_key=" + strings.Repeat("0aF", 21) + "1'":                             "x 'private_key=(key)'",
		"iptables -A FORWARD -i %i -j ACCEPT; sysctl -w net.ipv4.ip_forward=1":           "iptables -A FORWARD -i %i -j ACCEPT; sysctl -w net.ipv4.ip_forward=1",
		"/usr/local/lib/a-very-long-path-name/that-is-no-key-at-all/but-looks-long/x.sh": "/usr/local/lib/a-very-long-path-name/that-is-no-key-at-all/but-looks-long/x.sh",
	} {
		if got := withoutKeys(command); got != want {
			t.Errorf("%q becomes %q, want %q", command, got, want)
		}
	}
}

// stuck is a terminal after Ctrl-S.
type stuck struct{ free chan struct{} }

func (s stuck) writeLine(slog.Level, string) { <-s.free }

func TestATerminalThatTakesNothingHoldsNobodyUp(t *testing.T) {
	terminal := stuck{make(chan struct{})}
	out := newLines(terminal)
	log, run := unhurried(newLogger(out, "peer", slog.LevelInfo))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	for range 10_000 {
		log.Info("handshake")
	}
	cancel()
	close(terminal.free)
	<-done
	if len(out.queue) != 0 {
		t.Errorf("%d lines were never written", len(out.queue))
	}
}

func TestLinesComeInTheOrderInWhichTheyWereSaid(t *testing.T) {
	var got bytes.Buffer
	log := newLogger(newLines(terminalLines{&got}), "peer", slog.LevelInfo)
	engine, _ := unhurried(log) // nothing but the other lines pushes it
	engine.Info("offloads")
	log.Info("ready")
	engine.Info("handshake")
	log.Info("going down")
	if want := "stunnel: peer: offloads\nstunnel: peer: ready\nstunnel: peer: handshake\nstunnel: peer: going down\n"; got.String() != want {
		t.Errorf("got\n%swant\n%s", &got, want)
	}
}
