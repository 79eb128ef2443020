package doctor

import (
	"context"
	"net/netip"
	"time"

	"stunnel/cmd/internal/conf"
	"stunnel/transport"
)

// Tunnel is what was read of one tunnel. Name, Path, File, Faults, Status, Elsewhere, Holder, Lookup and Dial are the caller's to fill
// in; [Tunnel.Read] does the rest.
type Tunnel struct {
	Name      string
	Path      string            // of its configuration file; "": it has none, or none that is known
	File      *conf.File        // nil: there is none, or it has Faults
	Faults    error             // why the file can't be used
	Status    *transport.Status // of the program that runs it; nil: it does not run
	Elsewhere int               // the process that runs it in another network namespace; 0: it is in ours
	Holder    int               // the process that has the interface open without answering on a control socket; 0: none
	Lookup    conf.Lookup       // for the names of endpoints

	// Dial makes a TCP connection as the tunnel does, and ends it; nil: none is tried.
	Dial func(ctx context.Context, to netip.AddrPort) error

	Peers    []Peer
	Networks []Network
	Servers  []Way // to the name servers of the file
	Onward   Way   // of what leaves this host beside the tunnel, for an address far away
}

// Peer is one of the tunnel's, by the file and the running tunnel together.
type Peer struct {
	Title      string
	Configured []Named               // the endpoints of the file, those for TCP behind the others
	Status     *transport.PeerStatus // nil: the tunnel does not run, or does not know the peer
	AllowedIPs []netip.Prefix
	Endpoint   netip.AddrPort // where packets go, or would go; the zero AddrPort: not known
	Way        Way            // of sealed packets; of no meaning without an Endpoint
	Unmarked   Way            // of other packets to that address
	Doors      []Door         // for TCP, if that may carry its messages
	Silent     bool           // who is next on the way does not tell his hardware address: he is not there, or the cable is not
}

// Named is an endpoint of a file.
type Named struct {
	Key      string // Endpoint or EndpointTCP
	Endpoint string // as the file has it
	Now      []netip.AddrPort
	Err      error // why it can't be resolved
}

// named are the endpoints that the file has of a peer.
func named(p *conf.Peer) (all []Named) {
	for _, e := range p.Endpoints {
		all = append(all, Named{Key: "Endpoint", Endpoint: e})
	}
	for _, e := range p.EndpointsTCP {
		all = append(all, Named{Key: "EndpointTCP", Endpoint: e})
	}
	return all
}

// Network is a prefix of a peer's allowed IPs, and the ways to some addresses in it.
type Network struct {
	Prefix netip.Prefix
	Peer   string
	Ways   []Way
	Back   []Way // the same of packets with the tunnel's address as their source
}

// arg is how the tunnel is named on a command line.
func (t *Tunnel) arg() string {
	if t.Path != "" {
		return t.Path
	}
	return t.Name
}

// mark is that of the tunnel's own packets, 0 for none.
func (t *Tunnel) mark() uint32 {
	switch {
	case t.Status != nil:
		return t.Status.FwMark
	case t.File != nil && t.File.Interface.FwMark != nil:
		return *t.File.Interface.FwMark
	}
	return 0
}

// resolveTime is what a name server has for the name of an endpoint.
const resolveTime = 4 * time.Second

