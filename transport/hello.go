package transport

import (
	"time"

	"stunnel/transport/extension"
)

// Two stunnels say hello to each other inside each new session, and then know
// what they may send beside WireGuard (docs/protocol-extensions.md).
const (
	// A hello that is not acknowledged is said again after helloRepeat, and
	// after twice, four and eight times that; from then on when data comes or
	// wants to go, helloAgain after the last one.
	helloRepeat  = 250 * time.Millisecond
	helloRepeats = 4
	helloAgain   = 4 * time.Second

	// lapseAfter a session's confirmation, what the peer has announced before
	// lapses unless the session is proved.
	lapseAfter = 3 * time.Second

	// A peer that was plain in plainSessions in a row gets a hello once in
	// plainHello. Sessions count once in plainSpacing: those of handshakes that
	// cross have one chance, not two.
	plainSessions = 3
	plainSpacing  = time.Minute
	plainHello    = time.Hour
)

// understands is set in session.speaks, beside the capabilities, once the peer
// has shown that it knows extensions.
const understands extension.Capabilities = 1 << 31

// hellos are what both ends have told of themselves. Guarded by peer.mu but
// for again.
type hellos struct {
	// ours
	sequence     extension.Sequence // of the newest; 0: none
	acknowledged bool
	said         int                    // how often it was said
	at           time.Duration          // when that was last
	again        timer                  // from when on data makes us say it again; nobody waits for it
	takenBack    extension.Capabilities // what it announces no more, which the peer may not know yet
	takenBackBy  extension.Sequence     // when this hello is acknowledged it knows; 0: not said yet

	// theirs
	heard    extension.Hello // the newest; its Instance is 0 if there was none
	serial   uint64          // of the session under which it came
	holds    bool            // it has not lapsed
	refused  string          // why its capabilities are not used; "": they are
	goodbye  time.Time       // when the peer said it, by the wall clock; zero: it did not, or is back
	lapses   uint64          // how often it held and then did no more
	judged   *session        // lapse looks whether it is proved
	plain    int             // sessions in a row without a hello
	plainAt  time.Duration   // when the last of them was counted
	isPlain  bool            // the last one that was judged was without
	reminded bool            // that extensions are required has been told
}

// may says whether the peer takes, under this session, what c stands for.
func (s *session) may(c extension.Capabilities) bool {
	return extension.Capabilities(s.speaks.Load()).Has(c)
}

// mayGet says whether the peer may have taken from us that it may send what c
// stands for under this session.
func (s *session) mayGet(c extension.Capabilities) bool {
	return extension.Capabilities(s.opens.Load()).Has(c)
}

// open has all sessions open what we announce. mu is held.
func (p *peer) open() {
	for s := range p.sessions.all {
		s.opens.Store(uint32(p.opening()))
	}
}

// opening is what a session begins to open with. Where extensions have just been
// switched off those that there are go on as they were: the peer does not know
// before the next. mu is held.
func (p *peer) opening() extension.Capabilities {
	if p.extensions() == ExtensionsOff {
		return 0
	}
	return p.tunnel.capabilities() | p.hellos.takenBack
}

// capabilities are what we open.
func (t *Tunnel) capabilities() extension.Capabilities {
	c := extension.Echo | extension.Fragments | extension.Probes
	if t.trusted.Load() {
		c |= extension.TrustedChecksums
	}
	if t.lan != nil {
		c |= extension.Frames
	}
	return c
}

// extensions is the policy for this peer. Frames cannot do without.
func (p *peer) extensions() Extensions {
	if p.tunnel.lan != nil {
		return ExtensionsRequired
	}
	return Extensions(p.policy.Load())
}

// silenced says whether packets must wait: extensions are required, and under s
// the peer has announced none yet; or it is in the other mode.
func (p *peer) silenced(s *session) bool {
	return s.speaks.Load() == 0 && (p.extensions() == ExtensionsRequired || p.deaf.Load())
}

// inherit lets a new session begin with what we announce, and with what the peer
// has announced under earlier ones, where nothing may be sent without. Elsewhere it begins as
// WireGuard until it is proved, which takes a round trip: a peer that has come
// back as a plain one then loses nothing. mu is held.
func (p *peer) inherit(s *session) {
	s.opens.Store(uint32(p.opening()))
	if h := &p.hellos; p.extensions() == ExtensionsRequired && h.holds && h.refused == "" {
		s.speaks.Store(uint32(h.heard.Capabilities | understands))
	}
}

