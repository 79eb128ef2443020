package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// lines is where the lines of a running tunnel go: the terminal, a file, the system's log. Safe for concurrent use by the
// logger that writes to it; to changes the place.
type lines struct {
	mu sync.Mutex
	w  lineWriter // guarded by mu
}

// lineWriter writes one line, which has no line feed. Errors are its own affair: there is nobody to tell.
type lineWriter interface {
	writeLine(level slog.Level, line string)
}

func (l *lines) to(w lineWriter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w = w
}

func (l *lines) write(level slog.Level, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		l.w.writeLine(level, line)
	}
}

// terminalLines writes as everything else on stderr is written: `stunnel: peer: ...`.
type terminalLines struct{ w io.Writer }

func (t terminalLines) writeLine(_ slog.Level, line string) { fmt.Fprintf(t.w, "stunnel: %s\n", line) }

// fileLines puts the time in front.
type fileLines struct{ w io.Writer }

func (f fileLines) writeLine(_ slog.Level, line string) {
	fmt.Fprintf(f.w, "%s stunnel: %s\n", time.Now().Format(time.RFC3339), line)
}

// lineHandler makes of each record a line for people: `peer: first handshake peer=laptop endpoint=192.0.2.7:51820`.
type lineHandler struct {
	out   *lines
	name  string // of the interface
	least slog.Level
	attrs string // of WithAttrs, as they are written
	group string // of WithGroup, with its dot
}

// newLogger makes the logger of one tunnel. What is below least is dropped.
func newLogger(out *lines, name string, least slog.Level) *slog.Logger {
	return slog.New(&lineHandler{out: out, name: name, least: least})
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.least }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.name)
	b.WriteString(": ")
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString("error: ")
	case r.Level >= slog.LevelWarn:
		b.WriteString("warning: ")
	}
	b.WriteString(printable(r.Message))
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(attrText(h.group, a))
		return true
	})
	h.out.write(r.Level, b.String())
	return nil
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	for _, a := range attrs {
		with.attrs += attrText(h.group, a)
	}
	return &with
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	with := *h
	if name != "" {
		with.group += name + "."
	}
	return &with
}

// attrText is one attribute, with the space before it. Values come from outside and may be anything.
func attrText(group string, a slog.Attr) string {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return ""
	}
	if v.Kind() == slog.KindGroup {
		var text string
		prefix := group
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			text += attrText(prefix, inner)
		}
		return text
	}
	text := printable(v.String())
	if text == "" || strings.ContainsAny(text, ` "`) {
		text = `"` + strings.ReplaceAll(text, `"`, `'`) + `"`
	}
	return " " + group + a.Key + "=" + text
}

// lineSplitter is an io.Writer that logs what is written to it, such as the output of a hook, line by line.
type lineSplitter struct {
	log  func(line string)
	rest []byte
}

const longestLine = 4096 // bytes; what is longer is cut into pieces

func (s *lineSplitter) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		i := bytes.IndexByte(s.rest, '\n')
		if i < 0 && len(s.rest) >= longestLine {
			i = longestLine
		}
		if i < 0 {
			return len(p), nil
		}
		s.log(string(s.rest[:i]))
		if i < len(s.rest) && s.rest[i] == '\n' {
			i++
		}
		s.rest = s.rest[i:]
	}
}

// relay hands records on in a goroutine of its own, run, so that a terminal or a log that does not take them (Ctrl-S is
// enough) cannot hold up the engine. What does not fit into the queue is lost.
type relay struct {
	slog.Handler
	queue chan slog.Record
}

func newRelay(h slog.Handler) *relay { return &relay{h, make(chan slog.Record, 256)} }

// Handle never waits.
func (r *relay) Handle(_ context.Context, record slog.Record) error {
	select {
	case r.queue <- record.Clone():
	default:
	}
	return nil
}

// run ends with ctx, after what is in the queue.
func (r *relay) run(ctx context.Context) {
	for {
		select {
		case record := <-r.queue:
			_ = r.Handler.Handle(ctx, record)
		case <-ctx.Done():
			for len(r.queue) > 0 {
				_ = r.Handler.Handle(ctx, <-r.queue)
			}
			return
		}
	}
}
