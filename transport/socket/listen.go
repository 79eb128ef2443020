package socket

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// What the kernel may keep for a socket, in bytes. Sending has what WireGuard implementations in user space agree on.
// Receiving has less: enough that a burst survives a moment in which nobody reads, but under a full stream the buffer is
// what everything waits in, and more of it makes nothing faster (docs/performance.md).
const (
	sendBuffer    = 7 << 20
	receiveBuffer = 1 << 20
)

// UDP is one UDP socket. Send may be called by many at a time, Receive by one.
type UDP struct {
	// Constant after Listen.
	file    *os.File
	conn    syscall.RawConn
	is6     bool // an AF_INET6 socket that speaks IPv4 too, else an AF_INET one
	port    uint16
	gro     bool
	noGRO   string
	senders sync.Pool                                    // of *sender
	sendmsg func(fd int, msg *unix.Msghdr) syscall.Errno // replaced by tests

	receiver receiver // owned by the caller of Receive

	discovery discovery // owned by who has the file's write lock, as a sender at work does

	gso gso

	truncated     atomic.Uint64
	receiveErrors atomic.Uint64
	refusedLocal  atomic.Uint64
}

// Listen opens n sockets on one UDP port; 0 is a port that the kernel chooses. Each speaks IPv6 and IPv4, or IPv4 alone
// where the host has no IPv6. With several the kernel spreads the remote ends over them (SO_REUSEPORT). Errors wrap
// the kernel's, EADDRINUSE in particular.
func Listen(port uint16, n int, o Options) ([]*UDP, error) {
	return listen(port, n, o, unix.Socket)
}

