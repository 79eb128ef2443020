package extension

import "encoding/binary"

// A ControlType is the first byte of a control message's body.
type ControlType uint8

// The types of control message. A receiver counts and drops all others.
const (
	TypeHello ControlType = 1 + iota
	TypeEcho
	TypeEchoReply
	TypeGoodbye
	TypeProbe
	TypeProbeReply
)

// TypeOf returns the type of a control message; ok is false when the body is empty.
func TypeOf(body []byte) (t ControlType, ok bool) {
	if len(body) == 0 {
		return 0, false
	}
	return ControlType(body[0]), true
}

// String names the type as the specification does.
func (t ControlType) String() string {
	switch t {
	case TypeHello:
		return "hello"
	case TypeEcho:
		return "echo"
	case TypeEchoReply:
		return "echo reply"
	case TypeGoodbye:
		return "goodbye"
	case TypeProbe:
		return "probe"
	case TypeProbeReply:
		return "probe reply"
	}
	return "unknown"
}

// An Instance is drawn at random when a process starts, and tells it from the one
// before. It is never 0.
type Instance uint64

// A Token is what an echo or a probe carries and its reply brings back. It means
// something to the one who sent it alone.
type Token uint64

// A Reason says why a peer goes.
type Reason uint8

// The reasons of a goodbye. An unknown one is read as GoingDown.
const (
	GoingDown Reason = iota // the process ends
	Removed                 // the receiver was removed from the sender's configuration
)

// Echo and its reply have the type, three reserved bytes and the token; a goodbye has
// the type, the reason, two reserved bytes and the instance.
const (
	numberAt    = 4
	controlSize = 12 // of the body, without what may follow
)

// AppendEcho appends an echo, header and body.
func AppendEcho(dst []byte, t Token) []byte { return appendControl(dst, TypeEcho, 0, uint64(t)) }

// AppendEchoReply appends the answer to an echo with this token, header and body.
// No echo is smaller than that.
func AppendEchoReply(dst []byte, t Token) []byte {
	return appendControl(dst, TypeEchoReply, 0, uint64(t))
}

// AppendGoodbye appends a goodbye of the process with this instance, header and body.
func AppendGoodbye(dst []byte, r Reason, i Instance) []byte {
	if r > Removed || i == 0 {
		panic("extension: not a goodbye that may be said")
	}
	return appendControl(dst, TypeGoodbye, byte(r), uint64(i))
}

func appendControl(dst []byte, t ControlType, second byte, number uint64) []byte {
	dst = AppendHeader(dst, KindControl, 0, controlSize)
	dst = append(dst, byte(t), second, 0, 0)
	return binary.BigEndian.AppendUint64(dst, number)
}

// ParseEcho reads the body of an echo.
func ParseEcho(body []byte) (t Token, ok bool) {
	_, number, ok := parseControl(body, TypeEcho)
	return Token(number), ok
}

// ParseEchoReply reads the body of an echo reply.
func ParseEchoReply(body []byte) (t Token, ok bool) {
	_, number, ok := parseControl(body, TypeEchoReply)
	return Token(number), ok
}

// ParseGoodbye reads the body of a goodbye. Whether the instance is that of the peer
// as it is now is the caller's to compare.
func ParseGoodbye(body []byte) (r Reason, i Instance, ok bool) {
	second, number, ok := parseControl(body, TypeGoodbye)
	if !ok || number == 0 {
		return 0, 0, false
	}
	if r = Reason(second); r > Removed {
		r = GoingDown
	}
	return r, Instance(number), true
}

func parseControl(body []byte, t ControlType) (second byte, number uint64, ok bool) {
	if len(body) < controlSize || ControlType(body[0]) != t {
		return 0, 0, false
	}
	return body[1], binary.BigEndian.Uint64(body[numberAt:]), true
}
