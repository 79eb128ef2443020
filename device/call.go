package device

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the packet loops never block, so Go's scheduler need not
// hear of them. An ordinary one tells it, and the first one after a moment in
// which the whole program slept wakes the runtime's monitor thread: a futex
// before the packet goes on, and a thread that then looks around every 20 us.
// That costs an idle tunnel's ping more than all of our own code.
//
// But the monitor is also what interrupts a loop that always finds something to
// read, so that other goroutines have their turn. Therefore only the first calls
// after a wait are raw; a loop that goes on reads by ordinary ones.

// rawReads is how many reads after a wait are raw.
const rawReads = 8

// pace counts the reads of a loop since it has waited.
type pace int

// waits says that nothing was there and that the loop waits now.
func (p *pace) waits() { *p = 0 }

// raw says whether the next read is.
func (p *pace) raw() bool {
	if *p < rawReads {
		*p++
		return true
	}
	return false
}

// read is read(2) on a descriptor that does not block.
func (p *pace) read(fd uintptr, b []byte) (int, unix.Errno) {
	var n uintptr
	var errno unix.Errno
	if p.raw() {
		n, _, errno = unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	} else {
		n, _, errno = unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	}
	return int(n), errno
}

// enter is io_uring_enter(2): it submits n reads and waits for nothing.
func (p *pace) enter(fd uintptr, n int) (int, unix.Errno) {
	var submitted uintptr
	var errno unix.Errno
	if p.raw() {
		submitted, _, errno = unix.RawSyscall6(unix.SYS_IO_URING_ENTER, fd, uintptr(n), 0, 0, 0, 0)
	} else {
		submitted, _, errno = unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, uintptr(n), 0, 0, 0, 0)
	}
	return int(submitted), errno
}

// write is write(2) on a descriptor that does not block. It is always raw: who
// writes in a loop also reads in it.
func write(fd uintptr, b []byte) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return errno
}

// writev is writev(2) on a descriptor that does not block, raw as write.
func writev(fd uintptr, v []unix.Iovec) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)))
	return errno
}
