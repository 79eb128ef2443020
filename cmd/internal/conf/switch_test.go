package conf

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"stunnel/transport"
)

func TestSettingsOfTheSwitchAreRead(t *testing.T) {
	f := mustParse(t, inTap("MACAgeing = 60\nMACLimit = 100\nStormLimit = 500\nForward = Yes\nPortSecurity = yes\nLinkLocalFrames = pass")+
		"MACs = 02:00:00:00:00:01, 02-00-00-00-00-0A\nMACs = 02:00:00:00:00:03\n")
	in := f.Interface
	if in.MACAgeing != time.Minute || in.MACLimit != 100 || in.StormLimit == nil || *in.StormLimit != 500 || !in.Forward || !in.PortSecurity || !in.LinkLocalFrames {
		t.Errorf("%+v", in)
	}
	if want := []transport.MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 10}, {2, 0, 0, 0, 0, 3}}; !slices.Equal(f.Peers[0].MACs, want) {
		t.Errorf("%v", f.Peers[0].MACs)
	}
	in = mustParse(t, inTap("StormLimit = off\nForward = no\nLinkLocalFrames = drop")).Interface
	if in.StormLimit == nil || *in.StormLimit != 0 || in.Forward || in.LinkLocalFrames {
		t.Errorf("%+v", in)
	}
	if in = mustParse(t, valid).Interface; in.MACAgeing != 0 || in.MACLimit != 0 || in.StormLimit != nil || in.Forward || in.PortSecurity || in.LinkLocalFrames {
		t.Errorf("%+v", in)
	}
}

func TestFaultySettingsOfTheSwitchSayWhatWouldBeRight(t *testing.T) {
	for _, c := range []struct{ text, want, hint string }{
		{inTap("MACAgeing = 0"), `peer.conf:5: MACAgeing "0" is wrong; right is a number of seconds from 1 to 1000000`, "300"},
		{inTap("MACAgeing = 5m"), `peer.conf:5: MACAgeing "5m" is wrong; right is a number of seconds from 1 to 1000000`, "300"},
		{inTap("MACLimit = 1048577"), `peer.conf:5: MACLimit "1048577" is wrong; right is a number of addresses from 1 to 1048576`, "4096"},
		{inTap("StormLimit = 0"), `peer.conf:5: StormLimit "0" is wrong; right is off, or a number of frames per second from 1 to 10000000`, "2000"},
		{inTap("Forward = true"), `peer.conf:5: Forward "true" is wrong; right is yes or no`, "hub"},
		{inTap("PortSecurity = on"), `peer.conf:5: PortSecurity "on" is wrong; right is yes or no`, "claiming"},
		{inTap("LinkLocalFrames = yes"), `peer.conf:5: LinkLocalFrames "yes" is wrong; right is drop or pass`, "spanning tree"},
		{inInterface("MACs = 02:00:00:00:00:01"), `peer.conf:5: MACs belongs into [Peer]`, ""},
		{inTapPeer("MACs = 02:00:00:00:00"), `peer.conf:9: MACs "02:00:00:00:00": it is no MAC address, such as 02:00:5e:10:00:01`, "commas"},
		{inTapPeer("MACs = 02:00:00:00:00:01 02:00:00:00:00:02"),
			`peer.conf:9: MACs "02:00:00:00:00:01 02:00:00:00:00:02": it is no MAC address, such as 02:00:5e:10:00:01`, "commas"},
		{inTapPeer("MACs = ff:ff:ff:ff:ff:ff"), "peer.conf:9: MACs ff:ff:ff:ff:ff:ff: that is the address of a group, which no station can have", "even"},
		{inTapPeer("MACs = 00:00:00:00:00:00"), "peer.conf:9: MACs 00:00:00:00:00:00: no station can have it", ""},
		{inTapPeer("MACs = 02:00:00:00:00:01\nMACs = 02-00-00-00-00-01"), "peer.conf:10: MACs 02:00:00:00:00:01 is in line 9 already", ""},
		{inInterface("PortSecurity = no"), "peer.conf:5: PortSecurity is for Ethernet frames, and without Mode = tap the tunnel carries IP packets", "Mode = tap"},
		{inPeer("MACs = 02:00:00:00:00:01"), "peer.conf:8: MACs is for Ethernet frames, and without Mode = tap the tunnel carries IP packets", "Mode = tap"},
	} {
		_, err := Parse("peer.conf", []byte(c.text))
		var fault *Error
		if err == nil || err.Error() != c.want || !errors.As(err, &fault) || !strings.Contains(fault.Hint, c.hint) {
			t.Errorf("got %v (hint %v)\nwant %s (hint with %q)", err, fault, c.want, c.hint)
		}
	}
}
