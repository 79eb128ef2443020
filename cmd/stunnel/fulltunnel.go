package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/conf"
	"stunnel/device/netconf"
)

// With Table = auto, allowed IPs in which the tunnel's own packets could go to an endpoint (0.0.0.0/0 most of all) do not get
// their routes in the main table, where these packets would meet them. As with wg-quick(8) they are in a table of their own,
// and rules send there what does not have the tunnel's mark. Nothing has to be known of the way to the endpoint then: it may
// change, as may the endpoint, or its family.

// separate: what has allowed IPs of this prefix gets a routing table of its own, because an endpoint is in it or may be: that
// is so for prefixes as short as the halves and quarters that some use in the place of a default route.
func separate(p netip.Prefix, endpoints []netip.Addr) bool {
	short := 8
	if p.Addr().Is6() {
		short = 16
	}
	if p.Bits() < short {
		return true
	}
	for _, e := range endpoints {
		if p.Contains(e.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// division of the allowed IPs by separate.
type division struct {
	apart4, apart6 []netip.Prefix // in a table of their own
	usual          []netip.Prefix
}

func divide(prefixes []netip.Prefix, endpoints []netip.Addr, table conf.Table) (d division) {
	for _, p := range prefixes {
		switch {
		case !table.Auto || !separate(p, endpoints):
			d.usual = append(d.usual, p)
		case p.Addr().Is4():
			d.apart4 = append(d.apart4, p)
		default:
			d.apart6 = append(d.apart6, p)
		}
	}
	return d
}

func (d division) apart() []netip.Prefix {
	return append(append([]netip.Prefix{}, d.apart4...), d.apart6...)
}

// fileDivision is the division as far as the file alone tells: endpoints that are names are not known.
func fileDivision(f *conf.File) division {
	var endpoints []netip.Addr
	var prefixes []netip.Prefix
	for _, p := range f.Peers {
		for _, e := range slices.Concat(p.Endpoints, p.EndpointsTCP) {
			if a, err := netip.ParseAddrPort(e); err == nil {
				endpoints = append(endpoints, a.Addr())
			}
		}
		prefixes = append(prefixes, p.AllowedIPs...)
	}
	return divide(prefixes, endpoints, f.Interface.Table)
}

// mark chooses the mark of the tunnel's own packets, if they need one, and sends what has it by the main table. From then on
// no other stunnel's tunnel takes it either.
func (p *plan) mark() {
	if len(fileDivision(p.file).apart()) > 0 {
		if !p.file.Interface.KillSwitch { // else it has been told
			p.tellMark()
		}
		p.tell("rule", "0: packets of the tunnel itself, which have the mark, by the main table (IPv4 and IPv6)")
	}
	p.do(func(ctx context.Context, u *upward) error { return u.mark(ctx) })
}

// tellMark tells where the mark comes from, if the file does not say.
func (p *plan) tellMark() {
	if in := &p.file.Interface; in.FwMark == nil || *in.FwMark == 0 {
		p.tell("fwmark", "the first number from 51820 that is free, as mark and as routing table")
	}
}

func (u *upward) mark(ctx context.Context) error {
	u.division = divide(u.allowed(), u.endpoints(), u.file.Interface.Table)
	apart := len(u.division.apart()) > 0
	if !apart && u.ownMark == nil {
		return nil
	}
	for _, p := range u.division.apart() {
		if p.Bits() == 0 {
			continue // that the others have a default route is what the rules are for
		}
		if err := u.net.Conflict(u.file.Name, p); err != nil {
			return err
		}
	}
	if err := u.takeMark(ctx, u.tunnel.engine.Status().FwMark); err != nil {
		return err
	}
	if err := u.tunnel.fixMark(u.ownMark.Mark); err != nil {
		return fmt.Errorf("%s: %w", u.file.Path, err)
	}
	if !apart {
		return nil
	}
	u.separateTable = u.ownMark.Table
	for _, ipv6 := range []bool{false, true} {
		if err := u.rule(ctx, netconf.MarkRule(ipv6, u.ownMark.Mark)); err != nil {
			return err
		}
	}
	return nil
}

// takeMark makes sure that no other tunnel of ours has the mark that is wanted, or chooses one (0). A second call changes nothing:
// a kill switch needs the mark before there is an engine to ask.
func (u *upward) takeMark(ctx context.Context, wanted uint32) error {
	if u.ownMark != nil {
		return nil
	}
	m := &netconf.Mark{Interface: u.file.Name, Mark: wanted}
	err := u.step(ctx, m)
	for errors.Is(err, netconf.ErrMarkTaken) && m.Chosen { // by one that came up in this very moment
		err = u.step(ctx, m)
	}
	if errors.Is(err, netconf.ErrMarkTaken) {
		return withHint(err, "take FwMark out of the file: one that is free is then chosen; or give each tunnel its own")
	}
	if err == nil {
		u.ownMark = m
	}
	return err
}

// rule takes a step that is kept as it is made, for as long as the tunnel runs.
func (u *upward) rule(ctx context.Context, r *netconf.Rule) error {
	err := u.step(ctx, r)
	if err == nil {
		u.rules = append(u.rules, r)
	}
	return err
}

// answers lets the answers to the tunnel's own packets in, whatever the reverse path filter thinks of the routes to come. That
// is before the link is up: the first handshake leaves then, and would wait in vain for an answer to a packet that nobody has
// noted.
func (p *plan) answers() {
	d := fileDivision(p.file)
	if len(d.apart4) > 0 {
		p.tell("sysctl", "net.ipv4.conf.all.src_valid_mark = 1")
	}
	if len(d.apart()) > 0 {
		p.tell("nft", "table inet stunnel-%s: answers get the mark too; what comes to the tunnel's addresses from elsewhere is dropped", p.file.Name)
	}
	p.do(func(ctx context.Context, u *upward) error { return u.answers(ctx) })
}

// separateRoutes makes the rules for the routes in a table of their own.
func (p *plan) separateRoutes() {
	d := fileDivision(p.file)
	for _, family := range []struct {
		name     string
		prefixes []netip.Prefix
	}{{"IPv4", d.apart4}, {"IPv6", d.apart6}} {
		if len(family.prefixes) > 0 {
			p.tell("rule", "before all others, %s without the mark: by the main table, its routes of /%d and shorter left out", family.name, shortest(family.prefixes))
			p.tell("rule", "then, %s without the mark: by the table whose number is the mark's", family.name)
		}
	}
	p.do(func(ctx context.Context, u *upward) error { return u.separateRoutes(ctx) })
}

func shortest(prefixes []netip.Prefix) int {
	bits := prefixes[0].Bits()
	for _, p := range prefixes {
		bits = min(bits, p.Bits())
	}
	return bits
}

func (u *upward) answers(ctx context.Context) error {
	if len(u.division.apart()) == 0 {
		return nil
	}
	if len(u.division.apart4) > 0 {
		if err := u.validMark(ctx); err != nil {
			return err
		}
	}
	table := &netconf.MarkTable{Interface: u.file.Name, Mark: u.ownMark.Mark}
	for _, a := range u.file.Interface.Address {
		table.Addresses = append(table.Addresses, a.Addr())
	}
	err := u.step(ctx, table)
	if errors.Is(err, netconf.ErrNoNftables) {
		return withHint(err, "routes that the tunnel's own packets would meet need it; Table = off or a number makes no such routes")
	}
	if err == nil {
		u.tables = append(u.tables, table)
	}
	return err
}

func (u *upward) separateRoutes(ctx context.Context) error {
	if len(u.division.apart()) == 0 {
		return nil
	}
	mark := u.ownMark.Mark
	for _, prefixes := range [][]netip.Prefix{u.division.apart4, u.division.apart6} {
		if len(prefixes) == 0 {
			continue
		}
		ipv6 := prefixes[0].Addr().Is6()
		rules, err := u.net.TunnelRules(ipv6, mark, u.separateTable, shortest(prefixes))
		if err != nil {
			return err
		}
		for _, r := range rules {
			if err := u.rule(ctx, r); err != nil {
				return err
			}
		}
	}
	return u.warnOfOthers(mark)
}

// validMark lets the reverse path filter look at marks. Where it is off the sysctl does nothing, so a container that can't set
// it does not need it.
func (u *upward) validMark(ctx context.Context) error {
	err := u.step(ctx, &netconf.Sysctl{Key: "net/ipv4/conf/all/src_valid_mark", Value: "1", For: u.file.Name})
	if !errors.Is(err, unix.EROFS) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if u.net.StrictReversePath() {
		return withHint(err, "rp_filter = 1 would drop the answers to the tunnel's packets: docker run --sysctl net.ipv4.conf.all.src_valid_mark=1, or set rp_filter to 2")
	}
	u.log.Warn("src_valid_mark stays as it is, which matters only if rp_filter is set to 1 later", "error", err)
	return nil
}

// warnOfOthers tells of tunnels of other programs whose rules come before ours.
func (u *upward) warnOfOthers(mark uint32) error {
	for _, ipv6 := range []bool{false, true} {
		tables, err := u.net.Before(ipv6, mark)
		if err != nil {
			return err
		}
		for _, t := range tables {
			u.log.Warn("a tunnel of another program has rules before ours: it takes all packets, and those of this tunnel too",
				"table", t, "interface", u.net.DefaultOf(ipv6, t))
		}
	}
	return nil
}