// listen is Listen with a seam for hosts that lack a family.
func listen(port uint16, n int, o Options, open func(family, kind, protocol int) (int, error)) ([]*UDP, error) {
	sockets := make([]*UDP, 0, n)
	for i := range n {
		u, err := listenOne(port, i > 0, o, open)
		if err == nil && i == 0 && n > 1 {
			// Only now, so that the first one fails if the port is anybody's, another tunnel's included.
			err = u.setsockopt(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
		if err != nil {
			for _, u := range sockets {
				u.Close()
			}
			return nil, fmt.Errorf("listen on UDP port %d: %w", port, o.inWords(err))
		}
		port = u.port
		sockets = append(sockets, u)
	}
	return sockets, nil
}

func listenOne(port uint16, share bool, o Options, open func(family, kind, protocol int) (int, error)) (*UDP, error) {
	const kind = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	is6 := true
	fd, err := open(unix.AF_INET6, kind, unix.IPPROTO_UDP)
	if err == nil {
		if err = prepare(fd, port, share, true, o); err != nil {
			unix.Close(fd)
		}
	}
	if o.takesIPv4() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EPROTONOSUPPORT)) {
		is6 = false
		if fd, err = open(unix.AF_INET, kind, unix.IPPROTO_UDP); err == nil {
			if err = prepare(fd, port, share, false, o); err != nil {
				unix.Close(fd)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	u := &UDP{is6: is6, sendmsg: sendmsg}
	u.senders.New = func() any { return newSender(u) }
	u.gso.lost = o.Lost
	if o.NoOffload {
		u.gso.turnOff(switchedOff)
		u.noGRO = switchedOff
	} else {
		u.setOffloads(fd)
	}
	u.port, err = localPort(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	u.file = os.NewFile(uintptr(fd), "udp:"+strconv.Itoa(int(u.port)))
	if u.conn, err = u.file.SyscallConn(); err != nil {
		u.file.Close()
		return nil, err
	}
	u.receiver.init(u)
	return u, nil
}

// prepare sets what must be set, and binds.
func prepare(fd int, port uint16, share, is6 bool, o Options) error {
	options := []socketOption{discoveryOption(false, false)}
	if is6 {
		options = append(options,
			socketOption{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0, "IPV6_V6ONLY"},
			discoveryOption(true, false),
			socketOption{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO"}) // of IPv4 too, with mapped addresses
	} else {
		options = append(options, socketOption{unix.IPPROTO_IP, unix.IP_PKTINFO, 1, "IP_PKTINFO"})
	}
	if share {
		options = append(options, socketOption{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"})
	}
	if err := setAll(fd, append(options, o.options()...)); err != nil {
		return err
	}
	if err := o.bindToDevice(fd); err != nil {
		return err
	}
	// As large as allowed: a smaller buffer is no error.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	local, err := o.local(port, is6)
	if err != nil {
		return err
	}
	return unix.Bind(fd, local)
}

func localPort(fd int) (uint16, error) {
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	switch a := addr.(type) {
	case *unix.SockaddrInet6:
		return uint16(a.Port), nil
	case *unix.SockaddrInet4:
		return uint16(a.Port), nil
	}
	return 0, unix.EAFNOSUPPORT
}

// setOffloads finds out what the kernel can do. Whether it may segment what leaves by a given route shows only when
// sending (see gso).
func (u *UDP) setOffloads(fd int) {
	if _, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT); err != nil {
		u.gso.turnOff("the kernel has no UDP_SEGMENT")
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		u.noGRO = "the kernel does not say its version"
		return
	}
	release := unix.ByteSliceToString(name.Release[:])
	switch {
	case !atLeast(release, 5, 12): // before, it lost or mangled datagrams that were coalesced
		u.noGRO = "the kernel (" + release + ") is older than 5.12"
	case unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) != nil:
		u.noGRO = "the kernel has no UDP_GRO"
	default:
		u.gro = true
	}
}

// atLeast compares the version that a kernel release like 6.1.0-13-amd64 begins with.
func atLeast(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	x, err := strconv.Atoi(first)
	if err != nil {
		return false
	}
	y, err := strconv.Atoi(rest[:digits])
	if err != nil {
		return x > major
	}
	return x > major || x == major && y >= minor
}

// Port is the UDP port that the socket is bound to.
func (u *UDP) Port() uint16 { return u.port }

// SetMark changes SO_MARK. It fails with EPERM without CAP_NET_ADMIN.
func (u *UDP) SetMark(mark uint32) error {
	if err := u.setsockopt(unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("set SO_MARK: %w", err)
	}
	return nil
}

func (u *UDP) setsockopt(level, name, value int) error {
	var inner error
	if err := u.conn.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), level, name, value) }); err != nil {
		return errClosed
	}
	return inner
}

func (u *UDP) getsockopt(level, name int) int {
	value := 0
	_ = u.conn.Control(func(fd uintptr) { value, _ = unix.GetsockoptInt(int(fd), level, name) })
	return value
}

// Features says how the socket works.
func (u *UDP) Features() Features {
	f := Features{
		IPv6: u.is6, GSO: true, GRO: u.gro, NoGRO: u.noGRO,
		ReceiveBuffer: u.getsockopt(unix.SOL_SOCKET, unix.SO_RCVBUF),
		SendBuffer:    u.getsockopt(unix.SOL_SOCKET, unix.SO_SNDBUF),
		Truncated:     u.truncated.Load(),
		ReceiveErrors: u.receiveErrors.Load(),
		RefusedLocal:  u.refusedLocal.Load(),
		Unsegmented:   u.gso.unsegmented.Load(),
	}
	if why := u.gso.off.Load(); why != nil {
		f.GSO, f.NoGSO = false, *why
	}
	return f
}

// switchedOff is why there are no offloads with Options.NoOffload.
const switchedOff = "switched off"

// Offloads says what the kernel does for whole trains, by name: gso, gro. The value is "" for what is in use and else
// why it is not.
func (u *UDP) Offloads() map[string]string {
	f := u.Features()
	return map[string]string{"gso": f.NoGSO, "gro": f.NoGRO}
}

// Close ends what waits in Receive and Send.
func (u *UDP) Close() error {
	if err := u.file.Close(); err != nil {
		return errClosed
	}
	return nil
}
