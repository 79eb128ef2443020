package e2e

import (
	"testing"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

// All peers know each other: what one floods each hears once, from it and from
// nobody else. Then two of them know the third alone, which forwards.
func TestThreeSitesAreOneLAN(t *testing.T) {
	t.Parallel()
	n := newLAN(t, 3, 1500)
	n.mesh("")
	n.up()
	everybodyHearsEachOnce(t, n)
	for _, s := range n.sites {
		sides := n.stations(s)
		for _, other := range n.sites {
			for _, h := range other.hosts {
				want := other.vpn.Name
				if other == s {
					want = ""
				}
				if got, known := sides[h.mac.String()]; !known || got != want {
					t.Errorf("%s has %s at %q (known: %v), want %q", s.vpn.Name, h.Name, got, known, want)
				}
			}
		}
	}
	one, h7 := n.sites[0].vpn, n.sites[2].hosts[0]
	one.Input(one.Run(binary, "show", "--macs", "lan0"), "grep", h7.mac.String()+".*vpn3")
	n.down()

	hub := n.sites[2]
	n.configure(n.sites[0], "", hub)
	n.configure(n.sites[1], "", hub)
	n.configure(hub, "Forward = yes\n", n.sites[0], n.sites[1])
	n.up()
	everybodyHearsEachOnce(t, n)
	if got := n.stations(n.sites[0])[n.sites[1].hosts[0].mac.String()]; got != hub.vpn.Name {
		t.Errorf("vpn1 has host3 at %q, want it at the hub", got)
	}

	// The hub has learned: what is for one peer goes to no other, nor to its own LAN.
	h5, h3 := n.sites[0].hosts[0], n.sites[1].hosts[0]
	wire5, wire3, wire7 := h5.Capture("eth0"), h3.Capture("eth0"), h7.Capture("eth0")
	unicast := testFrame(h3.mac, h5.mac, 77, 60)
	wire5.Send(unicast)
	wire3.Await("host5's frame", same(unicast))
	fence(wire5, 20, h5, wire7)
	if len(wire7.Frames(same(unicast))) > 0 {
		t.Error("the hub's own host has heard what is not for it")
	}
	transfer(t, h5.Host, h3.Host, h3.ip.String()+":7000", 4<<20)
	for _, h := range []*lanHost{h5, h3} {
		if wrong := counters(h.Host, "InCsumErrors"); len(wrong) > 0 {
			t.Errorf("%s has met wrong checksums: %v", h.Name, wrong)
		}
	}
	n.down()

	// Without Forward the hub keeps them apart.
	n.configure(hub, "", n.sites[0], n.sites[1])
	n.up()
	apart := testFrame(everybody, h5.mac, 78, 60)
	wire5.Send(apart)
	wire7.Await("host5's frame", same(apart))
	wire7.Send(testFrame(everybody, h7.mac, 79, 60)) // behind it, were it sent on
	wire3.Await("host7's frame", same(testFrame(everybody, h7.mac, 79, 60)))
	if len(wire3.Frames(same(apart))) > 0 {
		t.Error("host3 has heard host5, though nobody forwards")
	}
}

// everybodyHearsEachOnce has every host reach every other, and broadcast.
func everybodyHearsEachOnce(t *testing.T, n *lan) {
	t.Helper()
	var all []*lanHost
	wires := make(map[*lanHost]*lab.Capture)
	for _, s := range n.sites {
		for _, h := range s.hosts {
			all, wires[h] = append(all, h), h.Capture("eth0")
		}
	}
	for i, from := range all {
		wires[from].Send(testFrame(everybody, from.mac, uint32(1000+i), 60))
	}
	for i, from := range all {
		frame := testFrame(everybody, from.mac, uint32(1000+i), 60)
		for _, to := range all {
			if to != from {
				wires[to].Await("the broadcast of "+from.Name, same(frame))
			}
		}
	}
	for _, pair := range [][2]*lanHost{{n.sites[0].hosts[0], n.sites[1].hosts[0]}, {n.sites[1].hosts[0], n.sites[2].hosts[0]}, {n.sites[2].hosts[0], n.sites[0].hosts[0]}} {
		ping(t, pair[0].Host, pair[1].ip.String(), 2, "-s", "1472", "-M", "do")
	}
	for i, from := range all {
		frame := testFrame(everybody, from.mac, uint32(1000+i), 60)
		for _, to := range all {
			if to == from {
				continue
			}
			if heard := wires[to].Frames(func(f capture.Frame) bool { return !f.Sent && same(frame)(f) }); len(heard) != 1 {
				t.Errorf("%s has heard the broadcast of %s %d times, want once", to.Name, from.Name, len(heard))
			}
		}
	}
}
