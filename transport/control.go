package transport

import (
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// hear takes a plaintext that is no IP packet. It was opened under s, as the
// message with this counter, came from there, and is no replay. data: it brought something for
// the local stack.
func (r *receiver) hear(s *session, from socket.Path, counter crypto.Counter, plaintext []byte, routes *routes[*peer], now time.Duration) (data bool) {
	p := s.peer
	kind, flags, body, ok := extension.Split(plaintext)
	switch {
	case !ok:
		p.drops.add(dropBadExtension, 1)
	case kind == extension.KindControl && p.extensions() == ExtensionsOff:
		p.drops.add(dropExtensionsOff, 1)
	case kind == extension.KindControl:
		r.control(s, from, flags, body, now)
	case kind == extension.KindFragment && !s.mayGet(extension.Fragments):
		p.drops.add(dropNotAnnounced, 1)
		return true
	case kind == extension.KindFragment && p.silenced(s):
		p.drops.add(dropBeforeHello, 1)
		return true
	case kind == extension.KindFragment:
		r.join(s, counter, flags, body, routes, now)
		return true
	case kind == extension.KindFrame && r.tunnel.lan == nil:
		p.drops.add(dropNotAnnounced, 1)
	case kind == extension.KindFrame:
		r.admitFrame(s, plaintext)
		return true
	default:
		p.drops.add(dropUnknownExtension, 1)
	}
	return false
}

// control takes a control message.
func (r *receiver) control(s *session, from socket.Path, flags extension.Flags, body []byte, now time.Duration) {
	p := s.peer
	ok := true
	switch typ, _ := extension.TypeOf(body); typ {
	case extension.TypeHello:
		r.greeted = p.hearHello(s, flags, body, now) || r.greeted
	case extension.TypeEcho:
		var token extension.Token
		if token, ok = extension.ParseEcho(body); ok && p.speaks(now) {
			p.sendControl(extension.AppendEchoReply(nil, token), now)
			p.questioned(s, now)
		}
	case extension.TypeEchoReply:
		var token extension.Token
		if token, ok = extension.ParseEchoReply(body); ok {
			p.echoes.reply(token, now)
			p.answeredEcho(s, now)
		}
	case extension.TypeProbe:
		var probe extension.Probe
		if probe, ok = extension.ParseProbe(body); ok {
			s.answerProbe(probe, from, now)
			p.heardProbe(s, probe.Size, now)
		}
	case extension.TypeProbeReply:
		var probe extension.Probe
		if probe, ok = extension.ParseProbeReply(body); ok {
			if !p.answeredProbe(s, probe.Token, now) {
				p.hearProbeReply(s, probe, now)
			}
		}
	case extension.TypeGoodbye:
		r.forward(p, now) // what came before it, or that teaches us stations which are gone
		var instance extension.Instance
		if _, instance, ok = extension.ParseGoodbye(body); ok {
			p.hearGoodbye(s, instance, now)
		}
	default:
		p.drops.add(dropUnknownExtension, 1)
	}
	if !ok {
		p.drops.add(dropBadExtension, 1)
	}
}

// sendControl sends a control message, under the current session or not at
// all. Towards a peer that has shown that it understands it counts as a
// keepalive; towards any other it touches no timer: a plain WireGuard answers
// none, and would be asked for a new handshake for ever.
func (p *peer) sendControl(message []byte, now time.Duration) {
	s := p.usable(now)
	if s == nil || !s.acquire() {
		return
	}
	defer s.release()
	l := sealers.Get().(*sealer)
	defer l.putBack()
	if l.seal(s, [][]byte{message}, [][]byte{nil}) == 0 {
		return
	}
	l.transmit(s, p.tunnel.controlSocket())
	if s.may(understands) {
		p.sent(s, [][]byte{nil}, now)
	}
}

// speaks says whether there is a session under which the peer has shown that it
// understands.
func (p *peer) speaks(now time.Duration) bool {
	s := p.usable(now)
	return s != nil && s.may(understands)
}

// sayGoodbye tells a peer that knows the word that we go. It never waits.
func (p *peer) sayGoodbye(reason extension.Reason, now time.Duration) {
	s, sock := p.usable(now), p.tunnel.controlSocket()
	if s == nil || sock == nil || !s.may(understands) || !s.acquire() {
		return
	}
	defer s.release()
	path := s.way()
	if path == nil {
		return
	}
	l := sealers.Get().(*sealer)
	defer l.putBack()
	message := extension.AppendGoodbye(nil, reason, p.instance)
	switch {
	case l.seal(s, [][]byte{message}, [][]byte{nil}) == 0 || len(l.out) == 0:
	case path.Stream != nil:
		path.Stream.Offer(l.out)
	default:
		sock.Offer(l.out, *path)
	}
}

// sayGoodbyes does so to all peers, before the sockets close.
func (t *Tunnel) sayGoodbyes() {
	now := t.now()
	for _, p := range t.peers.all() {
		p.sayGoodbye(extension.GoingDown, now)
	}
}

// hearGoodbye: the process that said it has forgotten its sessions, all that are
// not newer than s. It hears nothing under them any more; the next packet for it
// asks for a handshake. What it had sent before may still be on its way.
func (p *peer) hearGoodbye(s *session, instance extension.Instance, now time.Duration) {
	p.mu.Lock()
	h := &p.hellos
	gone := h.heard.Instance == instance && p.sessions.endSending(s.serial, p.dropSession)
	if gone {
		h.goodbye = p.tunnel.wall()
		p.timers.newHandshake.stop()
		p.timers.keepalive.stop()
		p.timers.anotherKeepalive.Store(false)
		if p.staging.n.Load() == 0 { // nobody waits for the handshake that may be going on
			p.ways.unlink()
		} else {
			p.ways.expired()
		}
		p.plan(now)
	}
	p.mu.Unlock()
	if gone {
		p.flush()
	}
	if gone && p.news.Allow(now) {
		p.tunnel.log.Info("the peer says that it goes down", "peer", p)
	}
}

// tellSoftware logs what the peer has announced.
func (p *peer) tellSoftware() {
	p.mu.Lock()
	heard, refused := p.hellos.heard, p.hellos.refused
	p.mu.Unlock()
	if refused != "" {
		p.tunnel.log.Warn("the peer's extensions are not spoken", "peer", p, "software", softwareOf(&heard), "why", refused)
		return
	}
	p.tunnel.log.Info("the peer speaks our extensions", "peer", p, "software", softwareOf(&heard))
}

// softwareOf is what a peer that says this hello runs.
func softwareOf(h *extension.Hello) string { return "stunnel " + h.Version }

// announced are the words for capabilities, sorted.
func announced(c extension.Capabilities) (words []string) {
	for _, w := range []struct {
		is   extension.Capabilities
		word string
	}{
		{extension.Echo, "echo"},
		{extension.Fragments, "fragments"},
		{extension.Frames, "frames"},
		{extension.Probes, "probes"},
		{extension.TrustedChecksums, "trusted_checksums"},
	} {
		if c.Has(w.is) {
			words = append(words, w.word)
		}
	}
	return words
}
