package main

import (
	"context"
	"fmt"
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
	if p.file.Interface.Masquerade.On {
		p.tell("guard", "connections that begin behind %s do not get into %s, nor through this host where it was no router; answers and DNAT pass (nftables: table inet %s)",
			p.outerText(), p.file.Name, (&netconf.Guard{Interface: p.file.Name}).Table())
		p.do(func(ctx context.Context, u *upward) error { return u.guardOuter(ctx) })
	}
}

// outerText names the outer interfaces, as far as the file tells them.
func (p *plan) outerText() string {
	if named := p.file.Interface.Masquerade.Interfaces; len(named) > 0 {
		return strings.Join(named, ", ")
	}
	return "the interfaces of the default routes at that time"
}

// forward lets the peers out through this host, once all else is there.
func (p *plan) forward() {
	if !p.file.Interface.Masquerade.On {
		return
	}
	outer := p.outerText()
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
	if err := u.pass(ctx, u.guard.Outer); err != nil {
		return err
	}
	if legacy := netconf.LegacyTables(); len(legacy) > 0 {
		u.log.Warn("tables of the legacy iptables are in use here, which can't be looked into; if no packets pass: iptables-legacy -L FORWARD -v", "tables", strings.Join(legacy, ", "))
	}
	return u.switchOn(ctx, append([]string{u.file.Name}, u.guard.Outer...))
}

// pass lets what the tunnel and these outer interfaces exchange through the firewalls of others.
func (u *upward) pass(ctx context.Context, outer []string) error {
	passage := &netconf.Passage{Interface: u.file.Name, Outer: outer, IPv4: true, IPv6: u.hasIPv6()}
	if err := u.change(ctx, passage); err != nil {
		return err
	}
	for _, place := range passage.Places {
		u.log.Info(fmt.Sprintf("firewall: packets are let pass in %s, which would have dropped them", place))
	}
	return nil
}

// switchOn has these interfaces forward. A switch of ours that the interface has lost with its old self is set again.
func (u *upward) switchOn(ctx context.Context, interfaces []string) error {
	steps, err := u.net.Forwarding(u.file.Name, interfaces, u.hasIPv6())
	if err != nil {
		return err
	}
	for _, s := range steps {
		if u.switches[s.String()] {
			if err := s.Make(u.net); err != nil {
				return err
			}
			continue
		}
		if err := u.step(ctx, s); err != nil {
			return err
		}
		u.switches[s.String()] = true
	}
	return nil
}
