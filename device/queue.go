package device

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxTrain bounds the packets of one Read: two UDP GSO sends' worth. More
	// would let a small packet behind them wait.
	maxTrain = 128
	// maxPacket is the largest packet that a TUN gives: an IPv6 header and
	// 65,535 bytes.
	maxPacket = 40 + 65535
	// arenaSize is the memory that one Read fills. A read needs maxPacket of
	// room, so this is one large packet and 64 KiB of small ones before it.
	arenaSize = 64<<10 + maxPacket + maxTrain*packetAlign
	// packetAlign keeps two packets out of one cache line.
	packetAlign = 64
	// firstSize is the length of a packet's first part: one ChaCha20 block.
	firstSize = 64
)

// Queue is one queue of a TUN. One goroutine at a time reads; any number may
// write and close.
type Queue struct {
	// constant
	file *os.File
	raw  syscall.RawConn
	fill func(fd uintptr) bool // q.readBurst; a method value made per call would allocate
	pour func(fd uintptr) bool // q.writeBurst

	closed atomic.Bool
	drops  drops

	// owned by the goroutine that reads
	arena       []byte
	first, rest [][]byte
	used        int   // bytes of arena that hold the current train
	readErr     error // ends Read, after the packets that came before it

	mu       sync.Mutex // held while writing
	out      [][]byte   // guarded by mu
	writeErr error      // guarded by mu
}

// newQueue takes over file, which is open and non-blocking.
func newQueue(file *os.File) *Queue {
	raw, _ := file.SyscallConn() // fails for a nil file only
	q := &Queue{
		file:  file,
		raw:   raw,
		arena: make([]byte, arenaSize),
		first: make([][]byte, 0, maxTrain),
		rest:  make([][]byte, 0, maxTrain),
	}
	q.fill, q.pour = q.readBurst, q.writeBurst
	return q
}

// Read waits for a packet and then takes along what else is there without
// waiting, at most 128 packets. Packet i is first[i] followed by rest[i];
// first[i] holds its first 64 bytes, 128 where its headers are longer than 64,
// or all of it, and rest[i] what remains, nil for nothing. The memory is the
// queue's: the caller may change it until it calls Read again, and then it is
// no more the caller's.
//
// The error is ErrGone after the interface was deleted and os.ErrClosed after
// Close. While the interface is down Read waits.
func (q *Queue) Read() (first, rest [][]byte, err error) {
	q.first, q.rest, q.used = q.first[:0], q.rest[:0], 0
	if q.readErr == nil {
		if err := q.raw.Read(q.fill); err != nil && q.readErr == nil {
			q.readErr = q.explain(err)
		}
	}
	if len(q.first) > 0 {
		return q.first, q.rest, nil
	}
	return nil, nil, q.readErr
}

// readBurst reads until nothing is there. It returns false to be called again
// when there is something.
func (q *Queue) readBurst(fd uintptr) (done bool) {
	for len(q.first) < maxTrain && len(q.arena)-q.used >= maxPacket {
		n, err := unix.Read(int(fd), q.arena[q.used:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return len(q.first) > 0
		case err != nil:
			q.readErr = q.explain(err)
			return true
		case n == 0:
			q.readErr = io.EOF
			return true
		}
		q.add(q.arena[q.used : q.used+n])
		q.used = (q.used + n + packetAlign - 1) &^ (packetAlign - 1)
	}
	return true
}

// add appends a whole packet to the train.
func (q *Queue) add(packet []byte) {
	if len(packet) <= firstSize {
		q.first, q.rest = append(q.first, packet), append(q.rest, nil)
		return
	}
	q.first = append(q.first, packet[:firstSize:firstSize])
	q.rest = append(q.rest, packet[firstSize:])
}

// Write hands packets to the interface, in order. It may change their bytes
// but keeps no hold on them. Packets that the kernel refuses (no IP packet,
// interface down, no memory) are counted in [TUN.Drops] and are no error;
// ErrGone and os.ErrClosed are as for Read.
func (q *Queue) Write(packets [][]byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out, q.writeErr = packets, nil
	err := q.raw.Write(q.pour)
	q.out = nil
	if q.writeErr != nil {
		return q.writeErr
	}
	if err != nil {
		return q.explain(err)
	}
	return nil
}

// writeBurst writes all of q.out and never asks to be called again: a TUN that
// has no room now drops, as every interface does.
func (q *Queue) writeBurst(fd uintptr) (done bool) {
	for len(q.out) > 0 {
		_, err := unix.Write(int(fd), q.out[0])
		if err == unix.EINTR {
			continue
		}
		if err != nil && !q.drops.count(err, 1) {
			q.writeErr = q.explain(err)
			return true
		}
		q.out = q.out[1:]
	}
	return true
}

// explain gives the error of a read or write its meaning.
func (q *Queue) explain(err error) error {
	switch {
	case q.closed.Load():
		return os.ErrClosed
	case err == unix.EBADFD || q.gone():
		return ErrGone
	}
	return fmt.Errorf("device: %w", err)
}

// gone asks the kernel whether the queue has lost its interface. The poller
// says of such a queue only that it can't be waited for.
func (q *Queue) gone() bool {
	var err error
	if ctl := q.raw.Control(func(fd uintptr) { _, _, err = getInterface(int(fd)) }); ctl != nil {
		return false
	}
	return err == unix.EBADFD
}

// Close ends a Read and lets go of the queue.
func (q *Queue) Close() error {
	if q.closed.Swap(true) {
		return nil
	}
	if err := q.file.Close(); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	return nil
}

// drops counts packets that did not reach the interface.
type drops struct {
	down, full, refused atomic.Uint64
}

// count counts n packets that write gave err for. False: err is about the
// queue and not about the packets.
func (d *drops) count(err error, n uint64) bool {
	switch err {
	case unix.EIO:
		d.down.Add(n)
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		d.full.Add(n)
	case unix.EINVAL, unix.EMSGSIZE, unix.EFAULT, unix.EFBIG:
		d.refused.Add(n)
	default:
		return false
	}
	return true
}

func (d *drops) addTo(m map[string]uint64) {
	for reason, n := range map[string]uint64{
		"interface-down":    d.down.Load(),
		"interface-full":    d.full.Load(),
		"interface-refused": d.refused.Load(),
	} {
		if n > 0 {
			m[reason] += n
		}
	}
}
