package device

import (
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxAhead is how many packets one submission may read.
const maxAhead = 32

// ring is an io_uring (io_uring(7), linux/io_uring.h) that reads many packets
// by one system call, as recvmmsg does from a socket. Only reads that never
// wait are submitted: each is over when the call returns. So the kernel holds
// no memory of ours between two calls, and the ring may change threads. One
// goroutine at a time uses it.
type ring struct {
	fd          int
	entries     []ringEntry
	mask        uint32
	tail        *uint32 // of the entries: where the next one goes
	completions []ringCompletion
	doneMask    uint32
	done        *uint32 // how many completions were taken
	doneTail    *uint32 // how many there have been
	results     [maxAhead]int32
}

// ringEntry is struct io_uring_sqe.
type ringEntry struct {
	opcode, flags uint8
	priority      uint16
	fd            int32
	offset        uint64
	address       uint64
	length        uint32
	rwFlags       uint32
	user          uint64
	_             [3]uint64
}

// ringCompletion is struct io_uring_cqe.
type ringCompletion struct {
	user   uint64
	result int32
	flags  uint32
}

// ringParams is struct io_uring_params.
type ringParams struct {
	entries, completions, flags uint32
	_                           [2]uint32
	features                    uint32
	_                           [4]uint32
	submission                  struct {
		head, tail, mask, size, flags, dropped, array uint32
		_                                             [3]uint32
	}
	completion struct {
		head, tail, mask, size, overflow, entries uint32
		_                                         [4]uint32
	}
}

var (
	_ [64 - unsafe.Sizeof(ringEntry{})]byte
	_ [unsafe.Sizeof(ringEntry{}) - 64]byte
	_ [16 - unsafe.Sizeof(ringCompletion{})]byte
	_ [unsafe.Sizeof(ringCompletion{}) - 16]byte
	_ [120 - unsafe.Sizeof(ringParams{})]byte
	_ [unsafe.Sizeof(ringParams{}) - 120]byte
)

const (
	ringOpRead        = 22         // IORING_OP_READ
	ringOneMapping    = 1          // IORING_FEAT_SINGLE_MMAP: both queues in one
	ringEntriesAt     = 0x10000000 // IORING_OFF_SQES
	ringCurrentOffset = ^uint64(0) // as for read(2), and not for pread(2)
)

// newRing makes a ring, where the kernel knows that and allows it: it can be
// switched off (kernel.io_uring_disabled), and containers mostly forbid it.
// What it takes is given back when nobody holds the ring any more.
func newRing() (*ring, error) {
	var p ringParams
	n, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, maxAhead, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	fd := int(n)
	if p.features&ringOneMapping == 0 { // before Linux 5.4, which had no such read either
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("io_uring_setup", unix.ENOSYS)
	}
	queues, err := mapRing(fd, 0, max(p.submission.array+p.entries*4,
		p.completion.entries+p.completions*uint32(unsafe.Sizeof(ringCompletion{}))))
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	entries, err := mapRing(fd, ringEntriesAt, p.entries*uint32(unsafe.Sizeof(ringEntry{})))
	if err != nil {
		_ = unix.Munmap(queues)
		_ = unix.Close(fd)
		return nil, err
	}
	word := func(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&queues[at])) }
	for i := range p.entries {
		*word(p.submission.array + 4*i) = i // entries are submitted in their order
	}
	r := &ring{
		fd:          fd,
		entries:     unsafe.Slice((*ringEntry)(unsafe.Pointer(&entries[0])), p.entries),
		mask:        *word(p.submission.mask),
		tail:        word(p.submission.tail),
		completions: unsafe.Slice((*ringCompletion)(unsafe.Pointer(&queues[p.completion.entries])), p.completions),
		doneMask:    *word(p.completion.mask),
		done:        word(p.completion.head),
		doneTail:    word(p.completion.tail),
	}
	runtime.AddCleanup(r, func(mappings [2][]byte) {
		for _, m := range mappings {
			_ = unix.Munmap(m)
		}
		_ = unix.Close(fd)
	}, [2][]byte{queues, entries})
	return r, nil
}

func mapRing(fd int, offset int64, size uint32) ([]byte, error) {
	b, err := unix.Mmap(fd, offset, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	return b, os.NewSyscallError("mmap", err)
}

// read reads up to n packets in order, at most maxAhead, packet i to
// b[i*stride:] of maxRead bytes. It returns for each what read(2) would: its
// bytes or a negative errno. A packet may have come after a read that found
// none. The result is valid until the next read. errno is the submission's.
func (r *ring) read(p *pace, fd uintptr, b []byte, n int) (results []int32, errno unix.Errno) {
	begin := *r.tail
	for i := range n {
		r.entries[(begin+uint32(i))&r.mask] = ringEntry{
			opcode:  ringOpRead,
			fd:      int32(fd),
			offset:  ringCurrentOffset,
			address: uint64(uintptr(unsafe.Pointer(&b[i*stride]))),
			length:  maxRead,
			rwFlags: unix.RWF_NOWAIT,
			user:    uint64(i),
		}
	}
	atomic.StoreUint32(r.tail, begin+uint32(n))
	submitted, errno := p.enter(uintptr(r.fd), n)
	if errno != 0 {
		submitted = 0
	}
	// What the kernel had no memory for it has not looked at.
	atomic.StoreUint32(r.tail, begin+uint32(submitted))
	head, tail := *r.done, atomic.LoadUint32(r.doneTail)
	for ; head != tail; head++ {
		c := &r.completions[head&r.doneMask]
		r.results[c.user] = c.result
	}
	atomic.StoreUint32(r.done, head)
	runtime.KeepAlive(b)
	return r.results[:submitted], errno
}
