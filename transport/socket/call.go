package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A socket's system calls never block, so Go's scheduler need not hear of them. An ordinary one tells it, and the first
// one after a moment in which the whole program slept wakes the runtime's monitor thread: a futex before the packet goes
// on, and a thread that then looks around every 20 us. That costs an idle tunnel's ping more than all of our own code.
//
// But the monitor is also what interrupts a loop that always finds something to receive, so that other goroutines have
// their turn. Therefore only the first calls after a wait are raw; a loop that goes on receives by ordinary ones.

// rawCalls is how many calls of recvmmsg after a wait are raw.
const rawCalls = 8

// pace counts the calls of a loop since it has waited.
type pace int

// waits says that nothing was there and that the loop waits now.
func (p *pace) waits() { *p = 0 }

// recvmmsg is the system call on a socket that does not block. It returns the number of messages.
func (p *pace) recvmmsg(fd uintptr, messages []message) (int, syscall.Errno) {
	var n uintptr
	var errno syscall.Errno
	first := unsafe.Pointer(unsafe.SliceData(messages))
	if *p < rawCalls {
		*p++
		n, _, errno = unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(first), uintptr(len(messages)), 0, 0, 0)
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(first), uintptr(len(messages)), 0, 0, 0)
	}
	return int(n), errno
}

// recv is the system call on a connection that does not block. It returns the number of bytes, of which into must have
// room for one at least.
func (p *pace) recv(fd uintptr, into []byte) (int, syscall.Errno) {
	var n uintptr
	var errno syscall.Errno
	first := unsafe.Pointer(unsafe.SliceData(into))
	if *p < rawCalls {
		*p++
		n, _, errno = unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(first), uintptr(len(into)), 0, 0, 0)
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(first), uintptr(len(into)), 0, 0, 0)
	}
	return int(n), errno
}

// sendmsg is the system call on a socket that does not block. It is always raw: who sends in a loop also reads in it.
func sendmsg(fd int, msg *unix.Msghdr) syscall.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(msg)), 0)
	return errno
}

// sendStream is sendmsg on a connection: it returns how many bytes were taken.
func sendStream(fd uintptr, msg *unix.Msghdr) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(msg)), unix.MSG_NOSIGNAL)
	return int(n), errno
}

// tcpInfo reads what the kernel knows of a connection; false: nothing.
func tcpInfo(fd uintptr, info *unix.TCPInfo) bool {
	length := uint32(unsafe.Sizeof(*info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO, uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&length)), 0)
	return errno == 0
}

// unsent is how many bytes a connection has that have not been sent at all.
func unsent(fd uintptr) int {
	var n int32
	_, _, _ = unix.RawSyscall(unix.SYS_IOCTL, fd, unix.SIOCOUTQNSD, uintptr(unsafe.Pointer(&n)))
	return int(n)
}
