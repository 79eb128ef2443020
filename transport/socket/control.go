package socket

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control messages are written and read by hand, since the ready-made parsers allocate for each datagram.

// controlSize has room for what is sent and received: packet information of either family and the size of segments.
const controlSize = 128

// control is a buffer aligned as the kernel wants it.
type control [controlSize / 8]uint64

func (c *control) bytes() *[controlSize]byte { return (*[controlSize]byte)(unsafe.Pointer(c)) }

func (c *control) header(at int) *unix.Cmsghdr {
	return (*unix.Cmsghdr)(unsafe.Pointer(&c.bytes()[at]))
}

// put writes one message of size bytes at an aligned place. It returns where the data goes and the place behind.
func (c *control) put(at, level, kind, size int) (data unsafe.Pointer, next int) {
	h := c.header(at)
	h.Level, h.Type = int32(level), int32(kind)
	h.SetLen(unix.CmsgLen(size))
	return unsafe.Pointer(&c.bytes()[at+unix.CmsgLen(0)]), at + unix.CmsgSpace(size)
}

// putLocal asks for a source address. A mapped IPv4 address does for IPv4 on a socket of IPv6.
func (c *control) putLocal(at int, local netip.Addr, link uint32, is6 bool) (next int) {
	if is6 {
		data, next := c.put(at, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		*(*unix.Inet6Pktinfo)(data) = unix.Inet6Pktinfo{Addr: local.As16(), Ifindex: link}
		return next
	}
	data, next := c.put(at, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
	*(*unix.Inet4Pktinfo)(data) = unix.Inet4Pktinfo{Spec_dst: local.As4(), Ifindex: int32(link)}
	return next
}

// putSegment asks the kernel to cut what is sent into datagrams of size bytes.
func (c *control) putSegment(at, size int) (next int) {
	data, next := c.put(at, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
	*(*uint16)(data) = uint16(size)
	return next
}

// read takes from the first length bytes what the kernel said about a datagram: where it came to, and the size of the
// datagrams that it was put together from, 0 if from none.
func (c *control) read(length int) (local netip.Addr, link uint32, segment int) {
	length = min(length, controlSize)
	for at := 0; at+unix.CmsgLen(0) <= length; {
		h := c.header(at)
		size := int(h.Len) - unix.CmsgLen(0)
		if size < 0 || at+int(h.Len) > length {
			break
		}
		data := unsafe.Pointer(&c.bytes()[min(at+unix.CmsgLen(0), controlSize-1)])
		switch {
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && size >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(data)
			local, link = netip.AddrFrom16(info.Addr).Unmap(), info.Ifindex
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && size >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(data)
			local, link = netip.AddrFrom4(info.Addr), uint32(info.Ifindex)
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && size >= 4:
			segment = int(*(*int32)(data))
		}
		at += unix.CmsgSpace(size)
	}
	if local.IsMulticast() || local == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		local = netip.Addr{} // nothing can be sent from there
	}
	return local, link, segment
}
