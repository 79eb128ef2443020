package device

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// stride is how far apart the packets of one submission are read: each may be
// the largest.
const stride = (maxRead + packetAlign - 1) &^ (packetAlign - 1)

// ahead reads small packets many at a time. Before it has seen one it can't
// know how large a packet is, so each gets room for the largest, and then moves
// down to the one before it.
type ahead struct {
	// submit reads n packets to b, as ring.read; nil: each packet is read by a
	// call of its own.
	submit func(p *pace, fd uintptr, b []byte, n int) ([]int32, unix.Errno)
	off    atomic.Pointer[string] // why submit is nil, for any goroutine; nil: it is not

	row     int     // packets since the burst began or its last super-packet
	results []int32 // of packets that were read and not taken yet
	at      int     // where the next of them lies in the arena
	empty   bool    // there were no more than these
}

// start finds out whether this kernel lets us.
func (a *ahead) start() {
	r, err := newRing()
	if err != nil {
		why := "the kernel refuses it: " + err.Error()
		a.off.Store(&why)
		return
	}
	a.submit = r.read
}

// whyOff is "" if packets are read many at a time, and else why not.
func (a *ahead) whyOff() string {
	if why := a.off.Load(); why != nil {
		return *why
	}
	return ""
}

// begin begins a burst. Who finds nothing in it must have asked the kernel
// anew: the poller tells only of what came since.
func (a *ahead) begin() { a.row, a.empty = 0, false }

// more says that packets were read that next has still to give.
func (a *ahead) more() bool { return len(a.results) > 0 }

// next gives one packet at arena[used:], as a read(2) that does not wait would.
// arena has room for maxAhead strides behind used. It asks for as many as there
// were in a row: of a lone packet nothing is expected, and behind super-packets
// other large ones.
func (a *ahead) next(p *pace, fd uintptr, arena []byte, used, most int) (int, unix.Errno) {
	for {
		if n, errno, ok := a.take(arena, used); ok {
			return n, errno
		}
		if a.empty {
			return 0, unix.EAGAIN
		}
		n := min(a.row, most, maxAhead)
		if n < 2 || a.submit == nil {
			return p.read(fd, arena[used:])
		}
		results, errno := a.submit(p, fd, arena[used:], n)
		switch {
		case errno != 0 || len(results) == 0:
			// The kernel has no memory just now, or something forbids what it
			// did not before.
			return p.read(fd, arena[used:])
		case results[0] == -int32(unix.EINVAL) || results[0] == -int32(unix.EOPNOTSUPP):
			why := "the kernel can't read a TUN by it"
			a.submit = nil
			a.off.Store(&why)
			continue
		}
		a.results, a.at = results, used
		a.empty = results[len(results)-1] == -int32(unix.EAGAIN)
	}
}

// take gives the next packet that was read. False: there is none.
func (a *ahead) take(arena []byte, used int) (n int, errno unix.Errno, ok bool) {
	for len(a.results) > 0 {
		result, at := int(a.results[0]), a.at
		a.results, a.at = a.results[1:], at+stride
		switch {
		case result == -int(unix.EAGAIN): // maybe others have come since
			continue
		case result < 0:
			return 0, unix.Errno(-result), true
		case at != used:
			copy(arena[used:], arena[at:at+result])
		}
		return result, 0, true
	}
	return 0, 0, false
}
