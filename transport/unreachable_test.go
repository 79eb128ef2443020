package transport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

func ipv4Packet(local, remote string, protocol byte, payload []byte) []byte {
	p := make([]byte, ipv4HeaderSize, ipv4HeaderSize+len(payload))
	p[0], p[1], p[8], p[9] = 0x45, 0xb9, 63, protocol
	binary.BigEndian.PutUint16(p[2:], uint16(ipv4HeaderSize+len(payload)))
	copy(p[12:], netip.MustParseAddr(local).AsSlice())
	copy(p[16:], netip.MustParseAddr(remote).AsSlice())
	binary.BigEndian.PutUint16(p[10:], ^onesSum(0, p))
	return append(p, payload...)
}

func ipv6Packet(local, remote string, next byte, payload []byte) []byte {
	p := make([]byte, ipv6HeaderSize, ipv6HeaderSize+len(payload))
	p[0], p[6], p[7] = 0x60, next, 63
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	copy(p[8:], netip.MustParseAddr(local).AsSlice())
	copy(p[24:], netip.MustParseAddr(remote).AsSlice())
	return append(p, payload...)
}

func TestTheSenderOfAPacketForNoPeerIsTold(t *testing.T) {
	local4, local6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for name, c := range map[string]struct {
		packet []byte
		from4  netip.Addr
		from6  netip.Addr
		sender string
		size   int
	}{
		"IPv4, from the unreachable address": {packet: ipv4Packet("10.0.0.1", "10.9.9.9", 17, make([]byte, 8)), sender: "10.9.9.9", size: 56},
		"IPv4, from our own":                 {packet: ipv4Packet("10.0.0.7", "10.9.9.9", 17, make([]byte, 9)), from4: local4, from6: local6, sender: "10.0.0.1", size: 57},
		"a long IPv4 packet":                 {packet: ipv4Packet("10.0.0.1", "10.9.9.9", 6, make([]byte, 1400)), sender: "10.9.9.9", size: 576},
		"a ping":                             {packet: ipv4Packet("10.0.0.1", "10.9.9.9", 1, []byte{8, 0, 0, 0, 0, 0, 0, 0}), sender: "10.9.9.9", size: 56},
		"padding behind the packet":          {packet: append(ipv4Packet("10.0.0.1", "10.9.9.9", 17, make([]byte, 8)), 1, 2, 3), sender: "10.9.9.9", size: 56},
		"IPv6, from the unreachable address": {packet: ipv6Packet("fd00::1", "fd00::9", 17, make([]byte, 8)), from4: local4, sender: "fd00::9", size: 96},
		"IPv6, from our own":                 {packet: ipv6Packet("fd00::7", "fd00::9", 17, make([]byte, 9)), from6: local6, sender: "fd00::1", size: 97},
		"a long IPv6 packet":                 {packet: ipv6Packet("fd00::1", "fd00::9", 6, make([]byte, 1400)), sender: "fd00::9", size: 1280},
		"a ping over IPv6":                   {packet: ipv6Packet("fd00::1", "fd00::9", 58, []byte{128, 0, 0, 0, 0, 0, 0, 0}), sender: "fd00::9", size: 96},
		"the first fragment, IPv6":           {packet: ipv6Packet("fd00::1", "fd00::9", 44, []byte{17, 0, 0, 1, 0, 0, 0, 1}), sender: "fd00::9", size: 96},
		"extension headers":                  {packet: ipv6Packet("fd00::1", "fd00::9", 0, append([]byte{51, 0, 0, 0, 0, 0, 0, 0, 17, 1}, make([]byte, 10)...)), sender: "fd00::9", size: 108},
	} {
		t.Run(name, func(t *testing.T) {
			answer := unreachable([]byte("before"), c.packet, c.from4, c.from6)
			answer, ok := bytes.CutPrefix(answer, []byte("before"))
			if !ok || len(answer) != c.size {
				t.Fatalf("%d bytes, want %d", len(answer), c.size)
			}
			var message, local, remote, cause []byte
			if answer[0]>>4 == 4 {
				if onesSum(0, answer[:20]) != 0xffff || int(binary.BigEndian.Uint16(answer[2:])) != c.size || answer[9] != 1 || answer[1] != 0xd8 {
					t.Errorf("header %x", answer[:20])
				}
				local, remote, message, cause = answer[12:16], answer[16:20], answer[20:], c.packet[12:16]
				if message[0] != 3 || message[1] != 1 || onesSum(0, message) != 0xffff {
					t.Errorf("message %x", message[:8])
				}
			} else {
				if int(binary.BigEndian.Uint16(answer[4:])) != c.size-40 || answer[6] != 58 {
					t.Errorf("header %x", answer[:40])
				}
				local, remote, message, cause = answer[8:24], answer[24:40], answer[40:], c.packet[8:24]
				if message[0] != 1 || message[1] != 3 || onesSum(uint32(len(message))+58+uint32(onesSum(0, answer[8:40])), message) != 0xffff {
					t.Errorf("message %x", message[:8])
				}
			}
			if !bytes.Equal(local, netip.MustParseAddr(c.sender).AsSlice()) || !bytes.Equal(remote, cause) {
				t.Errorf("from %v to %v", local, remote)
			}
			if !bytes.HasPrefix(c.packet, message[8:]) {
				t.Error("it does not quote the packet")
			}
		})
	}
}

