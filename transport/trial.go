package transport

import "time"

// trial is how UDP is gone back to while TCP works: a handshake by UDP, then probes under its session, which is not the
// current one before one of them is answered. The peer does not take a probe for a confirmation, so nothing moves there
// either. A peer that knows no probes is gone back to when the handshake is answered.
//
// The same is done where UDP has just been left since data did not get through, though handshakes may: see suspect.
type trial struct {
	at      time.Duration // from when on UDP is tried, if there is traffic
	wait    time.Duration // after the next one that fails
	under   bool          // an initiation by UDP is for this
	session bool          // there is a session on trial
	due     time.Duration // of the next probe, or of the verdict
	sent    int           // probes
	passed  bool          // one was answered
	suspect bool          // UDP was left, and has not passed since
	chosen  time.Duration // when UDP was last gone back to; -never: it was not
	penalty time.Duration // for having left it soon after that
}

const (
	// choiceSpacing is the least time before a change that nothing forces.
	choiceSpacing = 10 * time.Second

	firstTrial = choiceSpacing
	mostWait   = 30 * time.Second // so a minute after UDP works again it is in use, even if one trial fails by accident

	probeAgain = 700 * time.Millisecond
	probeTries = 3
	lastResort = 8 // probes where there is no other session, while TCP is being tried

	// A return that lasts no longer than settleTime is paid for.
	settleTime   = time.Minute
	leastPenalty = time.Minute
	mostPenalty  = 10 * time.Minute
)

const whyReturned = "UDP works again"

// postpone is for TCP that has just been taken into use.
func (t *trial) postpone(now time.Duration) {
	t.wait = firstTrial
	t.at = now + max(firstTrial, t.penalty)
}

// hasten is for another network, on which nothing of what was seen need be true.
func (t *trial) hasten(now, since time.Duration) {
	t.wait, t.penalty = firstTrial, 0
	t.at = now
	for _, last := range []time.Duration{since, t.chosen} {
		if last != -never {
			t.at = max(t.at, last+choiceSpacing)
		}
	}
}

// left is told that UDP was left.
func (t *trial) left(now time.Duration) {
	if t.chosen != -never && now-t.chosen <= settleTime {
		t.penalty = min(max(2*t.penalty, leastPenalty), mostPenalty)
	} else {
		t.penalty = 0
	}
}

// begin puts a session on trial.
func (t *trial) begin(now time.Duration) {
	t.under, t.session, t.passed, t.sent, t.due = false, true, false, 0, now
}

// tryUDP begins a trial if it is time.
func (w *ways) tryUDP(now time.Duration) {
	t := &w.trial
	ready := w.linked && w.on == TransportTCP && w.ours && w.transport == TransportAuto && w.goal != goalReach && w.possible(TransportUDP)
	if !ready || t.under || t.session || now < t.at {
		return
	}
	t.under = true
	a := &w.attempts[TransportUDP]
	a.begin, a.due = 0, now
}

// failTrial drops what there is of one.
func (w *ways) failTrial(now time.Duration) {
	t := &w.trial
	w.endTrial()
	w.stop(TransportUDP)
	t.at = now + t.wait
	t.wait = min(2*t.wait, mostWait)
}

// endTrial ends one without a verdict.
func (w *ways) endTrial() {
	t := &w.trial
	if t.under {
		w.stop(TransportUDP)
	}
	if t.session {
		w.acts = append(w.acts, act{do: doDiscard})
	}
	t.session, t.passed, t.due = false, false, never
}

// probed is told that a probe under the session on trial was answered.
func (w *ways) probed(now time.Duration) {
	if t := &w.trial; t.session {
		t.passed, t.due = true, now
	}
}

func (w *ways) stepTrial(now time.Duration) {
	t := &w.trial
	tries := probeTries
	if !w.linked {
		tries = lastResort
	}
	switch {
	case !t.session || t.due > now:
	case t.passed && w.linked:
		t.suspect = false
		t.chosen = now
		w.adopt(now, whyReturned)
	case t.passed:
		t.suspect = false
		w.adopt(now, w.reasonFor(TransportUDP))
	case t.sent < tries:
		t.sent++
		t.due = now + probeAgain
		w.acts = append(w.acts, act{do: doProbe, by: TransportUDP})
	case w.linked:
		w.failTrial(now)
	default:
		w.adopt(now, "nothing else answers")
		w.doubt.endure(now)
	}
}

// adopt takes the session on trial into use.
func (w *ways) adopt(now time.Duration, why string) {
	w.trial.session, w.trial.due = false, never // so that link does not discard it
	w.acts = append(w.acts, act{do: doAdopt, by: TransportUDP, why: why})
	w.link(now, TransportUDP, false, why)
}
