package ruleset

import (
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// What iptables-nft cannot say in expressions of nftables it leaves to the old modules of iptables.

// match is a module that asks.
func (m *matcher) match(e *expr.Match) truth {
	switch info := e.Info.(type) {
	case *xt.Comment:
		return yes
	case *xt.Udp:
		if m.packet.Protocol != unix.IPPROTO_UDP {
			return no
		}
		return min(ports(info.SrcPorts, m.packet.SourcePort, info.InvFlags&xt.UdpInvSrcPorts != 0),
			ports(info.DstPorts, m.packet.DestinationPort, info.InvFlags&xt.UdpInvDestPorts != 0))
	case *xt.Tcp:
		if m.packet.Protocol != unix.IPPROTO_TCP && m.packet.Protocol != 0 {
			return no
		}
		return maybe
	case *xt.ConntrackMtinfo1:
		return m.state(info.MatchFlags, info.InvertFlags, uint16(info.StateMask))
	case *xt.ConntrackMtinfo2:
		return m.state(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.ConntrackMtinfo3:
		return m.state(info.MatchFlags, info.InvertFlags, info.StateMask)
	}
	if e.Name == "comment" {
		return yes
	}
	return maybe
}

func ports(between [2]uint16, port uint16, inverted bool) truth {
	if between == [2]uint16{0, 0xffff} && !inverted {
		return yes
	}
	if port == 0 {
		return maybe
	}
	return truthOf((port >= between[0] && port <= between[1]) != inverted)
}

// Bits of the states of xt_conntrack.
const (
	xtEstablished = 1 << 1
	xtNew         = 1 << 3
)

func (m *matcher) state(asked, inverted, mask uint16) truth {
	if asked&uint16(xt.ConntrackState) == 0 {
		return maybe
	}
	ours := uint16(xtNew)
	if m.packet.State == Established {
		ours = xtEstablished
	}
	t := truthOf((mask&ours != 0) != (inverted&uint16(xt.ConntrackState) != 0))
	if asked&^uint16(xt.ConntrackState|xt.ConntrackStateAlias) != 0 { // and more than the state
		return min(t, maybe)
	}
	return t
}

// target is a module that acts.
func (m *matcher) target(e *expr.Target) verdict {
	switch e.Name {
	case "REJECT", "DROP":
		return verdict{kind: drops}
	case "ACCEPT":
		return verdict{kind: accepts}
	case "NFQUEUE", "SYNPROXY", "TPROXY":
		return verdict{kind: unknown}
	}
	return verdict{}
}
