package transport

import (
	"net/netip"
	"slices"
	"time"
)

// configure sets what may carry the peer's messages, and the addresses at which it may be; a list for TCP that is empty
// means those for UDP.
func (w *ways) configure(now time.Duration, t Transport, udp, tcp []netip.AddrPort) {
	switch {
	case t == TransportUDP:
		tcp = nil
	case len(tcp) == 0:
		tcp = udp
	}
	news := [...]bool{TransportUDP: isNew(udp, w.udp), TransportTCP: isNew(tcp, w.tcp)}
	w.transport, w.udp, w.tcp = t, alternate(udp), alternate(tcp)
	if !w.possible(TransportTCP) {
		w.stop(TransportTCP)
		w.hangUp()
	}
	if t != TransportAuto {
		w.endTrial()
	}
	if t == TransportTCP {
		w.stop(TransportUDP)
	}
	switch other := 1 - w.on; {
	case w.linked && t == other:
		w.reach(now, other, "Transport = "+t.String())
	case w.goal == goalReach && !w.possible(w.lead):
		w.goal = goalNone
		w.want(now)
	case w.goal == goalReach:
		w.widen(now, news)
	}
}

// isNew says whether one of addresses was not known.
func isNew(addresses, known []netip.AddrPort) bool {
	return slices.ContainsFunc(addresses, func(a netip.AddrPort) bool { return !slices.Contains(known, a) })
}

// widen has what is being tried tried at new addresses too, without waiting for the next round.
func (w *ways) widen(now time.Duration, news [carriers]bool) {
	if a := &w.attempts[TransportUDP]; news[TransportUDP] && a.pending {
		a.told, a.stagger = 0, now
	}
	if a := &w.attempts[TransportTCP]; news[TransportTCP] && len(w.flights) > 0 {
		a.told, a.stagger = 0, now
	}
}

// alternate puts the families in turn, and leaves the order of each (RFC 8305, section 4). What is there twice stays
// once.
func alternate(addresses []netip.AddrPort) (mixed []netip.AddrPort) {
	var families [2][]netip.AddrPort // that of the first address, and the other
	for i, a := range addresses {
		if slices.Contains(addresses[:i], a) {
			continue
		}
		f := 0
		if a.Addr().Is4() != addresses[0].Addr().Is4() {
			f = 1
		}
		families[f] = append(families[f], a)
	}
	for i := range max(len(families[0]), len(families[1])) {
		for _, f := range families {
			if i < len(f) {
				mixed = append(mixed, f[i])
			}
		}
	}
	return mixed
}

// possible says whether a handshake by c can be begun.
func (w *ways) possible(c Transport) bool {
	if c == TransportTCP {
		return w.transport != TransportUDP && len(w.tcp) > 0
	}
	return w.transport != TransportTCP && (w.here.IsValid() || len(w.udp) > 0)
}
