package e2e

import (
	"bytes"
	endian "encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

const (
	arpRequest = 1
	arpReply   = 2
)

// arp is the message that one host sends: who has the address (to all), or who it
// is itself.
func arp(operation uint16, from, to *lanHost) []byte {
	destination, target := to.mac, to.mac
	if operation == arpRequest {
		destination, target = everybody, make(net.HardwareAddr, 6)
	}
	f := append(append([]byte(nil), destination...), from.mac...)
	for _, word := range []uint16{0x0806, 1, 0x0800, 0x0604, operation} {
		f = endian.BigEndian.AppendUint16(f, word)
	}
	f = append(append(f, from.mac...), from.ip.AsSlice()...)
	return append(append(f, target...), to.ip.AsSlice()...)
}

// sealedARP says whether a frame is WireGuard's transport data of the size that an
// ARP message has in it, from one VPN host to the other.
func sealedARP(from, to *lanSite) func(capture.Frame) bool {
	const length = 16 + (4+42+15)/16*16 + 16
	return func(f capture.Frame) bool {
		return len(f.Data) == 14+20+8+length && f.Data[12] == 8 && f.Data[13] == 0 && f.Data[14+9] == 17 &&
			bytes.Equal(f.Data[14+12:14+16], from.outside().AsSlice()) && bytes.Equal(f.Data[14+16:14+20], to.outside().AsSlice()) &&
			endian.BigEndian.Uint16(f.Data[14+22:]) == 51820 && f.Data[14+28] == 4
	}
}

// hop is where and how a frame is seen.
type hop struct {
	at   *lab.Capture
	sent bool
	what func(capture.Frame) bool
	kind hopKind
}

type hopKind int

const (
	onTheWay hopKind = iota
	aside            // a copy, which goes no further
	outside          // where other messages of that size may pass
)

// Scenario 4: 192.168.0.5 at one site asks for 192.168.0.3 at the other.
func TestTheElevenStepsFromOneSiteToTheOther(t *testing.T) {
	t.Parallel()
	n := newLAN(t, 2, 1500)
	n.mesh("")
	n.up()
	one, two := n.sites[0], n.sites[1]
	h5, h6, h3, h4 := one.hosts[0], one.hosts[1], two.hosts[0], two.hosts[1]

	wire5, wire6, wire3, wire4 := h5.Capture("eth0"), h6.Capture("eth0"), h3.Capture("eth0"), h4.Capture("eth0")
	port5, port6, uplink1 := one.sw.Capture(h5.Name), one.sw.Capture(h6.Name), one.sw.Capture("vpn")
	eth1, tap1, outside1 := one.vpn.Capture("eth1"), one.vpn.Capture("lan0"), one.vpn.Capture("eth0")
	outside2, tap2, eth2 := two.vpn.Capture("eth0"), two.vpn.Capture("lan0"), two.vpn.Capture("eth1")
	uplink2, port3, port4 := two.sw.Capture("vpn"), two.sw.Capture(h3.Name), two.sw.Capture(h4.Name)

	ping(t, h5.Host, h3.ip.String(), 1)
	fence(wire5, 1, h5, wire3, wire4, wire6)
	fence(wire3, 2, h3, wire5, wire4, wire6)

	request, answer := same(arp(arpRequest, h5, h3)), same(arp(arpReply, h3, h5))
	there, back := sealedARP(one, two), sealedARP(two, one)
	var last capture.Frame
	for _, step := range []struct {
		words string
		hops  []hop
	}{
		{"1. the host sends an ARP request to all", []hop{{wire5, true, request, onTheWay}}},
		{"2. the switch receives it", []hop{{port5, false, request, onTheWay}}},
		{"3. the switch floods it to all other ports", []hop{{uplink1, true, request, onTheWay}, {port6, true, request, aside}}},
		{"4. eth1 brings it to the bridge", []hop{{eth1, false, request, onTheWay}}},
		{"5. the bridge floods it to the TAP", []hop{{tap1, true, request, onTheWay}}},
		{"6. stunnel seals it and sends it", []hop{{outside1, true, there, outside}}},
		{"7. the other stunnel opens it and writes it to its TAP", []hop{{outside2, false, there, outside}, {tap2, false, request, onTheWay}}},
		{"8. the bridge there floods it to eth1", []hop{{eth2, true, request, onTheWay}}},
		{"9. the switch there receives it and floods it", []hop{
			{uplink2, false, request, onTheWay}, {port3, true, request, onTheWay}, {port4, true, request, aside}}},
		{"10. the host sees its address and answers", []hop{{wire3, false, request, onTheWay}, {wire3, true, answer, onTheWay}}},
		{"11. the answer comes back the same way", []hop{
			{port3, false, answer, onTheWay}, {uplink2, true, answer, onTheWay}, {eth2, false, answer, onTheWay}, {tap2, true, answer, onTheWay},
			{outside2, true, back, outside}, {outside1, false, back, outside},
			{tap1, false, answer, onTheWay}, {eth1, true, answer, onTheWay}, {uplink1, false, answer, onTheWay}, {port5, true, answer, onTheWay},
			{wire5, false, answer, onTheWay}}},
	} {
		for i, h := range step.hops {
			seen := h.at.Frames(func(f capture.Frame) bool {
				return f.Sent == h.sent && h.what(f) && (h.kind == aside || !f.At.Before(last.At))
			})
			if len(seen) == 0 || len(seen) > 1 && h.kind != outside {
				t.Fatalf("%s: at hop %d it was seen %d times, want once and after the hop before\n%v", step.words, i, len(seen), h.at.Frames(h.what))
			}
			if h.kind != aside {
				last = seen[0]
			}
		}
	}
	// All heard the question, and nobody but who asked hears the answer.
	for host, wire := range map[*lanHost]*lab.Capture{h6: wire6, h4: wire4} {
		if n := len(wire.Frames(request)); n != 1 {
			t.Errorf("%s has heard the request %d times, want once", host.Name, n)
		}
		if n := len(wire.Frames(answer)); n != 0 {
			t.Errorf("%s has heard the answer, which is not for it", host.Name)
		}
	}
	// Everybody on the way has learned where 192.168.0.5 is.
	for _, at := range []struct {
		host *lab.Host
		port string
	}{{one.sw, h5.Name}, {one.vpn, "eth1"}, {two.vpn, "lan0"}, {two.sw, "vpn"}} {
		if out := at.host.Run("bridge", "fdb", "show", "br", "br0"); !strings.Contains(out, fmt.Sprintf("%s dev %s ", h5.mac, at.port)) {
			t.Errorf("the bridge of %s has not learned that %s is at %s:\n%s", at.host.Name, h5.mac, at.port, out)
		}
	}
	for s, want := range map[*lanSite]map[*lanHost]string{one: {h5: "", h3: two.vpn.Name}, two: {h5: one.vpn.Name, h3: ""}} {
		sides := n.stations(s)
		for h, side := range want {
			if got, known := sides[h.mac.String()]; !known || got != side {
				t.Errorf("the stunnel of %s has %s at %q (known: %v), want %q", s.vpn.Name, h.mac, got, known, side)
			}
		}
	}
}
