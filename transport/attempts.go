package transport

import (
	"net/netip"
	"slices"
	"time"
)

// attempt is what is done to have a handshake by one transport.
type attempt struct {
	due       time.Duration // of the next initiation or, by TCP, of the next round of dialling; never: there is none
	stagger   time.Duration // when the next address is tried too; never: all have been
	sent      time.Duration // when the last handshake message was sent; -never: none was
	pending   bool          // an initiation is not answered
	connected bool          // by TCP: there is a connection for the handshake
	begin     int           // at which of the addresses the next round begins
	told      int           // how many of them the current one has reached
}

// addresses are those that are tried by c, in order.
func (w *ways) addresses(c Transport) []netip.AddrPort {
	switch {
	case c == TransportTCP:
		return w.tcp
	case !w.here.IsValid():
		return w.udp
	}
	all := []netip.AddrPort{w.here}
	for _, a := range w.udp {
		if a != w.here {
			all = append(all, a)
		}
	}
	return all
}

// next is the address that the round reaches now, of n; more: it is not the last one.
func (a *attempt) next(n int) (i int, more bool) {
	i = (a.begin + a.told) % n
	a.told++
	return i, a.told < n
}

// rotate lets the next round begin one address later.
func (a *attempt) rotate() { a.begin++ }

// stop makes no further attempt by c, and forgets the one that is pending.
func (w *ways) stop(c Transport) {
	w.abandon(c)
	w.attempts[c].due = never
	if c == TransportUDP {
		w.trial.under = false
	}
}

func (w *ways) abandon(c Transport) {
	a := &w.attempts[c]
	if a.pending {
		w.acts = append(w.acts, act{do: doAbandon, by: c})
	}
	a.pending, a.stagger = false, never
}

// hangUp ends connections that come about, and those on which no session lives.
func (w *ways) hangUp() {
	w.cancel()
	if a := &w.attempts[TransportTCP]; a.connected {
		a.connected = false
		w.acts = append(w.acts, act{do: doHangUp})
	}
}

// cancel ends connections that come about.
func (w *ways) cancel() {
	w.attempts[TransportTCP].stagger = never
	if len(w.flights) > 0 {
		w.flights = nil
		w.acts = append(w.acts, act{do: doCancel})
	}
}

// limit is until when WireGuard's limit keeps initiations by c, of which each transport has its own. One that was sent before
// the network changed has no part in it: where it went nobody may be.
func (w *ways) limit(c Transport) time.Duration {
	sent := w.attempts[c].sent
	if sent < w.changed {
		sent = -never
	}
	return sent + RekeyTimeout
}

// free is from when on an initiation by c may be sent. A peer that may be a plain WireGuard has one handshake at a time: a
// second one would take the first one's place there, so it is sent when the first has had its time.
func (w *ways) free(now time.Duration, c Transport) time.Duration {
	at := now
	if limit := w.limit(c); now < limit {
		at = limit + w.jitter()
	}
	if w.spaced != -never {
		at = max(at, w.spaced+attemptSpacing)
	}
	if other := &w.attempts[1-c]; !w.parallel && other.pending {
		at = max(at, other.sent+fallbackAfter)
	}
	return at
}

// initiate sends an initiation by c. to is for UDP.
func (w *ways) initiate(now time.Duration, c Transport, to netip.AddrPort) {
	if !w.parallel {
		if c == TransportTCP && w.trial.under {
			w.failTrial(now)
		}
		w.abandon(1 - c)
	}
	a := &w.attempts[c]
	a.sent, a.pending, w.spaced = now, true, now
	a.due = now + RekeyTimeout + w.jitter()
	w.acts = append(w.acts, act{do: doInitiate, by: c, to: to})
}

// begun is told that the lead's next round begins.
func (w *ways) begun(now time.Duration, c Transport) {
	other := 1 - c
	if c != w.lead || w.goal == goalNone {
		return
	}
	if w.begunAt == -never || now-w.begunAt >= RekeyTimeout { // else it is dialled again where that was refused
		w.tries++
		w.rounds++
		w.begunAt = now
		if w.rounds > 1 {
			w.miss(c)
		}
	}
	if w.goal == goalRenew && w.tries > renewTries {
		w.goal = goalReach
	}
	if a := &w.attempts[other]; w.goal == goalReach && a.due == never && w.possible(other) && !w.trial.session {
		a.begin, a.due = 0, now+fallbackAfter
	}
}

// miss says that what was tried by c was in vain.
func (w *ways) miss(c Transport) {
	miss := act{do: doMiss, by: c}
	if addresses := w.addresses(c); len(addresses) > 0 { // else the session's connection is all there is
		miss.to = addresses[w.attempts[c].begin%len(addresses)]
	}
	w.acts = append(w.acts, miss)
}

// renewTries unanswered initiations by the way in use, others are tried.
const renewTries = 2

