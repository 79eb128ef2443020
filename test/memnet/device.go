package memnet

import (
	"bytes"
	"hash/maphash"
	"os"
	"slices"
	"sync"
	"time"

	"stunnel/test/memnet/packet"
)

// Device is a fake TUN device, or a TAP device, whose packets are frames. The test
// plays the kernel: Inject is what programs send into the tunnel, Next and Drain are
// what comes out of it. Of packets without a checksum it is InjectPartial and Partial.
type Device struct {
	queues []*Queue
	room   int           // bytes in front of a packet in what Read gives: of a TAP's
	wake   chan struct{} // holds one token when something was received

	mu       sync.Mutex
	received [][]byte
	partial  int // of all that were ever received
}

// Queue is one queue of a device. It fits the Queue of package transport.
type Queue struct {
	device *Device
	wake   chan struct{} // holds one token when there may be something to read
	ended  chan struct{}

	mu      sync.Mutex
	waiting []waiting
	lent    []waiting // what the last Read returned
	err     error     // why the queue has ended; nil while it lives
}

// waiting is a packet that was injected.
type waiting struct {
	packet  []byte
	partial bool
}

// NewEthernet makes a TAP device with n queues.
func NewEthernet(n int) *Device {
	d := NewDevice(n)
	d.room = frameRoom
	return d
}

// frameRoom is what package transport wants in front of a frame, in bytes.
const frameRoom = 4

// NewDevice makes a TUN device with n queues.
func NewDevice(n int) *Device {
	d := &Device{wake: make(chan struct{}, 1)}
	for range n {
		d.queues = append(d.queues, &Queue{device: d, wake: make(chan struct{}, 1), ended: make(chan struct{})})
	}
	return d
}

// Queues returns the device's queues.
func (d *Device) Queues() []*Queue { return slices.Clone(d.queues) }

// Inject gives the packets' copies to the readers, each flow (pair of IP
// addresses) to one queue and in order: those of a queue at once, as a burst.
func (d *Device) Inject(packets ...[]byte) { d.inject(packets, false) }

// InjectPartial is Inject for TCP and UDP packets whose checksum the kernel
// leaves to the device. In the copies that is garbage: who forgets that it is
// to be computed is found out. It panics for a packet that can't be partial.
func (d *Device) InjectPartial(packets ...[]byte) {
	var wrong [][]byte
	for _, p := range packets {
		p = slices.Clone(p)
		copy(packet.Checksum(d.ip(p))[:2], "\xde\xad")
		wrong = append(wrong, p)
	}
	d.inject(wrong, true)
}

func (d *Device) inject(packets [][]byte, partial bool) {
	bursts := make([][]waiting, len(d.queues))
	for _, p := range packets {
		i := flow(p, d.room > 0) % uint64(len(d.queues))
		bursts[i] = append(bursts[i], waiting{append(bytes.Repeat([]byte{Poison}, d.room), p...), partial})
	}
	for i, burst := range bursts {
		if burst != nil {
			d.queues[i].inject(burst)
		}
	}
}

// ip is the IP packet in what the device carries.
func (d *Device) ip(p []byte) []byte {
	if d.room == 0 {
		return p
	}
	return p[min(headerLength(p), len(p)):]
}

// headerLength is that of a frame's header, with up to two VLAN tags.
func headerLength(frame []byte) int {
	n := 14
	for range 2 {
		if len(frame) < n || frame[n-2] != 0x81 && frame[n-2] != 0x88 || frame[n-1] != 0x00 && frame[n-1] != 0xa8 {
			break
		}
		n += 4
	}
	return n
}

// Partial is how many packets came out of the tunnel without a checksum.
func (d *Device) Partial() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.partial
}

// Break ends every queue with err: what a reader gets when the device has been
// deleted by somebody else.
func (d *Device) Break(err error) {
	for _, q := range d.queues {
		q.end(err)
	}
}

// Next waits up to t for the next packet that came out of the tunnel.
func (d *Device) Next(t time.Duration) ([]byte, bool) {
	deadline := time.NewTimer(t)
	defer deadline.Stop()
	for {
		d.mu.Lock()
		if len(d.received) > 0 {
			p := d.received[0]
			d.received = d.received[1:]
			d.mu.Unlock()
			return p, true
		}
		d.mu.Unlock()
		select {
		case <-deadline.C:
			return nil, false
		case <-d.wake:
		}
	}
}

