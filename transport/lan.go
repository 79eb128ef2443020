package transport

import (
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"stunnel/transport/ethernet"
	"stunnel/transport/extension"
	"stunnel/transport/fdb"
)

// MAC is the address of an Ethernet station.
type MAC = ethernet.MAC

// ParseMAC reads an address as 02:00:5e:10:00:01.
func ParseMAC(text string) (MAC, error) { return ethernet.ParseMAC(text) }

// VLAN is the virtual LAN of a station.
type VLAN = ethernet.VLAN

// ParseVLAN reads what VLAN.String writes.
func ParseVLAN(text string) (VLAN, error) { return ethernet.ParseVLAN(text) }

// Defaults in tap mode.
const (
	DefaultMACAgeing = fdb.DefaultAgeing
	DefaultMACLimit  = fdb.DefaultLimit

	// DefaultStormLimit is several times what the hosts of a large site flood together
	// (ARP, neighbour discovery, mDNS, a stream or two), and with full-size frames
	// 24 Mb/s: what a loop makes does not fill a line.
	DefaultStormLimit = 2000
)

// lan is what a tunnel in tap mode has beside: the device and the peers are the ports
// of a learning switch. Frames go where the station was last heard that they are for, or
// are flooded: to all others, but what came from a peer to no other peer, unless we are
// told to forward. So peers that all know each other make no loop.
type lan struct {
	tunnel *Tunnel
	table  *fdb.Table[*port]
	local  *port // the device
	guard  guard
	sweep  timer // stations may be too old

	forward   atomic.Bool
	secure    atomic.Bool
	linkLocal atomic.Bool  // frames to the groups of one link pass
	interval  atomic.Int64 // of flooded frames from one port, a time.Duration; 0: no limit

	limit, storm int // as configured; guarded by Tunnel.mu
}

// port is one of the switch's.
type port struct {
	fdb.Port[*port]
	tunnel *Tunnel
	peer   *peer // nil: the device

	floods    atomic.Int64 // when as many as in a second may be flooded again, a time.Duration
	probes    tokenBucket  // other ends' that pass
	loop      loop
	flaps     atomic.Uint64 // times that a station was held because it moves too often
	unlearned atomic.Uint64 // frames of stations for which there was no room
	pinned    *[]MAC        // guarded by Tunnel.mu; nil: none
}

func newLAN(t *Tunnel) *lan {
	n := &lan{tunnel: t, table: fdb.New[*port](), local: newPort(t, nil), limit: fdb.DefaultLimit}
	n.local.Trusted = true
	n.guard.init()
	n.setStormLimit(DefaultStormLimit)
	return n
}

func newPort(t *Tunnel, p *peer) *port {
	o := &port{tunnel: t, peer: p}
	o.Owner = o
	o.probes.interval, o.probes.burst = probesInterval, probesBurst
	return o
}

// LogValue names the port as people know it.
func (o *port) LogValue() slog.Value {
	if o.peer == nil {
		return slog.StringValue("local side")
	}
	return o.peer.LogValue()
}

// drops are the counters for what came by the port.
func (o *port) drops() *drops {
	if o.peer == nil {
		return &o.tunnel.drops
	}
	return &o.peer.drops
}

// mode is what this end carries.
func (t *Tunnel) mode() extension.Mode {
	if t.lan != nil {
		return extension.ModeTAP
	}
	return extension.ModeTUN
}

// plaintextMTU is how long, in bytes, a plaintext is that the device's MTU allows:
// beyond it nothing is padded.
func (t *Tunnel) plaintextMTU() int {
	mtu := int(t.mtu.Load())
	if t.lan != nil && mtu > 0 {
		mtu += extension.HeaderSize + ethernet.MaxHeaderSize
	}
	return mtu
}

// lookup is where a frame goes; nil: to all.
func (n *lan) lookup(h *ethernet.Header, now time.Duration) *port {
	if h.Destination.IsGroup() {
		return nil
	}
	if p := n.table.Lookup(fdb.Station{MAC: h.Destination, VLAN: h.VLAN}, now); p != nil {
		return p.Owner
	}
	return nil
}

