package transport

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"stunnel/crypto"
	"stunnel/transport/ethernet"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// watched is what is seen of whether data gets through to a peer and back (doubt.go). It is written on the hot path.
type watched struct {
	heard    [carriers]atomic.Int64 // when last something came by each that shows it: data, or the answer to a question
	answered [carriers]atomic.Int64 // when the answer to a question last did
	sent     atomic.Int64           // when data last went
	largest  atomic.Int32           // bytes of the largest message, either way, since the timer last fired
	before   atomic.Int32           // the same, of the time before
	token    atomic.Uint64          // of the question that is out
	trial    atomic.Uint64          // of the probe under the session on trial

	// While what is sent may be lost, what is TCP's of it is kept as well, and goes again by another way when that is
	// found: else its sender waits for its own next attempt, twice as long each time. TCP takes no harm from what comes
	// twice.
	keeps atomic.Bool
	kept  staging
	lost  socket.Path   // by which it went in vain; guarded by peer.mu
	since time.Duration // when that began; guarded by peer.mu
}

func (w *watched) heardBy(c Transport) time.Duration { return time.Duration(w.heard[c].Load()) }

// answers is called when an answer has come by c.
func (w *watched) answers(c Transport, now time.Duration) {
	w.heard[c].Store(int64(now))
	w.answered[c].Store(int64(now))
}

// keepIf begins to keep what is sent, or ends it. mu is held.
func (p *peer) keepIf(losing bool, now time.Duration) {
	w := &p.watched
	switch s := p.sessions.current.Load(); {
	case losing && !w.keeps.Load() && s != nil:
		if path := s.way(); path != nil {
			w.lost, w.since = *path, now
		}
		w.keeps.Store(true)
	case !losing:
		w.keeps.Store(false)
		if w.kept.n.Load() > 0 && w.heardBy(p.ways.on) >= w.since {
			w.kept.clear()
		}
	}
}

// keep keeps what of packets, or frames, is TCP's.
func (p *peer) keep(first, rest [][]byte) {
	for i, b := range first {
		if isTCP(b, p.tunnel.lan != nil) {
			p.watched.kept.add(first[i:i+1], rest[i:i+1])
		}
	}
}

// isTCP says whether a packet that begins with b, or a frame, carries TCP, as far as that can be seen at once.
func isTCP(b []byte, frame bool) bool {
	if frame {
		h, ok := ethernet.Parse(b[min(FrameRoom, len(b)):])
		if !ok || h.Type != ethernet.TypeIPv4 && h.Type != ethernet.TypeIPv6 {
			return false
		}
		b = b[FrameRoom+h.Size:]
	}
	const tcp = 6
	switch {
	case len(b) >= ipv4HeaderSize && b[0]>>4 == 4:
		return b[9] == tcp
	case len(b) >= ipv6HeaderSize && b[0]>>4 == 6:
		return b[6] == tcp
	}
	return false
}

// sends is called when data has been sent under s.
func (p *peer) sends(s *session, now time.Duration) {
	p.watched.sent.Store(int64(now))
	p.watch(s, now)
}

// watch has it looked whether the data that has just been sent under s, or has come, stays the last.
func (p *peer) watch(s *session, now time.Duration) {
	if p.timers.silence.idle() && (s.stream != nil || s.may(extension.Echo)) {
		p.armIfIdle(&p.timers.silence, now+silenceTime)
	}
}

// hears is called when data has come under s.
func (p *peer) hears(s *session, now time.Duration) {
	p.watched.heard[s.carrier()].Store(int64(now))
	p.watch(s, now)
}

// sees is called with the size of messages that are sent or have come.
func (w *watched) sees(size int) {
	if int32(size) > w.largest.Load() {
		w.largest.Store(int32(size))
	}
}

// listen is the timer's: there was data, and it may be that nothing has come since.
func (p *peer) listen(now time.Duration) {
	w := &p.watched
	w.before.Store(w.largest.Swap(0))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inform(now)
	if !p.ways.linked {
		return
	}
	heard := w.heardBy(p.ways.on)
	p.ways.traffic(now, heard)
	if p.isTooNarrow() {
		p.ways.tooNarrow(now)
	}
	if now < heard+silenceTime {
		p.armIfIdle(&p.timers.silence, heard+silenceTime)
	}
	p.plan(now)
}

