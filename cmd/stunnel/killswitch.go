package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"stunnel/device/netconf"
)

// killSwitch is the first of all steps, and so the last that is taken back. up puts it in force (lock) before there is an
// interface.
func (p *plan) killSwitch() {
	in := &p.file.Interface
	if !in.KillSwitch {
		return
	}
	p.tellMark()
	except := []string{"its own packets", "DHCP", "neighbour discovery"}
	if in.KillSwitchAllow.LAN {
		except = append(except, "the private networks that this machine is connected to then")
	}
	for _, prefix := range in.KillSwitchAllow.Prefixes {
		except = append(except, prefix.String())
	}
	p.tell("lock", "kill switch, which stays if the process is killed: nothing leaves but through %s, except %s (nft table inet %s)",
		p.file.Name, strings.Join(except, ", "), netconf.KillSwitchTable(p.file.Name))
	// Look-ups of endpoints' names must pass it too, and they have the engine's mark.
	p.do(func(_ context.Context, u *upward) error {
		return u.tunnel.fixMark(u.ownMark.Mark)
	})
}

// lock puts the kill switch in force.
func (u *upward) lock(ctx context.Context) error {
	u.warnOfKillSwitches()
	in := &u.file.Interface
	if !in.KillSwitch {
		return nil
	}
	wanted := uint32(0)
	if in.FwMark != nil {
		wanted = *in.FwMark
	}
	if err := u.takeMark(ctx, wanted); err != nil {
		return err
	}
	k := &netconf.KillSwitch{Interface: u.file.Name, Mark: u.ownMark.Mark, Allow: in.KillSwitchAllow.Prefixes, LAN: in.KillSwitchAllow.LAN}
	var err error
	if u.locked {
		// The journal has one, which takes this back too. To undo that first would leave a gap.
		if _, err = k.Look(u.net); err == nil {
			err = openHint(k.Make(u.net), "stunnel up "+u.file.Path)
		}
	} else {
		err = u.change(ctx, k)
	}
	if err != nil {
		return err
	}
	u.tables = append(u.tables, k)
	u.log.Info(k.String())
	if len(k.Networks) > 0 {
		u.log.Info("kill switch: the local networks are " + join(k.Networks))
	}
	if len(k.Foreign) > 0 {
		u.log.Warn(fmt.Sprintf("kill switch: %s is connected, but not private, and so not among the local networks; KillSwitchAllow = %s allows it", join(k.Foreign), join(k.Foreign)))
	}
	return nil
}

// warnOfKillSwitches says that another tunnel's kill switch stops what this one sends.
func (u *upward) warnOfKillSwitches() {
	inForce, err := u.net.KillSwitches()
	if err != nil {
		return // who needs nftables says it
	}
	for _, other := range slices.DeleteFunc(inForce, func(name string) bool { return name == u.file.Name }) {
		u.log.Warn(fmt.Sprintf("the kill switch of %s is in force: what this tunnel sends is stopped, unless KillSwitchAllow there has its endpoints and allowed IPs", other))
	}
}

func isKillSwitch(s netconf.Step) bool {
	_, is := s.(*netconf.KillSwitch)
	return is
}

// staysLocked says whether the kill switch stays in force at the end, and says so: nobody has asked for the end of a tunnel
// that was up, or this process has found it in force and could not come up.
func (u *upward) staysLocked(cause error) bool {
	if !u.locked || errors.Is(cause, errSignalled) || errors.Is(cause, errAsked) {
		return false
	}
	if inForce, err := u.net.KillSwitches(); err == nil && !slices.Contains(inForce, u.file.Name) {
		return false // stunnel unlock has lifted it
	}
	u.log.Warn(fmt.Sprintf("the kill switch stays in force: nothing leaves this machine; stunnel up %s brings the tunnel back, stunnel down %s or stunnel unlock %s lifts it",
		u.file.Path, u.file.Name, u.file.Name))
	return true
}

// warnOfLeftKillSwitches tells of those in force whose tunnels are not among the running ones: somebody may wonder why nothing
// works any more.
func warnOfLeftKillSwitches(stderr io.Writer, running []tunnel) {
	h, err := netconf.New()
	if err != nil {
		return
	}
	defer h.Close()
	inForce, err := h.KillSwitches()
	if err != nil {
		return // not root, or no nftables
	}
	for _, name := range inForce {
		if !slices.ContainsFunc(running, func(t tunnel) bool { return t.name == name && t.elsewhere == 0 }) {
			warn(stderr, "the kill switch of %s is in force, and its tunnel does not run: nothing leaves this machine", name)
			printHint(stderr, fmt.Sprintf("stunnel up brings the tunnel back, stunnel down %s takes back what it has left, and stunnel unlock the kill switch alone", name))
		}
	}
}
