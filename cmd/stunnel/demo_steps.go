package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"stunnel/device/capture"
)

// demoPlace is an interface of a host, at which frames are captured.
type demoPlace struct {
	*capture.Recording
	host   *demoHost
	device string
}

func (p *demoPlace) String() string {
	if p.device == p.host.name { // as `stunnel up` calls it
		return p.host.name + " TAP"
	}
	return p.host.name + " " + p.device
}

// record begins to capture at an interface of the host.
func (h *demoHost) record(device string) (p *demoPlace, err error) {
	p = &demoPlace{host: h, device: device}
	err = h.do(func() (err error) {
		p.Recording, err = capture.Record(device)
		return err
	})
	return p, err
}

// demoHop is a frame that passes a place.
type demoHop struct {
	step  int // 0: of the one before
	at    *demoPlace
	sent  bool
	is    func(capture.Frame) bool
	aside bool // it goes no further from here
	words string
}

// demoPatience is how long a frame may take from one place to the next.
const demoPatience = 5 * time.Second

// demoSteps has a host ask for one at the other site, and shows every hop of question and answer.
func demoSteps(ctx context.Context, sites [2]*demoSite, stdout io.Writer) (err error) {
	one, two := sites[0], sites[1]
	h5, h6, h3, h4 := one.hosts[0], one.hosts[1], two.hosts[0], two.hosts[1]
	places := make(map[string]*demoPlace)
	for h, devices := range map[*demoHost][]string{
		h5: {demoCable}, h6: {demoCable}, h3: {demoCable}, h4: {demoCable},
		one.sw: {h5.name, h6.name, demoUplink}, two.sw: {h3.name, h4.name, demoUplink},
		one.vpn: {demoLAN, one.vpn.name, demoCable}, two.vpn: {demoLAN, two.vpn.name, demoCable},
	} {
		for _, device := range devices {
			p, err := h.record(device)
			if err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
			defer p.Close()
			places[p.String()] = p
		}
	}
	at := func(h *demoHost, device string) *demoPlace {
		return places[(&demoPlace{host: h, device: device}).String()]
	}

	if p, err := ping(ctx, h5, h3.inner4, 1, 0); err != nil || len(p.times) == 0 {
		return errors.Join(err, fmt.Errorf("%s does not answer %s", h3.inner4, h5.inner4))
	}
	question, answer := isARP(arpRequest, h5, h3), isARP(arpReply, h3, h5)
	there, back := isSealedARP(one.vpn, two.vpn), isSealedARP(two.vpn, one.vpn)
	fmt.Fprintf(stdout, "%s asks for %s. What passed where, and how long after the first:\n\n", h5.inner4, h3.inner4)
	err = showHops(ctx, stdout, []demoHop{
		{1, at(h5, demoCable), true, question, false, fmt.Sprintf("%s sends an ARP request to all: who has %s?", h5.inner4, h3.inner4)},
		{2, at(one.sw, h5.name), false, question, false, "the switch of its site receives it"},
		{3, at(one.sw, demoUplink), true, question, false, "and floods it to all other ports: that of the VPN host,"},
		{0, at(one.sw, h6.name), true, question, true, fmt.Sprintf("and that of %s", h6.inner4)},
		{4, at(one.vpn, demoLAN), false, question, false, "eth1 is a port of the Linux bridge br0, which so receives it"},
		{5, at(one.vpn, one.vpn.name), true, question, false, "br0 floods it to the TAP, its other port"},
		{6, at(one.vpn, demoCable), true, there, false, "stunnel reads it from /dev/net/tun, seals it, sends it as UDP: 108 bytes"},
		{7, at(two.vpn, demoCable), false, there, false, "the other site's stunnel receives that,"},
		{0, at(two.vpn, two.vpn.name), false, question, false, "opens it, and writes the frame to its TAP"},
		{8, at(two.vpn, demoLAN), true, question, false, "br0 there floods it to eth1"},
		{9, at(two.sw, demoUplink), false, question, false, "the switch of site 2 receives it"},
		{0, at(two.sw, h3.name), true, question, false, fmt.Sprintf("and floods it: to %s,", h3.inner4)},
		{0, at(two.sw, h4.name), true, question, true, fmt.Sprintf("and to %s", h4.inner4)},
		{10, at(h3, demoCable), false, question, false, fmt.Sprintf("%s hears it: the address is its own", h3.inner4)},
		{0, at(h3, demoCable), true, answer, false, fmt.Sprintf("and answers %s alone: I have it, %s", h5.inner4, h3.mac())},
		{11, at(two.sw, h3.name), false, answer, false, "the answer goes the same way back:"},
		{0, at(two.sw, demoUplink), true, answer, false, fmt.Sprintf("the switch has learned where %s is,", h5.mac())},
		{0, at(two.vpn, demoLAN), false, answer, false, "br0 has,"},
		{0, at(two.vpn, two.vpn.name), true, answer, false, "and sends it to the TAP"},
		{0, at(two.vpn, demoCable), true, back, false, "sealed, to the peer behind which stunnel has learned it"},
		{0, at(one.vpn, demoCable), false, back, false, "received,"},
		{0, at(one.vpn, one.vpn.name), false, answer, false, "opened, and written to the TAP"},
		{0, at(one.vpn, demoLAN), true, answer, false, "br0 sends it to eth1"},
		{0, at(one.sw, demoUplink), false, answer, false, "the switch receives it"},
		{0, at(one.sw, h5.name), true, answer, false, "and sends it to one port alone"},
		{0, at(h5, demoCable), false, answer, false, fmt.Sprintf("%s knows who has %s", h5.inner4, h3.inner4)},
	})
	if err != nil {
		return err
	}
	if err := nobodyElseHeard(ctx, at(h5, demoCable), answer, h5, at(h6, demoCable), at(h4, demoCable)); err != nil {
		return err
	}
	for _, p := range []*demoPlace{at(one.vpn, demoCable), at(two.vpn, demoCable)} {
		clear := append(h5.mac(), h5.inner4.AsSlice()...)
		if len(p.Frames(func(f capture.Frame) bool { return bytes.Contains(f.Data, clear) })) > 0 {
			return fmt.Errorf("%s: what %s said is to be read outside of the tunnel", p, h5.name)
		}
	}
	fmt.Fprintf(stdout, "\n%s and %s have heard the question and not the answer. Between the sites nothing of either was to be read.\n\n", h6.inner4, h4.inner4)
	return nil
}