// beginHello has a hello said, by who holds mu now and calls sayHello then, at
// the confirmation of s.
func (p *peer) beginHello(s *session, now time.Duration) {
	h := &p.hellos
	h.goodbye = time.Time{}
	h.again.stop()
	policy := p.extensions()
	if policy == ExtensionsOff || policy == ExtensionsAuto && h.rarely() && now-h.at < plainHello {
		return
	}
	p.open()
	h.sequence++
	h.acknowledged, h.said = false, 0
	if h.takenBackBy == 0 {
		h.takenBackBy = h.sequence
	}
	s.said, h.judged = h.sequence, s
	p.timers.hello.due.Store(int64(now))
	p.arm(&p.timers.lapse, now+lapseAfter)
}

// rarely says whether the peer gets a hello now and then only: it was plain in all
// of the last sessions, and has never been anything else.
func (h *hellos) rarely() bool { return h.plain >= plainSessions && h.heard.Instance == 0 }

// sayHello says the hello that is due, if one is.
func (p *peer) sayHello(now time.Duration) {
	if !p.timers.hello.fired(now) {
		return
	}
	p.mu.Lock()
	h := &p.hellos
	if h.sequence == 0 || p.extensions() == ExtensionsOff {
		p.mu.Unlock()
		return
	}
	h.said++
	h.at = now
	switch {
	case h.acknowledged:
	case h.said <= helloRepeats:
		p.arm(&p.timers.hello, now+helloRepeat<<(h.said-1))
	case p.extensions() == ExtensionsAuto && h.rarely():
	default:
		h.again.due.Store(int64(now + helloAgain))
	}
	message := p.hello(!h.acknowledged)
	p.mu.Unlock()
	p.sendControl(message, now)
}

// sayHelloAgain is for data that comes, or waits, while ours may have been lost.
func (p *peer) sayHelloAgain(now time.Duration) {
	if p.hellos.again.fired(now) {
		p.timers.hello.due.Store(int64(now))
		p.sayHello(now)
	}
}

// acknowledgeHello answers one of the peer's that wants it: with ours, if that
// is due just now, else with one that wants no answer.
func (p *peer) acknowledgeHello(now time.Duration) {
	if due := p.timers.hello.due.Load(); due != 0 && due <= int64(now) {
		p.sayHello(now)
		return
	}
	p.mu.Lock()
	if p.hellos.sequence == 0 { // we have never had anything to say it under
		p.mu.Unlock()
		return
	}
	message := p.hello(false)
	p.mu.Unlock()
	p.sendControl(message, now)
}

// hello makes the message. mu is held.
func (p *peer) hello(wanted bool) []byte {
	h := &p.hellos
	message := extension.Hello{
		Wanted:       wanted,
		Mode:         p.tunnel.mode(),
		Capabilities: p.tunnel.capabilities(),
		Instance:     p.instance,
		Sequence:     h.sequence,
		SeenInstance: h.heard.Instance,
		SeenSequence: h.heard.Sequence,
		Version:      p.tunnel.version,
	}
	return message.Append(nil)
}

// hearHello takes a hello that was opened under s. wanted: it is to be
// acknowledged.
func (p *peer) hearHello(s *session, flags extension.Flags, body []byte, now time.Duration) (wanted bool) {
	theirs, ok := extension.ParseHello(flags, body)
	if !ok || theirs.Instance == p.instance {
		p.drops.add(dropBadExtension, 1)
		return false
	}
	p.mu.Lock()
	h := &p.hellos
	if p.removed || p.extensions() == ExtensionsOff {
		p.mu.Unlock()
		return false
	}
	newer := s.serial > h.serial
	if theirs.Instance == h.heard.Instance {
		newer = theirs.Sequence > h.heard.Sequence
	} else if !newer && h.heard.Instance != 0 {
		p.mu.Unlock() // of a process that is no more
		return false
	}
	news := false
	if newer {
		news = !h.holds || theirs.Version != h.heard.Version || theirs.Capabilities != h.heard.Capabilities || theirs.Mode != h.heard.Mode
		h.heard, h.serial, h.refused = theirs, max(h.serial, s.serial), refusal(&theirs, p.tunnel.mode())
		p.deaf.Store(theirs.Mode != p.tunnel.mode() || h.refused != "" && p.tunnel.lan != nil)
	}
	var seen extension.Sequence // of ours
	if theirs.SeenInstance == p.instance {
		seen = theirs.SeenSequence
	}
	if seen >= h.sequence {
		h.acknowledged = true
		h.again.stop()
		p.timers.hello.stop()
	}
	if h.takenBack != 0 && h.takenBackBy != 0 && seen >= h.takenBackBy {
		h.takenBack = 0
		p.open()
	}
	h.holds, h.isPlain, h.plain = true, false, 0
	p.prove(s.serial, seen)
	if current := p.sessions.current.Load(); h.sequence == 0 || current != nil && current.said == 0 {
		// None of ours was said in this session: it was taken for a plain
		// peer's, or extensions have just been switched on.
		if current != nil {
			p.beginHello(current, now)
		}
	}
	p.mu.Unlock()
	if news && p.news.Allow(now) {
		p.tellSoftware()
	}
	if p.deaf.Load() {
		p.drops.add(dropOtherMode, p.staging.clear())
	} else if p.tunnel.lan != nil {
		p.tunnel.lan.watch(now)
	}
	if current := p.sessions.current.Load(); current != nil && p.probes.busy.Load() {
		p.armProbe(current, now)
	}
	if p.staging.n.Load() > 0 { // it has waited for this, where extensions are required
		p.sendStaged(now)
	}
	return theirs.Wanted
}

