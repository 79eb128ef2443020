package conf

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"stunnel/transport"
)

// maxEndpoints of one peer, of each kind: each is tried in its turn.
const maxEndpoints = 16

func setEndpoint(p *parser, l line) {
	peer, lines := p.peer()
	p.endpoints(l, "Endpoint", &peer.Endpoints, &lines.endpoints)
}

func setEndpointTCP(p *parser, l line) {
	peer, lines := p.peer()
	p.endpoints(l, "EndpointTCP", &peer.EndpointsTCP, &lines.endpointsTCP)
}

// endpoints adds those of a line to list; at has their lines.
func (p *parser) endpoints(l line, key string, list *[]string, at *[]int) {
	for entry := range strings.SplitSeq(l.value, ",") {
		entry = strings.TrimSpace(entry)
		text := squeeze(entry)
		if text == "" {
			p.fail(l.number, "", "%s %s: there is nothing between the commas", key, quoteWithBlanks(l.value))
			continue
		}
		if _, _, why := splitEndpoint(text); why != "" {
			p.fail(l.number, "", "%s %s: %s", key, quoteWithBlanks(entry), why)
			continue
		}
		if text != entry {
			p.warn(l.number, "%s %s has blanks in it; it is taken for %s", key, quoteWithBlanks(entry), quote(text))
		}
		if i := slices.Index(*list, text); i >= 0 {
			p.warn(l.number, "%s %s is in line %d already", key, quote(text), (*at)[i])
			continue
		}
		if len(*list) == maxEndpoints {
			p.fail(l.number, "a name may have many addresses", "%s %s: this peer has %d already, which is the most", key, quote(text), maxEndpoints)
			return
		}
		*list, *at = append(*list, text), append(*at, l.number)
	}
}

func setTransport(p *parser, l line) {
	t, err := transport.ParseTransport(strings.ToLower(l.value))
	if err != nil {
		p.wrong(peerKeys, l, "without the line it is udp, or auto where the peer has an EndpointTCP or spoke TCP before")
		return
	}
	peer, _ := p.peer()
	peer.Transport = &t
}

func setListenTCP(p *parser, l line) {
	text := squeeze(l.value)
	if strings.EqualFold(text, "off") {
		p.file.Interface.ListenTCP = 0
		return
	}
	n, ok := number(text, 0xffff)
	if !ok {
		p.wrong(interfaceKeys, l, "the number of ListenPort is usual, or 443")
		return
	}
	p.file.Interface.ListenTCP = uint16(n)
}

func setListenAddress(p *parser, l line) {
	a, err := netip.ParseAddr(squeeze(l.value))
	switch {
	case err != nil:
		p.wrong(interfaceKeys, l, "without the line peers reach all of them")
	case a.Zone() != "":
		p.fail(l.number, "BindDevice = "+clip(a.Zone())+" beside it says the same", "ListenAddress %s: a zone cannot stand here", quote(l.value))
	case a.IsUnspecified():
		p.fail(l.number, "take the line out", "ListenAddress %s means all addresses, which is so without the line", a)
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		p.fail(l.number, "", "ListenAddress %s: no host can have it", a)
	case a.Is4In6():
		p.fail(l.number, "", "ListenAddress %s: write IPv4 as IPv4, %s", a, a.Unmap())
	default:
		p.file.Interface.ListenAddress = a
	}
}

func setBindDevice(p *parser, l line) {
	if why := nameFault(l.value); why != "" {
		p.fail(l.number, "without the line any interface will do", "BindDevice: %s", why)
		return
	}
	p.file.Interface.BindDevice = l.value
}

// literal is an endpoint whose address the file has.
type literal struct {
	key    string // Endpoint or EndpointTCP
	line   int
	remote netip.AddrPort
}

// literals are those of peer i.
func (p *parser) literals(i int) iter.Seq[literal] {
	peer, lines := &p.file.Peers[i], &p.peers[i]
	return func(yield func(literal) bool) {
		for j, text := range peer.Endpoints {
			if a, err := netip.ParseAddrPort(text); err == nil && !yield(literal{"Endpoint", lines.endpoints[j], a}) {
				return
			}
		}
		for j, text := range peer.EndpointsTCP {
			if a, err := netip.ParseAddrPort(text); err == nil && !yield(literal{"EndpointTCP", lines.endpointsTCP[j], a}) {
				return
			}
		}
	}
}

// checkEndpoints looks for what peer i can't be reached by.
func (p *parser) checkEndpoints(i int) {
	peer, lines, in := &p.file.Peers[i], &p.peers[i], &p.file.Interface
	if t := peer.Transport; t != nil {
		switch {
		case *t == transport.TransportUDP && len(peer.EndpointsTCP) > 0:
			p.warn(lines.endpointsTCP[0], "EndpointTCP has no use with Transport = udp")
		case *t == transport.TransportTCP && len(peer.Endpoints)+len(peer.EndpointsTCP) == 0 && in.ListenTCP == 0:
			p.fail(peer.Line, "give it an EndpointTCP to dial; or, in [Interface], ListenTCP = PORT, to be dialled",
				"with Transport = tcp this peer has no Endpoint, and without ListenTCP it can't begin either")
		}
	}
	for e := range p.literals(i) {
		a := e.remote.Addr()
		if a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "" && in.BindDevice == "" {
			p.warn(e.line, "%s %s is link-local and needs a zone, as in [%s%%eth0]:%d", e.key, e.remote, a, e.remote.Port())
		}
		if own := in.ListenAddress; own.IsValid() && own.Is4() != a.Unmap().Is4() {
			p.warn(e.line, "%s %s can't be reached from ListenAddress %s, which is of the other family", e.key, e.remote, own)
		}
	}
}

// checkListening: where peers are to reach us must not be inside the tunnel.
func (p *parser) checkListening() {
	in := &p.file.Interface
	if in.BindDevice != "" && in.BindDevice == p.file.Name {
		p.fail(p.interfaceLines["BindDevice"], "name the interface by which the peers are reached, as eth0", "BindDevice %s is the tunnel itself", in.BindDevice)
	}
	own, at := in.ListenAddress, p.interfaceLines["ListenAddress"]
	if !own.IsValid() {
		return
	}
	for i, a := range in.Address {
		if a.Addr() == own {
			p.fail(at, "name an address of the interface by which the peers are reached", "ListenAddress %s is the tunnel's own Address of line %d", own, p.addressLines[i])
		}
	}
	if own.Is6() && own.IsLinkLocalUnicast() && in.BindDevice == "" {
		p.fail(at, "add BindDevice = eth0, or whichever has it", "ListenAddress %s is link-local, and there is no BindDevice that says on which interface", own)
	}
}