// exhausted says whether the attempts are over, as many as WireGuard makes, and gives up then.
func (w *ways) exhausted(c Transport) bool {
	if c != w.lead || w.goal == goalNone || w.tries <= int(maxRetries) {
		return false
	}
	w.goal, w.reason = goalNone, ""
	w.stop(TransportUDP)
	w.stop(TransportTCP)
	w.hangUp()
	w.acts = append(w.acts, act{do: doGiveUp})
	return true
}

func (w *ways) stepUDP(now time.Duration) {
	a := &w.attempts[TransportUDP]
	if a.due <= now && !w.exhausted(TransportUDP) {
		switch at := w.free(now, TransportUDP); {
		case w.trial.under && a.pending:
			w.failTrial(now)
		case !w.possible(TransportUDP), w.goal == goalNone && !w.trial.under:
			w.stop(TransportUDP)
		case at > now:
			a.due = at
		default:
			w.begun(now, TransportUDP)
			addresses := w.addresses(TransportUDP)
			a.told, a.stagger = 0, never
			i, more := a.next(len(addresses))
			w.initiate(now, TransportUDP, addresses[i])
			if more && (w.goal != goalRenew) {
				a.stagger = now + staggerAfter
			}
		}
	}
	if a.stagger <= now {
		a.stagger = never
		if addresses := w.addresses(TransportUDP); a.told < len(addresses) { // else there are fewer now
			i, more := a.next(len(addresses))
			w.acts = append(w.acts, act{do: doRepeat, by: TransportUDP, to: addresses[i]})
			if more {
				a.stagger = now + staggerAfter
			} else {
				a.rotate()
			}
		}
	}
}

func (w *ways) stepTCP(now time.Duration) {
	a := &w.attempts[TransportTCP]
	inUse := w.linked && w.on == TransportTCP && w.goal == goalRenew
	if a.due <= now && !w.exhausted(TransportTCP) {
		at := w.free(now, TransportTCP)
		switch {
		case w.goal == goalNone:
			w.stop(TransportTCP)
			w.hangUp()
		case inUse && at > now, a.connected && !a.pending && at > now:
			a.due = at
		case inUse:
			w.begun(now, TransportTCP)
			w.initiate(now, TransportTCP, netip.AddrPort{})
		case a.connected && !a.pending:
			w.initiate(now, TransportTCP, netip.AddrPort{})
		case !w.possible(TransportTCP):
			w.stop(TransportTCP)
		case now < w.limit(TransportTCP)-dialLead:
			a.due = w.limit(TransportTCP) - dialLead
		default:
			if a.connected { // what has taken the connection does not answer on it
				w.abandon(TransportTCP)
				w.hangUp()
			}
			w.begun(now, TransportTCP)
			a.told, a.stagger = 0, now
			a.due = now + RekeyTimeout + w.jitter()
		}
	}
	if a.stagger <= now {
		w.dialNext(now)
	}
}

// leastRedial after a connection was refused it is tried again; then after twice that, and so on.
const leastRedial = 500 * time.Millisecond

// dialLead before an initiation may be sent the connection for it is begun: who listens does not wait long for one.
const dialLead = 250 * time.Millisecond

// dialNext dials the next address of the round that is not being dialled already.
func (w *ways) dialNext(now time.Duration) {
	a := &w.attempts[TransportTCP]
	a.stagger = never
	for n := len(w.tcp); a.told < n; {
		i, more := a.next(n)
		if !more {
			a.rotate()
		}
		if slices.Contains(w.flights, w.tcp[i]) {
			continue
		}
		w.flights = append(w.flights, w.tcp[i])
		w.acts = append(w.acts, act{do: doDial, by: TransportTCP, to: w.tcp[i]})
		if more {
			a.stagger = now + staggerAfter
		}
		return
	}
}

// dialled is told of a connection that was made. false: it is to be closed.
func (w *ways) dialled(now time.Duration, to netip.AddrPort) (keep bool) {
	i := slices.Index(w.flights, to)
	if i < 0 {
		return false
	}
	w.flights = slices.Delete(w.flights, i, i+1)
	w.cancel() // the others
	a := &w.attempts[TransportTCP]
	a.connected, a.due = true, now
	return true
}

// undialled is told that a connection could not be made: the next address is tried without waiting.
func (w *ways) undialled(now time.Duration, to netip.AddrPort) {
	i := slices.Index(w.flights, to)
	if i < 0 {
		return
	}
	w.flights = slices.Delete(w.flights, i, i+1)
	switch a := &w.attempts[TransportTCP]; {
	case a.stagger != never:
		a.stagger = now
	case len(w.flights) == 0 && a.due != never: // all were refused, which takes no time and costs nothing
		a.due = min(a.due, now+w.redial)
		w.redial = min(2*w.redial, RekeyTimeout)
	}
}

// disconnected is told that the connection has ended on which the handshake was to be.
func (w *ways) disconnected(now time.Duration) {
	a := &w.attempts[TransportTCP]
	if !a.connected {
		return
	}
	a.connected = false
	w.abandon(TransportTCP)
	a.due = min(a.due, max(now, w.limit(TransportTCP)))
}
