package netconf

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf/ruleset"
)

// Way is a way of packets through this host, and all that is known of them.
type Way struct {
	In, Out string // interfaces
	IPv6    bool
	Answer  bool // they belong to a connection that began the other way round
}

func (w Way) String() string {
	family := "IPv4"
	if w.IPv6 {
		family = "IPv6"
	}
	return fmt.Sprintf("%s from %s to %s", family, w.In, w.Out)
}

func (w Way) packet() ruleset.Packet {
	p := ruleset.Packet{Way: ruleset.Through, Family: unix.NFPROTO_IPV4, InInterface: w.In, OutInterface: w.Out}
	for name, index := range map[string]*int{w.In: &p.InIndex, w.Out: &p.OutIndex} {
		if i, err := net.InterfaceByName(name); err == nil {
			*index = i.Index
		}
	}
	if w.IPv6 {
		p.Family = unix.NFPROTO_IPV6
	}
	if w.Answer {
		p.State = ruleset.Established
	}
	return p
}

// Drop is a chain for what is forwarded that lets no packet of a Way pass.
type Drop struct {
	Way Way
	ruleset.Drop
}

// Drops finds, for each Way, the base chains for what is forwarded that drop all of its packets, in the tables of nftables,
// which are also those of iptables-nft. A rule that asks for more than what is known of the packets is taken for one that does
// not match.
func (h *Handle) Drops(ways ...Way) (found []Drop, err error) {
	rules, err := ruleset.Read(h.nftOptions()...)
	if err != nil {
		return nil, refusedByNft("read the rules of nftables", err)
	}
	for _, w := range ways {
		for _, d := range rules.Drops(w.packet()) {
			if *d.Chain.Hooknum == unix.NF_INET_FORWARD {
				found = append(found, Drop{w, d})
			}
		}
	}
	return found, nil
}
