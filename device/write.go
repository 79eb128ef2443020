package device

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

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
		r := run{n: 1}
		if q.mergeTCP || q.mergeUDP {
			r = runOf(q.out, q.mergeTCP, q.mergeUDP)
		}
		train := q.out[:r.n]
		err := q.writeRun(fd, &r, train)
		if err == unix.EINVAL && r.n > 1 {
			q.refuse(&r)
			for i := range train {
				if err = q.writeRun(fd, &run{n: 1}, train[i:i+1]); err != nil && !q.drops.count(err, 1) {
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
	if r.n == 1 && !q.virtio {
		_, err := unix.Write(int(fd), packets[0])
		return err
	}
	h := q.headers[:]
	skip := 0
	if r.n > 1 {
		h, skip = h[:r.header(h, packets[0])], r.headers
	} else {
		h = h[:virtioSize]
		clear(h) // whether the sum is right is the kernel's to find out
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

// writev is writev(2); x/sys has only one that allocates.
func writev(fd uintptr, v []unix.Iovec) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v[0])), uintptr(len(v)))
	return errno
}
