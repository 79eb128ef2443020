package transport

import (
	"fmt"
	"time"
)

// doubt is whether the way in use still leads to the peer. Between two stunnels a silence of silenceTime after data, sent
// or received, is one: then echoes are sent, and when none is answered the way is left. Who only receives has to ask too:
// it may be the one end that knows another way.
type doubt struct {
	due       time.Duration // of the next echo, or of the verdict; never: there is no doubt
	sent      int           // echoes
	since     time.Duration // when the first was
	hurry     bool          // there is reason enough for a quick verdict
	strict    bool          // only an answer ends it: that data comes says nothing of whether ours goes
	full      bool          // it is about long messages
	asked     time.Duration // when the peer last asked whether we are there; -never: it has not
	deaf      time.Duration // until when none arises: this way was taken as there is no better one
	endurance time.Duration // for how long that will be the next time
}

const (
	silenceTime    = time.Second
	echoAgain      = time.Second            // from one unanswered echo to the next, and to the verdict
	echoHurry      = 400 * time.Millisecond // the same in a hurry
	askedAgain     = 1500 * time.Millisecond
	unanswered     = 3
	leastEndurance = 30 * time.Second
	mostEndurance  = 5 * time.Minute
)

func (d *doubt) begin(now time.Duration, hurry, strict bool) {
	d.due, d.sent, d.hurry, d.strict, d.full = now, 0, hurry, strict, false
}

// insist begins one that only an answer ends, or makes such a one of what there is.
func (d *doubt) insist(now time.Duration) {
	if d.due == never {
		d.begin(now, true, true)
	}
	d.strict, d.hurry = true, true
}

func (d *doubt) end() { d.due, d.sent, d.hurry, d.strict, d.full = never, 0, false, false, false }

// endure lets none arise for a while.
func (d *doubt) endure(now time.Duration) {
	d.deaf = now + d.endurance
	d.endurance = min(2*d.endurance, mostEndurance)
}

// isLosing says whether what is sent may be lost: nobody has heard of it, or another way is looked for.
func (w *ways) isLosing() bool { return w.doubt.sent > 0 || w.goal == goalReach }

// traffic is told now and then, at most silenceTime after data was sent or came, and then as long as it does.
func (w *ways) traffic(now, heard time.Duration) {
	d := &w.doubt
	if w.linked && w.echoes && w.goal != goalReach && d.due == never && now >= d.deaf && now-max(heard, w.fresh) >= silenceTime {
		d.begin(now, false, false)
	}
	w.tryUDP(now)
}

// questioned is told that the peer asks by c whether we are there. One who asks again soon may not hear our answers.
func (w *ways) questioned(now time.Duration, c Transport) {
	d := &w.doubt
	again := d.asked != -never && now-d.asked <= askedAgain
	d.asked = now
	if again && w.linked && w.on == c && w.echoes && w.goal != goalReach && now >= d.deaf {
		d.insist(now)
	}
}

// despair leaves the way in use if there is any other; else only a new handshake is tried, and what gets through meanwhile
// gets through.
func (w *ways) despair(now time.Duration, why string) {
	switch {
	case w.possible(1 - w.on), w.on == TransportTCP && w.ours, len(w.addresses(w.on)) > 1:
		w.leave(now, why)
	default:
		w.doubt.end()
		w.miss(w.on)
		w.reach(now, w.on, why)
	}
}

// tooNarrow is told that messages come back over UDP, but that it does not carry what any path should.
func (w *ways) tooNarrow(now time.Duration) {
	if w.linked && w.on == TransportUDP && w.goal != goalReach && w.possible(TransportTCP) && now >= w.doubt.deaf {
		w.leave(now, fmt.Sprintf("UDP does not carry %d bytes", basePathMTU))
	}
}

func (w *ways) stepDoubt(now, heard time.Duration) {
	d := &w.doubt
	switch {
	case d.due > now:
	case !w.linked || !w.echoes:
		d.end()
	case d.sent > 0 && (w.answered >= d.since || !d.strict && heard >= d.since):
		d.end()
		d.endurance = leastEndurance
	case d.sent == unanswered:
		silence := (now - max(heard, w.fresh)).Round(time.Second)
		w.despair(now, fmt.Sprintf("nothing came back over %s for %v", w.on.protocol(), silence))
	default:
		if d.sent == 0 {
			d.since = now
		}
		d.sent++
		d.due = now + echoAgain
		if d.hurry {
			d.due = now + min(max(echoHurry, w.roundTrip), echoAgain)
		}
		do := doEcho
		if d.full {
			do = doEchoFull
		}
		w.acts = append(w.acts, act{do: do, by: w.on})
	}
}
