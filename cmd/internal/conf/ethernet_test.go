package conf

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// tap is a valid file of Mode = tap, to which a test adds: six lines of [Interface], then [Peer] from line 7.
const tap = "[Interface]\nPrivateKey = " + private + "\nAddress = 10.9.0.1/24\nMode = tap\n# \n# \n" +
	"[Peer]\nPublicKey = " + alice + "\n"

func inTap(line string) string { return strings.Replace(tap, "# ", line, 1) }

// inTapPeer appends a line to tap's [Peer], as line 9.
func inTapPeer(text string) string { return tap + text + "\n" }

func TestAModeAndItsKeysAreUnderstood(t *testing.T) {
	if f := mustParse(t, valid); f.Interface.Ethernet || f.Interface.Bridge != "" || f.Interface.MAC != nil {
		t.Errorf("without a mode: %+v", f.Interface)
	}
	if f := mustParse(t, inInterface("Mode = Tun")); f.Interface.Ethernet {
		t.Error("tun is tap")
	}
	f := mustParse(t, inTap("Bridge = br-lan\nMAC = FE:00:00:00:00:01\nMTU = 9000"))
	if in := f.Interface; !in.Ethernet || in.Bridge != "br-lan" || in.MAC.String() != "fe:00:00:00:00:01" || in.MTU != 9000 || f.Warnings != nil {
		t.Errorf("%+v, warnings %q", in, f.Warnings)
	}
	// Frames need no AllowedIPs, but it may stand there empty.
	if f := mustParse(t, tap+"AllowedIPs =\nExtensions = required\n"); len(f.Peers[0].AllowedIPs) != 0 || f.Warnings != nil {
		t.Errorf("%+v, warnings %q", f.Peers[0], f.Warnings)
	}
}

func TestWhatAModeMakesNoSenseOfIsAnError(t *testing.T) {
	for _, c := range []struct{ text, want, hint string }{
		{inInterface("Mode = bridge"), `peer.conf:5: Mode "bridge" is wrong; right is tun or tap`, "without the line it is tun"},
		{inInterface("Bridge = br0"), "peer.conf:5: Bridge is for Ethernet frames, and without Mode = tap the tunnel carries IP packets", "Mode = tap"},
		{inInterface("MAC = fe:00:00:00:00:01"), "peer.conf:5: MAC is for Ethernet frames, and without Mode = tap the tunnel carries IP packets", "Mode = tap"},
		{inInterface("StormLimit = 100"), "peer.conf:5: StormLimit is for Ethernet frames, and without Mode = tap the tunnel carries IP packets", "Mode = tap"},
		{inPeer("MACs = 02:00:00:00:00:01"), "peer.conf:8: MACs is for Ethernet frames, and without Mode = tap the tunnel carries IP packets", "Mode = tap"},
		{inTap("Bridge = br0/1"), `peer.conf:5: Bridge: "br0/1" has other characters than a-z, A-Z, 0-9 and _=+.-`, ""},
		{inTap("Bridge = a-name-too-long-"), `peer.conf:5: Bridge: "a-name-too-long-" has 16 characters, and an interface can have 15`, ""},
		{inTap("Bridge = peer"), "peer.conf:5: Bridge peer is the interface of this file itself", "br0"},
		{inTap("Bridge = br0\nKillSwitch = yes"), "peer.conf:6: KillSwitch is about the packets of this host that pass peer, and with Bridge they pass br0 instead", "one of the two"},
		{inTap("Bridge = br0\nMasquerade = yes"), "peer.conf:6: Masquerade is about the packets of this host that pass peer, and with Bridge they pass br0 instead", "one of the two"},
		{inTap("MSSClamp = 1400\nBridge = br0"), "peer.conf:5: MSSClamp is about the packets of this host that pass peer, and with Bridge they pass br0 instead", "one of the two"},
		{inTap("MAC = fe:00:00:00:00"), `peer.conf:5: MAC "fe:00:00:00:00" is wrong; right is a MAC address as fe:00:00:00:00:01`, "public key"},
		{inTap("MAC = fe:00:00:00:00:01:02:03"), `peer.conf:5: MAC "fe:00:00:00:00:01:02:03" is wrong; right is a MAC address as fe:00:00:00:00:01`, ""},
		{inTap("MAC = 01:00:5e:00:00:01"), "peer.conf:5: MAC 01:00:5e:00:00:01 is the address of a group, which no interface can have", "even"},
		{inTap("MAC = 00:00:00:00:00:00"), "peer.conf:5: MAC 00:00:00:00:00:00 is no interface's address", ""},
		{inTap("Table = off"), "peer.conf:5: Table says where the routes of AllowedIPs go, which Mode = tap has not", "take the line out"},
		{inTap("MTU = 65522"), "peer.conf:5: MTU 65522 is too large for Mode = tap: at most 65521 and an Ethernet header are possible", ""},
		{tap + "AllowedIPs = 10.0.0.0/8", "peer.conf:9: AllowedIPs has no meaning with Mode = tap: a frame goes to the peer behind which its " +
			"destination's MAC address was learned, whatever it carries", "take AllowedIPs out"},
		{tap + "Extensions = off", "peer.conf:9: Extensions = off is plain WireGuard, which cannot carry the frames of Mode = tap", ""},
	} {
		_, err := Parse("peer.conf", []byte(c.text))
		var e *Error
		if err == nil || err.Error() != c.want || !errors.As(err, &e) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("error %v (%+v)\nwant  %s (%s)", err, e, c.want, c.hint)
		}
	}
	// The address family's rules hold in both modes.
	_, err := Parse("peer.conf", []byte(inTap("MTU = 1000\nAddress = fd00::1/64")))
	if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), "peer.conf:5: MTU 1000 is too small for IPv6, which needs 1280 (Address fd00::1/64 in line 6)") {
		t.Errorf("error %v", err)
	}
}
