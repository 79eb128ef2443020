package socket

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// SetMark changes SO_MARK of what is sent from now on. It fails with EPERM without CAP_NET_ADMIN.
func (c *TCP) SetMark(mark uint32) error { return setMark(c.raw, mark) }

// SetMark changes SO_MARK, also of the connections that come from now on.
func (l *Listener) SetMark(mark uint32) error {
	raw, err := l.listener.SyscallConn()
	if err != nil {
		return errClosed
	}
	return setMark(raw, mark)
}

func setMark(raw syscall.RawConn, mark uint32) error {
	var inner error
	if raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) }) != nil {
		return errClosed
	}
	if inner != nil {
		return fmt.Errorf("set SO_MARK: %w", inner)
	}
	return nil
}
