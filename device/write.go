package device

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Write hands packets to the interface, in order; a TAP takes whole frames, with
// no room in front. partial[i] says that the TCP
// or UDP checksum of packets[i] has not been computed and need not be: whoever
// vouches for the packet is trusted. nil: none is so. A packet that can't be
// partial by the rule for Read's is dropped. Where the interface takes no
// partial packets they are completed.
//
// Write may change the packets' bytes but keeps no hold on them. Packets that
// the kernel refuses (no IP packet, no frame, interface down, no memory) are counted in
// [TUN.Drops] and are no error; ErrGone and os.ErrClosed are as for Read.
func (q *Queue) Write(packets [][]byte, partial []bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out, q.partials, q.writeErr = packets, partial, nil
	err := q.raw.Write(q.pour)
	q.out, q.partials = nil, nil
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
		r := q.runOf(q.out, q.partials)
		train := q.out[:r.n]
		err := q.writeRun(fd, &r, train)
		if err == unix.EINVAL && r.n > 1 {
			q.refuse(&r)
			for i := range train {
				if err = q.writeRun(fd, &run{n: 1, partial: r.partial}, train[i:i+1]); err != nil && !q.drops.count(err, 1) {
					break
				}
				err = nil
			}
			r.n = 0 // counted
		}
		if err != nil && !q.drops.count(err, r.n) {
			q.writeErr = q.explain(err)
			return true
		}
		q.out = q.out[len(train):]
		if q.partials != nil {
			q.partials = q.partials[len(train):]
		}
	}
	return true
}

// refuse stops merging of a kind that this kernel has never accepted.
func (q *Queue) refuse(r *run) {
	switch {
	case q.merged[r.kind()]:
	case r.udp:
		q.mergeUDP = false
	default:
		q.mergeTCP = false
	}
}

// writeRun hands over packets as one: the headers are new, the payloads stay
// where they lie.
func (q *Queue) writeRun(fd uintptr, r *run, packets [][]byte) error {
	h := q.headers[:]
	skip := 0
	if r.n > 1 {
		h, skip = h[:r.header(h, packets[0])], r.headers
	} else {
		single, err := q.single(packets[0], r.partial)
		if err != nil {
			return err
		}
		if !q.virtio {
			return q.writeWhole(fd, packets[0])
		}
		h = h[:virtioSize]
		single.encode(h)
	}
	v := append(q.vector[:0], unix.Iovec{Base: &h[0]})
	v[0].SetLen(len(h))
	end := uintptr(0) // of the payload before
	for _, p := range packets {
		if p = p[skip:]; len(p) == 0 {
			continue
		}
		if at := uintptr(unsafe.Pointer(&p[0])); at == end {
			// Whoever opened it put it where it belongs.
			last := &v[len(v)-1]
			last.SetLen(int(last.Len) + len(p))
		} else {
			v = append(v, unix.Iovec{Base: &p[0]})
			v[len(v)-1].SetLen(len(p))
			end = at
		}
		end += uintptr(len(p))
	}
	for {
		switch errno := q.writev(fd, v); errno {
		case 0:
			if r.n > 1 {
				q.merged[r.kind()] = true
			}
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// writeWhole is for an interface that knows no virtio headers.
func (q *Queue) writeWhole(fd uintptr, packet []byte) error {
	for {
		switch errno := write(fd, packet); errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// single is the header of a packet that is not merged; a partial one is made
// ready for it.
func (q *Queue) single(packet []byte, partial bool) (h virtioHeader, err error) {
	if !partial {
		return h, nil // whether the sum is right is the kernel's to find out
	}
	network := q.network(packet, 0)
	packet = packet[network:]
	p, ok := findPartialSum(packet, len(packet))
	switch {
	case !ok:
		return h, errBadPartial
	case q.virtio && q.wanted:
		h = p.begin(packet)
		h.csumStart += uint16(network)
		return h, nil
	}
	p.complete(packet, nil)
	return h, nil
}
