package crypto

import (
	"bytes"
	"encoding/binary"
	"time"
)

// A TAI64N is the timestamp of an initiation: 8 bytes of seconds and 4 bytes of
// nanoseconds, big endian, so that later ones compare greater byte by byte
// (https://cr.yp.to/libtai/tai64.html). The zero value is before all others.
type TAI64N [timestampSize]byte

const (
	taiEpoch = 1<<62 + 10 // TAI64's label for 1970-01-01 00:00:00 UTC
	// taiGrain is the step of our timestamps: a finer clock in a message would
	// tell an observer about the load of its sender.
	taiGrain = 1 << 24 // ns
)

// TAI64NFrom returns t with the low 24 bits of its nanoseconds cleared.
func TAI64NFrom(t time.Time) TAI64N {
	return makeTAI64N(taiEpoch+uint64(t.Unix()), uint32(t.Nanosecond())&^(taiGrain-1))
}

// After reports whether t is strictly later than other.
func (t TAI64N) After(other TAI64N) bool {
	return bytes.Compare(t[:], other[:]) > 0
}

// Next returns the next timestamp that we would send: at most 2^24 ns later, and
// always strictly later. A sender whose clock stood still or went back uses it.
func (t TAI64N) Next() TAI64N {
	seconds := binary.BigEndian.Uint64(t[:8])
	nanoseconds := binary.BigEndian.Uint32(t[8:])
	if nanoseconds >= 1e9-taiGrain {
		return makeTAI64N(seconds+1, 0)
	}
	return makeTAI64N(seconds, nanoseconds+taiGrain)
}

func makeTAI64N(seconds uint64, nanoseconds uint32) (t TAI64N) {
	binary.BigEndian.PutUint64(t[:8], seconds)
	binary.BigEndian.PutUint32(t[8:], nanoseconds)
	return t
}
