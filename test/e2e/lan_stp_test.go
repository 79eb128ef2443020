package e2e

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

// The bridges of both sites speak spanning tree. By default each site has a tree of its
// own; with LinkLocalFrames = pass the messages get to the other site. (That bridges
// there act on them can't be seen here: Linux bridges outside of the first network
// namespace of a machine do not hear any.)
func TestSpanningTreeOnBothBridges(t *testing.T) {
	for _, c := range []struct {
		policy string
		pass   bool
	}{{"drop", false}, {"pass", true}} {
		t.Run(c.policy, func(t *testing.T) {
			t.Parallel()
			n := newLAN(t, 2, 1500)
			for _, s := range n.sites {
				s.vpn.Run("ip", "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200", "hello_time", "100")
			}
			n.mesh("LinkLocalFrames = " + c.policy + "\n")
			n.up()
			one, two := n.sites[0], n.sites[1]
			offered, came := one.vpn.Capture("lan0"), two.vpn.Capture("lan0")
			for _, s := range n.sites {
				awaitForwarding(t, s.vpn, "lan0")
			}
			ping(t, one.hosts[0].Host, two.hosts[0].ip.String(), 3)
			bpdu := func(f capture.Frame) bool { return bytes.HasPrefix(f.Data, []byte{1, 0x80, 0xc2, 0, 0, 0}) }
			offered.Await("spanning tree's, to the tunnel", func(f capture.Frame) bool { return f.Sent && bpdu(f) })
			if c.pass {
				// The root that it names stands behind addresses, length, LLC, protocol, version, type and flags.
				root := bridgeID(t, one.vpn)
				came.Await("spanning tree's, from the tunnel, with the other site's root", func(f capture.Frame) bool {
					return !f.Sent && bpdu(f) && len(f.Data) > 30 && bytes.Equal(f.Data[22:30], root)
				})
				return
			}
			wire5 := one.hosts[0].Capture("eth0")
			fence(wire5, 50, one.hosts[0], came)
			if got := came.Frames(func(f capture.Frame) bool { return !f.Sent && bpdu(f) }); len(got) > 0 {
				t.Errorf("%d messages of spanning tree have come to the other site", len(got))
			}
			if show(t, one.vpn, "lan0").Interfaces[0].DroppedPackets["link_local"] == 0 {
				t.Error("vpn1 counts none of the frames that are for one link alone")
			}
		})
	}
}

// awaitForwarding waits, by asking, until a port of a bridge forwards.
func awaitForwarding(t *testing.T, h *lab.Host, port string) {
	t.Helper()
	var said string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if said = h.Run("bridge", "link", "show", "dev", port); strings.Contains(said, " state forwarding ") {
			return
		}
	}
	t.Fatalf("%s: %s does not forward after 20 s: %s", h.Name, port, said)
}

// bridgeID is the priority and the address of br0, 8 bytes.
func bridgeID(t *testing.T, h *lab.Host) []byte {
	t.Helper()
	id, err := hex.DecodeString("8000" + strings.ReplaceAll(bridgeIdentity(h)[1], ":", ""))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
