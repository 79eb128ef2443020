package socket

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// mostBacklog is how many bytes the kernel takes before it has sent what it has (TCP_NOTSENT_LOWAT). All that is sent
	// waits behind them, a ping as well as a download.
	mostBacklog = 128 << 10

	// backlogTime is how long they are to wait. A connection that is too slow to send mostBacklog in this time gets less.
	backlogTime = 20 * time.Millisecond

	// leastBacklog is enough for what an inner connection begins with.
	leastBacklog = 16 << 10

	// rateAge is for how long what is known of the rate of a connection holds.
	rateAge = 100 * time.Millisecond
)

// backlog is how much a connection may have that is not sent.
type backlog struct {
	most     int       // bytes, where the connection is slow; 0: it is fast, or nobody knows
	measured time.Time // when that was found
}

// room is how many bytes more may wait; where the connection is not slow, that is the kernel's own business.
func (b *backlog) room(fd uintptr, info *unix.TCPInfo) (bytes int, slow bool) {
	if now := time.Now(); now.Sub(b.measured) >= rateAge {
		b.measured, b.most = now, 0
		if tcpInfo(fd, info) {
			b.most = backlogAt(info.Delivery_rate, isAppLimited(info))
		}
	}
	if b.most == 0 {
		return 0, false
	}
	return b.most - unsent(fd), true
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
