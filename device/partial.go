package device

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// A packet is partial when its TCP or UDP checksum has not been computed and
// what stands in the field means nothing. It can be so only where packet and
// headers alone say all that is needed to compute it: see partialSum. Other
// sums that the kernel leaves to us (of a packet inside another one, behind
// extension headers) are completed at once, by virtioHeader.complete.

// partialSum is where the checksum of a packet lies that may be partial. What
// is said here of packets begins with the IP header, of frames too; offsets are
// in bytes from there.
type partialSum struct {
	start    int // of the TCP or UDP header, where the sum begins
	field    int // where it goes
	protocol byte
}

// findPartialSum finds it in a packet of length bytes that begins with b, its
// first 64 bytes or all of it. It trusts nothing. ok are TCP and UDP directly
// behind an IPv4 header without options and fragmentation or an IPv6 header, in
// a packet exactly as long as its IP header, and its UDP header, say.
func findPartialSum(b []byte, length int) (p partialSum, ok bool) {
	if len(b) < 20 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		if b[0] != 0x45 || int(binary.BigEndian.Uint16(b[2:])) != length ||
			binary.BigEndian.Uint16(b[6:])&0x3fff != 0 { // MF and the offset
			return p, false
		}
		p.start, p.protocol = 20, b[9]
	case 6:
		if len(b) < 40 || int(binary.BigEndian.Uint16(b[4:]))+40 != length {
			return p, false
		}
		p.start, p.protocol = 40, b[6]
	default:
		return p, false
	}
	t := b[p.start:]
	switch p.protocol {
	case unix.IPPROTO_TCP:
		p.field = p.start + 16
		return p, len(t) >= 20
	case unix.IPPROTO_UDP:
		p.field = p.start + 6
		return p, len(t) >= 8 && int(binary.BigEndian.Uint16(t[4:])) == length-p.start
	}
	return p, false
}

// complete writes the checksum of the packet that is first followed by rest;
// where there is a rest, first has an even length.
func (p partialSum) complete(first, rest []byte) {
	store16(first[p.field:], 0)
	v := ^fold(sum(sumBehindIP(first, p.start, p.protocol, len(first)+len(rest)), rest))
	if v == 0 && p.protocol == unix.IPPROTO_UDP {
		v = 0xffff // 0 would say that there is no sum
	}
	store16(first[p.field:], v)
}

// begin writes the sum of the pseudo header, which whoever completes a packet
// after us expects in the field, and returns the header that tells him.
func (p partialSum) begin(packet []byte) virtioHeader {
	store16(packet[p.field:], fold(pseudo(packet, p.protocol, len(packet)-p.start)))
	return virtioHeader{
		flags:      unix.VIRTIO_NET_HDR_F_NEEDS_CSUM,
		csumStart:  uint16(p.start),
		csumOffset: uint16(p.field - p.start),
	}
}

// staysPartial says whether a packet that the kernel gave with header h may
// stay partial: the sum that is wanted is the packet's own, and begun as it
// should be. The IP header begins at network. Another beginning of the sum would
// make a wrong one, which must not come out as a right one. DHCP does not stay: its clients read packets before the
// kernel has looked at them, and many compute the sum.
func (h virtioHeader) staysPartial(packet []byte, network int) bool {
	if !h.partial() {
		return false
	}
	packet = packet[network:]
	p, ok := findPartialSum(packet, len(packet))
	if !ok || int(h.csumStart) != network+p.start || int(h.csumOffset) != p.field-p.start {
		return false
	}
	const bootps, bootpc = 67, 68
	if p.protocol == unix.IPPROTO_UDP {
		if port := binary.BigEndian.Uint16(packet[p.start+2:]); port == bootps || port == bootpc {
			return false
		}
	}
	begun := fold(pseudo(packet, p.protocol, len(packet)-p.start))
	return load16(packet[p.field:])%0xffff == uint64(begun)%0xffff // 0 and 0xffff are the same number
}

// Complete computes the checksum of a packet that Read or Look gave as partial:
// first[i] and rest[i], changed by nobody since. It may be called while these
// are valid, by any goroutine, and is one pass over the packet.
func (q *Queue) Complete(first, rest []byte) {
	first = first[q.network(first, FrameRoom):]
	p, ok := findPartialSum(first, len(first)+len(rest))
	if !ok {
		panic("device: Complete of a packet that is not partial")
	}
	p.complete(first, rest)
}

// errBadPartial is for a packet to write that is said to be partial and can't
// be.
var errBadPartial = errors.New("device: no packet whose checksum may be partial")
