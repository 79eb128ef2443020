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
		if m.packet.Protocol != unix.IPPROTO_UDP && m.packet.Protocol != 0 {
			return no
		}
		return min(known(m.packet.Protocol != 0), ports(info.SrcPorts, m.packet.SourcePort, info.InvFlags&xt.UdpInvSrcPorts != 0),
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
	switch info, ok := e.Info.(*xt.Unknown); {
	case e.Name == "comment":
		return yes
	case e.Name == "physdev" && ok && len(*info) >= physdevBytes && m.packet.Way == Bridged:
		return m.bridgePorts(*info)
	}
	return maybe
}

func known(is bool) truth {
	if is {
		return yes
	}
	return maybe
}

// struct xt_physdev_info: the name of the port where a frame comes in, which bytes of it count, the same of where it goes, and
// what is inverted, and asked for, by these bits.
const (
	physdevIn    = 1 << 0
	physdevOut   = 1 << 1
	physdevBytes = 4*unix.IFNAMSIZ + 2
)

// bridgePorts is about the ports of the bridge by which a bridged frame comes and goes. That it has such is certain.
func (m *matcher) bridgePorts(info []byte) truth {
	const name = unix.IFNAMSIZ
	inverted, asked := info[4*name], info[4*name+1]
	t := truthOf(inverted&asked&^(physdevIn|physdevOut) == 0)
	for _, p := range []struct {
		bit        byte
		port       string
		want, mask []byte
	}{
		{physdevIn, m.packet.inPort, info[:name], info[name : 2*name]},
		{physdevOut, m.packet.outPort, info[2*name : 3*name], info[3*name : 4*name]},
	} {
		switch {
		case asked&p.bit == 0:
		case p.port == "":
			t = min(t, maybe)
		default:
			same := true
			for i, b := range interfaceName(p.port) {
				same = same && (b^p.want[i])&p.mask[i] == 0
			}
			t = min(t, truthOf(same == (inverted&p.bit == 0)))
		}
	}
	return t
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
