package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"stunnel/cmd/internal/conf"
	"stunnel/device/netconf"
)

// mainTable is what the kernel calls the routing table that everybody uses.
const mainTable = 254

// routes leads the allowed IPs into the interface. They are told the most specific first, as up and wg-quick add them.
func (p *plan) routes() {
	f := p.file
	t := f.Interface.Table
	apart := fileDivision(f).apart()
	if t.Off {
		p.tell("routes", "none (Table = off)")
		return
	}
	type route struct {
		prefix netip.Prefix
		peer   *conf.Peer
	}
	var routes []route
	for i := range f.Peers {
		for _, prefix := range f.Peers[i].AllowedIPs {
			routes = append(routes, route{prefix, &f.Peers[i]})
		}
	}
	slices.SortStableFunc(routes, func(a, b route) int { return b.prefix.Bits() - a.prefix.Bits() })
	for _, r := range routes {
		where, covered := "", ""
		if t.Number != 0 && t.Number != mainTable {
			where = fmt.Sprintf(" in table %d", t.Number)
		} else if slices.Contains(apart, r.prefix) {
			where = " in the table whose number is the mark's"
		} else if a, ok := covering(f.Interface.Address, r.prefix); ok {
			covered = fmt.Sprintf(" (none of its own: %s covers it)", a)
		}
		if m := f.Interface.Metric; m != 0 && covered == "" && !slices.Contains(apart, r.prefix) {
			where += fmt.Sprintf(" with metric %d", m)
		}
		p.tell("route", "%s%s, to peer %s%s", r.prefix, where, r.peer.Title(), covered)
	}
	p.do(func(ctx context.Context, u *upward) error { return u.routes(ctx) })
}

// covering returns the address whose network p lies in.
func covering(addresses []netip.Prefix, p netip.Prefix) (netip.Prefix, bool) {
	for _, a := range addresses {
		if a.Bits() <= p.Bits() && a.Contains(p.Addr()) {
			return a, true
		}
	}
	return netip.Prefix{}, false
}

// allowed are all allowed IPs, those of a hook's peers too.
func (u *upward) allowed() (prefixes []netip.Prefix) {
	for _, p := range u.tunnel.engine.Status().Peers {
		prefixes = append(prefixes, p.AllowedIPs...)
	}
	return prefixes
}

// routes leads all allowed IPs into the interface: those of which the tunnel's own packets must not know last.
func (u *upward) routes(ctx context.Context) error {
	table := u.file.Interface.Table
	if table.Off {
		return nil
	}
	usual := &netconf.Routes{Interface: u.file.Name, Table: table.Number, Metric: u.file.Interface.Metric, Prefixes: u.division.usual}
	if err := u.route(ctx, usual); err != nil {
		return err
	}
	if len(u.division.apart()) == 0 {
		return nil
	}
	return u.route(ctx, &netconf.Routes{Interface: u.file.Name, Table: u.separateTable, Prefixes: u.division.apart()})
}

// route takes a step of routes and tells each one.
func (u *upward) route(ctx context.Context, r *netconf.Routes) error {
	if err := u.change(ctx, r); err != nil {
		return err
	}
	const listed = 8 // more would fill the screen
	for i, p := range r.Added {
		if i == listed && len(r.Added) > listed+1 {
			u.log.Info(fmt.Sprintf("and %d more routes", len(r.Added)-listed))
			break
		}
		if r.Table != 0 {
			u.log.Info(fmt.Sprintf("route %s in table %d", p, r.Table))
		} else {
			u.log.Info(fmt.Sprintf("route %s", p))
		}
	}
	return nil
}
