package socket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// messageTime is how long a message may take from its first byte to its last. Who needs longer is no longer there, or
// wants nothing but to keep us waiting.
const messageTime = 10 * time.Second

// TCP is one TCP connection, a Stream. It is framed as by Mullvad's udp-over-tcp
// (https://github.com/mullvad/udp-over-tcp), so the other end may as well be a WireGuard behind their program.
//
// It is made for what was made for datagrams: what is sent waits in no queue but a short one of the kernel's, and what
// does not fit there is dropped, as a link that is too slow would.
type TCP struct {
	// Constant.
	conn     *net.TCPConn
	raw      syscall.RawConn
	path     Path
	listener *Listener     // that has taken it; nil: it was dialled
	source   netip.Prefix  // of a taken one: what counts as one remote host
	complete time.Duration // messageTime, but in tests
	patience time.Duration // the same with patience

	admitted atomic.Bool
	closed   atomic.Bool

	in  inflow // owned by the caller of First and Receive
	out outflow
}

// newTCP makes a Stream of a connection whose options are set.
func newTCP(conn *net.TCPConn, remote netip.AddrPort) (*TCP, error) {
	c := &TCP{conn: conn, complete: messageTime, patience: patience}
	var err error
	if c.raw, err = conn.SyscallConn(); err != nil {
		return nil, err
	}
	c.path = Path{Remote: remote, Stream: c}
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		c.path.Local = local.AddrPort().Addr().Unmap().WithZone("")
	}
	c.in.init(c)
	return c, nil
}

// First waits for the first message.
func (c *TCP) First() (Datagram, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(c.conn, length[:]); err != nil {
		return Datagram{}, c.failed(err)
	}
	n := int(length[0])<<8 | int(length[1])
	if err := checkLength(n, FirstSize); err != nil {
		return Datagram{}, c.failed(err)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(c.conn, message); err != nil {
		return Datagram{}, c.failed(err)
	}
	return Datagram{Data: message, Path: c.path}, nil
}

// Admit says that the first message was good.
func (c *TCP) Admit() {
	if c.listener != nil && c.admitted.CompareAndSwap(false, true) {
		c.listener.admit(c)
		_ = c.conn.SetReadDeadline(time.Time{}) // else it is closed, and Receive says so
	}
}

// Path is how the connection goes.
func (c *TCP) Path() Path { return c.path }

// Close ends the connection. Who has proved nothing hears no goodbye (RST): the kernel forgets the connection at once.
// To others it is an orderly end (FIN), behind what is still on its way.
func (c *TCP) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return errClosed
	}
	if c.listener != nil {
		if !c.admitted.Load() {
			_ = c.conn.SetLinger(0)
		}
		c.listener.forget(c)
	}
	return c.conn.Close()
}

// failed is the error of a connection that cannot go on. It is closed.
func (c *TCP) failed(err error) error {
	if errors.Is(err, net.ErrClosed) || c.closed.Load() {
		return errClosed
	}
	_ = c.Close()
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // the rest of it says what we say
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("a message did not come to its end in time: %w", err)
	}
	if err == io.EOF {
		return err
	}
	return fmt.Errorf("TCP connection with %v: %w", c.path.Remote, err)
}
