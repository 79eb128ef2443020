package e2e

import (
	"os"
	"strings"
	"testing"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

// One end carries packets and the other one frames: both say so, and nothing passes.
func TestTunAgainstTapIsSaidAtBothEndsAndNothingPasses(t *testing.T) {
	t.Parallel()
	h := newTwoTAPs(t, true, "")
	tun := h.File("tun/tun0.conf", config(h.alphaKeys, innerA, innerA6, h.betaKeys, "beta", innerB, innerB6, outerB+":51820"))
	a, b := up(h.alpha, tun), up(h.beta, h.conf)
	packets, frames := h.alpha.Capture("tun0"), h.beta.Capture("tun0")
	pinging := h.alpha.Start("ping", "-n", "-i", "0.2", innerB)
	answering := h.beta.Start("ping", "-n", "-i", "0.2", innerA)
	for _, end := range []struct {
		host    *lab.Host
		log     *lab.Process
		refused string
	}{
		{h.alpha, a, "the peer is in tap mode, this end in tun mode"},
		{h.beta, b, "the peer is in tun mode, this end in tap mode"},
	} {
		end.log.Await(end.refused)
		p := awaitPeer(t, end.host, "refused, with packets dropped", func(p shownPeer) bool {
			return p.Refused != "" && p.DroppedPackets["other_mode"] > 5
		})
		if p.Refused != end.refused {
			t.Errorf("%s: show --json tells that the peer is refused because %q, want %q", end.host.Name, p.Refused, end.refused)
		}
		end.host.Input(end.host.Run(binary, "show", "tun0"), "grep", end.refused)
		if n := strings.Count(end.log.Output(), end.refused); n != 1 {
			t.Errorf("%s says it %d times in the log, want once:\n%s", end.host.Name, n, end.log.Output())
		}
	}
	nothingCame(t, packets, frames, pinging, answering)
}

// A plain WireGuard knows no frames: that is said, and none goes to it.
func TestTapAgainstWireGuardGoIsSaidAndNothingPasses(t *testing.T) {
	t.Parallel()
	h, other := besideWireGuardGo(t, "")
	other.Stop()
	a := up(h.alpha, h.File("tap/tun0.conf", "[Interface]\nMode = tap\nPrivateKey = "+h.alphaKeys.private+"\nListenPort = 51820\nAddress = "+innerA+
		"/24\n[Peer]\nName = beta\nPublicKey = "+h.betaKeys.public+"\nEndpoint = "+outerB+":51820\n"))
	frames, packets := h.alpha.Capture("tun0"), h.beta.Capture("tun0")
	pinging := h.alpha.Start("ping", "-n", "-i", "0.2", innerB)
	answering := h.beta.Start("ping", "-n", "-i", "0.2", innerA)
	const why = "a plain WireGuard, which carries no frames"
	a.Await(why)
	p := awaitPeer(t, h.alpha, "plain, with packets dropped both ways", func(p shownPeer) bool {
		return p.Software == "wireguard" && p.DroppedPackets["no_frame"] > 0 && p.DroppedPackets["other_mode"]+p.DroppedPackets["before_hello"] > 0
	})
	if p.LatestHandshake == "" {
		t.Errorf("show --json tells %+v", p)
	}
	h.alpha.Input(h.alpha.Run(binary, "show", "tun0"), "grep", "frame")
	if n := strings.Count(a.Output(), why); n != 1 {
		t.Errorf("it is said %d times in the log, want once:\n%s", n, a.Output())
	}
	nothingCame(t, packets, frames, pinging, answering)
}

// nothingCame ends pings and looks whether anything got out of either tunnel.
func nothingCame(t *testing.T, one, two *lab.Capture, pings ...*lab.Process) {
	t.Helper()
	for _, p := range pings {
		p.Signal(os.Interrupt)
		p.Wait()
		if !strings.Contains(p.Output(), " 0 received") {
			t.Errorf("a packet has passed:\n%s", p.Output())
		}
	}
	for _, c := range []*lab.Capture{one, two} {
		if came := c.Frames(func(f capture.Frame) bool { return !f.Sent }); len(came) > 0 {
			t.Errorf("%d frames or packets came out of a tunnel, the first is %x", len(came), came[0].Data)
		}
		if len(c.Frames(func(f capture.Frame) bool { return f.Sent })) == 0 {
			t.Error("nothing was given to a tunnel: this test looks at the wrong place")
		}
	}
}
