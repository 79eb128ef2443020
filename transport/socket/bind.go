package socket

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// socketOption is one of setsockopt(2) with an int.
type socketOption struct {
	level, name, value int
	what               string
}

func setAll(fd int, options []socketOption) error {
	for _, opt := range options {
		if err := unix.SetsockoptInt(fd, opt.level, opt.name, opt.value); err != nil {
			return fmt.Errorf("%s: %w", opt.what, err)
		}
	}
	return nil
}

// options are those of every socket, whatever the protocol.
func (o Options) options() []socketOption {
	if o.Mark == 0 {
		return nil
	}
	return []socketOption{{unix.SOL_SOCKET, unix.SO_MARK, int(o.Mark), "SO_MARK"}}
}

func (o Options) bindToDevice(fd int) error {
	if o.Device == "" {
		return nil
	}
	if err := unix.BindToDevice(fd, o.Device); err != nil {
		return fmt.Errorf("SO_BINDTODEVICE: %w", err)
	}
	return nil
}

// takesIPv4 says whether a socket of IPv4 would do.
func (o Options) takesIPv4() bool { return !o.Address.IsValid() || o.Address.Unmap().Is4() }

// local is the address that a socket of IPv6, or of IPv4, is bound to.
func (o Options) local(port uint16, is6 bool) (unix.Sockaddr, error) {
	addr := o.Address
	switch {
	case is6 && !addr.IsValid():
		addr = netip.IPv6Unspecified()
	case !addr.IsValid():
		addr = netip.IPv4Unspecified()
	}
	if !is6 {
		return &unix.SockaddrInet4{Port: int(port), Addr: addr.Unmap().As4()}, nil
	}
	zone, err := zoneIndex(addr.Zone())
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: addr.As16(), ZoneId: zone}, nil
}

// inWords says what is wrong with what a socket was to be bound to, where that is what an error is about.
func (o Options) inWords(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("the port is used by another program: %w", err)
	case errors.Is(err, unix.EADDRNOTAVAIL) && o.Address.IsValid():
		return fmt.Errorf("%v is no address of this host: %w", o.Address, err)
	case errors.Is(err, unix.ENODEV) && o.Device != "":
		return fmt.Errorf("there is no network device %q: %w", o.Device, err)
	}
	return err
}
