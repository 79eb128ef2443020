package socket

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// What the kernel takes in one sendmsg with UDP_SEGMENT: 64 datagrams in old kernels, and the payload of one IPv4
	// datagram.
	maxSegments = 64
	maxBytes    = 65507

	// surelyFits is a datagram's size that no path is too narrow for: 1280 bytes less the headers of IPv6 and UDP.
	surelyFits = 1232

	// After so many trains in a row that could not be segmented, so many are not tried.
	refusalsBeforePause = 16
	pauseTrains         = 1024
)

// gso knows whether to let the kernel cut trains into datagrams. Safe for concurrent use.
//
// The kernel refuses in three ways. EIO: the device, or a transformation on the way, cannot do it. EINVAL, if it is
// not about something else: this kernel is broken, or (EMSGSIZE in newer ones) the datagrams are larger than the path,
// and the kernel would have to fragment them, which it does only to datagrams that are sent one by one. The first two
// will not go away; the last is a matter of one path, and of today.
type gso struct {
	lost        func(offload, why string) // constant; Options.Lost
	off         atomic.Pointer[string]    // why, for good
	refusals    atomic.Int32              // in a row
	pause       atomic.Int32              // trains to send singly before the next attempt
	unsegmented atomic.Uint64             // trains sent singly after a refusal
}

func (g *gso) turnOff(why string) bool { return g.off.CompareAndSwap(nil, &why) }

// lose is turnOff for what was in use.
func (g *gso) lose(why string) {
	if g.turnOff(why) && g.lost != nil {
		g.lost("gso", why)
	}
}

// wanted is asked once per train.
func (g *gso) wanted() bool {
	if g.off.Load() != nil {
		return false
	}
	if g.pause.Load() > 0 {
		g.pause.Add(-1)
		return false
	}
	return true
}

func (g *gso) worked() {
	if g.refusals.Load() != 0 {
		g.refusals.Store(0)
	}
}

// refused is told that datagrams of size bytes were not taken as a train, and then were taken one by one.
func (g *gso) refused(errno syscall.Errno, size int) {
	g.unsegmented.Add(1)
	switch {
	case errno == unix.EIO:
		g.lose("a device or policy on the way cannot segment (EIO)")
	case errno == unix.EINVAL && size <= surelyFits:
		g.lose("the kernel refuses UDP_SEGMENT (EINVAL)")
	case g.refusals.Add(1) >= refusalsBeforePause:
		g.pause.Store(pauseTrains)
	}
}
