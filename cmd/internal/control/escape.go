package control

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds a peer's name, in bytes before escaping.
const maxName = 255

// escapeName writes a peer's name so that it fits a line: '%', '=' and all that is
// not printable become %xx. Bytes that are not UTF-8 are escaped too.
func escapeName(name string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == '%' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r) {
			for _, c := range []byte(name[i : i+n]) {
				b.Write([]byte{'%', digits[c>>4], digits[c&15]})
			}
		} else {
			b.WriteString(name[i : i+n])
		}
		i += n
	}
	return b.String()
}

// unescapeName is the inverse of escapeName. It refuses what does not belong on a
// screen: the name is printed by whoever shows the tunnel.
func unescapeName(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errors.New("a % is not followed by two hex digits")
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", errors.New("a % is not followed by two hex digits")
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	name := b.String()
	switch {
	case len(name) > maxName:
		return "", errors.New("the name is longer than 255 bytes")
	case !utf8.ValidString(name):
		return "", errors.New("the name is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", errors.New("the name has characters in it that cannot be printed")
	}
	return name, nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
