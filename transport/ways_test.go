package transport

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// rig drives ways through events of its choice, those that can happen, and holds what they want done to what must be
// true whatever happens.
type rig struct {
	t    testing.TB
	w    ways
	now  time.Duration
	said []saying // the events and acts so far, for failures

	initiated  [carriers]time.Duration // the limit counts from here
	last       time.Duration           // initiation by whichever
	pending    [carriers]bool
	flights    []netip.AddrPort
	connected  bool
	trial      bool // a session is on trial
	probed     bool // a probe is out
	heard      time.Duration
	chosen     time.Duration // last change by choice
	changed    time.Duration // last change of the transport in use
	on         Transport
	everLinked bool
	waits      bool // somebody waits for a session
	gaveUp     bool
	changes    int
	answer     func(act) // nil: nobody does
}

var (
	first4  = netip.MustParseAddrPort("192.0.2.1:51820")
	first6  = netip.MustParseAddrPort("[2001:db8::1]:51820")
	second4 = netip.MustParseAddrPort("192.0.2.2:51820")
)

// circumstances are what an exhaustive test goes through beside the events.
type circumstances struct {
	transport        Transport
	addresses        int
	parallel, probes bool
	smaller          bool
}

func newRig(t testing.TB, c circumstances) *rig {
	r := &rig{t: t, now: time.Hour, last: -never, chosen: -never, changed: -never, heard: -never}
	r.initiated = [carriers]time.Duration{-never, -never}
	r.w = newWays(func() time.Duration { return 100 * time.Millisecond })
	r.w.smaller = c.smaller
	r.w.parallel, r.w.echoes, r.w.probes = c.parallel, c.parallel, c.probes
	r.w.configure(r.now, c.transport, []netip.AddrPort{first4, first6, second4}[:c.addresses], nil)
	return r
}

// fork is a rig of its own that has come to the same point.
func (r *rig) fork() *rig {
	f := *r
	f.said, f.flights = slices.Clip(r.said), slices.Clone(r.flights)
	f.w.flights, f.w.acts = slices.Clone(r.w.flights), slices.Clone(r.w.acts)
	return &f
}

// saying is an event or an act.
type saying struct {
	at   time.Duration
	name string
	act  act
}

func (s saying) String() string {
	if s.name != "" {
		return fmt.Sprintf("%9v %s", s.at-time.Hour, s.name)
	}
	return fmt.Sprintf("%9v    %d %v %v %s", s.at-time.Hour, s.act.do, s.act.by, s.act.to, s.act.why)
}

func (r *rig) fail(format string, a ...any) {
	r.t.Helper()
	var tail strings.Builder
	for _, s := range r.said[max(0, len(r.said)-40):] {
		tail.WriteString("\n\t" + s.String())
	}
	r.t.Fatalf("%s after%s\n%+v", fmt.Sprintf(format, a...), tail.String(), r.w)
}

// linked is told where data goes now.
func (r *rig) linked(c Transport) {
	if r.everLinked && r.on != c {
		r.changes++
		r.changed = r.now
	}
	if !r.everLinked {
		r.changed = r.now
	}
	r.on, r.everLinked, r.waits = c, true, false
	r.heard = r.now
	if !r.w.linked || r.w.on != c {
		r.fail("%v was taken into use, and the ways are not on it", c)
	}
}

// do lets everything that is due happen, and checks it.
func (r *rig) do() {
	r.t.Helper()
	for range 20 {
		if r.w.next() > r.now {
			r.settled()
			return
		}
		left, tried := false, false
		for _, a := range r.w.step(r.now, r.heard) {
			r.said = append(r.said, saying{at: r.now, act: a})
			r.check(a)
			if r.answer != nil {
				r.answer(a)
			}
			left = left || a.do == doLeave
			tried = tried || a.do == doInitiate || a.do == doDial
		}
		if left && r.waits && !tried {
			r.mustTry()
		}
	}
	r.fail("no end of things to do")
}

