package transport

import (
	"net/netip"
	"time"
)

// ways decide by which way a peer is reached: UDP or TCP, at which of its addresses, and when that is to change. They
// only decide: they have no goroutine, no lock and no clock, send nothing and know no keys. What has happened they are
// told by methods that take the moment; what is to be done step returns, and next says when it wants to be called
// again. Whoever calls them holds peer.mu.
//
//   - addresses.go: by what, and at which addresses, the peer may be reached at all.
//   - attempts.go: handshakes are tried by UDP and by TCP, one after the other or side by side.
//   - doubt.go: a way by which nothing comes back is left.
//   - trial.go: while TCP is in use UDP is tried now and then, and gone back to.
type ways struct {
	// The configuration.
	transport Transport
	udp, tcp  []netip.AddrPort // where the peer may be, in the order in which that is tried
	smaller   bool             // our public key is less than the peer's
	jitter    func() time.Duration

	// What is known of the peer.
	here     netip.AddrPort // where it is by UDP, the zero AddrPort: unknown
	parallel bool           // handshakes by two transports do not disturb each other: it is a stunnel
	echoes   bool           // it answers echoes
	answered time.Duration  // when it last did, by the way in use
	probes   bool           // it answers probes

	// The way in use.
	linked    bool          // there is a session that may be sent under
	roundTrip time.Duration // of the handshake that has made it
	on        Transport     // what it lives on, or did
	ours      bool          // a TCP connection, and opened by us
	since     time.Duration // when on was taken into use; -never: none has been
	fresh     time.Duration // when its newest session was
	why       string        // on is in use
	news      bool          // nobody has been told of that

	// What is looked for.
	goal     goal
	lead     Transport // what is tried first
	tries    int       // by lead, since somebody last asked
	rounds   int       // the same, since it began
	reason   string    // why another way is looked for; "": there is none yet, or none is
	attempts [carriers]attempt
	spaced   time.Duration    // when the last initiation was sent, by whichever
	flights  []netip.AddrPort // what is being connected to
	redial   time.Duration    // after which all of them are tried again, if they are refused
	begunAt  time.Duration    // when the last try was; -never: there was none

	doubt doubt
	trial trial

	drained time.Duration // when connections that carry only older sessions are closed; never: there is none
	changed time.Duration // when a change of the network last counted
	later   time.Duration // when one counts that came too soon after that; never: none did

	acts []act
}

// goal is what attempts are made for.
type goal uint8

const (
	goalNone  goal = iota
	goalRenew      // a younger session by the way in use
	goalReach      // a session by any way
)

const (
	// fallbackAfter an unanswered initiation by the first transport the other is tried as well.
	fallbackAfter = time.Second

	// attemptSpacing is between two initiations, by whatever: a responder passes over what comes faster
	// (initiationSpacing), and takes only timestamps that are later, by 2^24 ns as they are told.
	attemptSpacing = 25 * time.Millisecond

	// staggerAfter an address the next one is tried (RFC 8305, section 5).
	staggerAfter = 250 * time.Millisecond

	// drainTime is for what is under way on a connection when UDP is gone back to.
	drainTime = 10 * time.Second

	// changeSpacing is between two changes of the network that count: they come in swarms.
	changeSpacing = time.Second
)

// act is one thing to be done. Of those of one step, in order.
type act struct {
	do  verb
	by  Transport
	to  netip.AddrPort
	why string
}

type verb uint8

const (
	doInitiate verb = 1 + iota // send a new initiation: by UDP to the address, by TCP on the connection
	doRepeat                   // send the initiation that is pending by UDP to the address as well
	doAbandon                  // forget the handshake that is pending by the transport
	doDial                     // connect to the address
	doCancel                   // end what is being dialled
	doHangUp                   // close the connection that was dialled last, on which no session lives
	doEcho                     // have the peer answer, under the current session
	doEchoFull                 // the same, with as much as any path carries
	doLeave                    // send no more under the current session; close the connection on which it lives
	doProbe                    // have the peer answer under the session on trial
	doAdopt                    // the session on trial becomes the current one
	doDiscard                  // the session on trial is dropped
	doClose                    // close the connections on which the current session does not live
	doMiss                     // say that what was tried before was not answered
	doGiveUp                   // nobody answers
)

// verdict is what becomes of a session that a handshake of ours has made.
type verdict uint8

const (
	refuse verdict = iota // it is dropped
	try                   // it is kept beside the current one, on trial
	take                  // it is the current one
)

func newWays(jitter func() time.Duration) ways {
	w := ways{
		jitter: jitter, answered: -never, since: -never, spaced: -never, redial: leastRedial, begunAt: -never,
		drained: never, changed: -never, later: never,
	}
	for c := range w.attempts {
		w.attempts[c] = attempt{due: never, stagger: never, sent: -never}
	}
	w.doubt = doubt{due: never, asked: -never, endurance: leastEndurance}
	w.trial = trial{due: never, chosen: -never, wait: firstTrial}
	return w
}

