package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to a remote end by TCP. ctx bounds how long that may take. Errors wrap the kernel's, or ctx's.
func Dial(ctx context.Context, remote netip.AddrPort, o Options) (*TCP, error) {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	if o.Address.IsValid() && o.Address.Unmap().Is4() != remote.Addr().Is4() {
		return nil, fmt.Errorf("connect to %v by TCP from %v: %w", remote, o.Address, unix.EAFNOSUPPORT)
	}
	dialer := net.Dialer{Control: o.control(), KeepAlive: -1 * time.Second, FallbackDelay: -1}
	dialer.SetMultipathTCP(false)
	if o.Address.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.Address, 0))
	}
	conn, err := dialer.DialContext(ctx, "tcp", remote.String())
	if err == nil {
		var c *TCP
		if c, err = newTCP(conn.(*net.TCPConn), remote); err == nil {
			return c, nil
		}
		conn.Close()
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // the rest of it says what we say
	}
	return nil, fmt.Errorf("connect to %v by TCP: %w", remote, o.inWords(err))
}
