package ethernet

import "encoding/binary"

// MaxPartialHeader is where, in bytes, the headers end that MayBePartial looks at, at
// most: tags, IPv6, TCP.
const MaxPartialHeader = MaxHeaderSize + 40 + 20

// hasOldTag reports whether one of the tags in a header of size bytes is of the old kind:
// no stack leaves a checksum open behind that.
func hasOldTag(b []byte, size int) bool {
	for at := HeaderSize - 2; at < size-2; at += tagSize {
		if binary.BigEndian.Uint16(b[at:]) == typeOldServiceTag {
			return true
		}
	}
	return false
}

// MayBePartial reports whether a frame of length bytes that begins with b, at least its
// first [MaxPartialHeader] bytes or all of it, may be on its way without a TCP or UDP
// checksum: the rules of docs/protocol-extensions.md, under "Trusted checksums" and
// "Ethernet frames". Headers and length alone then say all that is needed to compute it.
func MayBePartial(b []byte, length int) bool {
	h, ok := Parse(b)
	if !ok || hasOldTag(b, h.Size) {
		return false
	}
	ip, left := b[h.Size:], length-h.Size
	var protocol byte
	switch {
	case h.Type == TypeIPv4 && len(ip) >= 20:
		if ip[0] != 0x45 || int(binary.BigEndian.Uint16(ip[2:])) != left || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			return false
		}
		protocol, ip, left = ip[9], ip[20:], left-20
	case h.Type == TypeIPv6 && len(ip) >= 40:
		if ip[0]>>4 != 6 || 40+int(binary.BigEndian.Uint16(ip[4:])) != left {
			return false
		}
		protocol, ip, left = ip[6], ip[40:], left-40
	default:
		return false
	}
	const tcp, udp = 6, 17
	switch protocol {
	case tcp:
		return len(ip) >= 20
	case udp:
		return len(ip) >= 8 && int(binary.BigEndian.Uint16(ip[4:])) == left
	}
	return false
}
