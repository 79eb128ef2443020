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
	section string // "interface" for [Interface]; "" when the line is no section header
	key     string // as written, without white space
	value   string // trimmed, without comment unless the key is a hook
	bare    string // the whole text where there is neither a section nor a '='
}

// scan splits a file into lines, without the empty ones and the comments. It takes what editors on other systems
// make: a byte order mark, CRLF, white space of any kind.
func scan(text []byte, f *faults) (lines []line) {
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		f.fail(0, "iconv -f utf-16 -t utf-8 converts it", "the file is in UTF-16; UTF-8 is needed")
		return nil
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
	return lines
}

func scanLine(s string) (l line, ok bool) {
	uncommented, _, _ := strings.Cut(s, "#")
	uncommented = strings.TrimSpace(uncommented)
	if uncommented == "" {
		return l, false
	}
	if strings.HasPrefix(uncommented, "[") {
		name := squeeze(uncommented)
		if strings.HasSuffix(name, "]") {
			l.section = name[1 : len(name)-1]
		}
		if l.section == "" {
			l.bare = uncommented
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
