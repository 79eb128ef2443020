package control

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// errLongLine is reported once for a line that does not fit the reader's buffer.
var errLongLine = errors.New("a line is too long")

// nextLine returns the next line without its end; it is valid until the next call.
// A line without an end is io.ErrUnexpectedEOF. A line longer than br's buffer is
// skipped to its end and reported as errLongLine, and the next call goes on behind it.
func nextLine(br *bufio.Reader) ([]byte, error) {
	line, err := br.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = br.ReadSlice('\n')
		}
		if err == nil {
			err = errLongLine
		}
		return nil, err
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, err
}

// cutLine splits key=value at the first '='. ok is false for a line that is none, or
// that has control characters in it.
func cutLine(line []byte) (key, value string, ok bool) {
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return "", "", false
		}
	}
	k, v, ok := bytes.Cut(line, []byte{'='})
	return string(k), string(v), ok && len(k) > 0
}
