// Package doctor finds out why a tunnel does not work: what is wrong, by what it was seen, and what mends it.
//
// [ReadMachine] and [Tunnel.Read] take a snapshot of what the checks need to know, [Examine] lets the checks look at it. They
// read only: files below /proc, routes and rules over rtnetlink, the rules of nftables, the status that the caller got from
// the tunnel. The only packets that leave the host are a resolver's, for the names of endpoints, and where a peer does not answer
// those of TCP connections to where it should take them, which end at once.
//
// A file here is one matter: what is read of it, and its checks. A check is a function of the snapshot alone, and says
// nothing about what could not be read: that is listed in the [Report] instead.
package doctor

// Report is all that was found.
type Report struct {
	// Tunnels are the names of those that were examined.
	Tunnels []string `json:"tunnels"`
	// Findings are in the order in which they are to be mended: what comes later may be a consequence.
	Findings []Finding `json:"findings"`
	// Notes are what may be meant so, and is worth knowing while something does not work.
	Notes []Finding `json:"notes"`
	// Unread is what could not be looked at.
	Unread []Unread `json:"unread"`
}

// Finding is one thing that is wrong.
type Finding struct {
	// ID is a word of lower-case letters, digits and '_' that stays the same from version to version.
	ID string `json:"id"`
	// Tunnel is the interface that it is about; "": the machine as a whole.
	Tunnel string `json:"tunnel"`
	// Peer is the one that it is about, by its title; "": none of them.
	Peer string `json:"peer"`
	// What is wrong, in a sentence without a full stop.
	What string `json:"what"`
	// Evidence is what was read, the most telling first.
	Evidence []Evidence `json:"evidence"`
	// Remedies are what to do: all of them, or where they say so one of them.
	Remedies []Remedy `json:"remedies"`
	// Note: it may be meant so.
	Note bool `json:"-"`
}

// Evidence is something that was read.
type Evidence struct {
	Source string `json:"source"` // a file, or the command that shows the same
	Says   string `json:"says"`
}

// Remedy is something that mends it.
type Remedy struct {
	Command string `json:"command"` // "": it can't be done by a command
	Why     string `json:"why"`     // what it does, or when it is the right one; may be "" beside a Command
}

// Unread is something that could not be looked at, and why.
type Unread struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// check looks for one kind of fault. It may find several.
type check func(*Machine, *Tunnel) []Finding

// The checks, in the order in which what they find is to be mended. Those of the machine are called with no tunnel.
var (
	machineChecks = []check{checkTUN, checkClock, checkLeftovers}
	tunnelChecks  = []check{
		checkElsewhere, checkFaults, checkRights, checkName, checkPort, checkLink, checkIPv6, checkNftables, checkPolicyRouting,
		checkResolution, checkWay, checkPeers, checkOwnAddress, checkSealedOut, checkTCPOut, checkSealedIn, checkHandshake, checkCarrier, checkClockOfHandshake,
		checkRoutes, checkRules, checkReversePath, checkForwarding, checkInner, checkForward, checkBridge, checkKillSwitch, checkDrops, checkMTU, checkNames,
	}
)

// Examine lets all checks look at the machine and at each of the tunnels.
func Examine(m *Machine, tunnels []*Tunnel) Report {
	r := Report{Tunnels: []string{}, Findings: []Finding{}, Notes: []Finding{}, Unread: append([]Unread{}, m.Unread...)}
	for _, look := range machineChecks {
		r.add(look(m, nil))
	}
	for _, t := range tunnels {
		r.Tunnels = append(r.Tunnels, t.Name)
		for _, look := range tunnelChecks {
			found := look(m, t)
			for i := range found {
				found[i].Tunnel = t.Name
			}
			r.add(found)
		}
	}
	return r
}

func (r *Report) add(found []Finding) {
	for _, f := range found {
		if f.Note {
			r.Notes = append(r.Notes, f)
		} else {
			r.Findings = append(r.Findings, f)
		}
	}
}

// one is the result of a check that has found f.
func one(f Finding) []Finding { return []Finding{f} }

// commands are remedies that need no words.
func commands(all ...string) (remedies []Remedy) {
	for _, c := range all {
		remedies = append(remedies, Remedy{Command: c})
	}
	return remedies
}

// words are remedies that no command does.
func words(all ...string) (remedies []Remedy) {
	for _, w := range all {
		remedies = append(remedies, Remedy{Why: w})
	}
	return remedies
}