func TestNoErrorIsSentWhereNoneMayBe(t *testing.T) {
	change := func(p []byte, at int, b ...byte) []byte { copy(p[at:], b); return p }
	udp := make([]byte, 8)
	for name, packet := range map[string][]byte{
		"nothing":                     nil,
		"neither IPv4 nor IPv6":       {0x50, 1, 2, 3},
		"an ICMP error":               ipv4Packet("10.0.0.1", "10.9.9.9", 1, []byte{3, 1, 0, 0, 0, 0, 0, 0}),
		"an unknown ICMP type":        ipv4Packet("10.0.0.1", "10.9.9.9", 1, []byte{77, 0, 0, 0, 0, 0, 0, 0}),
		"ICMP without a type":         ipv4Packet("10.0.0.1", "10.9.9.9", 1, nil),
		"from nowhere":                ipv4Packet("0.0.0.0", "10.9.9.9", 17, udp),
		"from multicast":              ipv4Packet("224.0.0.1", "10.9.9.9", 17, udp),
		"from broadcast":              ipv4Packet("255.255.255.255", "10.9.9.9", 17, udp),
		"from the loopback":           ipv4Packet("127.0.0.1", "10.9.9.9", 17, udp),
		"to multicast":                ipv4Packet("10.0.0.1", "239.1.1.1", 17, udp),
		"to broadcast":                ipv4Packet("10.0.0.1", "255.255.255.255", 17, udp),
		"to nowhere":                  ipv4Packet("10.0.0.1", "0.0.0.0", 17, udp),
		"a later fragment":            change(ipv4Packet("10.0.0.1", "10.9.9.9", 17, udp), 6, 0x20, 1),
		"a header of 16 bytes":        change(ipv4Packet("10.0.0.1", "10.9.9.9", 17, udp), 0, 0x44),
		"a header beyond the end":     change(ipv4Packet("10.0.0.1", "10.9.9.9", 17, udp), 0, 0x4f),
		"a length beyond the end":     change(ipv4Packet("10.0.0.1", "10.9.9.9", 17, udp), 2, 0, 29),
		"half a header":               ipv4Packet("10.0.0.1", "10.9.9.9", 17, udp)[:19],
		"IPv6: an ICMP error":         ipv6Packet("fd00::1", "fd00::9", 58, []byte{1, 3, 0, 0, 0, 0, 0, 0}),
		"IPv6: a hidden ICMP error":   ipv6Packet("fd00::1", "fd00::9", 60, append([]byte{58, 0, 0, 0, 0, 0, 0, 0}, 1, 3, 0, 0)),
		"IPv6: ICMP without a type":   ipv6Packet("fd00::1", "fd00::9", 58, nil),
		"IPv6: from nowhere":          ipv6Packet("::", "fd00::9", 17, udp),
		"IPv6: from multicast":        ipv6Packet("ff02::1", "fd00::9", 17, udp),
		"IPv6: from the loopback":     ipv6Packet("::1", "fd00::9", 17, udp),
		"IPv6: to multicast":          ipv6Packet("fd00::1", "ff02::2", 17, udp),
		"IPv6: to nowhere":            ipv6Packet("fd00::1", "::", 17, udp),
		"IPv6: a later fragment":      ipv6Packet("fd00::1", "fd00::9", 44, []byte{17, 0, 0, 8, 0, 0, 0, 1}),
		"IPv6: a cut header":          ipv6Packet("fd00::1", "fd00::9", 0, []byte{17, 1, 0, 0, 0, 0, 0, 0}),
		"IPv6: headers without end":   ipv6Packet("fd00::1", "fd00::9", 60, bytes.Repeat([]byte{60, 0, 0, 0, 0, 0, 0, 0}, 40)),
		"IPv6: a length beyond":       change(ipv6Packet("fd00::1", "fd00::9", 17, udp), 4, 0, 9),
		"IPv6: half a header":         ipv6Packet("fd00::1", "fd00::9", 17, udp)[:39],
		"IPv6: hop by hop and no end": ipv6Packet("fd00::1", "fd00::9", 0, nil),
	} {
		if answer := unreachable(nil, packet, netip.Addr{}, netip.Addr{}); answer != nil {
			t.Errorf("%s is answered: %x", name, answer)
		}
	}
}

