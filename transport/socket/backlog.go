package socket

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// fastBacklog is how many bytes the kernel takes of a fast connection before it has sent what it has
	// (TCP_NOTSENT_LOWAT): enough to keep it busy while Send waits, and it waits for half of them at the most.
	fastBacklog = 128 << 10

	// mostBacklog is how many a connection may have that is slow, which nobody waits for. One that sends more in backlogTime
	// is fast: 419 Mb/s.
	mostBacklog = 1 << 20

	// backlogTime is how long what is sent on a slow connection may have to wait, a ping as well as a download.
	backlogTime = 20 * time.Millisecond

	// leastBacklog is enough for what an inner connection begins with.
	leastBacklog = 16 << 10

	// rateAge is for how long what is known of the rate of a connection holds.
	rateAge = 100 * time.Millisecond
)

// backlog is how much a connection may have that is not sent.
//
// Whoever sends is a lane, and has packets for other peers as well: it could wait for room only at their expense. So what a
// slow connection does not take is dropped, as by the queue of a slow link. A fast one is waited for, which takes a
// millisecond; what was lost there would have to be sealed a second time, and the processor is what is short then.
type backlog struct {
	most     int       // bytes, where the connection is slow; 0: it is fast, or nobody knows
	allowed  int       // what the kernel has been told
	measured time.Time // when that was found
}

// room is how many bytes more may wait on a slow connection. For others it is the kernel's business.
func (b *backlog) room(fd uintptr, info *unix.TCPInfo) (bytes int, slow bool) {
	if now := time.Now(); now.Sub(b.measured) >= rateAge {
		b.measured, b.most = now, 0
		if tcpInfo(fd, info) {
			b.most = backlogAt(info.Delivery_rate, isAppLimited(info))
		}
		b.allow(fd)
	}
	if b.most == 0 {
		return 0, false
	}
	return b.most - unsent(fd), true
}

// allow tells the kernel, where that makes a difference.
func (b *backlog) allow(fd uintptr) {
	allowed := fastBacklog
	if b.most > 0 {
		allowed = mostBacklog
	}
	if allowed != b.allowed && unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, allowed) == nil {
		b.allowed = allowed
	}
}

// backlogAt is what may wait on a connection that delivers so many bytes per second; 0: whatever the kernel allows, since
// it is fast, or its rate is that of what was sent and not that of the way.
func backlogAt(rate uint64, appLimited bool) int {
	most := rate * uint64(backlogTime/time.Millisecond) / 1000
	if rate == 0 || appLimited || most >= mostBacklog {
		return 0
	}
	return max(int(most), leastBacklog)
}

// isAppLimited reads tcpi_delivery_rate_app_limited, a bit for which unix.TCPInfo has no name.
func isAppLimited(info *unix.TCPInfo) bool {
	return (*[8]byte)(unsafe.Pointer(info))[7]&1 != 0
}
