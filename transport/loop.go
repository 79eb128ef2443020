package transport

import (
	"encoding/binary"
	"net/netip"
	"time"

	"stunnel/crypto"
	"stunnel/transport/ethernet"
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
	if !isUDPFrom(b, port) {
		return false
	}
	to, at := remote.Addr().WithZone(""), ipv6HeaderSize
	if b[0]>>4 == 4 {
		at = int(b[0]&15) * 4
		if to != netip.AddrFrom4([4]byte(b[16:20])) {
			return false
		}
	} else if to != netip.AddrFrom16([16]byte(b[24:40])) {
		return false
	}
	return binary.BigEndian.Uint16(b[at+2:]) == remote.Port()
}

// isUDPFrom says whether the packet that begins with b is UDP from a port.
func isUDPFrom(b []byte, port uint16) bool {
	const udp = 17
	at := ipv6HeaderSize
	switch {
	case len(b) >= ipv4HeaderSize && b[0]>>4 == 4 && b[9] == udp:
		at = int(b[0]&15) * 4
	case len(b) < ipv6HeaderSize || b[0]>>4 != 6 || b[6] != udp:
		return false
	}
	return len(b) >= at+4 && binary.BigEndian.Uint16(b[at:]) == port
}

// dropSealed takes out of a run of frames those that the tunnel itself has sent: the way to
// a peer's endpoint leads over the bridge, and from there into the tunnel. Other hosts on
// our side may use the same ports, and our address may be any that this host has, so what
// is ours is told by the peer's receiver index too.
func (t *Tunnel) dropSealed(h *ethernet.Header, f frames, sock Socket) frames {
	if h.Type != ethernet.TypeIPv4 && h.Type != ethernet.TypeIPv6 {
		return f
	}
	port, kept := sock.Port(), 0
	for i, b := range f.first {
		if p := t.sealedFor(b[FrameRoom+h.Size:], f.rest[i], port); p != nil {
			p.drops.add(dropRoutingLoop, 1)
			continue
		}
		if kept < i {
			f.first[kept], f.rest[kept], f.partial[kept] = b, f.rest[i], f.partial[i]
		}
		kept++
	}
	return f.slice(0, kept)
}

// sealedFor is the peer to which the tunnel has sent the packet that is first followed by
// rest; nil: it has not.
func (t *Tunnel) sealedFor(first, rest []byte, port uint16) *peer {
	if !isUDPFrom(first, port) {
		return nil
	}
	index, ok := receiverOf(first, rest)
	if !ok {
		return nil
	}
	for _, p := range t.peers.all() {
		path, s := p.path.Load(), p.sessions.current.Load()
		if path != nil && s != nil && s.RemoteIndex() == index && isSealed(first, path.Remote, port) {
			return p
		}
	}
	return nil
}

// receiverOf is that of the transport message in a UDP packet that is first followed by
// rest; false: there is none in it.
func receiverOf(first, rest []byte) (crypto.Index, bool) {
	at := ipv6HeaderSize + udpHeaderSize
	if first[0]>>4 == 4 {
		at = int(first[0]&15)*4 + udpHeaderSize
	}
	var head [8]byte
	n := copy(head[:], first[min(at, len(first)):])
	copy(head[n:], rest[min(max(at-len(first), 0), len(rest)):])
	if crypto.MessageType(head[0]) != crypto.TypeTransport {
		return 0, false
	}
	return crypto.Receiver(head[:]), true
}