// refusal is why the extensions of a peer that says this hello are not spoken by an end
// in this mode.
func refusal(h *extension.Hello, mode extension.Mode) string {
	switch {
	case h.Mode != mode:
		return "the peer is in " + h.Mode.String() + " mode, this end in " + mode.String() + " mode"
	case mode == extension.ModeTAP && !h.Capabilities.Has(extension.Frames):
		return "the peer is in tap mode and takes no frames"
	case h.Capabilities.Refused() != 0:
		return "the peer wants something that this version does not know"
	}
	return ""
}

// prove has the sessions speak extensions of which it is known now that the
// process at their other end does: those not newer than the one with this
// serial, under which a hello came, and those under which we said a hello that
// it has seen. mu is held.
func (p *peer) prove(serial uint64, seen extension.Sequence) {
	h := &p.hellos
	speaks := understands
	if h.refused != "" {
		speaks = 0
	} else {
		speaks |= h.heard.Capabilities
	}
	for s := range p.sessions.all {
		s.proved = s.proved || s.serial <= serial || s.said != 0 && s.said <= seen
		if s.proved || s.speaks.Load() != 0 { // or has inherited
			s.speaks.Store(uint32(speaks))
		}
	}
}

// lapse is the timer's: it is time that the session that was confirmed last is
// proved.
func (p *peer) lapse(now time.Duration) {
	p.mu.Lock()
	h := &p.hellos
	s := h.judged
	h.judged = nil
	if s == nil || s.proved || p.sessions.current.Load() != s {
		p.mu.Unlock()
		return
	}
	downgraded := h.holds
	if downgraded {
		h.lapses++
	}
	h.holds, h.isPlain = false, true
	p.deaf.Store(p.tunnel.lan != nil)
	h.takenBack = 0
	if h.plain == 0 || now-h.plainAt >= plainSpacing {
		h.plain++
		h.plainAt = now
	}
	for s := range p.sessions.all {
		s.speaks.Store(0)
	}
	required := p.extensions() == ExtensionsRequired
	remind := required && !h.reminded
	h.reminded = h.reminded || remind
	p.mu.Unlock()
	if required { // as where a handshake is given up
		p.drops.add(dropBeforeHello, p.staging.clear())
	}
	if downgraded && p.news.Allow(now) {
		p.tunnel.log.Warn("the peer spoke our extensions and does no more: it is a plain WireGuard now, or somebody keeps them from it",
			"peer", p, "before", softwareOf(&h.heard))
	}
	switch {
	case remind && p.tunnel.lan != nil:
		p.tunnel.log.Warn("the peer does not speak our extensions: it is a plain WireGuard, which carries no frames, and none goes or comes", "peer", p)
	case remind:
		p.tunnel.log.Warn("the peer does not speak our extensions, which Extensions = required wants: no packet goes or comes", "peer", p)
	}
}

// setExtensions changes the policy while the tunnel may be up.
func (p *peer) setExtensions(e Extensions, now time.Duration) {
	if Extensions(p.policy.Swap(uint32(e))) == e {
		return
	}
	p.mu.Lock()
	h := &p.hellos
	if e == ExtensionsOff {
		for s := range p.sessions.all {
			s.speaks.Store(0)
		}
		h.holds, h.isPlain, h.judged = false, false, nil
		p.deaf.Store(false)
		h.again.stop()
		p.timers.hello.stop()
		p.timers.lapse.stop()
	}
	h.plain, h.reminded = 0, false
	if s := p.sessions.current.Load(); s != nil {
		p.beginHello(s, now)
	}
	p.mu.Unlock()
	p.sayHello(now)
	if p.tunnel.isUp() {
		p.begin(now) // what was staged may go now
	}
}

// takeBack remembers that c, which the peer may have been told, is no more opened
// from now on; announce tells it then.
func (p *peer) takeBack(c extension.Capabilities) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hellos.sequence > 0 {
		p.hellos.takenBack, p.hellos.takenBackBy = c, 0
	}
}

// announce tells the peer what we open, which has just changed, if it has been
// told before.
func (p *peer) announce(now time.Duration) {
	p.mu.Lock()
	if s := p.sessions.current.Load(); s != nil && s.said != 0 {
		p.beginHello(s, now)
	}
	p.mu.Unlock()
	p.sayHello(now)
}
