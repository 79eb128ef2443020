package ethernet

import "encoding/binary"

// Lengths in bytes: of a frame's header without tags, of one tag, and of the header
// with as many tags as are looked at.
const (
	HeaderSize    = 14
	tagSize       = 4
	maxTags       = 2
	MaxHeaderSize = HeaderSize + maxTags*tagSize
)

// The types of what a frame carries that are looked at.
const (
	TypeIPv4 = 0x0800
	TypeIPv6 = 0x86dd

	// typeTag, typeServiceTag and typeOldServiceTag begin a VLAN tag: 802.1Q, 802.1ad,
	// and what came before that.
	typeTag           = 0x8100
	typeServiceTag    = 0x88a8
	typeOldServiceTag = 0x9100
)

// Header is what the beginning of a frame says.
type Header struct {
	Destination, Source MAC
	VLAN                VLAN
	Type                uint16 // EtherType behind the tags; below 0x0600 it is a length (802.3)
	Size                int    // of all that, in bytes: where the payload begins
}

// Parse reads the header of the frame that begins with b; false: b ends within it.
// Behind two tags nothing is looked at: a third is payload.
func Parse(b []byte) (h Header, ok bool) {
	if len(b) < HeaderSize {
		return Header{}, false
	}
	h.Destination, h.Source = MAC(b[0:6]), MAC(b[6:12])
	h.Type, h.Size = binary.BigEndian.Uint16(b[12:]), HeaderSize
	for range maxTags {
		if !isTag(h.Type) {
			break
		}
		if len(b) < h.Size+tagSize {
			return Header{}, false
		}
		id := binary.BigEndian.Uint16(b[h.Size:]) & 0x0fff
		if h.VLAN.Outer == 0 {
			h.VLAN.Outer = id
		} else {
			h.VLAN.Inner = id
		}
		h.Type = binary.BigEndian.Uint16(b[h.Size+2:])
		h.Size += tagSize
	}
	return h, true
}

func isTag(t uint16) bool { return t == typeTag || t == typeServiceTag || t == typeOldServiceTag }

// SameWay reports whether frames with these headers go from one station to one other,
// or group, in one VLAN, and carry the same behind as many bytes: a switch does the same
// with both, and what is read behind the header of one lies in the other too.
func (h *Header) SameWay(o *Header) bool { return *h == *o }
