package socket

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// framed is messages as they go over a connection.
func framed(messages ...[]byte) (stream []byte) {
	for _, m := range messages {
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(m))), m...)
	}
	return stream
}

// unframe gives a stream to a frames in reads of the lengths that cut gives, and returns copies of the messages.
func unframe(stream []byte, cut func(room int) int) (messages [][]byte, err error) {
	f := frames{buffer: make([]byte, lengthSize+maxMessage)}
	for len(stream) > 0 {
		room := f.room()
		n := copy(room[:min(len(room), max(1, cut(len(room))))], stream)
		f.took(n)
		stream = stream[n:]
		for {
			m, err := f.next()
			if err != nil {
				return messages, err
			}
			if m == nil {
				break
			}
			messages = append(messages, bytes.Clone(m))
		}
	}
	if f.begun() {
		messages = append(messages, append([]byte("begun: "), f.buffer[f.from:f.to]...))
	}
	return messages, nil
}

func TestMessagesAreFoundHoweverTheStreamIsCut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var want [][]byte
	for _, n := range []int{32, 33, 148, 1452, 1452, 1452, maxMessage, 32, maxMessage - 1, 255, 256, 257, 1452} {
		m := make([]byte, n)
		for i := range m {
			m[i] = byte(r.Uint32())
		}
		want = append(want, m)
	}
	stream := framed(want...)
	for name, cut := range map[string]func(int) int{
		"byte by byte":           func(int) int { return 1 },
		"as much as there is":    func(room int) int { return room },
		"at random":              func(room int) int { return r.IntN(room) },
		"in reads of 3,000":      func(int) int { return 3000 },
		"length, then a message": func() func(int) int { i := -1; return func(int) int { i++; return []int{2, 1 << 17}[i&1] } }(),
	} {
		got, err := unframe(stream, cut)
		if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: %d messages (%v), want %d", name, len(got), err, len(want))
		}
	}
	for end := range 3000 { // a stream that ends anywhere
		got, err := unframe(stream[:end], func(room int) int { return room })
		whole := 0
		for at := 0; at+2+len(want[whole]) <= end; whole++ {
			at += 2 + len(want[whole])
		}
		if err != nil || len(got) < whole || !slices.EqualFunc(got[:whole], want[:whole], bytes.Equal) {
			t.Fatalf("of %d bytes: %d messages (%v), want %d", end, len(got), err, whole)
		}
	}
}

func TestALengthOutOfRangeEndsTheStream(t *testing.T) {
	good := bytes.Repeat([]byte("good"), 10)
	for _, length := range []int{0, 1, 31} {
		stream := append(framed(good, good), byte(length>>8), byte(length))
		stream = append(stream, framed(good)...)
		for name, cut := range map[string]func(int) int{
			"byte by byte":        func(int) int { return 1 },
			"as much as there is": func(room int) int { return room },
		} {
			got, err := unframe(stream, cut)
			if err == nil || !strings.Contains(err.Error(), "not 32 to 65535") || len(got) != 2 {
				t.Errorf("length %d, %s: %d messages, %v", length, name, len(got), err)
			}
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{}, uint64(0))
	f.Add(framed(make([]byte, 32), make([]byte, 1452), make([]byte, 40)), uint64(1))
	f.Add(append(framed(make([]byte, 32)), 0, 31), uint64(2))
	f.Add(append(framed(make([]byte, 65535), make([]byte, 65535)), 255, 255, 0), uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		want, failed := unframe(stream, func(room int) int { return room })
		r := rand.New(rand.NewPCG(seed, 1))
		got, err := unframe(stream, func(room int) int { return 1 + int(r.ExpFloat64()*float64(1+r.IntN(2000)))%room })
		if (err == nil) != (failed == nil) || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("cut in two ways a stream is %d messages (%v) and %d (%v)", len(want), failed, len(got), err)
		}
		// And what was found is what was put in.
		var again []byte
		for i, m := range got {
			if i == len(got)-1 && bytes.HasPrefix(m, []byte("begun: ")) {
				again = append(again, m[len("begun: "):]...)
				break
			}
			if len(m) < minMessage {
				t.Fatalf("a message of %d bytes", len(m))
			}
			again = append(again, framed(m)...)
		}
		if err == nil && !bytes.Equal(again, stream) || !bytes.HasPrefix(stream, again) {
			t.Fatal("the messages are not the stream")
		}
	})
}