// Read looks at what the tunnel meets on this machine: it resolves the names of endpoints and asks the kernel for the ways.
func (t *Tunnel) Read(ctx context.Context, m *Machine) {
	if t.Elsewhere != 0 {
		return // what can be read here is not what it meets
	}
	t.gatherPeers()
	resolving, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	for i := range t.Peers {
		p := &t.Peers[i]
		for j := range p.Configured {
			n := &p.Configured[j]
			n.Now, n.Err = conf.ResolveEndpoint(resolving, t.Lookup, n.Endpoint)
			if !p.Endpoint.IsValid() && len(n.Now) > 0 {
				p.Endpoint = n.Now[0]
			}
		}
		if p.Endpoint.IsValid() {
			p.Way = readWay(p.Endpoint.Addr(), t.mark(), netip.Addr{})
			p.Unmarked = readWay(p.Endpoint.Addr(), 0, netip.Addr{})
			p.Silent = p.Way.silent()
		}
	}
	t.readDoors(ctx, m.Clock.Now)
	if t.Status == nil {
		return // there are no routes yet
	}
	t.Onward = readWay(farAway, t.mark(), netip.Addr{})
	for _, s := range t.nameServers() {
		t.Servers = append(t.Servers, readWay(s, 0, netip.Addr{}))
	}
	for _, p := range t.Peers {
		for _, prefix := range p.AllowedIPs {
			n := Network{Prefix: prefix, Peer: p.Title}
			own, known := t.ownAddress(m, prefix.Addr().Is4())
			for _, to := range samples(prefix) {
				n.Ways = append(n.Ways, readWay(to, 0, netip.Addr{}))
				if known {
					n.Back = append(n.Back, readWay(to, 0, own))
				}
			}
			t.Networks = append(t.Networks, n)
		}
	}
}

// gatherPeers takes the peers of the running tunnel, and to each what the file says of it; without one, those of the file.
func (t *Tunnel) gatherPeers() {
	if t.Status == nil {
		if t.File != nil {
			for i := range t.File.Peers {
				p := &t.File.Peers[i]
				t.Peers = append(t.Peers, Peer{Title: p.Title(), Configured: named(p), AllowedIPs: p.AllowedIPs})
			}
		}
		return
	}
	for i := range t.Status.Peers {
		s := &t.Status.Peers[i]
		p := Peer{Title: s.Name, Status: s, AllowedIPs: s.AllowedIPs, Endpoint: s.Endpoint}
		if p.Title == "" {
			p.Title = s.PublicKey.String()
		}
		if t.File != nil {
			for i := range t.File.Peers {
				if f := &t.File.Peers[i]; f.PublicKey == s.PublicKey {
					p.Configured = named(f)
				}
			}
		}
		t.Peers = append(t.Peers, p)
	}
}

// addresses are the tunnel's own: those that its interface has, or will have.
func (t *Tunnel) addresses(m *Machine) []netip.Prefix {
	if link := m.link(t.Name); link != nil && t.Status != nil {
		return link.Addresses
	}
	if t.File != nil {
		return t.File.Interface.Address
	}
	return nil
}

// ownAddress is one of the tunnel's own, of that family; not a link-local one.
func (t *Tunnel) ownAddress(m *Machine, is4 bool) (netip.Addr, bool) {
	for _, a := range t.addresses(m) {
		if a.Addr().Is4() == is4 && !a.Addr().IsLinkLocalUnicast() {
			return a.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// serves: some peer has no Endpoint here, so that it begins, and this end has to be reachable.
func (t *Tunnel) serves() bool {
	if t.File == nil {
		return false
	}
	for _, p := range t.File.Peers {
		if len(p.Endpoints)+len(p.EndpointsTCP) == 0 {
			return true
		}
	}
	return false
}

// table is where the file wants the routes to be; known is false without a file.
func (t *Tunnel) table() (table conf.Table, known bool) {
	if t.File == nil {
		return conf.Table{}, false
	}
	return t.File.Interface.Table, true
}

func checkElsewhere(_ *Machine, t *Tunnel) []Finding {
	if t.Elsewhere == 0 {
		return nil
	}
	return one(Finding{
		ID: "elsewhere", Note: true, What: "it runs in another network namespace, and what it meets there can't be seen from here",
		Evidence: []Evidence{{procPath(t.Elsewhere, "ns/net"), "another namespace than ours"}},
		Remedies: commands("sudo nsenter --net=" + procPath(t.Elsewhere, "ns/net") + " stunnel doctor " + t.Name),
	})
}
