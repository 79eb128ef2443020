package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"stunnel/device/netconf"
)

// guardOuter finds the outer interfaces of a gateway, and keeps from the tunnel who is on their links. It is there before the
// link is up, and before anything is forwarded.
func (u *upward) guardOuter(ctx context.Context) error {
	outer, err := u.outer()
	if err != nil {
		return err
	}
	u.guard = &netconf.Guard{Interface: u.file.Name, Outer: outer}
	u.outerLinks, u.switches = make(map[string]int), make(map[string]bool)
	for _, name := range outer {
		u.outerLinks[name] = linkIndex(name)
	}
	if err := u.step(ctx, u.guard); err != nil {
		return err
	}
	u.tables = append(u.tables, u.guard)
	return nil
}

// outer are the interfaces through which what comes from the peers leaves.
func (u *upward) outer() ([]string, error) {
	m := &u.file.Interface.Masquerade
	if len(m.Interfaces) > 0 {
		for _, name := range m.Interfaces {
			if linkIndex(name) == 0 {
				return nil, withHint(fmt.Errorf("there is no interface %s, which Masquerade names", name), "ip link lists them; with Masquerade = yes it is that of the default route")
			}
		}
		return slices.Clone(m.Interfaces), nil
	}
	found, err := u.net.DefaultInterfaces(u.file.Name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, withHint(fmt.Errorf("there is no default route, whose interface would be the way out for Masquerade = yes"), "Masquerade = eth0 (its name) needs none")
	}
	slices.Sort(found)
	u.log.Info("gateway: the way out is through " + strings.Join(found, ", "))
	return found, nil
}

// linkIndex is 0 where there is none of that name.
func linkIndex(name string) int {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return i.Index
}

// followOuter does for outer interfaces that have come since, or have come anew, what was done for the first ones. Those to
// which no default route leads any more stay as they are: connections still end there, and they have the guard.
func (u *upward) followOuter(ctx context.Context) {
	names := u.file.Interface.Masquerade.Interfaces
	if len(names) == 0 {
		found, err := u.net.DefaultInterfaces(u.file.Name)
		if err != nil {
			u.log.Error("the gateway does not know where the default routes lead", "error", err)
			return
		}
		names = append(slices.Clone(u.guard.Outer), found...)
	}
	var fresh []string
	for _, name := range names {
		index := linkIndex(name)
		if index != 0 && index != u.outerLinks[name] {
			fresh = append(fresh, name)
		}
		u.outerLinks[name] = index // before it is tried: what fails is told once
	}
	if len(fresh) == 0 {
		return
	}
	if err := u.admit(ctx, fresh); err != nil && ctx.Err() == nil {
		u.log.Error("the way out through "+strings.Join(fresh, ", ")+" is not as it should be: stunnel doctor "+u.file.Name+" tells more", "error", err)
		return
	}
	u.log.Info("gateway: the way out is through " + strings.Join(fresh, ", ") + " too, which is there now")
}

// admit makes outer interfaces of them: guarded first, forwarding last.
func (u *upward) admit(ctx context.Context, fresh []string) error {
	var unknown []string
	for _, name := range fresh {
		if !slices.Contains(u.guard.Outer, name) {
			unknown = append(unknown, name)
		}
	}
	u.guard.Outer = append(u.guard.Outer, unknown...)
	if err := u.guard.Renew(u.net); err != nil {
		return err
	}
	if len(unknown) > 0 { // rules for the others go by their names, and are there still
		if err := u.pass(ctx, unknown); err != nil {
			return err
		}
	}
	return u.switchOn(ctx, fresh)
}