func (r *rig) check(a act) {
	r.t.Helper()
	w := &r.w
	switch a.do {
	case doInitiate:
		if r.last != -never && r.now-r.last < attemptSpacing {
			r.fail("an initiation %v after another", r.now-r.last)
		}
		if at := r.initiated[a.by]; at != -never && at >= w.changed && r.now-at < RekeyTimeout {
			r.fail("an initiation by %v after %v", a.by, r.now-at)
		}
		if !w.parallel && r.pending[1-a.by] {
			r.fail("two handshakes at once with what may be a plain WireGuard")
		}
		if a.by == TransportUDP && !a.to.IsValid() {
			r.fail("an initiation to nowhere")
		}
		if a.by == TransportTCP && !r.connected && !(w.linked && w.on == TransportTCP) {
			r.fail("an initiation without a connection")
		}
		if !w.possible(a.by) && !(w.linked && w.on == a.by) {
			r.fail("an initiation by what may not be used")
		}
		r.initiated[a.by], r.last, r.pending[a.by] = r.now, r.now, true
	case doRepeat:
		if !r.pending[TransportUDP] {
			r.fail("nothing is pending that could be repeated")
		}
	case doAbandon:
		if !r.pending[a.by] {
			r.fail("nothing is pending by %v that could be abandoned", a.by)
		}
		r.pending[a.by] = false
	case doDial:
		if slices.Contains(r.flights, a.to) {
			r.fail("%v is dialled twice at once", a.to)
		}
		if r.connected {
			r.fail("dialled beside a connection")
		}
		r.flights = append(r.flights, a.to)
	case doCancel:
		r.flights = nil
	case doHangUp:
		if !r.connected {
			r.fail("there is no connection to hang up")
		}
		r.connected = false
	case doEcho, doEchoFull:
		if !w.linked {
			r.fail("an echo without a session")
		}
	case doLeave:
		if w.possible(TransportUDP) || w.possible(TransportTCP) {
			r.waits = true
		}
		if w.linked {
			r.fail("left, and still linked")
		}
	case doProbe:
		if !r.trial {
			r.fail("a probe under no session")
		}
		r.probed = true
	case doAdopt, doDiscard:
		if !r.trial {
			r.fail("there is no session on trial")
		}
		r.trial, r.probed = false, false
		if a.do == doAdopt {
			if r.on == TransportTCP && a.why == whyReturned {
				r.choice()
			}
			r.linked(a.by)
		}
	case doGiveUp:
		r.waits, r.gaveUp = false, true
	}
}

// mustTry is for a way that was left: only the limits of handshakes may be waited for.
func (r *rig) mustTry() {
	r.t.Helper()
	at := max(r.now, r.last+attemptSpacing)
	for c := range r.initiated {
		if r.w.possible(Transport(c)) && r.initiated[c] != -never {
			at = max(at, r.initiated[c]+RekeyTimeout+r.w.jitter())
		}
	}
	if r.w.next() > at {
		r.fail("a way was left, and nothing is done before %v", r.w.next())
	}
}

// choice is a change that nothing forces.
func (r *rig) choice() {
	r.t.Helper()
	if r.chosen != -never && r.now-r.chosen < choiceSpacing {
		r.fail("two changes by choice within %v", r.now-r.chosen)
	}
	if r.now-r.changed < choiceSpacing {
		r.fail("a change by choice %v after another", r.now-r.changed)
	}
	r.chosen = r.now
}

// settled checks what must be true between events.
func (r *rig) settled() {
	r.t.Helper()
	w := &r.w
	for c := range r.pending {
		if r.pending[c] != w.attempts[c].pending {
			r.fail("%v pending: %v", Transport(c), r.pending[c])
		}
	}
	if !slices.Equal(r.flights, w.flights) || r.connected != w.attempts[TransportTCP].connected || r.trial != w.trial.session {
		r.fail("flights %v, connected %v, trial %v", r.flights, r.connected, r.trial)
	}
	reachable := w.possible(TransportUDP) || w.possible(TransportTCP)
	if r.waits && reachable && !w.linked {
		if w.goal != goalReach {
			r.fail("somebody waits, and nobody tries")
		}
		if w.next() > r.now+RekeyTimeout+w.jitter() {
			r.fail("somebody waits, and nothing is done before %v", w.next()-r.now)
		}
	}
	if w.goal == goalNone && !w.trial.under && w.attempts[TransportUDP].due != never {
		r.fail("an attempt by UDP for nothing")
	}
	if w.goal == goalNone && !w.linked && w.next() != never && w.drained == never && w.later == never {
		r.fail("idle, and awake at %v", w.next())
	}
}

