package transport

import (
	"slices"
	"time"

	"stunnel/transport/ethernet"
	"stunnel/transport/extension"
)

// The way of a frame out differs from a packet's (outbound.go) in what becomes of a run:
//
//  1. Frames of one type from one station to one other, or group, in one VLAN are a run.
//  2. The station is learned: it is on our side.
//  3. What bridges do not forward goes no further, nor what is for our own side, nor what
//     the tunnel itself has sent (loop.go).
//  4. A run for a station that is known goes to its peer.
//  5. Any other is flooded: to all peers, as far as storm control and the loop guard let
//     it. What is partial goes so to those that take it, and then is completed, once, for
//     the others.

// outboundFrames sends one burst.
func (l *lane) outboundFrames(f frames, now time.Duration) {
	t, sock := l.tunnel, l.socket()
	if len(f.first) == 0 {
		return
	}
	h, ok := f.header(0)
	for start := 0; start < len(f.first); {
		var next ethernet.Header
		nextOK, end := false, start+1
		for ; end < len(f.first); end++ {
			if ok && f.alike(start, end, h.Size) {
				continue
			}
			if next, nextOK = f.header(end); nextOK != ok || !next.SameWay(&h) {
				break
			}
		}
		switch run := f.slice(start, end); {
		case sock == nil:
			t.drops.add(dropDown, end-start)
		case t.local.Load() == nil:
			t.drops.add(dropNoKey, end-start)
		case !ok:
			t.drops.add(dropBadFrame, end-start)
		default:
			run.head()
			l.switchOut(&h, run, sock, now)
		}
		h, ok, start = next, nextOK, end
	}
}

// switchOut finds out where a run goes.
func (l *lane) switchOut(h *ethernet.Header, f frames, sock Socket, now time.Duration) {
	t := l.tunnel
	n := t.lan
	switch {
	case h.Destination.IsLinkLocal() && !n.linkLocal.Load():
		t.drops.add(dropLinkLocal, len(f.first))
		return
	case isProbe(h):
		l.probesOut(h, f, sock, now)
		return
	}
	f = t.dropSealed(h, f, sock)
	to := n.lookup(h, now)
	if to == nil {
		f = f.slice(0, n.mayFlood(n.local, len(f.first), now))
	}
	if len(f.first) == 0 || !n.learn(n.local, h, len(f.first), now) {
		return
	}
	switch {
	case to == nil:
		l.flood(n.local, l.sealer, sock, f, now)
	case to == n.local:
		t.drops.add(dropElsewhere, len(f.first))
	default:
		l.sendTo(to.peer, l.sealer, sock, f, now)
	}
}

// sendTo sends a run to the one peer that it is for.
func (l *lane) sendTo(p *peer, with *sealer, sock Socket, f frames, now time.Duration) {
	if p.isNowhere() {
		p.drops.add(dropNoEndpoint, len(f.first))
		return
	}
	l.sendOrStage(p, with, sock, f.first, f.rest, f.partial, now)
}

// flood sends a run to all peers but the one it came from, and those with which flooding
// has stopped.
func (l *lane) flood(from *port, with *sealer, sock Socket, f frames, now time.Duration) {
	l.floodTo(func(p *peer) bool {
		if p.port.loop.stops(now) {
			p.drops.add(dropLoop, len(f.first))
			return false
		}
		return true
	}, from, with, sock, f, now)
}

// floodTo sends a run to all peers but the one it came from, if they want it; each is asked
// once.
func (l *lane) floodTo(wants func(*peer) bool, from *port, with *sealer, sock Socket, f frames, now time.Duration) {
	reached := false
	later := with.later[:0]
	partial := slices.Contains(f.partial, true)
	for _, p := range l.tunnel.peers.all() {
		if p.port == from || p.isNowhere() {
			continue
		}
		reached = true
		if !wants(p) {
			continue
		}
		if partial && !p.takesPartial(now) {
			later = append(later, p)
			continue
		}
		l.sendOrStage(p, with, sock, f.first, f.rest, f.partial, now)
	}
	for _, p := range later {
		l.sendOrStage(p, with, sock, f.first, f.rest, f.partial, now)
	}
	clear(later)
	with.later = later[:0]
	if !reached && from.peer == nil { // nobody has come yet
		l.tunnel.drops.add(dropNoPeerMulticast, len(f.first))
	}
}

// takesPartial says whether what is partial may go so to the peer now.
func (p *peer) takesPartial(now time.Duration) bool {
	s := p.usable(now)
	return s != nil && s.may(extension.TrustedChecksums) && p.tunnel.trusted.Load()
}
