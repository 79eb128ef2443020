package e2e

import (
	"bytes"
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

// side is what `show --json` tells of the switch's side of a peer.
type side struct {
	Stations  int
	Loop      bool
	Unlearned int `json:"unlearned_frames"`
}

// sideOf is that of a peer, at a site.
func (n *lan) sideOf(s, peer *lanSite) side {
	n.t.Helper()
	var shown struct {
		Interfaces []struct {
			Peers []struct {
				Name string
				Port side
			}
		}
	}
	if err := json.Unmarshal([]byte(s.vpn.Run(binary, "show", "--json", "lan0")), &shown); err != nil {
		n.t.Fatal(err)
	}
	for _, p := range shown.Interfaces[0].Peers {
		if p.Name == peer.vpn.Name {
			return p.Port
		}
	}
	n.t.Fatalf("%s shows no peer %s", s.vpn.Name, peer.vpn.Name)
	return side{}
}

// cable joins the switches of two sites past the tunnel; what it returns takes the
// cable out.
func (n *lan) cable(one, two *lanSite) (out func()) {
	n.t.Helper()
	one.sw.Batch(fmt.Sprintf("link add cable type veth peer name cable netns %d", two.sw.Init()), "link set cable master br0 up")
	two.sw.Batch("link set cable master br0 up")
	return func() { one.sw.Batch("link del cable") }
}

// Somebody connects the sites a second time: what is flooded goes round and round. The
// tunnel bounds that at once, ends it when it has found out why, and goes on as
// before when the cable is out.
func TestASecondCableBetweenTheSitesIsALoopThatEnds(t *testing.T) {
	t.Parallel()
	n := newLAN(t, 2, 1500)
	const limit = 500
	n.mesh(fmt.Sprintf("StormLimit = %d\n", limit))
	n.up()
	one, two := n.sites[0], n.sites[1]
	h5, h6, h3, h4 := one.hosts[0], one.hosts[1], two.hosts[0], two.hosts[1]
	ping(t, h5.Host, h3.ip.String(), 1)
	wire5, wire3 := h5.Capture("eth0"), h3.Capture("eth0")
	tap1, tap2 := one.vpn.Capture("lan0"), two.vpn.Capture("lan0")

	// What is flooded is bounded whether there is a loop or not.
	const burst = 3 * limit
	started := time.Now()
	for i := range uint32(burst) {
		wire5.Send(testFrame(everybody, h5.mac, i, 60))
	}
	unicast := testFrame(h3.mac, h5.mac, burst, 60)
	wire5.Send(unicast)
	wire3.Await("for host3 alone, which is not bounded", same(unicast))
	tap2.Await("for host3 alone, after those for everybody", same(unicast))
	flooded := func(f capture.Frame) bool { return !f.Sent && f.Data[0]&1 != 0 }
	// The time is taken from before the first was sent: those that come out are seen later
	// than the limit is charged, and not all by as much.
	bounded := func(at *lab.Capture, since time.Time, least int) {
		t.Helper()
		heard := at.Frames(flooded)
		if len(heard) < least {
			t.Fatalf("%d frames have come out of the tunnel: that is no storm", len(heard))
		}
		if len(heard) == 0 {
			return
		}
		during := heard[len(heard)-1].At.Sub(since)
		if most := int(limit*(during+time.Second).Seconds()) + 1; len(heard) > most { // a second's worth may come at once
			t.Errorf("%d frames have come out of the tunnel in %v, want at most %d", len(heard), during, most)
		}
	}
	bounded(tap2, started, limit/2)
	if show(t, one.vpn, "lan0").Interfaces[0].DroppedPackets["storm"] == 0 {
		t.Error("vpn1 counts no dropped frame of the storm")
	}

	plugged := time.Now()
	unplug := n.cable(one, two)
	wire5.Send(testFrame(everybody, h5.mac, burst+1, 60))
	const said = "a loop: what leaves by the tunnel's interface comes back"
	one.up.Await(said + "; nothing is flooded there until that ends, the rest goes on by=vpn2")
	two.up.Await(said + "; nothing is flooded there until that ends, the rest goes on by=vpn1")
	bounded(tap1, plugged, 0) // the guard may have been quicker than the storm
	bounded(tap2, started, limit/2)
	if at1, at2 := n.sideOf(one, two), n.sideOf(two, one); !at1.Loop || !at2.Loop {
		t.Errorf("show --json tells of no loop: %+v, %+v", at1, at2)
	}
	one.vpn.Input(one.vpn.Run(binary, "show", "lan0"), "grep", "warning: *a loop")

	// The storm is over: a broadcast goes over the cable, once, and hosts reach each other.
	calm := testFrame(everybody, h5.mac, burst+2, 60)
	wire5.Send(calm)
	fence(wire5, 30, h5, wire3)
	if heard := len(wire3.Frames(same(calm))); heard != 1 {
		t.Errorf("host3 has heard a broadcast %d times after the loop was found, want once", heard)
	}
	ping(t, h5.Host, h3.ip.String(), 3)

	unplug()
	one.up.Await("no loop is seen any more: frames are flooded again")
	two.up.Await("no loop is seen any more: frames are flooded again")
	ping(t, h6.Host, h4.ip.String(), 3) // who never spoke: by broadcast
	for _, p := range []side{n.sideOf(one, two), n.sideOf(two, one)} {
		if p.Loop {
			t.Errorf("show --json still tells of a loop: %+v", p)
		}
	}
}

// A host at one site sends from 100,000 addresses. The switches behind the other peers
// go on as before: their stations are known, and nothing of theirs is flooded.
func TestAFloodOfAddressesFromOnePeerIsNobodyElsesLoss(t *testing.T) {
	t.Parallel()
	n := newLAN(t, 3, 1500)
	n.mesh("")
	n.up()
	one, two, three := n.sites[0], n.sites[1], n.sites[2]
	h5, h6, h3, h4, h7 := one.hosts[0], one.hosts[1], two.hosts[0], two.hosts[1], three.hosts[0]
	ping(t, h6.Host, h3.ip.String(), 1)
	ping(t, h7.Host, h4.ip.String(), 1)
	wire5, wire6 := h5.Capture("eth0"), h6.Capture("eth0")

	const flood, size, rate = 100_000, 12 << 20, 4 << 20
	start := time.Now()
	finish := beginTransfer(t, h7.Host, h4.Host, h4.ip.String()+":7000", size, fmt.Sprint(rate))
	flooded := make(chan error, 1)
	go func() {
		for i := range uint32(flood) {
			source := endian.BigEndian.AppendUint32(net.HardwareAddr{2, 0x66}, i)
			if err := wire6.Recording.Send(testFrame(h3.mac, source, i, 60)); err != nil {
				flooded <- err
				return
			}
		}
		flooded <- nil
	}()
	finish()
	took := time.Since(start)
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d frames from as many addresses took %v, %d bytes at %d a second beside them %v", flood, time.Since(start), size, rate, took)
	if most := 3 * time.Second * size / rate; took > most {
		t.Errorf("%d bytes at %d a second took %v beside the flood, want at most %v", size, rate, took, most)
	}

	// DefaultMACLimit behind each peer, or the device.
	const limit = 4096
	if p := n.sideOf(two, one); p.Stations > limit || p.Stations < limit/2 || p.Unlearned == 0 {
		t.Errorf("vpn2 knows %d stations behind vpn1, and has not learned from %d frames; want at most %d stations, and some frames", p.Stations, p.Unlearned, limit)
	}
	for s, want := range map[*lanSite]map[*lanHost]string{two: {h4: "", h7: "vpn3"}, three: {h7: "", h4: "vpn2"}} {
		sides := n.stations(s)
		for h, side := range want {
			if got, known := sides[h.mac.String()]; !known || got != side {
				t.Errorf("%s has %s at %q (known: %v), want %q", s.vpn.Name, h.Name, got, known, side)
			}
		}
	}
	fence(wire6, 40, h6, wire5)
	if heard := wire5.Frames(func(f capture.Frame) bool { return bytes.HasPrefix(f.Data, h4.mac) || bytes.HasPrefix(f.Data, h7.mac) }); len(heard) > 0 {
		t.Errorf("host5 has heard %d frames of a transfer between two other sites", len(heard))
	}
}
