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
func (l *lane) admitFrame(s *session, plaintext []byte) {
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
		l.arrived = append(l.arrived, arrival{plaintext[:FrameRoom+len(body)], h, partial})
	}
}

// forward sends what has arrived from p on its way.
func (l *lane) forward(p *peer, now time.Duration) {
	for start := 0; start < len(l.arrived); {
		h, end := &l.arrived[start].header, start+1
		for end < len(l.arrived) && l.arrived[end].header.SameWay(h) {
			end++
		}
		l.switchIn(p, h, l.arrived[start:end], now)
		start = end
	}
	l.arrived = l.arrived[:0]
}

// switchIn finds out where a run goes.
func (l *lane) switchIn(p *peer, h *ethernet.Header, run []arrival, now time.Duration) {
	n := l.tunnel.lan
	switch {
	case h.Destination.IsLinkLocal() && !n.linkLocal.Load():
		p.drops.add(dropLinkLocal, len(run))
		return
	case isProbe(h):
		l.probesIn(p, h, run, now)
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
		l.spread(p, run, now)
	case to == n.local:
		l.hand(run)
	case to != p.port && n.forward.Load():
		f := l.relay(run)
		l.sendTo(to.peer, l.relayer, l.socket(), f, now)
	default:
		p.drops.add(dropElsewhere, len(run))
	}
}

// spread floods a run that came from p.
func (l *lane) spread(p *peer, run []arrival, now time.Duration) {
	n := l.tunnel.lan
	if n.forward.Load() {
		f := l.relay(run)
		l.flood(p.port, l.relayer, l.socket(), f, now)
		for i := range run {
			run[i].partial = f.partial[i] // completed for one is complete for all
		}
	}
	if n.local.loop.stops(now) {
		p.drops.add(dropLoop, len(run))
		return
	}
	l.hand(run)
}

// hand puts a run to those that go to the queue.
func (l *lane) hand(run []arrival) {
	for i := range run {
		l.packets, l.partial = append(l.packets, run[i].plaintext[FrameRoom:]), append(l.partial, run[i].partial)
	}
}

// relay makes a run ready to be sealed again; valid until the next one.
func (l *lane) relay(run []arrival) frames {
	if l.relayer == nil {
		l.relayer = newSealer()
	}
	f := &l.relayed
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
