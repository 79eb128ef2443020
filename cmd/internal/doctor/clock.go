package doctor

import (
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the wall clock of the machine. A handshake carries its time, and a peer refuses one that is not newer than the last.
type Clock struct {
	Now      time.Time
	Built    time.Time // of the commit that this program was made from; the zero time: not known
	Unsynced bool      // the kernel says that nobody keeps it right
}

func readClock() Clock {
	c := Clock{Now: time.Now()}
	// adjtimex(2) with no mode reads.
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err == nil {
		c.Unsynced = t.Status&unix.STA_UNSYNC != 0
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				c.Built, _ = time.Parse(time.RFC3339, s.Value)
			}
		}
	}
	return c
}

// unsynced is the evidence that nobody keeps the clock right.
func (c Clock) unsynced() Evidence {
	return Evidence{"adjtimex(2)", "STA_UNSYNC: the clock is not synchronised; it says " + c.Now.UTC().Format(time.RFC3339)}
}

// keepClock is what keeps it right.
func keepClock() []Remedy {
	return []Remedy{{"timedatectl set-ntp true", "on systems with systemd; elsewhere start chronyd or ntpd. In a container the host's clock counts"}}
}

func checkClock(m *Machine, _ *Tunnel) []Finding {
	c := m.Clock
	if !c.Built.IsZero() && c.Now.Before(c.Built) {
		return one(Finding{
			ID: "clock_in_the_past", What: "the clock is wrong: it stands before the day on which this program was made",
			Evidence: []Evidence{{"clock", c.Now.UTC().Format(time.RFC3339)}, {"stunnel version", "made from a commit of " + c.Built.UTC().Format(time.RFC3339)}},
			Remedies: append([]Remedy{{fmt.Sprintf("date --utc --set %s", c.Built.UTC().Format("2006-01-02T15:04:05")), "with the time of today instead of this one"}}, keepClock()...),
		})
	}
	if c.Unsynced {
		return one(Finding{
			ID: "clock_not_synchronised", Note: true, What: "nobody keeps the clock right; a peer refuses handshakes of a clock that was set back",
			Evidence: []Evidence{c.unsynced()}, Remedies: keepClock(),
		})
	}
	return nil
}

// checkClockOfHandshake: a peer that does not answer may do so for our clock.
func checkClockOfHandshake(m *Machine, t *Tunnel) []Finding {
	if !m.Clock.Unsynced {
		return nil
	}
	for _, p := range t.Peers {
		if p.unanswered(m.Clock.Now) && !p.Status.LastHandshake.IsZero() {
			return one(Finding{
				ID: "clock_set_back", Peer: p.Title, What: "the peer answered once and does no more, and nobody keeps this clock right: it may have been set back",
				Evidence: []Evidence{m.Clock.unsynced()},
				Remedies: append(keepClock(), Remedy{"stunnel down " + t.Name, "and up again at the peer, which forgets the last time that it saw"}),
			})
		}
	}
	return nil
}
