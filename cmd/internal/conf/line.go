package conf

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// line is one line of a file that says something.
type line struct {
	number  int    // from 1
	section string // "Interface" for [Interface]; "" when the line is no section header
	open    bool   // the header is not closed as it should be; bare has all of it
	key     string // as written, without white space
	value   string // trimmed, without comment unless the key is a hook
	bare    string // the whole text where there is neither a whole section header nor a '='
}

// scan splits a file into lines, without the empty ones and the comments. It takes what editors on other systems
// make: a byte order mark, CRLF, white space of any kind. Not ok: it is no text at all, which is then reported.
func scan(text []byte, f *faults) (lines []line, ok bool) {
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		f.fail(0, "iconv -f utf-16 -t utf-8 converts it", "the file is in UTF-16; UTF-8 is needed")
		return nil, false
	}
	if bytes.IndexByte(text, 0) >= 0 {
		f.fail(0, "", "it is no text file")
		return nil, false
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	number := 0
	for raw := range bytes.Lines(text) {
		number++
		s := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
		if at, what := unprintable(s); at > 0 {
			f.fail(number, "", "character %d is %s; only text may stand here", at, what)
			continue
		}
		if l, ok := scanLine(s); ok {
			l.number = number
			lines = append(lines, l)
		}
	}
	return lines, true
}

func scanLine(s string) (l line, ok bool) {
	uncommented, _, _ := strings.Cut(s, "#")
	uncommented = strings.TrimSpace(uncommented)
	if uncommented == "" {
		return l, false
	}
	if strings.HasPrefix(uncommented, "[") {
		name := squeeze(uncommented)
		var closed bool
		if l.section, closed = strings.CutSuffix(name[1:], "]"); !closed || l.section == "" {
			l.open, l.bare = true, uncommented
		}
		return l, true
	}
	key, value, found := strings.Cut(uncommented, "=")
	if !found {
		l.bare = uncommented
		return l, true
	}
	l.key = squeeze(key)
	l.value = strings.TrimSpace(value)
	if isHook(l.key) {
		// The shell knows what is a comment, and '#' may stand in quotes.
		_, value, _ = strings.Cut(s, "=")
		l.value = strings.TrimSpace(value)
	}
	return l, true
}

// squeeze takes all white space out, as wg(8) does before it looks at a line.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

// unprintable returns the position (from 1, in characters) of the first character that is no text, or 0.
func unprintable(s string) (at int, what string) {
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !utf8.FullRuneInString(s[i:]) || r == utf8.RuneError && s[i] != 0xef:
			return utf8.RuneCountInString(s[:i]) + 1, "not UTF-8"
		case r != '\t' && unicode.IsControl(r):
			return utf8.RuneCountInString(s[:i]) + 1, "a control character"
		}
	}
	return 0, ""
}
