package netconf

import "net/netip"

// SourceRules are the rules by which what is sent from these addresses, without regard to their prefix lengths, is routed by
// table. They come before those that are there, since a tunnel for everything would take it first.
func (h *Handle) SourceRules(addresses []netip.Prefix, table uint32) ([]*Rule, error) {
	var all []*Rule
	for _, ipv6 := range []bool{false, true} {
		var add []*Rule
		for _, a := range addresses {
			if a.Addr().Is6() == ipv6 {
				add = append(add, &Rule{IPv6: ipv6, From: netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), Table: table, Suppress: -1})
			}
		}
		if len(add) == 0 {
			continue
		}
		there, err := h.rules(ipv6)
		if err != nil {
			return nil, err
		}
		first, err := roomFor(len(add), there)
		if err != nil {
			return nil, err
		}
		for i := range add {
			add[i].Priority = first + i
		}
		all = append(all, add...)
	}
	return all, nil
}
