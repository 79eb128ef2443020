package transport

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// sendApart is sendOrStage for a run that may have packets in it which the
// tunnel itself has sent to the peer: routes that lead them back into it are
// wrong, and each would come again and again, longer every time. The kernel's
// WireGuard refuses them too (ELOOP).
func (l *lane) sendApart(p *peer, sock Socket, first, rest [][]byte, partial []bool, now time.Duration) {
	begin := 0
	if path := p.path.Load(); path != nil {
		port := sock.Port()
		for i, b := range first {
			if !isSealed(b, path.Remote, port) {
				continue
			}
			p.drops.add(dropRoutingLoop, 1)
			if begin < i {
				l.sendOrStage(p, l.sealer, sock, first[begin:i], rest[begin:i], partial[begin:i], now)
			}
			begin = i + 1
		}
	}
	if begin < len(first) {
		l.sendOrStage(p, l.sealer, sock, first[begin:], rest[begin:], partial[begin:], now)
	}
}

// isSealed says whether the packet that begins with b is UDP from our port to
// remote. Nobody else on this host can send that.
func isSealed(b []byte, remote netip.AddrPort, port uint16) bool {
	const udp = 17
	var header int
	switch {
	case len(b) >= ipv4HeaderSize && b[0]>>4 == 4 && b[9] == udp:
		if header = int(b[0]&15) * 4; remote.Addr() != netip.AddrFrom4([4]byte(b[16:20])) {
			return false
		}
	case len(b) >= ipv6HeaderSize && b[0]>>4 == 6 && b[6] == udp:
		if header = ipv6HeaderSize; remote.Addr().WithZone("") != netip.AddrFrom16([16]byte(b[24:40])) {
			return false
		}
	default:
		return false
	}
	return len(b) >= header+4 && binary.BigEndian.Uint16(b[header:]) == port && binary.BigEndian.Uint16(b[header+2:]) == remote.Port()
}
