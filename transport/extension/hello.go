package extension

import "encoding/binary"

// MaxHello is the size in bytes of the longest hello, header and body.
const MaxHello = 128

// A Mode is what an end carries.
type Mode uint8

// The modes.
const (
	ModeTUN Mode = iota // IP packets
	ModeTAP             // Ethernet frames
)

// String names the mode as the configuration does.
func (m Mode) String() string {
	if m == ModeTAP {
		return "tap"
	}
	return "tun"
}

// A Sequence numbers the hellos that an end says to a peer, from 1.
type Sequence uint32

// Hello is what an end says of itself, and what it has heard.
type Hello struct {
	Wanted       bool // an answer is wanted; it is the flag Wanted of the header
	Mode         Mode
	Capabilities Capabilities
	Instance     Instance // not 0
	Sequence     Sequence // not 0

	// The newest hello that has come from the other end; both 0 when none has.
	SeenInstance Instance
	SeenSequence Sequence

	Version string // of the program, 1 to MaxVersion characters; see FitVersion
}

// Where the fields of a hello lie in its body, behind the type.
const (
	helloMode          = 1
	helloVersionLength = 2
	helloCapabilities  = 4
	helloInstance      = 8
	helloSequence      = 16
	helloSeenInstance  = 20
	helloSeenSequence  = 28
	helloVersion       = 32
)

// valid says whether a hello may be on the wire.
func (h *Hello) valid() bool {
	return h.Mode <= ModeTAP && h.Instance != 0 && h.Sequence != 0 &&
		(h.SeenInstance == 0) == (h.SeenSequence == 0) && isVersion(h.Version)
}

// Append appends h, header and body. It panics when a field has not the value that
// its comment promises.
func (h *Hello) Append(dst []byte) []byte {
	if !h.valid() {
		panic("extension: not a hello that may be said")
	}
	var flags Flags
	if h.Wanted {
		flags = Wanted
	}
	dst = AppendHeader(dst, KindControl, flags, helloVersion+len(h.Version))
	dst = append(dst, byte(TypeHello), byte(h.Mode), byte(len(h.Version)), 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.Capabilities))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Instance))
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.Sequence))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.SeenInstance))
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.SeenSequence))
	return append(dst, h.Version...)
}

// ParseHello reads the flags and the body of a hello; ok is false when any field is
// not as it must be. A hello with capabilities that are not known here parses: see
// [Capabilities.Refused]. What follows the version is ignored.
func ParseHello(flags Flags, body []byte) (h Hello, ok bool) {
	if len(body) < helloVersion || len(body) > MaxHello-HeaderSize || ControlType(body[0]) != TypeHello {
		return Hello{}, false
	}
	n := int(body[helloVersionLength])
	if n > len(body)-helloVersion || !isVersion(body[helloVersion:helloVersion+n]) {
		return Hello{}, false
	}
	h = Hello{
		Wanted:       flags&Wanted != 0,
		Mode:         Mode(body[helloMode]),
		Capabilities: Capabilities(binary.BigEndian.Uint32(body[helloCapabilities:])),
		Instance:     Instance(binary.BigEndian.Uint64(body[helloInstance:])),
		Sequence:     Sequence(binary.BigEndian.Uint32(body[helloSequence:])),
		SeenInstance: Instance(binary.BigEndian.Uint64(body[helloSeenInstance:])),
		SeenSequence: Sequence(binary.BigEndian.Uint32(body[helloSeenSequence:])),
		Version:      string(body[helloVersion : helloVersion+n]),
	}
	if !h.valid() {
		return Hello{}, false
	}
	return h, true
}
