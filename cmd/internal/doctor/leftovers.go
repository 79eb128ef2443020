package doctor

import (
	"errors"
	"fmt"
	"slices"

	"stunnel/device/netconf"
)

// Leftover is what a tunnel has left that died.
type Leftover struct {
	Name  string // of its interface
	Path  string // of its journal
	PID   int    // of the process that made it
	Steps []string
	Err   error // why it can't be taken back here
}

func (m *Machine) readLeftovers() {
	h, err := netconf.New()
	if err != nil {
		m.unread("the journals in /run/stunnel", err)
		return
	}
	defer h.Close()
	all, err := h.Journals()
	m.unread("the journals in /run/stunnel", err)
	for _, left := range all {
		if errors.Is(left.Err, netconf.ErrInUse) {
			continue
		}
		l := Leftover{Name: left.Owner.Interface, Path: left.Path, PID: left.Owner.PID, Err: left.Err}
		for _, s := range left.Steps {
			l.Steps = append(l.Steps, s.String())
		}
		m.Leftovers = append(m.Leftovers, l)
	}
	m.KillSwitches, err = h.KillSwitches()
	if m.FirewallErr == nil {
		m.unread("the kill switches", err)
	}
}

// checkKillSwitch: who relies on one should know that somebody has lifted it.
func checkKillSwitch(m *Machine, t *Tunnel) []Finding {
	if t.Status == nil || t.File == nil || !t.File.Interface.KillSwitch || m.Firewall == nil || slices.Contains(m.KillSwitches, t.Name) {
		return nil
	}
	return one(Finding{
		ID: "kill_switch_lifted", Note: true, What: "the file wants a kill switch, and none is in force: what the tunnel does not carry leaves in the clear",
		Evidence: []Evidence{{"nft list table inet " + netconf.KillSwitchTable(t.Name), "is not there: stunnel unlock has lifted it, or the file had no KillSwitch when the tunnel came up"}},
		Remedies: []Remedy{{"sudo stunnel down " + t.Name, "and up again, which puts it in force"}},
	})
}

// checkLeftovers: a tunnel that ended without `down` left what it had changed.
func checkLeftovers(m *Machine, _ *Tunnel) (found []Finding) {
	for _, left := range m.Leftovers {
		f := Finding{
			ID: "leftovers", What: fmt.Sprintf("the tunnel %s has died without taking back what it had changed", left.Name),
			Evidence: []Evidence{{left.Path, fmt.Sprintf("of process %d, which is not there any more", left.PID)}},
			Remedies: []Remedy{{"sudo stunnel down " + left.Name, "takes it back; so does the next up"}},
		}
		const most = 8
		for i, s := range left.Steps {
			if i == most {
				f.Evidence = append(f.Evidence, Evidence{left.Path, fmt.Sprintf("and %d more", len(left.Steps)-most)})
				break
			}
			f.Evidence = append(f.Evidence, Evidence{left.Path, s})
		}
		if errors.Is(left.Err, netconf.ErrElsewhere) {
			f.Note = true
			f.What = fmt.Sprintf("there is a journal of the tunnel %s in another network namespace; if it does not run there, it has died", left.Name)
			f.Evidence = []Evidence{{left.Path, left.Err.Error()}}
			f.Remedies = words("stunnel down " + left.Name + ", in that namespace")
		}
		if unreadable := (*netconf.UnreadableError)(nil); errors.As(left.Err, &unreadable) {
			f.Evidence = append([]Evidence{{left.Path, unreadable.Err.Error()}}, f.Evidence[1:]...)
			f.Remedies = words(unreadable.Advice())
		}
		found = append(found, f)
	}
	for _, name := range m.KillSwitches {
		if slices.Contains(m.Running, name) {
			continue
		}
		found = append(found, Finding{
			ID: "kill_switch", What: fmt.Sprintf("the kill switch of %s is in force, and that tunnel does not run: nothing leaves this machine", name),
			Evidence: []Evidence{{"nft list table inet " + netconf.KillSwitchTable(name), "is there"}},
			Remedies: []Remedy{
				{"sudo stunnel up " + name, "brings the tunnel back, with the kill switch closed throughout"},
				{"sudo stunnel down " + name, "takes back all that the tunnel has left, the kill switch last"},
				{"sudo stunnel unlock " + name, "lifts the kill switch alone"},
			},
		})
	}
	return found
}
