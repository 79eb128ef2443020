package transport

import (
	"net/netip"
	"time"

	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// What a peer's ways decide is carried out here, by the workers of handshakes: most of it is a handshake, and what is not
// belongs between two of them.

// wishes of a peer that its ways have not been told of, since who has them may hold locks.
const (
	wishSession uint32 = 1 << iota // somebody waits for one, or the one that there is brings nothing
	wishRenewal                    // of the current session
)

// requestHandshake has a worker look for a session, as for a first time.
func (p *peer) requestHandshake() {
	p.wishes.Or(wishSession)
	p.queueInitiation()
}

// requestRenewal has a worker renew the session by the way in use.
func (p *peer) requestRenewal() {
	p.wishes.Or(wishRenewal)
	p.queueInitiation()
}

func (p *peer) queueInitiation() {
	if p.wantsInitiation.CompareAndSwap(false, true) {
		p.tunnel.initiations.push(p)
	}
}

// plan has the next thing that the ways want be done at its time. mu is held.
func (p *peer) plan(now time.Duration) {
	switch next := p.ways.next(); {
	case next == never:
		p.timers.ways.stop()
	case next <= now:
		p.queueInitiation()
	default:
		p.arm(&p.timers.ways, next)
	}
	p.keepIf(p.ways.isLosing(), now)
}

// inform tells the ways what is known of the peer just now. mu is held.
func (p *peer) inform(now time.Duration) {
	w, h := &p.ways, &p.hellos
	w.here = netip.AddrPort{}
	if path := p.path.Load(); path != nil {
		w.here = path.Remote
	}
	if w.linked && p.usable(now) == nil {
		w.expired()
	}
	s := p.sessions.current.Load()
	w.answered = time.Duration(p.watched.answered[w.on].Load())
	w.echoes = s != nil && s.may(extension.Echo)
	w.probes = h.holds && h.refused == "" && h.heard.Capabilities.Has(extension.Probes) && p.extensions() != ExtensionsOff
	w.parallel = h.heard.Instance != 0 && !h.isPlain
}

// proceed does what the ways want done now.
func (p *peer) proceed(now time.Duration) {
	p.mu.Lock()
	wishes := p.wishes.Swap(0)
	if p.removed || p.remote == nil || !p.tunnel.isUp() {
		p.mu.Unlock()
		return
	}
	p.inform(now)
	if wishes&wishSession != 0 {
		p.ways.want(now)
	}
	if wishes&wishRenewal != 0 {
		p.ways.renew(now)
	}
	var outside []func()
	before := p.ways.tries
	for _, a := range p.ways.step(now, p.watched.heardBy(p.ways.on)) {
		if do := p.act(a, now); do != nil {
			outside = append(outside, do)
		}
	}
	if p.ways.tries > max(before, 1) { // of the first one nobody knows yet
		outside = append(outside, func() { p.tunnel.missed(p.publicKey) })
	}
	p.plan(now)
	p.mu.Unlock()
	for _, do := range outside {
		do()
	}
}

// act does one thing, and returns what of it is to be done without mu, which is held now.
func (p *peer) act(a act, now time.Duration) (outside func()) {
	switch a.do {
	case doInitiate:
		return p.shake(a, now)
	case doRepeat:
		if message := p.pending[TransportUDP].message; message != nil {
			return func() { p.sendSealed(message, &socket.Path{Remote: a.to}) }
		}
	case doAbandon:
		p.dropPending(a.by)
	case doDial:
		p.asks(now)
		p.dialTo(a.to, now)
	case doCancel:
		p.cancelDials()
	case doHangUp:
		p.hangUp()
	case doEcho:
		return func() { p.askWhetherAlive(false, now) }
	case doEchoFull:
		return func() { p.askWhetherAlive(true, now) }
	case doLeave:
		p.leave(a)
		return func() {
			p.tunnel.missed(p.publicKey)
			p.tunnel.log.Debug("a way is left", "peer", p, "transport", a.by, "why", a.why)
		}
	case doProbe:
		if s := p.sessions.trial; s != nil {
			return func() { p.probe(s, now) }
		}
	case doAdopt:
		if s := p.sessions.trial; s != nil {
			p.sessions.trial = nil
			p.sessions.addInitiated(s, p.dropSession)
			p.sendKept(s)
			news := p.completed(s, now)
			return func() {
				p.tell(news)
				p.begun(now)
			}
		}
	case doDiscard:
		p.sessions.try(nil, p.dropSession)
	case doClose:
		p.closeOthers()
	case doMiss:
		silent := p.complains(now)
		if !a.to.IsValid() {
			a.to = p.endpoint()
		}
		return func() {
			p.tunnel.missed(p.publicKey)
			if silent {
				p.tunnel.log.Warn("no answer to handshake, still trying", "peer", p, "endpoint", a.to)
			}
		}
	case doGiveUp:
		return func() { p.giveUp(now) }
	}
	return nil
}

// shake makes an initiation. mu is held.
func (p *peer) shake(a act, now time.Duration) (send func()) {
	by := p.path.Load()
	switch current := p.sessions.current.Load(); {
	case a.by == TransportTCP && p.made != nil:
		by = p.made
	case a.by == TransportTCP && current != nil && current.stream != nil:
		by = current.stream
	case a.by == TransportTCP:
		return nil // it has just ended
	case by == nil || by.Remote != a.to:
		by = &socket.Path{Remote: a.to}
	case p.ways.rounds > 1:
		p.clearLocal()
		by = p.path.Load()
	}
	p.asks(now)
	message := p.initiation(by, now)
	if message == nil {
		return nil
	}
	return func() {
		p.sendSealed(message, by)
		p.tunnel.log.Debug("handshake initiation", "peer", p, "endpoint", by.Remote, "transport", a.by)
	}
}

// asks remembers since when the peer has been tried; a trial does not count. mu is held.
func (p *peer) asks(now time.Duration) {
	if p.asked == 0 && p.ways.goal != goalNone {
		p.asked = now
	}
}

// leave takes the current session out of use. One that lives on a connection ends with it. mu is held.
func (p *peer) leave(a act) {
	if s := p.sessions.current.Load(); s != nil && s.carrier() == a.by {
		p.sessions.endSending(s.serial, p.dropSession)
	}
	if a.by == TransportTCP {
		p.closeOthers()
	}
}

// closeOthers lets go of all connections on which the current session does not live. mu is held.
func (p *peer) closeOthers() {
	var stays socket.Stream
	if s := p.sessions.current.Load(); s != nil && s.stream != nil {
		stays = s.stream.Stream
	}
	p.sessions.takeOut(func(s *session) bool { return s.stream != nil && s.stream.Stream != stays }, p.dropSession)
	p.dropGuest()
}

// giveUp is for a peer that has not answered for as long as WireGuard tries.
func (p *peer) giveUp(now time.Duration) {
	p.tunnel.missed(p.publicKey)
	p.tunnel.log.Debug("handshake given up", "peer", p)
	p.timers.keepalive.stop()
	p.drops.add(dropNoHandshake, p.staging.clear())
	p.flush()
	p.armIfIdle(&p.timers.zeroKeys, now+zeroKeysAfter)
}

// tellWay tells people, once, when another transport has been taken into use, or TCP the first time.
func (p *peer) tellWay() {
	p.mu.Lock()
	w := &p.ways
	news := w.news
	w.news = false
	transport, why := w.on, w.why
	p.mu.Unlock()
	if news {
		p.tunnel.carried(p.publicKey, transport)
		p.tunnel.log.Info("now over "+transport.protocol(), "peer", p, "endpoint", p.endpoint(), "why", why)
	}
}

// configureWays is called when it has changed where and how the peer may be reached.
func (p *peer) configureWays(now time.Duration) {
	var udp, tcp []netip.AddrPort
	if to := p.endpoints.Load(); to != nil {
		udp = *to
	}
	if to := p.endpointsTCP.Load(); to != nil {
		tcp = *to
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inform(now)
	p.ways.configure(now, Transport(p.transport.Load()), udp, tcp)
	p.plan(now)
}

// NetworkChanged has all peers with which there is a session, or to be one, tried at once instead of when a timer says: the
// host's addresses or routes have changed, or it has slept. It may be called as often as there is news. reason is for the log.
func (t *Tunnel) NetworkChanged(reason string) {
	t.log.Debug("the network has changed", "why", reason)
	now := t.now()
	for _, p := range t.peers.all() {
		p.mu.Lock()
		p.inform(now)
		p.ways.networkChanged(now)
		linked := p.ways.linked
		p.plan(now)
		p.mu.Unlock()
		if linked {
			p.measureAnew(now)
		}
	}
}
