package transport

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"stunnel/transport/ethernet"
	"stunnel/transport/extension"
)

// The loop guard finds out that our side and a peer's are connected outside of the tunnel
// too (docs/protocol-extensions.md, "Loop guard"). While a peer is there to speak to, a
// probe leaves by the device. If it comes back, everything that is flooded does, again
// and again; then flooding by the port stops by which it came.
const (
	probeInterval = 2 * time.Second // as spanning tree's
	probeValid    = time.Second
	probesKnown   = 16 // the newest of our own, which are known again; older ones pass as others'

	// Flooding stops until no probe has come back for loopHold; twice that if it began
	// again within loopCalm, and so on up to loopHoldMost.
	loopHold     = 10 * time.Second
	loopHoldMost = 5 * time.Minute
	loopCalm     = 10 * time.Minute

	// Probes of other ends pass, or nobody would find a loop, at this rate.
	probesInterval = 100 * time.Millisecond
	probesBurst    = 20
)

// A probe goes to a group that no standard uses, so that bridges forward it, under the
// EtherType for experiments on one's own network (IEEE 802, 9.2.4). Its payload is the
// number of the probe and a tag that only who sent it can make.
var probeGroup = ethernet.MAC{0x03, 's', 't', 'u', 'n', 'l'}

const (
	probeType    = 0x88b5
	probeTag     = 8 // behind the number
	probePayload = 8 + 16
	leastFrame   = 60 // what a frame is filled up to, without check sequence
)

func isProbe(h *ethernet.Header) bool { return h.Type == probeType && h.Destination == probeGroup }

// guard sends probes and knows them again.
type guard struct {
	key    [sha256.Size]byte // constant
	source ethernet.MAC      // constant: of probes, not of the device, lest that seem to move
	due    timer             // the next probe

	mu     sync.Mutex // guards what follows, and every loop but until; a leaf
	number uint64     // of the newest probe
	sent   time.Duration
}

func (g *guard) init() {
	rand.Read(g.key[:]) // never fails, by its documentation
	rand.Read(g.source[:])
	g.source[0] = g.source[0]&0xfc | 2 // one station, and an address that nobody has been given
	var b [8]byte
	rand.Read(b[:])
	g.number = binary.BigEndian.Uint64(b[:])
}

// loop is what the guard knows of a port.
type loop struct {
	until atomic.Int64  // flooding stops until then, a time.Duration; 0: it does not
	hold  time.Duration // how long it stopped last
	told  bool          // the log says that it has stopped
}

// stops says whether nothing may be flooded by the port.
func (o *loop) stops(now time.Duration) bool { return o.until.Load() > int64(now) }

// next makes a probe.
func (g *guard) next(now time.Duration) []byte {
	g.mu.Lock()
	g.number++
	g.sent = now
	number := g.number
	g.mu.Unlock()
	probe := make([]byte, 0, leastFrame)
	probe = append(append(probe, probeGroup[:]...), g.source[:]...)
	probe = binary.BigEndian.AppendUint16(probe, probeType)
	probe = binary.BigEndian.AppendUint64(probe, number)
	probe = append(probe, g.tag(number)...)
	return probe[:leastFrame]
}

func (g *guard) tag(number uint64) []byte {
	h := hmac.New(sha256.New, g.key[:])
	h.Write(binary.BigEndian.AppendUint64(nil, number))
	return h.Sum(nil)[:probePayload-probeTag]
}

// check says whether a probe with this payload is one of our newest, and the newest, and
// young enough to have come by a loop that is there now. A tag costs ten times what the
// rest of a frame does; who has not seen our numbers cannot make us compute any.
func (g *guard) check(payload []byte, now time.Duration) (ours, fresh bool) {
	if len(payload) < probePayload {
		return false, false
	}
	number := binary.BigEndian.Uint64(payload)
	g.mu.Lock()
	newest, sent := g.number, g.sent
	g.mu.Unlock()
	if newest-number >= probesKnown || !hmac.Equal(payload[probeTag:probePayload], g.tag(number)) {
		return false, false
	}
	return true, number == newest && now-sent <= probeValid
}

// watch has probes sent from now on, as there is a peer to speak to.
func (n *lan) watch(now time.Duration) { n.arm(&n.guard.due, max(now, 1)) }

// probe is the timer's.
func (n *lan) probe(now time.Duration) {
	t := n.tunnel
	n.resume(n.local, now)
	speaking := false
	for _, p := range t.peers.all() {
		n.resume(p.port, now)
		s := p.usable(now)
		speaking = speaking || s != nil && s.may(extension.Frames)
	}
	if !speaking || !t.isUp() {
		return
	}
	t.lanes[0].deliver([][]byte{n.guard.next(now)}, nil)
	n.arm(&n.guard.due, now+probeInterval)
}

// resume tells that frames are flooded again.
func (n *lan) resume(o *port, now time.Duration) {
	n.guard.mu.Lock()
	over := o.loop.told && !o.loop.stops(now)
	o.loop.told = o.loop.told && !over
	n.guard.mu.Unlock()
	if over {
		n.tunnel.log.Info("no loop is seen any more: frames are flooded again", "by", o)
	}
}

// stopFlooding is for a probe that came back by a port.
func (n *lan) stopFlooding(o *port, now time.Duration) {
	n.guard.mu.Lock()
	begins := !o.loop.stops(now)
	if begins {
		if o.loop.hold == 0 || int64(now)-o.loop.until.Load() > int64(loopCalm) {
			o.loop.hold = loopHold
		} else {
			o.loop.hold = min(2*o.loop.hold, loopHoldMost)
		}
	}
	hold := o.loop.hold
	o.loop.told = true
	o.loop.until.Store(int64(now + hold))
	n.guard.mu.Unlock()
	if begins {
		n.tunnel.log.Warn("a loop: what leaves by the tunnel's interface comes back; nothing is flooded there until that ends, the rest goes on",
			"by", o, "at_least", hold)
	}
}

// probesOut takes probes that the local stack has sent.
func (l *lane) probesOut(h *ethernet.Header, f frames, sock Socket, now time.Duration) {
	n := l.tunnel.lan
	for i := range f.first {
		switch ours, fresh := n.guard.check(f.first[i][FrameRoom+h.Size:], now); {
		case fresh:
			n.stopFlooding(n.local, now)
		case !ours && n.local.probes.Allow(now):
			l.floodTo(anyPeer, n.local, l.sealer, sock, f.slice(i, i+1), now)
		case !ours:
			l.tunnel.drops.add(dropStorm, 1)
		}
	}
}

// probesIn takes probes that came from p. No station is learned of those, so that of others
// passes as from ours: else a peer could have bridges here believe that any address is its.
func (r *receiver) probesIn(p *peer, h *ethernet.Header, run []arrival, now time.Duration) {
	n := r.tunnel.lan
	for i := range run {
		switch ours, fresh := n.guard.check(run[i].plaintext[FrameRoom+h.Size:], now); {
		case fresh:
			n.stopFlooding(p.port, now)
		case !ours && p.port.probes.Allow(now):
			copy(run[i].plaintext[FrameRoom+len(h.Destination):], n.guard.source[:])
			if n.forward.Load() {
				f := r.relay(run[i : i+1])
				r.floodTo(anyPeer, p.port, r.relayer, r.socket(), f, now)
			}
			r.hand(run[i : i+1])
		case !ours:
			p.drops.add(dropStorm, 1)
		}
	}
}

func anyPeer(*peer) bool { return true }
