package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"stunnel/transport"
)

// showMACs prints where stations were heard, a line for each.
func showMACs(w io.Writer, tunnels []tunnel) {
	for i, t := range tunnels {
		if i > 0 {
			fmt.Fprintln(w)
		}
		b := block{w}
		b.head("interface", t.name)
		if t.status.Ethernet == nil {
			fmt.Fprintln(w, "  it carries IP packets, and knows no MAC addresses (Mode = tun)")
			continue
		}
		table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "  MAC\tVLAN\tside of\theard")
		stations := 0
		for _, s := range sides(&t.status) {
			for _, station := range s.Stations {
				stations++
				fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", station.MAC, station.VLAN, printable(s.title), ago(station.Age))
			}
		}
		if stations == 0 {
			fmt.Fprintln(w, "  no station was heard lately")
			continue
		}
		table.Flush()
	}
}

// side is that of this host, or of a peer.
type side struct {
	transport.PortStatus
	title string
	peer  *transport.PeerStatus // nil: this host
}

// sides are those of a tunnel in tap mode.
func sides(s *transport.Status) []side {
	all := []side{{s.Ethernet.Local, "this host", nil}}
	for i := range s.Peers {
		p := &s.Peers[i]
		title := p.Name
		if title == "" {
			title = p.PublicKey.String()
		}
		all = append(all, side{p.Port, title, p})
	}
	return all
}

// ethernet prints how frames are switched, and what is known of this host's side.
func (b block) ethernet(e *transport.EthernetStatus) {
	if e == nil {
		return
	}
	b.line("mode", "tap: it carries Ethernet frames")
	text := "no limit"
	if e.StormLimit > 0 {
		text = fmt.Sprintf("%d frames a second from each side", e.StormLimit)
	}
	b.line("flooding", text)
	if e.MACAgeing != transport.DefaultMACAgeing || e.MACLimit != transport.DefaultMACLimit {
		b.line("mac addresses", fmt.Sprintf("forgotten after %v, at most %d behind each side", e.MACAgeing, e.MACLimit))
	}
	if e.Forward {
		b.line("forwarding", "between peers")
	}
	if e.PortSecurity {
		b.line("port security", "on")
	}
	if e.LinkLocalFrames {
		b.line("link-local", "frames for one link (spanning tree, LLDP) pass")
	}
	b.port(&e.Local)
}

// port prints what is known of one side.
func (b block) port(p *transport.PortStatus) {
	if len(p.Stations) > 0 {
		b.line("stations", fmt.Sprintf("%d heard (--macs lists them)", len(p.Stations)))
	}
	if len(p.MACs) > 0 {
		b.line("allowed macs", macsText(p.MACs))
	}
	if p.Loop {
		b.line("warning", "a loop: what leaves by the interface comes back from here, and nothing is flooded there until that ends")
	}
	if p.Flaps > 0 {
		b.line("warning", "a station moves too often and was held "+count(p.Flaps, "time")+": a loop, or an address that two have")
	}
	if p.Unlearned > 0 {
		b.line("warning", "more stations than MACLimit allows: "+count(p.Unlearned, "frame")+" of others")
	}
}

func macsText(macs []transport.MAC) string {
	const most = 8
	text := ""
	for i, m := range macs {
		if i == most {
			return text + fmt.Sprintf(" and %d more", len(macs)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += m.String()
	}
	return text
}

type jsonEthernet struct {
	MACAgeing       float64       `json:"mac_ageing_seconds"`
	MACLimit        int           `json:"mac_limit"`
	StormLimit      int           `json:"storm_limit"`
	Forward         bool          `json:"forward"`
	PortSecurity    bool          `json:"port_security"`
	LinkLocalFrames bool          `json:"link_local_frames"`
	Local           jsonSide      `json:"local"`
	Stations        []jsonStation `json:"stations,omitempty"`
}

type jsonSide struct {
	Stations  int      `json:"stations"`
	MACs      []string `json:"allowed_macs"`
	Loop      bool     `json:"loop"`
	Flaps     uint64   `json:"flaps"`
	Unlearned uint64   `json:"unlearned_frames"`
}

type jsonStation struct {
	MAC       string  `json:"mac"`
	VLAN      uint16  `json:"vlan"`
	Inner     uint16  `json:"inner_vlan"`
	Peer      string  `json:"peer"`
	PublicKey *string `json:"public_key"`
	Age       float64 `json:"seconds_ago"`
}

// ethernetJSON is what there is in tap mode, with stations if they are wanted.
func ethernetJSON(s *transport.Status, stations bool) *jsonEthernet {
	e := s.Ethernet
	if e == nil {
		return nil
	}
	j := &jsonEthernet{
		MACAgeing: e.MACAgeing.Seconds(), MACLimit: e.MACLimit, StormLimit: e.StormLimit,
		Forward: e.Forward, PortSecurity: e.PortSecurity, LinkLocalFrames: e.LinkLocalFrames,
		Local: sideJSON(&e.Local),
	}
	if !stations {
		return j
	}
	for _, side := range sides(s) {
		for _, station := range side.Stations {
			one := jsonStation{MAC: station.MAC.String(), VLAN: station.VLAN.Outer, Inner: station.VLAN.Inner,
				Age: station.Age.Round(time.Second).Seconds()}
			if side.peer != nil {
				key := side.peer.PublicKey.String()
				one.Peer, one.PublicKey = side.peer.Name, &key
			}
			j.Stations = append(j.Stations, one)
		}
	}
	return j
}

func sideJSON(p *transport.PortStatus) jsonSide {
	return jsonSide{Stations: len(p.Stations), MACs: texts(p.MACs), Loop: p.Loop, Flaps: p.Flaps, Unlearned: p.Unlearned}
}
