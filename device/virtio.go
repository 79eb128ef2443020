package device

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// virtioSize is the length of struct virtio_net_hdr without num_buffers, which
// is what a TUN uses if nobody asks for more.
const virtioSize = 10

// virtioHeader is struct virtio_net_hdr (virtio 1.2, 5.1.6): what the kernel
// leaves to us to do with a packet, or we to it. Lengths and offsets are in
// bytes from the packet's begin. A TUN has it in the machine's byte order.
type virtioHeader struct {
	flags      uint8
	gsoType    uint8
	headerLen  uint16 // a hint; it may lie
	gsoSize    uint16 // payload bytes of each segment
	csumStart  uint16 // where the sum begins
	csumOffset uint16 // where it goes, from csumStart
}

// decodeVirtio reads the first virtioSize bytes of b.
func decodeVirtio(b []byte) virtioHeader {
	return virtioHeader{
		flags:      b[0],
		gsoType:    b[1],
		headerLen:  binary.NativeEndian.Uint16(b[2:]),
		gsoSize:    binary.NativeEndian.Uint16(b[4:]),
		csumStart:  binary.NativeEndian.Uint16(b[6:]),
		csumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// encode writes the first virtioSize bytes of b.
func (h virtioHeader) encode(b []byte) {
	b[0], b[1] = h.flags, h.gsoType
	binary.NativeEndian.PutUint16(b[2:], h.headerLen)
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.csumStart)
	binary.NativeEndian.PutUint16(b[8:], h.csumOffset)
}

func (h virtioHeader) partial() bool { return h.flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 }

// complete writes the checksum that the kernel left to us. False: the header
// points out of the packet.
func (h virtioHeader) complete(packet []byte) bool {
	start, field := int(h.csumStart), int(h.csumStart)+int(h.csumOffset)
	if start > len(packet) || field+2 > len(packet) {
		return false
	}
	// The field holds the sum of the pseudo header, and so the sum over all
	// brings it in.
	v := ^fold(sum(0, packet[start:]))
	if v == 0 {
		v = 0xffff // the same number; in UDP 0 would say that there is no sum
	}
	store16(packet[field:], v)
	return true
}

// offloads are the TUN_F_ bits that an interface has agreed to.
type offloads int

const (
	offloadTCP = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6 // Linux 6.2; only both together
)

// negotiate asks for all that split can do, and then for less and less.
func negotiate(set func(flags int) error) offloads {
	for _, want := range []int{offloadTCP | offloadUDP, offloadTCP, unix.TUN_F_CSUM} {
		if set(want) == nil {
			return offloads(want)
		}
	}
	_ = set(0) // what somebody else may have left
	return 0
}

var offloadNames = []struct {
	bit  offloads
	name string
}{
	{unix.TUN_F_CSUM, "csum"},
	{unix.TUN_F_TSO4, "tso4"},
	{unix.TUN_F_TSO6, "tso6"},
	{unix.TUN_F_USO4, "uso4"},
	{unix.TUN_F_USO6, "uso6"},
}

func (o offloads) String() string {
	var names []string
	for _, f := range offloadNames {
		if o&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, " ")
}
