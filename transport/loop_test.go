package transport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport/socket"
)

// datagram is an inner UDP packet between two ends, with options bytes in front
// of its UDP header.
func datagram(from, to netip.AddrPort, options int) []byte {
	p := make([]byte, ipv4HeaderSize+options+8+40)
	p[0], p[9] = 0x45+byte(options/4), 17
	at := ipv4HeaderSize + options
	if to.Addr().Is6() {
		p = make([]byte, ipv6HeaderSize+8+40)
		p[0], p[6] = 0x60, 17
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-ipv6HeaderSize))
		copy(p[8:], from.Addr().AsSlice())
		copy(p[24:], to.Addr().AsSlice())
		at = ipv6HeaderSize
	} else {
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		copy(p[12:], from.Addr().AsSlice())
		copy(p[16:], to.Addr().AsSlice())
	}
	binary.BigEndian.PutUint16(p[at:], from.Port())
	binary.BigEndian.PutUint16(p[at+2:], to.Port())
	return p
}

func TestOnlyWhatTheTunnelItselfSendsToThePeerIsSealedAlready(t *testing.T) {
	ours, remote := netip.MustParseAddrPort("192.0.2.1:700"), netip.MustParseAddrPort("192.0.2.2:800")
	ours6, remote6 := netip.MustParseAddrPort("[2001:db8::1]:700"), netip.MustParseAddrPort("[2001:db8::2]:800")
	other := netip.MustParseAddrPort("192.0.2.3:800")
	tcp := datagram(ours, remote, 0)
	tcp[9] = 6
	for name, c := range map[string]struct {
		packet []byte
		remote netip.AddrPort
		want   bool
	}{
		"IPv4":              {datagram(ours, remote, 0), remote, true},
		"IPv4 with options": {datagram(ours, remote, 8), remote, true},
		"IPv6":              {datagram(ours6, remote6, 0), remote6, true},
		"IPv6 with a zone":  {datagram(ours6, remote6, 0), netip.AddrPortFrom(remote6.Addr().WithZone("eth0"), 800), true},
		"another host":      {datagram(ours, other, 0), remote, false},
		"another port":      {datagram(ours, netip.AddrPortFrom(remote.Addr(), 801), 0), remote, false},
		"of another port":   {datagram(netip.AddrPortFrom(ours.Addr(), 701), remote, 0), remote, false},
		"TCP":               {tcp, remote, false},
		"other family":      {datagram(ours6, remote6, 0), remote, false},
		"cut short":         {datagram(ours, remote, 0)[:ipv4HeaderSize+3], remote, false},
		"nothing":           {nil, remote, false},
	} {
		if got := isSealed(c.packet, c.remote, 700); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWhatIsRoutedBackIntoTheTunnelIsDroppedAndTheRestSent(t *testing.T) {
	a, b, clock := shook(t)
	if err := a.Configure(Config{Peers: []PeerConfig{{PublicKey: b.key.Public(), AllowedIPs: []AllowedIPChange{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}}}}); err != nil {
		t.Fatal(err)
	}
	own := datagram(netip.AddrPortFrom(a.addr.Addr(), a.wire.Port()), b.addr, 0)
	good := packet("10.0.0.1", "10.0.0.2", 100)
	for mask := range 1 << 5 {
		var packets [][]byte
		want := 0
		for i := range 5 {
			if mask>>i&1 == 1 {
				packets = append(packets, own)
			} else {
				packets = append(packets, good)
				want++
			}
		}
		b.stack.written = nil
		before := a.Status().Peers[0].Drops["routing_loop"]
		first, rest, partial := split(packets...)
		a.lanes[0].outbound(first, rest, partial, *clock)
		a.pass(b)
		got := a.Status().Peers[0].Drops["routing_loop"] - before
		if len(b.stack.written) != want || got != uint64(5-want) {
			t.Errorf("mask %05b: %d packets arrived, %d were dropped", mask, len(b.stack.written), got)
		}
		*clock += time.Millisecond
	}
}

func TestFramesOfWhatTheTunnelItselfSendsAreDroppedAndTheRestSent(t *testing.T) {
	for _, family := range []string{"IPv4", "IPv6"} { // of IPv6 the message is not in the first part
		ends, clock := star(t, 2)
		h, a := ends[0], ends[1]
		ours, remote, another := netip.MustParseAddr("192.168.0.1"), h.addr, netip.MustParseAddr("192.0.2.99")
		if family == "IPv6" {
			ours, remote, another = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddrPort("[2001:db8::2]:51820"), netip.MustParseAddr("2001:db8::99")
			a.to(h).path.Store(&socket.Path{Remote: remote})
		}
		index := a.to(h).sessions.current.Load().RemoteIndex()
		carrying := func(to netip.AddrPort, receiver crypto.Index) []byte {
			packet := datagram(netip.AddrPortFrom(ours, a.wire.Port()), to, 0)
			message := packet[len(packet)-40:]
			message[0] = byte(crypto.TypeTransport)
			binary.LittleEndian.PutUint32(message[4:], uint32(receiver))
			f := append(tcpFrame(1, 2, 60)[:14:14], packet...)
			if family == "IPv6" {
				f[12], f[13] = 0x86, 0xdd
			}
			return f
		}
		own := carrying(remote, index)
		neighbours := carrying(remote, index+1)
		elsewhere := carrying(netip.AddrPortFrom(another, remote.Port()), index)
		cut := own[:40]
		f := splitFrames(own, neighbours, own, elsewhere, cut, own)
		a.lanes[0].outbound(f.first, f.rest, f.partial, *clock)
		a.pass(h)
		want := [][]byte{neighbours, elsewhere, cut}
		if n := a.to(h).drops[dropRoutingLoop].Load(); n != 3 || !slices.EqualFunc(h.stack.written, want, bytes.Equal) {
			t.Errorf("%s: %d frames came, want %d; %d dropped, want 3", family, len(h.stack.written), len(want), n)
		}
	}
}