// want says that somebody waits for a session, or that nothing has come under the one there is for as long as WireGuard
// is patient.
func (w *ways) want(now time.Duration) {
	if w.goal == goalReach {
		w.tries = min(w.tries, 1) // the newest attempt counts as the first
		return
	}
	lead := w.on
	if !w.possible(lead) {
		lead = 1 - lead
	}
	w.reach(now, lead, "")
}

// renew says that the session in use is getting old.
func (w *ways) renew(now time.Duration) {
	if w.goal != goalNone || !w.linked {
		return
	}
	if w.on == TransportTCP {
		w.stop(TransportTCP)
		w.hangUp() // the peer's connection has come first, and does as well
	}
	w.goal, w.lead, w.tries, w.rounds, w.begunAt = goalRenew, w.on, 0, 0, -never
	w.attempts[w.on].begin = 0
	w.attempts[w.on].due = now
}

// reach looks for a session, by lead first; by the other transport if that is not answered.
func (w *ways) reach(now time.Duration, lead Transport, reason string) {
	if !w.possible(lead) {
		return
	}
	w.goal, w.lead, w.tries, w.reason = goalReach, lead, 0, reason
	w.rounds, w.begunAt = 0, -never
	w.trial.under = false // an initiation that was sent for it serves this
	a := &w.attempts[lead]
	a.begin, a.due = 0, now
	if other := 1 - lead; w.possible(other) && !w.trial.session {
		since := now // also where the lead may not be tried yet
		if a.pending {
			since = a.sent
		}
		w.attempts[other].due = max(now, since+fallbackAfter)
	}
}

// completed is told of a handshake of ours that was answered. ours says, of one by TCP, that we have opened the
// connection.
func (w *ways) completed(now time.Duration, c Transport, ours bool) verdict {
	a := &w.attempts[c]
	a.pending, a.stagger = false, never
	w.roundTrip = now - a.sent
	reason := w.reasonFor(c)
	switch t := &w.trial; {
	case c == TransportTCP && w.linked && w.on == TransportTCP && ours && !w.ours && !w.smaller:
		w.stop(TransportTCP)
		w.hangUp()
		return refuse // the peer has opened a connection as well, and that one is kept
	case c == TransportUDP && (t.under || t.suspect && w.goal == goalReach && w.possible(TransportTCP)) && w.probes:
		a.due = never
		t.begin(now)
		return try
	case c == TransportUDP && t.under:
		reason = whyReturned
		t.chosen = now
	case c == TransportTCP:
		a.connected = false
	}
	w.link(now, c, ours, reason)
	return take
}

// confirmed is told of a handshake of the peer's under whose keys a message has come. follow: the session becomes the
// current one; else it is only opened under. Who has opened the connection in use says when UDP is gone back to; of two
// connections that of the smaller key is kept.
func (w *ways) confirmed(now time.Duration, c Transport, ours bool) (follow bool) {
	if w.linked && w.on == TransportTCP && w.ours && !ours && (c == TransportUDP || w.smaller) {
		return false
	}
	w.roundTrip = now - w.attempts[c].sent
	why := "the peer has come by it"
	if w.since == -never && c == TransportUDP {
		why = w.reasonFor(c)
	}
	w.link(now, c, ours, why)
	return true
}

// responded is told of an initiation of the peer's that was answered: the limit is one of handshake messages.
//
// A peer that wants a new session while the one there is is young does not hear us, or not all. It may be that it knows no
// other way, and we do.
func (w *ways) responded(now time.Duration, c Transport) {
	w.attempts[c].sent = now
	if w.linked && w.on == c && w.echoes && w.goal == goalNone && now-w.fresh < youngSession && now >= w.doubt.deaf {
		w.doubt.begin(now, true, true) // anew: the answer to a smaller question would not do
		w.doubt.full = true
	}
}

// youngSession is for how long a session has certainly not to be renewed.
const youngSession = RekeyAfterTime - RekeyTimeout

// reasonFor is why c is to be the way.
func (w *ways) reasonFor(c Transport) string {
	switch {
	case w.transport != TransportAuto:
		return "Transport = " + w.transport.String()
	case w.reason != "":
		return w.reason
	case c == TransportTCP:
		return "UDP does not get through"
	}
	return "UDP gets through"
}

