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
// loggers that write to it; to changes the place. What one goroutine has said comes in the order in which it said it.
type lines struct {
	mu sync.Mutex
	w  lineWriter // guarded by mu

	queue chan queuedLine // of later, written by run or with the next line of write
	more  chan struct{}   // has one when there was a new line in queue
}

type queuedLine struct {
	level slog.Level
	text  string
}

func newLines(w lineWriter) *lines {
	return &lines{w: w, queue: make(chan queuedLine, 256), more: make(chan struct{}, 1)}
}

// lineWriter writes one line, which has no line feed. Errors are its own affair: there is nobody to tell.
type lineWriter interface {
	writeLine(level slog.Level, line string)
}

func (l *lines) to(w lineWriter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	l.w = w
}

func (l *lines) write(level slog.Level, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	if l.w != nil {
		l.w.writeLine(level, line)
	}
}

// later never waits, not even for a terminal that does not take anything (Ctrl-S is enough). What does not fit into the
// queue is lost.
func (l *lines) later(level slog.Level, line string) {
	select {
	case l.queue <- queuedLine{level, line}:
	default:
	}
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// run writes what later was given. It ends with ctx, after what is in the queue.
func (l *lines) run(ctx context.Context) {
	for ended := false; !ended; {
		select {
		case <-l.more:
		case <-ctx.Done():
			ended = true
		}
		l.mu.Lock()
		l.flush()
		l.mu.Unlock()
	}
}

// flush writes the queue. mu is held.
func (l *lines) flush() {
	for {
		select {
		case q := <-l.queue:
			if l.w != nil {
				l.w.writeLine(q.level, q.text)
			}
		default:
			return
		}
	}
}

// bothLines writes to two places.
type bothLines [2]lineWriter

func (b bothLines) writeLine(level slog.Level, line string) {
	for _, w := range b {
		w.writeLine(level, line)
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
	waits bool   // for the terminal or the log, with the caller
}

// newLogger makes the logger of one tunnel. What is below least is dropped.
func newLogger(out *lines, name string, least slog.Level) *slog.Logger {
	return slog.New(&lineHandler{out: out, name: name, least: least, waits: true})
}

// unhurried is log, which is one of newLogger's, for those who must not be held up. Its lines are written while run runs.
func unhurried(log *slog.Logger) (without *slog.Logger, run func(context.Context)) {
	h := *log.Handler().(*lineHandler)
	h.waits = false
	return slog.New(&h), h.out.run
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
	if h.waits {
		h.out.write(r.Level, b.String())
	} else {
		h.out.later(r.Level, b.String())
	}
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
