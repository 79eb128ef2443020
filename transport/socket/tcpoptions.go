package socket

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// segment is what one packet of a connection carries at most (TCP_MAXSEG), TCP's options included: with the headers of
	// IPv6 1200 bytes. TCP finds no path's MTU where ICMP is filtered (net.ipv4.tcp_mtu_probing is off as a rule, and is the
	// whole host's), and who comes by TCP often does as large packets did not get through. It costs 1 % more headers.
	segment = 1200 - 40 - 20

	// When an idle connection is asked whether it is alive, how often again, and when one is given up of which nothing was
	// acknowledged. Where the other end is a stunnel its silence is noticed before that; this is for the rest, and for what
	// was left behind by an end that is gone.
	keepaliveAfter = 15 * time.Second
	keepaliveEvery = 5 * time.Second
	deadAfter      = 15 * time.Second
)

// congestion is what decides how fast a connection sends, where the kernel has it: as messages that were lost on the way
// are sent again by the connection, a loss must not slow it down more than the network does.
const congestion = "bbr"

// tune sets the options of a connection, or of a listening socket for all connections that it takes.
func tune(fd int, o Options) error {
	options := []socketOption{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"},
		{unix.IPPROTO_TCP, unix.TCP_MAXSEG, segment, "TCP_MAXSEG"},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, fastBacklog, "TCP_NOTSENT_LOWAT"},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()), "TCP_USER_TIMEOUT"},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "SO_KEEPALIVE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepaliveAfter.Seconds()), "TCP_KEEPIDLE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepaliveEvery.Seconds()), "TCP_KEEPINTVL"},
	}
	if err := setAll(fd, append(options, o.options()...)); err != nil {
		return err
	}
	if err := o.bindToDevice(fd); err != nil {
		return err
	}
	// Not where the kernel has no such thing (ENOENT) or keeps it for others (EPERM).
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("TCP_CONGESTION: %w", err)
	}
	return nil
}

// control is tune as package net wants it, with more behind it.
func (o Options) control(more ...socketOption) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		if closed := raw.Control(func(fd uintptr) {
			if err = tune(int(fd), o); err == nil {
				err = setAll(int(fd), more)
			}
		}); closed != nil {
			return closed
		}
		return err
	}
}
