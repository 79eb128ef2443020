package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// DNS is wg-quick's list of name servers and domains, taken apart.
type DNS struct {
	Servers []netip.Addr
	Search  []string // tried behind a short name; without a dot at the end
	Route   []string // written with a ~: names within these, and no others, are asked of Servers; "." is all names
}

// IsZero says whether the file leaves the machine's DNS alone.
func (d *DNS) IsZero() bool { return len(d.Servers)+len(d.Search)+len(d.Route) == 0 }

func (d *DNS) String() string {
	var all []string
	for _, s := range d.Servers {
		all = append(all, s.String())
	}
	all = append(all, d.Search...)
	for _, domain := range d.Route {
		all = append(all, "~"+domain)
	}
	return strings.Join(all, ", ")
}

func setDNS(p *parser, l line) {
	d := &p.file.Interface.DNS
	for _, entry := range strings.FieldsFunc(l.value, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
		if server, why := parseServer(entry); why != "" {
			p.fail(l.number, "", "DNS %s: %s", quote(entry), why)
		} else if server.IsValid() {
			if slices.Contains(d.Servers, server) {
				p.warn(l.number, "DNS %s is there already", server)
				continue
			}
			d.Servers, p.serverLines = append(d.Servers, server), append(p.serverLines, l.number)
		} else {
			p.setDomain(d, l.number, entry)
		}
	}
}

func (p *parser) setDomain(d *DNS, number int, entry string) {
	list := &d.Search
	domain, routed := strings.CutPrefix(entry, "~")
	if routed {
		list = &d.Route
		if p.routedLine == 0 {
			p.routedLine = number
		}
	}
	if why := domainFault(domain, routed); why != "" {
		p.fail(number, "", "DNS %s: %s", quote(entry), why)
		return
	}
	if domain != "." {
		domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	}
	if slices.Contains(*list, domain) {
		p.warn(number, "DNS %s is there already", quote(entry))
		return
	}
	*list = append(*list, domain)
}

// parseServer reads the address of a name server. Neither valid nor a fault: it is meant to be a domain.
func parseServer(entry string) (server netip.Addr, why string) {
	if whole, err := netip.ParseAddrPort(entry); err == nil {
		return server, fmt.Sprintf("a port cannot stand here; name servers are asked at port 53: %s", whole.Addr())
	}
	if strings.Contains(entry, "/") {
		return server, "the address of a name server stands here without a /"
	}
	if strings.Trim(entry, "0123456789.") != "" && !strings.Contains(entry, ":") || entry == "." {
		return server, ""
	}
	server, err := netip.ParseAddr(strings.Trim(entry, "[]"))
	switch {
	case err != nil:
		return server, "it is no IP address, such as 10.9.0.1 or fd00::1"
	case server.Zone() != "":
		return netip.Addr{}, "a zone cannot stand here"
	case server.Is4In6():
		return netip.Addr{}, fmt.Sprintf("write IPv4 as IPv4, %s", server.Unmap())
	case server.IsUnspecified() || server.IsMulticast():
		return netip.Addr{}, "no name server can have this address"
	}
	return server, ""
}

func domainFault(domain string, routed bool) string {
	switch {
	case domain == "." && routed:
		return ""
	case strings.Trim(domain, ".") == "":
		return "a domain is missing; right is corp.example, ~corp.example, or ~. for all names"
	case strings.Contains(domain, "~"):
		return "a ~ stands before a domain only"
	}
	return hostnameFault(domain)
}

// mostServers is how many name servers the C library asks; it passes over the others.
const mostServers = 3

func (p *parser) checkDNS() {
	d := &p.file.Interface.DNS
	if len(d.Route) > 0 && len(d.Servers) == 0 {
		p.fail(p.routedLine, "write the address of the tunnel's name server before it", "DNS ~%s says which names are asked of the tunnel's name servers, and there are none",
			clip(d.Route[0]))
	}
	if len(d.Servers) > mostServers {
		p.warn(p.serverLines[mostServers], "DNS has %d name servers; without systemd-resolved, programs ask the first %d only", len(d.Servers), mostServers)
	}
	for i, server := range d.Servers {
		if in := &p.file.Interface; in.Table.Auto && !in.Ethernet && !p.inTunnel(server) {
			p.warn(p.serverLines[i], "DNS %s is in no peer's AllowedIPs: it is asked outside the tunnel", server)
		}
	}
}

// inTunnel says whether packets to a go into the tunnel, as far as the file tells; a hook may add peers.
func (p *parser) inTunnel(a netip.Addr) bool {
	for _, peer := range p.file.Peers {
		for _, prefix := range peer.AllowedIPs {
			if prefix.Contains(a) {
				return true
			}
		}
	}
	for _, own := range p.file.Interface.Address {
		if own.Contains(a) {
			return true
		}
	}
	return len(p.file.Peers) == 0
}
