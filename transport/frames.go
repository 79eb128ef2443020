package transport

import (
	"stunnel/transport/ethernet"
	"stunnel/transport/extension"
)

// FrameRoom is the number of bytes in front of a frame, in the first part that a Queue in
// tap mode gives, which the Tunnel writes.
const FrameRoom = extension.HeaderSize

// frames are some as they are sealed: frame i is first[i] behind its room, followed by
// rest[i], and has no checksum yet if partial[i].
type frames struct {
	first, rest [][]byte
	partial     []bool
}

func (f *frames) slice(from, to int) frames {
	return frames{f.first[from:to], f.rest[from:to], f.partial[from:to]}
}

// header parses that of frame i.
func (f *frames) header(i int) (ethernet.Header, bool) {
	if len(f.first[i]) < FrameRoom {
		return ethernet.Header{}, false
	}
	return ethernet.Parse(f.first[i][FrameRoom:])
}

// alike says whether frame j begins with the same header of size bytes as frame i. Most of
// a burst does, and needs not be parsed.
func (f *frames) alike(i, j, size int) bool {
	a, b := f.first[i][FrameRoom:], f.first[j]
	return len(b) >= FrameRoom+size && string(a[:size]) == string(b[FrameRoom:FrameRoom+size])
}

// head writes the extension headers, as of complete frames. Those that are longer than any
// frame are left to be found too large.
func (f *frames) head() {
	for i, b := range f.first {
		n := min(len(b)+len(f.rest[i])-FrameRoom, extension.MaxBody)
		extension.AppendHeader(b[:0], extension.KindFrame, 0, n)
	}
}

func (f *frames) append(first, rest []byte, partial bool) {
	f.first, f.rest, f.partial = append(f.first, first), append(f.rest, rest), append(f.partial, partial)
}

func (f *frames) reset() {
	f.first, f.rest, f.partial = f.first[:0], f.rest[:0], f.partial[:0]
}
