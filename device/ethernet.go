package device

import (
	"encoding/binary"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A TAP's packets are Ethernet frames (IEEE 802.3, 3.1.1) from the destination
// address to the end of the payload, without check sequence. A VLAN tag (IEEE
// 802.1Q, 9.6) stands where it does on a cable: behind the addresses.

// FrameRoom is how many bytes in front of a frame, in its first part, are the
// reader's: for a header of his.
const FrameRoom = 4

const (
	frameAddresses = 2 * 6
	etherTypeSize  = 2
	vlanTag        = 4
	maxTags        = 2 // 802.1ad: a service tag and a customer tag
	// maxFrameHeader is the longest header in front of an IP header that we
	// look behind.
	maxFrameHeader = frameAddresses + maxTags*vlanTag + etherTypeSize
)

// network is where the IP header of a packet begins, of a frame that itself
// begins at room. Where there is no IP header it is the packet's end: what is
// behind it is too short for anything.
func (q *Queue) network(packet []byte, room int) int {
	if !q.ethernet {
		return 0
	}
	return networkOffset(packet, room)
}

// networkOffset is network for a frame, whose tags and EtherType it reads. The
// EtherType must be that of the IP header's version.
func networkOffset(b []byte, frame int) int {
	at := frame + frameAddresses
	for tags := 0; at+etherTypeSize < len(b); tags++ {
		version := b[at+etherTypeSize] >> 4
		switch kind := binary.BigEndian.Uint16(b[at:]); {
		case kind == unix.ETH_P_IP && version == 4, kind == unix.ETH_P_IPV6 && version == 6:
			return at + etherTypeSize
		case tags < maxTags && (kind == unix.ETH_P_8021Q || kind == unix.ETH_P_8021AD):
			at += vlanTag
		default:
			return len(b)
		}
	}
	return len(b)
}

// setMAC gives the interface of a TAP's queue its address.
func setMAC(fd int, mac net.HardwareAddr) error {
	if len(mac) != 6 || mac[0]&1 != 0 {
		return fmt.Errorf("%s can't be the address of an interface: %w", mac, unix.EINVAL)
	}
	var request struct { // struct ifreq with ifr_hwaddr
		_       [unix.IFNAMSIZ]byte
		family  uint16
		address [14]byte
		_       [8]byte
	}
	request.family = unix.ARPHRD_ETHER
	copy(request.address[:], mac)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}
