package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"stunnel/cmd/internal/conf"
	"stunnel/device/netconf"
	"stunnel/device/netconf/dns"
)

// dns tells the machine of the tunnel's name servers, when they can be reached.
func (p *plan) dns() {
	d := &p.file.Interface.DNS
	if d.IsZero() {
		return
	}
	step := func() *netconf.DNS { return netconf.NewDNS(p.file.Name, d.Servers, d.Search, d.Route) }
	told := step()
	told.Way = dns.Choose()
	p.tell("dns", "%s", strings.TrimPrefix(told.String(), "DNS "))
	p.do(func(ctx context.Context, u *upward) error {
		err := u.step(ctx, step())
		if errors.Is(err, dns.ErrSplit) {
			return withHint(err, "DNS = "+withoutRoutes(d)+" asks the tunnel's name servers for all names; or let systemd-resolved serve this machine")
		}
		return err
	})
}

// cannotSplit says that up will refuse the file on this machine, as it is now; "" where it will not.
func cannotSplit(f *conf.File) string {
	d := &f.Interface.DNS
	if len(d.Route) == 0 {
		return ""
	}
	s := netconf.NewDNS(f.Name, d.Servers, d.Search, d.Route)
	if err := dns.Check(dns.Choose(), s.Settings); err != nil {
		return fmt.Sprintf("DNS ~%s: %v: up will refuse", d.Route[0], err)
	}
	return ""
}

// withoutRoutes is d for a machine that can't ask some servers for some names.
func withoutRoutes(d *conf.DNS) string {
	all := conf.DNS{Servers: d.Servers, Search: d.Search}
	return all.String()
}

// mendDNS takes out of resolv.conf what killed tunnels have left in it, of whatever name, and says so.
func mendDNS(say func(note string)) error {
	note, err := dns.Mend()
	if note != "" {
		say(note)
	}
	return err
}
