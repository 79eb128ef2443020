// Package dns tells a machine which name servers to ask while a tunnel is up, and takes that back.
//
// Machines are told in one of three ways, see [Choose]: systemd-resolved over D-Bus, which knows servers per interface; the
// command resolvconf; or /etc/resolv.conf itself (resolv.conf(5)). Most readers need two calls: [Set] and [Revert]. [Mend] is
// for what a process that was killed, or a boot that has ended, has left behind; [Upstream] tells which servers there were
// before.
package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf/statedir"
)

// Settings are what one tunnel wants. They hold no secret.
type Settings struct {
	Interface string       `json:"interface"`
	Index     int          `json:"index"` // of the interface
	NetNS     uint64       `json:"netns"` // its network namespace, as the caller numbers them
	Servers   []netip.Addr `json:"servers,omitempty"`
	Search    []string     `json:"search,omitempty"` // tried behind a short name
	Route     []string     `json:"route,omitempty"`  // only names within these are asked of Servers; "." is all names
}

// split says whether some names only are asked of the tunnel's servers.
func (s *Settings) split() bool {
	for _, domain := range s.Route {
		if domain == "." {
			return false
		}
	}
	return len(s.Route) > 0
}

// Way is how a machine is told.
type Way string

// The ways there are.
const (
	ByResolved   Way = "systemd-resolved"
	ByResolvconf Way = "resolvconf"
	ByFile       Way = "/etc/resolv.conf"
)

// Choose looks which way this machine has: systemd-resolved where it runs, in this network namespace, and resolv.conf or
// nsswitch.conf lead to it; else resolvconf(8), of openresolv or Debian, where it is installed and resolv.conf is its
// business; else the file. It changes nothing.
func Choose() Way {
	if leadsToResolved() {
		if r, err := dialResolved(); err == nil {
			r.close()
			return ByResolved
		}
	}
	if resolvconf() != "" {
		return ByResolvconf
	}
	return ByFile
}

// ErrSplit: the machine can't ask some servers for some names.
var ErrSplit = errors.New("only systemd-resolved can ask the tunnel's name servers for some domains alone, and it does not serve this machine")

// Check says whether a machine that is told this way can do what s wants. It changes nothing.
func Check(w Way, s Settings) error {
	if w != ByResolved && s.split() {
		return ErrSplit
	}
	return nil
}

// Set tells the machine. Where it fails, Revert has to be called as if it had not.
func Set(w Way, s Settings) error {
	if err := Check(w, s); err != nil {
		return err
	}
	switch w {
	case ByResolved:
		r, err := dialResolved()
		if err != nil {
			return err
		}
		defer r.close()
		return r.set(s)
	case ByResolvconf:
		return addToResolvconf(s)
	}
	return machineFile().claim(s)
}

// Revert takes back what Set has told, whether it was done, half done or not at all. note is what the user should know:
// what somebody else has changed meanwhile, and so stays as it is.
func Revert(w Way, s Settings) (note string, err error) {
	switch w {
	case ByResolved:
		r, err := dialResolved()
		if errors.Is(err, errNotServed) {
			return "", nil // it has forgotten all
		}
		if err != nil {
			return "", err
		}
		defer r.close()
		return "", r.revert(s)
	case ByResolvconf:
		return "", deleteFromResolvconf(s)
	}
	return machineFile().release(s.Interface, s.NetNS)
}

// Mend takes our text out of /etc/resolv.conf as far as it is of tunnels whose process has gone, by kill -9 or with an earlier
// boot, and gives back what it has replaced. What systemd-resolved and resolvconf were told does not outlive a boot. note
// says what was done, "" for nothing. Without the right to do anything there is nothing to do.
func Mend() (note string, err error) { return machineFile().mend() }

// The machine's files. Of a mount namespace, as far as it has its own.
const (
	resolvConf = "/etc/resolv.conf"
	nsswitch   = "/etc/nsswitch.conf"
	stateDir   = "/var/lib/stunnel" // outlives a boot, as resolv.conf does
)

func machineFile() *file {
	return &file{path: resolvConf, dir: stateDir, boot: statedir.Boot(), pid: os.Getpid(), alive: alive}
}

// alive says whether the process that started then still runs.
func alive(pid int, start string) bool { return start != "" && startOf(pid) == start }

// startOf is when a process has started, in ticks since the boot; "" if there is none. It tells a process from a later
// one that has its number. See proc_pid_stat(5), field 22.
func startOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, behindName, _ := strings.Cut(string(text), ") ")
	const behind = 22 - 3
	fields := strings.Fields(behindName)
	if len(fields) <= behind || fields[0] == "Z" {
		return ""
	}
	return fields[behind]
}

// sameNamespace says whether a process lives in the network namespace of the calling thread.
func sameNamespace(pid uint32) (bool, error) {
	var ours, theirs unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ours); err != nil {
		return false, err
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &theirs); err != nil {
		return false, err
	}
	return ours.Dev == theirs.Dev && ours.Ino == theirs.Ino, nil
}
