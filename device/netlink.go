package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// linkState is what rtnetlink says of an interface.
type linkState struct {
	name   string
	index  int
	mtu    int
	up     bool // administratively
	bursts bursts
	info   []byte // IFLA_LINKINFO, if it has one; valid until next is called again
}

// linkSocket is an rtnetlink socket in the namespace of one interface,
// subscribed to link changes. One goroutine at a time receives.
type linkSocket struct {
	file  *os.File
	raw   syscall.RawConn
	buf   []byte
	index int // the interface's; 0 until the first answer
}

// errLeft says that the interface is no more in the socket's namespace.
var errLeft = errors.New("interface left the namespace")

// openLinkSocket opens a socket in the network namespace ns, -1 for that of
// the calling thread. enter is inNamespace, or EPERM if we may not.
func openLinkSocket(enter func(int, func() error) error, ns int) (*linkSocket, error) {
	fd := -1
	err := enter(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "rtnetlink")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &linkSocket{file: file, raw: raw, buf: make([]byte, 64<<10)}, nil
}

func (s *linkSocket) close() { _ = s.file.Close() }

// ask requests the interface's state: by index when it is known, else by name.
// The answer comes through next.
func (s *linkSocket) ask(name string) error {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	if s.index == 0 {
		attr := make([]byte, unix.SizeofRtAttr, unix.SizeofRtAttr+unix.IFNAMSIZ)
		attr = append(append(attr, name...), 0)
		binary.NativeEndian.PutUint16(attr, uint16(len(attr)))
		binary.NativeEndian.PutUint16(attr[2:], unix.IFLA_IFNAME)
		for len(attr)%4 != 0 {
			attr = append(attr, 0)
		}
		b = append(b, attr...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETLINK)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b[8:], 1) // sequence; notifications have 0
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], uint32(s.index))
	return s.send(b)
}

func (s *linkSocket) send(b []byte) error {
	var sendErr error
	err := s.raw.Control(func(fd uintptr) {
		sendErr = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	if err != nil {
		return err
	}
	return sendErr
}

// next waits for the interface's next state. errLeft: it is deleted or moved.
// Any other error but a closed socket is EAGAIN-like: ask again.
func (s *linkSocket) next() (linkState, error) {
	for {
		n, err := s.receive()
		if err != nil {
			return linkState{}, err
		}
		messages, err := syscall.ParseNetlinkMessage(s.buf[:n])
		if err != nil {
			return linkState{}, err
		}
		// Of several the newest counts; a departure counts always.
		var newest *linkState
		for i := range messages {
			state, err := s.parse(&messages[i])
			if err != nil {
				return linkState{}, err
			}
			if state != nil {
				newest = state
			}
		}
		if newest != nil {
			return *newest, nil
		}
	}
}

func (s *linkSocket) receive() (n int, err error) {
	var recvErr error
	err = s.raw.Read(func(fd uintptr) bool {
		var from unix.Sockaddr
		for n, from, recvErr = unix.Recvfrom(int(fd), s.buf, 0); recvErr == unix.EINTR; {
			n, from, recvErr = unix.Recvfrom(int(fd), s.buf, 0)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); recvErr == nil && (!ok || nl.Pid != 0) {
			n = 0 // not from the kernel
		}
		return recvErr != unix.EAGAIN
	})
	if err != nil {
		return 0, os.ErrClosed
	}
	return n, recvErr
}

// parse returns nil for a message about something else.
func (s *linkSocket) parse(m *syscall.NetlinkMessage) (*linkState, error) {
	switch m.Header.Type {
	case unix.NLMSG_ERROR:
		if len(m.Data) >= 4 {
			if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno == int32(unix.ENODEV) {
				return nil, errLeft
			} else if errno != 0 {
				return nil, syscall.Errno(errno)
			}
		}
		return nil, nil
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
	default:
		return nil, nil
	}
	if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
		return nil, nil
	}
	state := linkState{
		index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))),
		up:    binary.NativeEndian.Uint32(m.Data[8:])&unix.IFF_UP != 0,
	}
	if s.index == 0 && m.Header.Type == unix.RTM_NEWLINK && m.Header.Seq == 1 {
		s.index = state.index // the answer to ask
	}
	if state.index != s.index {
		return nil, nil
	}
	if m.Header.Type == unix.RTM_DELLINK {
		return nil, errLeft
	}
	attributes(m.Data[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch {
		case kind == unix.IFLA_MTU && len(value) >= 4:
			state.mtu = int(binary.NativeEndian.Uint32(value))
		case kind == unix.IFLA_IFNAME:
			state.name = unix.ByteSliceToString(value)
		case kind == linkGSOMaxSegments && len(value) >= 4:
			state.bursts.segments = binary.NativeEndian.Uint32(value)
		case kind == linkGSOMaxSize && len(value) >= 4:
			state.bursts.size = binary.NativeEndian.Uint32(value)
		case kind == linkGSOIPv4MaxSize && len(value) >= 4:
			state.bursts.size4 = binary.NativeEndian.Uint32(value)
		case kind == unix.IFLA_LINKINFO:
			state.info = value
		}
	})
	return &state, nil
}

// attributes calls f for each netlink attribute in b, up to the first one that
// doesn't fit.
func attributes(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofRtAttr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// inNamespace runs f on a thread that is in the network namespace ns, -1 for
// the calling one. A socket stays in the namespace in which it was made, so f
// is short and the thread comes back.
func inNamespace(ns int, f func() error) error {
	if ns < 0 || sameNamespace(ns) {
		return f()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("own network namespace: %w", err)
			return
		}
		defer func() { _ = unix.Close(home) }()
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = f()
		// A thread that can't come home must not serve others: it stays
		// locked and ends with this goroutine.
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// sameNamespace says whether ns is the calling thread's own.
func sameNamespace(ns int) bool {
	var here, there unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &here) != nil || unix.Fstat(ns, &there) != nil {
		return false
	}
	return here.Dev == there.Dev && here.Ino == there.Ino
}
