package device

import (
	"io"

	"golang.org/x/sys/unix"
)

// Read waits for a packet and then takes along what else is there without
// waiting, at most 128 packets. Packet i is first[i] followed by rest[i];
// first[i] holds its first 64 bytes, 128 where its headers are longer than 64,
// or all of it, and rest[i] what remains, nil for nothing. partial[i] says that
// its TCP or UDP checksum is still to be computed: by Complete, or by the kernel
// that gets the packet from a Write. Of a TAP first[i] begins with FrameRoom
// bytes that mean nothing and are the caller's, and the frame begins behind them:
// they count among the 64 or 128. The memory is the queue's: the caller may
// change it until it calls Read again, and then it is no more the caller's.
//
// The error is ErrGone after the interface was deleted and os.ErrClosed after
// Close. While the interface is down Read waits.
func (q *Queue) Read() (first, rest [][]byte, partial []bool, err error) {
	if q.lent {
		q.lent = false
		q.reading.Unlock()
	}
	if err := q.raw.Read(q.fill); err != nil {
		return nil, nil, nil, q.explain(err)
	}
	q.lent = true
	if len(q.first) > 0 {
		return q.first, q.rest, q.partial, nil
	}
	return nil, nil, nil, q.readErr
}

// Look hands use what is there to read, if anything is and nobody else has or
// reads it. It never waits. Who has just written calls it: the local stack's
// answer is there already, and one goroutine need not wake another for it. What
// use is given is valid until it returns.
func (q *Queue) Look(use func(first, rest [][]byte, partial []bool)) {
	if !q.reading.TryLock() {
		return
	}
	defer q.reading.Unlock()
	for {
		if q.raw.Control(q.glance) != nil || len(q.first) == 0 {
			return
		}
		use(q.first, q.rest, q.partial)
		if !q.super.more() && !q.ahead.more() { // else nothing would wake who waits in Read for the rest
			return
		}
	}
}

// readWaiting is Read's part that the poller calls: false, to be called again
// when there is something. With true it has locked reading.
func (q *Queue) readWaiting(fd uintptr) (done bool) {
	q.reading.Lock()
	if done = q.readBurst(fd, &q.pace); !done {
		q.pace.waits()
		q.reading.Unlock()
	}
	return done
}

// readLook is Look's part that has the descriptor. A look is short, and who
// looks has a pace of its own.
func (q *Queue) readLook(fd uintptr) {
	var p pace
	q.readBurst(fd, &p)
}

// readBurst reads until nothing is there. It returns false if nothing was.
// reading is locked.
func (q *Queue) readBurst(fd uintptr, p *pace) (done bool) {
	q.first, q.rest, q.partial = q.first[:0], q.rest[:0], q.partial[:0]
	if q.readErr != nil {
		return true
	}
	if !q.super.more() {
		q.used = 0
	}
	q.ahead.begin()
	for q.split() && len(q.first) < maxTrain && q.used <= burstSize {
		n, errno := q.ahead.next(p, fd, q.arena, q.used, maxTrain-len(q.first))
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return len(q.first) > 0
		case errno != 0:
			q.readErr = q.explain(errno)
			return true
		case n == 0:
			q.readErr = io.EOF
			return true
		}
		packet := q.arena[q.used : q.used+n : q.used+n]
		if q.virtio {
			q.take(packet)
		} else {
			q.add(packet, false, firstSize)
		}
		q.ahead.row++
		if q.super.more() {
			q.ahead.row = 0
		}
		q.used = (q.used + n + packetAlign - 1) &^ (packetAlign - 1)
	}
	return true
}

// take appends what was read with a virtio header before it. A header that
// lies costs its packet. The end of the header, once decoded, is the room in
// front of a frame, and belongs to the packet from then on.
func (q *Queue) take(b []byte) {
	if len(b) <= virtioSize {
		q.drops.header.Add(1)
		return
	}
	h, packet, network := decodeVirtio(b), b[virtioSize:], 0
	if q.ethernet {
		if h.csumStart > 0xffff-FrameRoom { // and of no frame that there is
			q.drops.header.Add(1)
			return
		}
		h.csumStart += FrameRoom
		packet = b[virtioSize-FrameRoom:]
		network = networkOffset(packet, FrameRoom)
	}
	if h.gsoType != unix.VIRTIO_NET_HDR_GSO_NONE {
		if !q.super.begin(h, packet, network) {
			q.drops.header.Add(1)
		}
		return // split goes on
	}
	partial := h.staysPartial(packet, network)
	if h.partial() && !partial && !h.complete(packet) {
		q.drops.header.Add(1)
		return
	}
	size := firstSize
	if partial && int(h.csumStart)+20 > firstSize {
		size = longFirst // Complete looks for all of the headers there
	}
	q.add(packet, partial, size)
}

// split appends segments of the super-packet. False: the train is full, or must
// end here.
func (q *Queue) split() bool {
	for q.super.more() {
		i := len(q.first)
		if i == maxTrain || q.super.long && i > 0 {
			return false
		}
		first, rest := q.super.next(q.slots[i*longFirst : (i+1)*longFirst])
		q.first, q.rest, q.partial = append(q.first, first), append(q.rest, rest), append(q.partial, q.super.partial)
	}
	return true
}

// add appends a whole packet to the train. Its first part is of size bytes at
// most.
func (q *Queue) add(packet []byte, partial bool, size int) {
	q.partial = append(q.partial, partial)
	if len(packet) <= size {
		q.first, q.rest = append(q.first, packet), append(q.rest, nil)
		return
	}
	q.first = append(q.first, packet[:size:size])
	q.rest = append(q.rest, packet[size:])
}
