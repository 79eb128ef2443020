package transport

import (
	"time"

	"stunnel/transport/ethernet"
	"stunnel/transport/extension"
)

// The way of a frame in differs from a packet's (inbound.go) in what comes in the place of
// the source check:
//
//  1. All frames that a run of messages has brought are looked at together; those of one
//     type from one station to one other, or group, in one VLAN are a run again.
//  2. The station is learned: it is on the peer's side, or somebody else's, and then the
//     frames go no further if port security says so.
//  3. What is for our side, or for all, goes to the queue with the rest of the burst.
//  4. On a hub (Forward) what is for another peer's side, or for all, is sealed again
//     before that, from where it lies.

// arrival is a frame that came from a peer.
type arrival struct {
	plaintext []byte // with its extension header
	header    ethernet.Header
	partial   bool
}

// admitFrame puts the frame in a plaintext, whatever brought it, to those that are to be
// forwarded, if it may pass.
func (r *receiver) admitFrame(s *session, plaintext []byte) {
	p := s.peer
	if extension.IsPacket(plaintext[0]) {
		p.drops.add(dropNoFrame, 1)
		return
	}
	kind, flags, body, ok := extension.Split(plaintext)
	if !ok || kind != extension.KindFrame {
		p.drops.add(dropBadExtension, 1)
		return
	}
	partial := flags&extension.PartialFrame != 0
	h, ok := ethernet.Parse(body)
	switch {
	case partial && !s.mayGet(extension.TrustedChecksums):
		p.drops.add(dropUntrustedChecksum, 1)
	case p.silenced(s):
		p.drops.add(dropBeforeHello, 1)
	case !ok || partial && !ethernet.MayBePartial(body, len(body)):
		p.drops.add(dropBadFrame, 1)
	default:
		r.arrived = append(r.arrived, arrival{plaintext[:FrameRoom+len(body)], h, partial})
	}
}

// forward sends what has arrived from p on its way.
func (r *receiver) forward(p *peer, now time.Duration) {
	for start := 0; start < len(r.arrived); {
		h, end := &r.arrived[start].header, start+1
		for end < len(r.arrived) && r.arrived[end].header.SameWay(h) {
			end++
		}
		r.switchIn(p, h, r.arrived[start:end], now)
		start = end
	}
	r.arrived = r.arrived[:0]
}

// switchIn finds out where a run goes.
func (r *receiver) switchIn(p *peer, h *ethernet.Header, run []arrival, now time.Duration) {
	n := r.tunnel.lan
	switch {
	case h.Destination.IsLinkLocal() && !n.linkLocal.Load():
		p.drops.add(dropLinkLocal, len(run))
		return
	case isProbe(h):
		r.probesIn(p, h, run, now)
		return
	}
	to := n.lookup(h, now)
	if to == nil {
		run = run[:n.mayFlood(p.port, len(run), now)]
	}
	if len(run) == 0 || !n.learn(p.port, h, len(run), now) {
		return
	}
	switch {
	case to == nil:
		r.spread(p, run, now)
	case to == n.local:
		r.hand(run)
	case to != p.port && n.forward.Load():
		f := r.relay(run)
		r.sendTo(to.peer, r.relayer, r.socket(), f, now)
	default:
		p.drops.add(dropElsewhere, len(run))
	}
}

// spread floods a run that came from p.
func (r *receiver) spread(p *peer, run []arrival, now time.Duration) {
	n := r.tunnel.lan
	if n.forward.Load() {
		f := r.relay(run)
		r.flood(p.port, r.relayer, r.socket(), f, now)
		for i := range run {
			run[i].partial = f.partial[i] // completed for one is complete for all
		}
	}
	if n.local.loop.stops(now) {
		p.drops.add(dropLoop, len(run))
		return
	}
	r.hand(run)
}

// hand puts a run to those that go to the queue.
func (r *receiver) hand(run []arrival) {
	for i := range run {
		r.packets, r.partial = append(r.packets, run[i].plaintext[FrameRoom:]), append(r.partial, run[i].partial)
	}
}

// relay makes a run ready to be sealed again; valid until the next one.
func (r *receiver) relay(run []arrival) frames {
	if r.relayer == nil {
		r.relayer = newSealer()
	}
	f := &r.relayed
	f.reset()
	for i := range run {
		b, cut := run[i].plaintext, fragmentFirst
		if run[i].partial {
			cut = maxFirst // who completes it wants to see all headers
		}
		cut = min(cut, len(b))
		f.append(b[:cut:cut], b[cut:], run[i].partial)
	}
	f.head()
	return *f
}