func FuzzTheAnswerIsNeverAnsweredAndNeverTooLong(f *testing.F) {
	f.Add(ipv4Packet("10.0.0.1", "10.9.9.9", 17, make([]byte, 600)))
	f.Add(ipv6Packet("fd00::1", "fd00::9", 0, append([]byte{51, 0, 0, 0, 0, 0, 0, 0, 17, 1}, make([]byte, 1300)...)))
	f.Fuzz(func(t *testing.T, packet []byte) {
		answer := unreachable(nil, packet, netip.Addr{}, netip.Addr{})
		if len(answer) > maxICMPv6Error {
			t.Fatalf("an answer of %d bytes", len(answer))
		}
		if answer != nil && unreachable(nil, answer, netip.Addr{}, netip.Addr{}) != nil {
			t.Fatal("an error is answered by an error")
		}
	})
}

func TestTheSenderOfAPacketThatIsTooLongIsToldHowMuchIsNot(t *testing.T) {
	keep := func(p []byte) []byte { p[6] = dontFragment; return p }
	for name, c := range map[string]struct {
		packet []byte
		mtu    int
		told   int // 0: nothing
	}{
		"IPv4 that must not be fragmented": {keep(ipv4Packet("10.0.0.1", "10.9.9.9", 6, make([]byte, 1400))), 1220, 1220},
		"IPv4 that may":                    {ipv4Packet("10.0.0.1", "10.9.9.9", 6, make([]byte, 1400)), 1220, 0},
		"IPv4 that just fits":              {keep(ipv4Packet("10.0.0.1", "10.9.9.9", 6, make([]byte, 1200))), 1220, 0},
		"IPv4, one byte too many":          {keep(ipv4Packet("10.0.0.1", "10.9.9.9", 6, make([]byte, 1201))), 1220, 1220},
		"IPv6":                             {ipv6Packet("fd00::1", "fd00::9", 6, make([]byte, 1360)), 1320, 1320},
		"IPv6 where less than 1280 fits":   {ipv6Packet("fd00::1", "fd00::9", 6, make([]byte, 1241)), 1200, 1280},
		"IPv6 of 1280":                     {ipv6Packet("fd00::1", "fd00::9", 6, make([]byte, 1240)), 1200, 0},
		"an ICMP error":                    {keep(ipv4Packet("10.0.0.1", "10.9.9.9", 1, append([]byte{3, 1}, make([]byte, 1400)...))), 1220, 0},
		"an ICMPv6 error":                  {ipv6Packet("fd00::1", "fd00::9", 58, append([]byte{1, 3}, make([]byte, 1400)...)), 1220, 0},
		"to multicast":                     {keep(ipv4Packet("10.0.0.1", "239.1.1.1", 17, make([]byte, 1400))), 1220, 0},
		"a header cut short":               {keep(ipv4Packet("10.0.0.1", "10.9.9.9", 17, make([]byte, 1400)))[:19], 1220, 0},
		"half a header":                    {make([]byte, 19), 10, 0},
		"nothing":                          {nil, 0, 0},
	} {
		answer := tooBig(nil, c.packet, c.mtu, netip.Addr{}, netip.Addr{})
		if c.told == 0 {
			if answer != nil {
				t.Errorf("%s is answered: %x", name, answer)
			}
			continue
		}
		if len(answer) < 56 {
			t.Errorf("%s is answered by %d bytes", name, len(answer))
			continue
		}
		message, kind, at := answer[20:], []byte{3, 4}, 6
		if answer[0]>>4 == 6 {
			message, kind = answer[40:], []byte{2, 0}
		}
		if !bytes.Equal(message[:2], kind) || int(binary.BigEndian.Uint16(message[at:])) != c.told || !bytes.HasPrefix(c.packet, message[8:]) {
			t.Errorf("%s is answered by %x, want type and code %v and %d", name, message[:8], kind, c.told)
		}
		if tooBig(nil, answer, 40, netip.Addr{}, netip.Addr{}) != nil {
			t.Errorf("%s: the answer is answered", name)
		}
	}
}
