package socket

import (
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr has room for an address of either family.
type sockaddr struct {
	v6 unix.RawSockaddrInet6
}

func (a *sockaddr) v4() *unix.RawSockaddrInet4 {
	return (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.v6))
}

// set writes remote as a socket of the family wants it, and returns the length.
func (a *sockaddr) set(remote netip.AddrPort, is6 bool) (uint32, error) {
	addr := remote.Addr()
	switch {
	case !addr.IsValid():
		return 0, unix.EDESTADDRREQ
	case is6:
		zone, err := zoneIndex(addr.Zone())
		if err != nil {
			return 0, err
		}
		a.v6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(remote.Port()), Addr: addr.As16(), Scope_id: zone}
		return unix.SizeofSockaddrInet6, nil
	case addr.Unmap().Is4():
		*a.v4() = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(remote.Port()), Addr: addr.Unmap().As4()}
		return unix.SizeofSockaddrInet4, nil
	}
	return 0, unix.EAFNOSUPPORT
}

// remote reads what the kernel has written. It is not valid where that is no IP address.
func (a *sockaddr) remote(length uint32) netip.AddrPort {
	switch {
	case a.v6.Family == unix.AF_INET6 && length >= unix.SizeofSockaddrInet6:
		addr := netip.AddrFrom16(a.v6.Addr).Unmap()
		if a.v6.Scope_id != 0 && addr.Is6() {
			addr = addr.WithZone(strconv.FormatUint(uint64(a.v6.Scope_id), 10))
		}
		return netip.AddrPortFrom(addr, networkOrder(a.v6.Port))
	case a.v6.Family == unix.AF_INET && length >= unix.SizeofSockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.v4().Addr), networkOrder(a.v4().Port))
	}
	return netip.AddrPort{}
}

// networkOrder swaps the bytes of a port, to and from big endian, on a host of either kind.
func networkOrder(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// zoneIndex is the number of the interface that a zone names, by its name or by its number.
func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	request, err := unix.NewIfreq(zone)
	if err != nil {
		return 0, unix.ENODEV
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return request.Uint32(), nil
}
