package transport

import (
	"sync/atomic"
	"time"
)

// sharedFor is for how long after a message to another peer it is taken that more are to follow.
const sharedFor = 200 * time.Millisecond

// turns tells whether several peers are being sent to. A goroutine that waits for room in the connection of one holds up the
// packets of the others behind it: then nothing waits, and what a connection does not take at once is dropped. Where there
// is one peer only nobody else loses by it.
type turns struct {
	last   atomic.Pointer[peer]
	shared atomic.Int64 // until when several are, on the Tunnel's clock
}

// take is called for each train, by whatever way it goes.
func (t *turns) take(p *peer) {
	if last := t.last.Load(); last != p {
		t.last.Store(p)
		if last != nil {
			t.shared.Store(int64(p.tunnel.now() + sharedFor))
		}
	}
}

// areShared says whether several peers are being sent to.
func (t *turns) areShared(now time.Duration) bool { return int64(now) < t.shared.Load() }