// link takes a session that lives on c into use. Nothing else is looked for then, but for a connection of ours that is
// just being made and would be kept.
func (w *ways) link(now time.Duration, c Transport, ours bool, why string) {
	if w.linked && w.on == TransportTCP && (c == TransportUDP || w.ours != ours) {
		w.drained = now + drainTime
	}
	if w.since == -never || w.on != c {
		w.news = w.since != -never || c == TransportTCP
		w.since, w.why = now, why
		if c == TransportTCP {
			w.trial.postpone(now)
		}
	}
	w.linked, w.on, w.ours, w.fresh = true, c, ours, now
	w.redial = leastRedial
	w.goal, w.reason, w.tries = goalNone, "", 0
	w.doubt.end()
	w.endTrial()
	w.attempts[c].due, w.attempts[c].stagger = never, never // a handshake that crosses this one may still be answered
	if c == TransportTCP {
		w.stop(TransportUDP)
	}
	switch a := &w.attempts[TransportTCP]; {
	case c == TransportTCP && !ours && w.smaller && (a.connected || len(w.flights) > 0):
		a.due = now + RekeyTimeout // until when the one of ours has time to answer
	case c == TransportUDP || a.connected || len(w.flights) > 0:
		w.stop(TransportTCP)
		w.hangUp()
	}
}

// expired says that the session in use may be sent under no more.
func (w *ways) expired() {
	w.linked = false
	if w.goal == goalRenew {
		w.goal, w.reason = goalReach, ""
	}
	w.doubt.end()
	w.endTrial()
}

// forget is for an end that begins anew: nothing is under way, and no limit counts.
func (w *ways) forget() {
	w.unlink()
	w.drained, w.later, w.spaced, w.acts = never, never, -never, nil
	for c := range w.attempts {
		w.attempts[c].sent = -never
	}
}

// awaits says whether the answer to a handshake by c is waited for.
func (w *ways) awaits(c Transport) bool { return w.attempts[c].pending }

// unlink says that there is no session any more that may be sent under, and that nobody wants one: the peer has said
// goodbye, or the keys are too old.
func (w *ways) unlink() {
	w.linked, w.goal, w.reason = false, goalNone, ""
	w.doubt.end()
	w.endTrial()
	w.stop(TransportUDP)
	w.stop(TransportTCP)
	w.hangUp()
}

// leave gives up the way in use, and looks for another one everywhere at once.
func (w *ways) leave(now time.Duration, why string) {
	left, other := w.on, 1-w.on
	w.acts = append(w.acts, act{do: doLeave, by: left, why: why})
	w.miss(left)
	w.linked = false
	w.doubt.end()
	if left == TransportUDP {
		w.trial.left(now)
		w.trial.suspect = w.possible(TransportTCP)
	} else {
		w.stop(TransportTCP)
		w.hangUp()
	}
	lead := left
	if w.possible(other) {
		lead = other
	}
	w.reach(now, lead, why)
	if a := &w.attempts[left]; w.possible(left) {
		a.begin, a.due = 1, now // the address that was in use comes last
	}
}

// lost is told that the connection in use has ended.
func (w *ways) lost(now time.Duration, why string) {
	if !w.linked || w.on != TransportTCP {
		return
	}
	w.linked, w.goal = false, goalNone
	w.doubt.end()
	w.stop(TransportTCP)
	w.hangUp()
	if w.ours { // else it is for the peer to come back
		w.want(now)
	}
	if w.goal == goalNone {
		w.stop(TransportUDP)
		return
	}
	w.reason = "the TCP connection ended: " + why
}

// networkChanged is told that addresses or routes of this host are others, or that it has slept.
func (w *ways) networkChanged(now time.Duration) {
	if now < w.changed+changeSpacing {
		w.later = w.changed + changeSpacing
		return
	}
	w.changed, w.later = now, never
	w.trial.hasten(now, w.since)
	switch {
	case w.goal == goalReach:
		w.stop(TransportTCP)
		w.hangUp()
		w.reach(now, w.lead, w.reason)
		if other := 1 - w.lead; w.possible(other) {
			w.attempts[other].due = now
		}
	case w.linked && w.echoes && w.doubt.hurry: // it is being found out
	case w.linked && w.echoes:
		w.doubt.begin(now, true, true)
	case w.linked:
		w.renew(now)
	}
}

// next is when step wants to be called, which may be in the past; never: not before something has happened.
func (w *ways) next() time.Duration {
	if len(w.acts) > 0 {
		return -never
	}
	first := min(w.doubt.due, w.trial.due, w.drained, w.later)
	for c := range w.attempts {
		first = min(first, w.attempts[c].due, w.attempts[c].stagger)
	}
	return first
}

// step returns what is to be done now. heard is when a message last came by the way in use that shows that data gets
// through.
func (w *ways) step(now, heard time.Duration) []act {
	if w.later <= now {
		w.networkChanged(now)
	}
	w.stepDoubt(now, heard)
	w.stepTrial(now)
	w.stepUDP(now)
	w.stepTCP(now)
	if w.drained <= now {
		w.drained = never
		w.acts = append(w.acts, act{do: doClose})
	}
	acts := w.acts
	w.acts = nil
	return acts
}
