package device

import (
	"fmt"
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
	// maxPacket is the largest packet that an interface gives: in a frame with
	// tags an IPv6 header and 65,535 bytes.
	maxPacket = maxFrameHeader + 40 + 65535
	// burstSize is how many bytes one Read gives at most, and one packet more.
	burstSize = 64 << 10
	// arenaSize is the memory that one Read fills. Mostly very little of what
	// is behind burstSize is ever touched.
	arenaSize = burstSize + maxAhead*stride
	// maxRead is what one read may give.
	maxRead = virtioSize + maxPacket
	// packetAlign keeps two packets out of one cache line.
	packetAlign = 64
	// firstSize is the length of a packet's first part: one ChaCha20 block.
	firstSize = 64
)

// Queue is one queue of a TUN or TAP. One goroutine at a time calls Read; any number
// may look, write and close.
type Queue struct {
	// constant
	file     *os.File
	raw      syscall.RawConn
	ethernet bool // packets are frames; then virtio too
	// method values, which would allocate if made per call
	fill   func(fd uintptr) bool // q.readWaiting
	glance func(fd uintptr)      // q.readLook
	pour   func(fd uintptr) bool // q.writeBurst

	writev func(fd uintptr, v []unix.Iovec) unix.Errno // writev(2); tests have one that refuses
	virtio bool                                        // each packet has a virtioHeader before it
	agreed offloads                                    // what the kernel may hand over
	wanted bool                                        // that it does
	leave  func() (after func())                       // called before the file is closed, nil for nothing; after when it is

	closed atomic.Bool
	drops  drops

	lent bool // Read's caller has what it was given, and so reading locked

	reading     sync.Mutex // guards what follows, also while it is lent
	arena       []byte
	slots       []byte // maxTrain of longFirst bytes: first parts of segments
	first, rest [][]byte
	partial     []bool
	used        int         // bytes of arena that hold the current train
	super       superPacket // what is left of the newest one, in arena
	pace        pace
	ahead       ahead
	readErr     error // ends Read, after the packets that came before it

	mu       sync.Mutex // held while writing; guards what follows
	out      [][]byte
	partials []bool // of out; nil for none
	mergeTCP bool
	mergeUDP bool
	merged   [2]bool // a merged packet of TCP, of UDP was accepted once
	headers  [virtioSize + maxPlainHeader]byte
	vector   [1 + maxSegments]unix.Iovec
	writeErr error
}

// newQueue takes over file, which is open and non-blocking. With virtio it
// splits what the kernel gives whole and, if that is wanted, merges what it is
// given, as far as agreed says that the kernel knows such packets.
func newQueue(file *os.File, virtio, wanted bool, agreed offloads) *Queue {
	raw, _ := file.SyscallConn() // fails for a nil file only
	q := &Queue{
		file:     file,
		raw:      raw,
		writev:   writev,
		virtio:   virtio,
		agreed:   agreed,
		wanted:   wanted,
		arena:    make([]byte, arenaSize),
		first:    make([][]byte, 0, maxTrain),
		rest:     make([][]byte, 0, maxTrain),
		partial:  make([]bool, 0, maxTrain),
		mergeTCP: virtio && wanted,
		mergeUDP: virtio && wanted && agreed&offloadUDP != 0,
	}
	if virtio {
		q.slots = make([]byte, maxTrain*longFirst)
	}
	if wanted {
		q.ahead.start()
	}
	q.fill, q.glance, q.pour = q.readWaiting, q.readLook, q.writeBurst
	return q
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
	if q.leave != nil {
		defer q.leave()()
	}
	if err := q.file.Close(); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	return nil
}

// Offloads says what the kernel and the queue leave to each other, by name:
// vnet_hdr, csum, tso4, tso6, uso4, uso6, and io_uring, by which small packets
// are read. The value is "" for what is in use and else why it is not.
func (q *Queue) Offloads() map[string]string {
	switch {
	case !q.wanted:
		return map[string]string{"vnet_hdr": "switched off"}
	case !q.virtio:
		return map[string]string{"vnet_hdr": "the interface has none"}
	}
	m := map[string]string{"vnet_hdr": "", "io_uring": q.ahead.whyOff()}
	for _, f := range offloadNames {
		m[f.name] = ""
		if q.agreed&f.bit == 0 {
			m[f.name] = "the kernel refuses it (TUNSETOFFLOAD)"
		}
	}
	return m
}

// Drops counts the packets that could not be delivered to the interface, by
// reason. Only reasons that happened are there.
func (q *Queue) Drops() map[string]uint64 {
	m := make(map[string]uint64)
	q.drops.addTo(m)
	return m
}

// drops counts packets that did not reach the interface.
type drops struct {
	down, full, refused atomic.Uint64
	header              atomic.Uint64 // read with a virtio header that can't be true
	partial             atomic.Uint64 // to write, said to be partial and can't be
}

// count counts n packets that write gave err for. False: err is about the
// queue and not about the packets.
func (d *drops) count(err error, n int) bool {
	switch err {
	case errBadPartial:
		d.partial.Add(uint64(n))
	case unix.EIO:
		d.down.Add(uint64(n))
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		d.full.Add(uint64(n))
	case unix.EINVAL, unix.EMSGSIZE, unix.EFAULT, unix.EFBIG:
		d.refused.Add(uint64(n))
	default:
		return false
	}
	return true
}

func (d *drops) addTo(m map[string]uint64) {
	for reason, n := range map[string]uint64{
		"device_down":        d.down.Load(),
		"device_full":        d.full.Load(),
		"device_refused":     d.refused.Load(),
		"bad_offload_header": d.header.Load(),
		"bad_partial":        d.partial.Load(),
	} {
		if n > 0 {
			m[reason] += n
		}
	}
}
