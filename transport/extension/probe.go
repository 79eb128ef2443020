package extension

import (
	"encoding/binary"
	"slices"
)

// A Probe asks whether a message of its size gets through. Its reply tells of it.
type Probe struct {
	Token Token
	Size  int  // bytes of the plaintext, header included: [MinProbe] to [MaxProbe]
	Full  bool // the reply is as large as the probe, else as small as can be
}

// MinProbe and MaxProbe are the sizes of the smallest and the largest probe.
const (
	MinProbe = HeaderSize + controlSize
	MaxProbe = 1<<16 - 1
)

// Full is a bit of the second byte of a probe and its reply, the size stands in the
// two behind it.
const (
	fullReply = 1 << 0
	sizeAt    = 2
)

// AppendProbe appends a probe, header and body: Size bytes, which WireGuard's padding
// must not make more.
func AppendProbe(dst []byte, p Probe) []byte { return appendProbe(dst, TypeProbe, p, p.Size) }

// AppendProbeReply appends the reply to a probe, header and body. It is never larger
// than the probe.
func AppendProbeReply(dst []byte, p Probe) []byte {
	if p.Full {
		return appendProbe(dst, TypeProbeReply, p, p.Size)
	}
	return appendProbe(dst, TypeProbeReply, p, MinProbe)
}

func appendProbe(dst []byte, t ControlType, p Probe, length int) []byte {
	if p.Size < MinProbe || p.Size > MaxProbe {
		panic("extension: no size of a probe")
	}
	flags := byte(0)
	if p.Full {
		flags = fullReply
	}
	dst = AppendHeader(dst, KindControl, 0, length-HeaderSize)
	dst = append(dst, byte(t), flags, byte(p.Size>>8), byte(p.Size))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Token))
	end := len(dst) + length - MinProbe
	dst = slices.Grow(dst, length-MinProbe)
	clear(dst[len(dst):end])
	return dst[:end]
}

// ParseProbe reads the body of a probe. ok is false also for one that is not of the
// size that it says.
func ParseProbe(body []byte) (p Probe, ok bool) {
	if p, ok = parseProbe(body, TypeProbe); !ok || p.Size != HeaderSize+len(body) {
		return Probe{}, false
	}
	return p, true
}

// ParseProbeReply reads the body of a probe's reply: what the probe was. ok is false
// also for a reply that is larger than what it answers.
func ParseProbeReply(body []byte) (p Probe, ok bool) {
	if p, ok = parseProbe(body, TypeProbeReply); !ok || p.Size < HeaderSize+len(body) {
		return Probe{}, false
	}
	return p, true
}

func parseProbe(body []byte, t ControlType) (p Probe, ok bool) {
	flags, number, ok := parseControl(body, t)
	if !ok {
		return Probe{}, false
	}
	return Probe{Token(number), int(binary.BigEndian.Uint16(body[sizeAt:])), flags&fullReply != 0}, true
}
