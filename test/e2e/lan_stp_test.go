package e2e

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

// spanning has the bridges of the VPN hosts speak spanning tree, as fast as they may.
func (n *lan) spanning() {
	for _, s := range n.sites {
		s.vpn.Run("ip", "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200", "hello_time", "100", "max_age", "600")
	}
}

// ports are what spanning tree has made of the ports of both bridges: their states, that
// of eth1 before that of the TAP, and the roots that they know.
func (n *lan) ports() (states, roots []string) {
	for _, s := range n.sites {
		for _, port := range []string{"eth1", "lan0"} {
			_, slave, _ := strings.Cut(s.vpn.Run("ip", "-d", "-o", "link", "show", port), " bridge_slave ")
			words := strings.Fields(slave)
			for _, word := range []struct {
				name string
				to   *[]string
			}{{"state", &states}, {"designated_root", &roots}} {
				if i := slices.Index(words, word.name); i >= 0 && i+1 < len(words) {
					*word.to = append(*word.to, words[i+1])
				}
			}
		}
	}
	return states, roots
}

// awaitTree waits, by asking, until the ports are as wanted.
func (n *lan) awaitTree(want string, is func(states, roots []string) bool) {
	n.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		states, roots := n.ports()
		if is(states, roots) {
			return
		}
		if time.Now().After(end) {
			n.t.Fatalf("after 20 s the ports are %q, with the roots %q, want %s", states, roots, want)
		}
	}
}

func isBPDU(f capture.Frame) bool { return bytes.HasPrefix(f.Data, []byte{1, 0x80, 0xc2, 0, 0, 0}) }

// By default each site has a spanning tree of its own, and the tunnel belongs to neither.
func TestSpanningTreeOfASiteStaysThere(t *testing.T) {
	t.Parallel()
	n := newLAN(t, 2, 1500)
	n.spanning()
	n.mesh("")
	n.up()
	one, two := n.sites[0], n.sites[1]
	offered, came := one.vpn.Capture("lan0"), two.vpn.Capture("lan0")
	n.awaitTree("all forwarding, with a root for each site", func(states, roots []string) bool {
		return !slices.ContainsFunc(states, func(s string) bool { return s != "forwarding" }) &&
			roots[0] == roots[1] && roots[2] == roots[3] && roots[0] != roots[2]
	})
	ping(t, one.hosts[0].Host, two.hosts[0].ip.String(), 3)
	offered.Await("spanning tree's, to the tunnel", func(f capture.Frame) bool { return f.Sent && isBPDU(f) })
	wire5 := one.hosts[0].Capture("eth0")
	fence(wire5, 50, one.hosts[0], came)
	if got := came.Frames(func(f capture.Frame) bool { return !f.Sent && isBPDU(f) }); len(got) > 0 {
		t.Errorf("%d messages of spanning tree have come to the other site", len(got))
	}
	if show(t, one.vpn, "lan0").Interfaces[0].DroppedPackets["link_local"] == 0 {
		t.Error("vpn1 counts none of the frames that are for one link alone")
	}
}

// With LinkLocalFrames = pass there is one tree, and it keeps a second cable between the
// sites from being a loop.
func TestOneSpanningTreeOverBothSitesBlocksASecondCable(t *testing.T) {
	t.Parallel()
	n := newLAN(t, 2, 1500)
	n.spanning()
	n.mesh("LinkLocalFrames = pass\n")
	n.cable(n.sites[0], n.sites[1])
	n.up()
	n.awaitTree("one blocked, the others forwarding, with one root", func(states, roots []string) bool {
		slices.Sort(states)
		return slices.Equal(states, []string{"blocking", "forwarding", "forwarding", "forwarding"}) && len(slices.Compact(roots)) == 1
	})
	h5, h3 := n.sites[0].hosts[0], n.sites[1].hosts[0]
	wire5, wire3 := h5.Capture("eth0"), h3.Capture("eth0")
	frame := testFrame(everybody, h5.mac, 60, 60)
	wire5.Send(frame)
	fence(wire5, 60, h5, wire3)
	if heard := len(wire3.Frames(same(frame))); heard != 1 {
		t.Errorf("host3 has heard a broadcast %d times, want once", heard)
	}
	ping(t, h5.Host, h3.ip.String(), 3)
	mustKnowNoLoop(t, n.sites[0].up, n.sites[1].up)
}

// mustKnowNoLoop looks at what the loop guards say: the ports that hear their probes are
// blocked.
func mustKnowNoLoop(t *testing.T, ups ...*lab.Process) {
	t.Helper()
	for _, p := range ups {
		if strings.Contains(p.Output(), "a loop: ") {
			t.Errorf("a loop is told of:\n%s", p.Output())
		}
	}
}