// event is something that may happen; nil: it cannot just now.
func (r *rig) event(n int) (name string, happen func()) {
	w := &r.w
	completed := func(c Transport, ours bool) func() {
		return func() {
			r.pending[c] = false
			before, returns := w.on, w.trial.under && w.linked
			switch w.completed(r.now, c, ours) {
			case try:
				r.trial = true
			case take:
				if c == TransportTCP {
					r.connected = false
				}
				if returns && c == TransportUDP && before == TransportTCP {
					r.choice()
				}
				r.linked(c)
			}
		}
	}
	confirmed := func(c Transport, ours bool) func() {
		return func() {
			if w.confirmed(r.now, c, ours) {
				r.linked(c)
			}
		}
	}
	switch n {
	case 0:
		return "time passes until something is due", func() {
			r.now = max(r.now, min(w.next(), r.now+time.Minute))
		}
	case 1:
		return "a second passes", func() { r.pass(time.Second) }
	case 2:
		return "data waits", func() {
			if !w.linked {
				w.want(r.now)
				r.waits = w.goal == goalReach
			}
		}
	case 3:
		if !w.linked {
			return "", nil
		}
		return "the session is old", func() { w.renew(r.now) }
	case 4:
		if !r.pending[TransportUDP] {
			return "", nil
		}
		return "UDP answers", completed(TransportUDP, false)
	case 5:
		if !r.pending[TransportTCP] {
			return "", nil
		}
		return "TCP answers", completed(TransportTCP, r.connected || w.ours)
	case 6:
		if len(r.flights) == 0 {
			return "", nil
		}
		return "a connection is made", func() {
			to := r.flights[0]
			r.flights = slices.Delete(r.flights, 0, 1)
			if w.dialled(r.now, to) {
				r.connected = true
			} else {
				r.fail("a connection to %v is not wanted", to)
			}
		}
	case 7:
		if len(r.flights) == 0 {
			return "", nil
		}
		return "a connection is refused", func() {
			to := r.flights[0]
			r.flights = slices.Delete(r.flights, 0, 1)
			w.undialled(r.now, to)
		}
	case 8:
		if !w.linked {
			return "", nil
		}
		return "traffic", func() { w.traffic(r.now, r.heard) }
	case 9:
		if !r.probed {
			return "", nil
		}
		return "the probe is answered", func() { w.probed(r.now) }
	case 10:
		if !w.linked {
			return "", nil
		}
		return "data comes", func() { r.heard = r.now }
	case 11:
		if !w.linked || w.on != TransportTCP {
			return "", nil
		}
		return "the connection ends", func() {
			w.lost(r.now, "reset")
			r.waits = w.ours && (w.possible(TransportUDP) || w.possible(TransportTCP))
		}
	case 12:
		return "the peer comes by UDP", func() { confirmed(TransportUDP, false)() }
	case 13:
		return "the peer comes by TCP", func() { confirmed(TransportTCP, false)() }
	case 14:
		return "the network changes", func() { w.networkChanged(r.now) }
	case 15:
		return "the peer asks by UDP", func() {
			w.responded(r.now, TransportUDP)
			r.initiated[TransportUDP] = r.now
		}
	case 16:
		return "ten seconds pass", func() { r.pass(10 * time.Second) }
	case 17:
		if !w.linked {
			return "", nil
		}
		return "goodbye", func() { w.unlink() }
	case 18:
		if !r.connected {
			return "", nil
		}
		return "the new connection ends", func() { r.connected = false; w.disconnected(r.now) }
	case 20:
		if !w.linked {
			return "", nil
		}
		return "the peer asks whether we are there", func() { w.questioned(r.now, w.on) }
	case 21:
		return "an echo is answered", func() { r.heard, w.answered = r.now, r.now }
	case 19:
		return "UDP is too narrow", func() { w.tooNarrow(r.now) }
	}
	return "", nil
}

const rigEvents = 22

// pass lets d go by, step by step.
func (r *rig) pass(d time.Duration) {
	for end := r.now + d; r.now < end; {
		r.now = max(r.now, min(end, r.w.next()))
		r.do()
	}
}

// happen lets event n happen, if it can.
func (r *rig) happen(n int) (possible bool) {
	name, happen := r.event(n)
	if happen == nil {
		return false
	}
	r.said = append(r.said, saying{at: r.now, name: name})
	happen()
	r.do()
	return true
}
