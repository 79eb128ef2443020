package ruleset

import (
	"bytes"
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// set is a set of keys, or a map from them.
type set struct {
	interval bool
	joined   bool // its keys are of several fields
	elements []nftables.SetElement
}

// width is that of a key in bytes. The library does not know it of all types, but all keys of a set are of one.
func (s *set) width() (n int) {
	for _, e := range s.elements {
		n = max(n, len(e.Key))
	}
	return n
}

// find looks a key up; known is false where that can't be done.
func (s *set) find(o octets, host bool) (found *nftables.SetElement, known bool) {
	if len(s.elements) == 0 {
		return nil, true
	}
	if !allKnown(o.known) || s.interval && (host || s.joined) {
		return nil, false
	}
	if !s.interval {
		for i, e := range s.elements {
			if bytes.Equal(e.Key, o.data) {
				return &s.elements[i], true
			}
		}
		return nil, true
	}
	// Of an interval its first key and the first behind it are elements, the latter marked as an end: the nearest one at or
	// below the key tells.
	var nearest *nftables.SetElement
	for i, e := range s.elements {
		if len(e.Key) == 0 { // for all keys that no other element has
			return nil, false
		}
		if bytes.Compare(e.Key, o.data) > 0 {
			continue
		}
		c := -1
		if nearest != nil {
			c = bytes.Compare(nearest.Key, e.Key)
		}
		if c < 0 || c == 0 && !e.IntervalEnd { // one that begins where another ends counts
			nearest = &s.elements[i]
		}
	}
	if nearest == nil || nearest.IntervalEnd {
		return nil, true
	}
	return nearest, true
}

// decodeVerdict reads the value of a map's element, which the library leaves as attributes of netlink.
func decodeVerdict(value []byte) *expr.Verdict {
	v := &expr.Verdict{Kind: expr.VerdictQueue} // one that is not understood decides we don't know how
	for len(value) >= unix.SizeofNlAttr {
		size, kind := int(binary.NativeEndian.Uint16(value)), binary.NativeEndian.Uint16(value[2:])&^uint16(unix.NLA_F_NESTED)
		if size < unix.SizeofNlAttr || size > len(value) {
			break
		}
		body := value[unix.SizeofNlAttr:size]
		switch {
		case kind == unix.NFTA_VERDICT_CODE && len(body) == 4:
			v.Kind = expr.VerdictKind(int32(binary.BigEndian.Uint32(body)))
		case kind == unix.NFTA_VERDICT_CHAIN:
			v.Chain = unix.ByteSliceToString(body)
		}
		value = value[min(len(value), (size+3)&^3):]
	}
	return v
}