// learn enters where some frames with this header came from; false: they go no further,
// which is counted.
func (n *lan) learn(from *port, h *ethernet.Header, frames int, now time.Duration) bool {
	if !h.Source.IsStation() {
		from.drops().add(dropBadFrame, frames)
		return false
	}
	switch n.table.Learn(fdb.Station{MAC: h.Source, VLAN: h.VLAN}, &from.Port, now) {
	case fdb.Learned:
		n.armSweep(now)
	case fdb.Flapping:
		from.flaps.Add(1)
		n.tell(clueFlap, from, h, now)
	case fdb.Full:
		from.unlearned.Add(uint64(frames))
		n.tell(clueMACLimit, from, h, now)
		if n.secure.Load() && !from.Trusted { // an address that is not known to be its own
			from.drops().add(dropClaimedAddress, frames)
			return false
		}
	case fdb.Claimed:
		from.drops().add(dropClaimedAddress, frames)
		n.tell(clueClaimed, from, h, now)
		return false
	}
	return true
}

// tell logs a clue about the source of a frame, if it is time to.
func (n *lan) tell(c clue, from *port, h *ethernet.Header, now time.Duration) {
	if t := n.tunnel; t.clues[c].Allow(now) {
		t.log.Warn(clueWords[c], "from", from, "address", h.Source, "vlan", h.VLAN)
	}
}

// setStormLimit allows each port so many flooded frames a second; 0: any number.
func (n *lan) setStormLimit(perSecond int) {
	n.storm = perSecond
	interval := time.Duration(0)
	if perSecond > 0 {
		interval = time.Second / time.Duration(perSecond)
	}
	n.interval.Store(int64(interval))
}

// mayFlood is how many of some frames that came by a port may be flooded; the others are
// counted, and nothing is learned of them.
func (n *lan) mayFlood(from *port, frames int, now time.Duration) int {
	if from.loop.stops(now) {
		from.drops().add(dropLoop, frames)
		return 0
	}
	interval := time.Duration(n.interval.Load())
	if interval == 0 {
		return frames
	}
	for {
		full := from.floods.Load()
		begin := max(time.Duration(full), now)
		allowed := min(frames, max(0, int((now+time.Second-begin)/interval))) // another lane's now may be later
		if !from.floods.CompareAndSwap(full, int64(begin+time.Duration(allowed)*interval)) {
			continue
		}
		if allowed < frames {
			from.drops().add(dropStorm, frames-allowed)
			n.tellStorm(from, interval, now)
		}
		return allowed
	}
}

func (n *lan) tellStorm(from *port, interval, now time.Duration) {
	if t := n.tunnel; t.clues[clueStorm].Allow(now) {
		t.log.Warn(clueWords[clueStorm], "from", from, "frames_per_second", int(time.Second/interval))
	}
}

// flush forgets the stations behind a peer: it is not there any more.
func (p *peer) flush() {
	if p.port != nil {
		p.tunnel.lan.table.Flush(&p.port.Port)
	}
}

// armSweep has the table swept in time.
func (n *lan) armSweep(now time.Duration) {
	if n.sweep.idle() {
		n.arm(&n.sweep, now+max(n.table.Ageing()/4, time.Second))
	}
}

// arm sets a timer unless it is running.
func (n *lan) arm(t *timer, due time.Duration) {
	if t.due.CompareAndSwap(0, int64(due)) {
		n.tunnel.schedule.wakeUp()
	}
}

// expire does what is due at now, and returns how long it is until there is more. Only the
// timer loop calls it.
func (n *lan) expire(now time.Duration) time.Duration {
	if n.sweep.fired(now) && n.table.Sweep(now) > 0 {
		n.armSweep(now)
	}
	if n.guard.due.fired(now) {
		n.probe(now)
	}
	next := never
	for _, t := range [...]*timer{&n.sweep, &n.guard.due} {
		if due := t.due.Load(); due != 0 {
			next = min(next, max(time.Duration(due)-now, 0))
		}
	}
	return next
}

// pin has a peer send from these addresses only, and nobody else from them; none: from
// any. mu is held.
func (n *lan) pin(o *port, addresses []MAC) {
	if o.pinned == nil && len(addresses) == 0 {
		return
	}
	o.pinned = nil
	if len(addresses) > 0 {
		own := slices.Clone(addresses)
		o.pinned = &own
	}
	n.table.Pin(&o.Port, addresses)
}