// baseCarries is the plaintext of a message that passes wherever IPv6 does. Whether larger ones do is for pathSearch to find
// out, and no reason to leave a way.
const baseCarries = largeMessage - crypto.TransportOverhead

// askWhetherAlive has the peer answer under the current session: a probe that both ways has the size of what was sent and
// came lately where that can be asked by UDP, or, full, as much as passes wherever IPv6 does; else an echo.
func (p *peer) askWhetherAlive(full bool, now time.Duration) {
	s := p.usable(now)
	if s == nil {
		return
	}
	if path := s.way(); path != nil && s.probed() {
		w := &p.watched
		size := int(max(w.largest.Load(), w.before.Load())) - crypto.TransportOverhead
		if full {
			size = baseCarries
		}
		token := extension.Token(rand.Uint64() | 1)
		w.token.Store(uint64(token))
		probe := extension.Probe{Token: token, Size: min(max(size, extension.MinProbe), baseCarries), Full: true}
		s.sendExactly(extension.AppendProbe(nil, probe), *path, now)
		return
	}
	p.sendControl(extension.AppendEcho(nil, p.echoes.send(now)), now)
}

// heardProbe is called when a probe of the peer's has come under s: it shows that messages of its size do, and that is all
// there is to know for who has sent nothing since data came.
func (p *peer) heardProbe(s *session, size int, now time.Duration) {
	w := &p.watched
	onlyHears := w.sent.Load() < w.heard[s.carrier()].Load()
	if largest := int(max(w.largest.Load(), w.before.Load())) - crypto.TransportOverhead; onlyHears && size >= min(largest, baseCarries) {
		w.heard[s.carrier()].Store(int64(now))
	}
	if size <= baseCarries { // else it is about the size
		p.questioned(s, now)
	}
}

// questioned is called when the peer has asked under s whether we are there.
func (p *peer) questioned(s *session, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inform(now)
	p.ways.questioned(now, s.carrier())
	p.plan(now)
}

// answeredEcho is called when an echo was answered under s.
func (p *peer) answeredEcho(s *session, now time.Duration) {
	if !s.probed() { // else small ones prove too little
		p.watched.answers(s.carrier(), now)
	}
}

// answeredProbe is called when a probe was answered under s. ours: it was one of those here.
func (p *peer) answeredProbe(s *session, token extension.Token, now time.Duration) (ours bool) {
	w := &p.watched
	switch uint64(token) {
	case w.token.Load():
		w.answers(s.carrier(), now)
		return true
	case w.trial.Load():
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.sessions.trial == s {
			p.ways.probed(now)
			p.plan(now)
		}
		return true
	}
	return false
}

// probe asks under the session on trial: first with what a message was said to carry on the path, then with what passes
// wherever anything does.
func (p *peer) probe(s *session, now time.Duration) {
	path := p.path.Load()
	if path == nil {
		return
	}
	w := &p.watched
	size := baseCarries
	if full := int(p.carries.Load()); full > size && s.Sent() == 0 {
		size = full
	}
	token := extension.Token(rand.Uint64() | 1)
	w.trial.Store(uint64(token))
	s.sendExactly(extension.AppendProbe(nil, extension.Probe{Token: token, Size: size, Full: true}), *path, now)
}

// isTrial says whether a plaintext is a probe: under a session that has not been confirmed it asks for an answer, and confirms
// nothing (trial.go).
func isTrial(plaintext []byte) bool {
	kind, _, body, ok := extension.Split(plaintext)
	if !ok || kind != extension.KindControl {
		return false
	}
	typ, _ := extension.TypeOf(body)
	return typ == extension.TypeProbe
}

// sendKept has what was kept sent again, before what waits, if the session that is now in use goes by another way. mu is held.
func (p *peer) sendKept(s *session) {
	w := &p.watched
	path := s.way()
	if path == nil || path.Stream == w.lost.Stream && path.Remote == w.lost.Remote {
		return
	}
	w.kept.take(func(packets [][]byte) bool {
		p.drops.add(dropStagingFull, p.staging.addFirst(packets))
		return true
	})
}
