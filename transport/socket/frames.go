package socket

import (
	"encoding/binary"
	"fmt"
)

// What a message may be long. 32 bytes is the shortest that there is, one that carries no packet; two bytes hold no more
// than the longest.
const (
	minMessage = 32
	maxMessage = 1<<16 - 1

	lengthSize = 2 // of the length in front of each
)

// frames finds the messages in a stream of bytes: each has its length in front, in two bytes, big endian. The bytes are
// read into a buffer, in which the messages stay. Where the stream was cut into reads makes no difference.
type frames struct {
	buffer   []byte // of at least lengthSize+maxMessage bytes; whoever uses frames gives and takes it
	from, to int    // the bytes in it that are in no message yet
}

// begun says whether there is the beginning of a message. While there is not, the buffer is of no use.
func (f *frames) begun() bool { return f.from < f.to }

// room is where the next bytes are read to, and is never empty; took says how many came. It moves what has begun to the
// beginning of the buffer, so messages that next gave are valid no more.
func (f *frames) room() []byte {
	if f.from > 0 {
		f.to = copy(f.buffer, f.buffer[f.from:f.to])
		f.from = 0
	}
	return f.buffer[f.to:]
}

func (f *frames) took(n int) { f.to += n }

// next returns the next message, nil if it is not whole yet. After an error there is no telling where one begins.
func (f *frames) next() ([]byte, error) {
	rest := f.buffer[f.from:f.to]
	if len(rest) < lengthSize {
		return nil, nil
	}
	length := int(binary.BigEndian.Uint16(rest))
	if err := checkLength(length, maxMessage); err != nil {
		return nil, err
	}
	end := lengthSize + length
	if len(rest) < end {
		return nil, nil
	}
	f.from += end
	return rest[lengthSize:end:end], nil
}

func checkLength(length, most int) error {
	if length < minMessage || length > most {
		return fmt.Errorf("a message of %d bytes, not %d to %d", length, minMessage, most)
	}
	return nil
}