// Drain returns the packets that came out of the tunnel and were not taken
// yet, without waiting.
func (d *Device) Drain() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.received
	d.received = nil
	return all
}

// Look does nothing: what was injected is for who waits in Read.
func (q *Queue) Look(func(first, rest [][]byte, partial []bool)) {}

// Read blocks for at least one packet and returns up to 64, cut as the Queue
// of package transport wants them: first 64 bytes (128 where the headers are
// longer than 64), rest, and whether it is partial. Valid until the next Read.
// os.ErrClosed after Close.
func (q *Queue) Read() (first, rest [][]byte, partial []bool, err error) {
	q.takeBack()
	for {
		if packets := q.take(); len(packets) > 0 {
			for _, w := range packets {
				p := w.packet
				cut := min(len(p), q.device.firstLength(p))
				first, rest, partial = append(first, p[:cut:cut]), append(rest, p[cut:]), append(partial, w.partial)
			}
			return first, rest, partial, nil
		}
		select {
		case <-q.ended:
			q.mu.Lock()
			defer q.mu.Unlock()
			return nil, nil, nil, q.err
		case <-q.wake:
		}
	}
}

// Complete computes the checksum of a packet that Read gave as partial.
func (q *Queue) Complete(first, rest []byte) {
	whole := slices.Concat(first, rest)
	if !packet.Complete(q.device.ip(whole[q.device.room:])) {
		panic("memnet: Complete of a packet that is not partial")
	}
	copy(first, whole)
}

// Write hands packets to the programs behind the device, complete: of partial
// ones (nil: none is) it computes the checksum, or drops what can't be partial.
// As a real one may, it changes the bytes that it was given.
func (q *Queue) Write(packets [][]byte, partial []bool) error {
	q.mu.Lock()
	err := q.err
	q.mu.Unlock()
	if err != nil {
		return err
	}
	q.device.mu.Lock()
	defer q.device.mu.Unlock()
	for i, p := range packets {
		whole := slices.Clone(p)
		poison(p)
		if partial != nil && partial[i] {
			if !packet.Complete(q.device.ip(whole)) {
				continue
			}
			q.device.partial++
		}
		q.device.received = append(q.device.received, whole)
	}
	select {
	case q.device.wake <- struct{}{}:
	default:
	}
	return nil
}

// Close ends a blocked Read with os.ErrClosed, and every later one.
func (q *Queue) Close() error {
	if !q.end(os.ErrClosed) {
		return os.ErrClosed
	}
	return nil
}

// Closed says whether the queue has ended, by Close or by Break.
func (q *Queue) Closed() bool {
	select {
	case <-q.ended:
		return true
	default:
		return false
	}
}

// end says whether it was the first to end the queue.
func (q *Queue) end(err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return false
	}
	q.err = err
	q.waiting = nil
	close(q.ended)
	return true
}

func (q *Queue) inject(burst []waiting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	q.waiting = append(q.waiting, burst...)
	q.nudge()
}

func (q *Queue) take() []waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(burstLimit, len(q.waiting))
	q.lent = q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	if len(q.waiting) > 0 {
		q.nudge()
	}
	return q.lent
}

func (q *Queue) takeBack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.lent {
		poison(w.packet)
	}
	q.lent = nil
}

func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// firstLength is 64, or 128 where the headers, with the room in front of them, take
// more than that.
func (d *Device) firstLength(p []byte) int {
	headers := 0
	if d.room > 0 {
		p = p[d.room:]
		headers = d.room + headerLength(p)
		p = d.ip(p)
	}
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		length := int(p[0]&15) * 4
		if at := length + 12; p[9] == 6 && len(p) > at {
			length += int(p[at]>>4) * 4
		}
		headers += length
	case len(p) > 52 && p[0]>>4 == 6 && p[6] == 6:
		headers += 40 + int(p[52]>>4)*4
	}
	if headers > 64 {
		return 128
	}
	return 64
}

// flow hashes the packet's IP addresses, or a frame's own.
func flow(p []byte, isFrame bool) uint64 {
	switch {
	case isFrame:
		return maphash.Bytes(seed, p[:min(12, len(p))])
	case len(p) >= 20 && p[0]>>4 == 4:
		return maphash.Bytes(seed, p[12:20])
	case len(p) >= 40 && p[0]>>4 == 6:
		return maphash.Bytes(seed, p[8:40])
	}
	return 0
}