// showHops shows when a frame passed each place, after the one before.
func showHops(ctx context.Context, w io.Writer, hops []demoHop) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	var first, last time.Time
	for _, h := range hops {
		f, err := h.at.Await(ctx, func(f capture.Frame) bool {
			return f.Sent == h.sent && (h.aside || !f.At.Before(last)) && h.is(f)
		})
		if err != nil {
			return fmt.Errorf("%s: %s: it was not seen: %w", h.at, h.words, err)
		}
		if first.IsZero() {
			first = f.At
		}
		if !h.aside {
			last = f.At
		}
		number := ""
		if h.step > 0 {
			number = fmt.Sprint(h.step)
		}
		fmt.Fprintf(w, "  %2s  %9s  %-14s  %s\n", number, millis(f.At.Sub(first)), h.at, h.words)
	}
	return nil
}

// nobodyElseHeard looks for frames where none should be. What was sent before a broadcast of ours has come to all who hear that,
// or comes no more.
func nobodyElseHeard(ctx context.Context, from *demoPlace, is func(capture.Frame) bool, source *demoHost, others ...*demoPlace) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	fence := append(bytes.Repeat([]byte{0xff}, 6), source.mac()...)
	fence = append(binary.BigEndian.AppendUint16(fence, 0x88b6), "stunnel demo"...) // for experiments: no host speaks it
	if err := from.Send(fence); err != nil {
		return err
	}
	for _, p := range others {
		if _, err := p.Await(ctx, func(f capture.Frame) bool { return bytes.Equal(f.Data, fence) }); err != nil {
			return fmt.Errorf("%s: a broadcast: %w", p, err)
		}
		if n := len(p.Frames(is)); n > 0 {
			return fmt.Errorf("%s: %d frames came that are for another host", p, n)
		}
	}
	return nil
}

// Operations of ARP (RFC 826).
const (
	arpRequest = 1
	arpReply   = 2
)

// isARP is for messages between two hosts.
func isARP(operation uint16, from, to *demoHost) func(capture.Frame) bool {
	return func(f capture.Frame) bool {
		const ethernet, sender, target, size = 14, 14 + 14, 14 + 24, 14 + 28
		return len(f.Data) >= size && binary.BigEndian.Uint16(f.Data[12:]) == 0x0806 &&
			binary.BigEndian.Uint16(f.Data[ethernet+6:]) == operation &&
			bytes.Equal(f.Data[sender:sender+4], from.inner4.AsSlice()) && bytes.Equal(f.Data[target:target+4], to.inner4.AsSlice())
	}
}

// isSealedARP is for WireGuard's messages with data from one VPN host to the other, as long as one with ARP in it is.
func isSealedARP(from, to *demoHost) func(capture.Frame) bool {
	const (
		frame   = 14 + 28
		message = 16 + (4+frame+15)/16*16 + 16
		udp     = 14 + 20
	)
	return func(f capture.Frame) bool {
		return len(f.Data) == udp+8+message && binary.BigEndian.Uint16(f.Data[12:]) == 0x0800 &&
			bytes.Equal(f.Data[14+12:14+16], from.outer.AsSlice()) && bytes.Equal(f.Data[14+16:14+20], to.outer.AsSlice()) &&
			binary.BigEndian.Uint16(f.Data[udp+2:]) == demoPort && f.Data[udp+8] == 4
	}
}
