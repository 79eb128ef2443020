package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"stunnel/device/netconf"
)

// gateway is what packets that are forwarded go through. It is there before the link is up, and after it is down: on a host
// that forwards anyway none leaves with a source that is known only inside the tunnel.
func (p *plan) gateway() {
	if g := p.gatewayStep(); g.Masquerade || g.MSS != 0 {
		p.tell("gateway", "%s", strings.TrimPrefix(g.String(), "gateway: "))
		p.do(func(ctx context.Context, u *upward) error {
			err := u.step(ctx, g)
			if err == nil {
				u.tables = append(u.tables, g)
			}
			return err
		})
	}
}

// forward lets the peers out through this host, once all else is there.
func (p *plan) forward() {
	in := &p.file.Interface
	if !in.Masquerade.On {
		return
	}
	outer := "the interfaces of the default routes at that time"
	if len(in.Masquerade.Interfaces) > 0 {
		outer = strings.Join(in.Masquerade.Interfaces, ", ")
	}
	p.tell("firewall", "where rules of others would drop what %s and %s exchange, rules that let it pass are put in front", p.file.Name, outer)
	families := "IPv4"
	if hasIPv6(p.file) {
		families = "IPv4 and IPv6"
	}
	p.tell("forward", "%s between %s and %s", families, p.file.Name, outer)
	p.do(func(ctx context.Context, u *upward) error { return u.forward(ctx) })
}

func (p *plan) gatewayStep() *netconf.Gateway {
	in := &p.file.Interface
	g := &netconf.Gateway{Interface: p.file.Name, Masquerade: in.Masquerade.On, Outer: in.Masquerade.Interfaces}
	if in.MSSClamp.On {
		g.MSS = netconf.PathMSS
	}
	if in.MSSClamp.Size != 0 {
		g.MSS = in.MSSClamp.Size
	}
	return g
}

// forward lets packets pass between the tunnel and the outer interfaces: firewalls first, the kernel last.
func (u *upward) forward(ctx context.Context) error {
	outer, err := u.outer()
	if err != nil {
		return err
	}
	passage := &netconf.Passage{Interface: u.file.Name, Outer: outer, IPv4: true, IPv6: u.hasIPv6()}
	if err := u.change(ctx, passage); err != nil {
		return err
	}
	for _, place := range passage.Places {
		u.log.Info(fmt.Sprintf("firewall: packets are let pass in %s, which would have dropped them", place))
	}
	if legacy := netconf.LegacyTables(); len(legacy) > 0 {
		u.log.Warn("tables of the legacy iptables are in use here, which can't be looked into; if no packets pass: iptables-legacy -L FORWARD -v", "tables", strings.Join(legacy, ", "))
	}
	steps, err := u.net.Forwarding(u.file.Name, outer, u.hasIPv6())
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := u.step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// outer are the interfaces through which what comes from the peers leaves.
func (u *upward) outer() ([]string, error) {
	m := &u.file.Interface.Masquerade
	if len(m.Interfaces) > 0 {
		for _, name := range m.Interfaces {
			if _, err := net.InterfaceByName(name); err != nil {
				return nil, withHint(fmt.Errorf("there is no interface %s, which Masquerade names", name), "ip link lists them; with Masquerade = yes it is that of the default route")
			}
		}
		return m.Interfaces, nil
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
