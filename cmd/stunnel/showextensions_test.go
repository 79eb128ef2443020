package main

import (
	"strings"
	"testing"
	"time"

	"stunnel/transport"
)

func TestShowSaysWhatAPeerSpeaks(t *testing.T) {
	const auto, off, required = transport.ExtensionsAuto, transport.ExtensionsOff, transport.ExtensionsRequired
	for _, test := range []struct {
		peer transport.PeerStatus
		want string
	}{
		{transport.PeerStatus{}, ""},
		{transport.PeerStatus{Software: "wireguard"}, "wireguard"},
		{transport.PeerStatus{Software: "wireguard", Extensions: off}, "wireguard; extensions are off"},
		{transport.PeerStatus{Software: "stunnel 1.0", Announced: []string{"echo"}, Extensions: off}, "stunnel 1.0; extensions are off"},
		{transport.PeerStatus{Extensions: off}, "not known yet; extensions are off"},
		{transport.PeerStatus{Software: "wireguard", Extensions: required}, "wireguard; extensions are required, so that no packet goes or comes"},
		{transport.PeerStatus{Extensions: required}, "not known yet; extensions are required, so that no packet goes or comes"},
		{transport.PeerStatus{Software: "stunnel 1.0", Extensions: auto}, "stunnel 1.0"},
		{transport.PeerStatus{Software: "stunnel 1.0", Extensions: required}, "stunnel 1.0"},
		{transport.PeerStatus{Software: "stunnel 1.0", Announced: []string{"echo", "trusted_checksums"}, Extensions: required}, "stunnel 1.0 (echo, trusted checksums)"},
		{transport.PeerStatus{Software: "stunnel 9.0", Refused: "it is in tap mode"}, "stunnel 9.0; its extensions are refused: it is in tap mode"},
		{transport.PeerStatus{Software: "stunnel 9.0", Refused: "it is in tap mode", Extensions: required},
			"stunnel 9.0; its extensions are refused: it is in tap mode; extensions are required, so that no packet goes or comes"},
	} {
		if got := speaksText(test.peer); got != test.want {
			t.Errorf("%+v: %q, want %q", test.peer, got, test.want)
		}
	}
}

func TestRoundTripsAreInMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "not known", 4 * time.Microsecond: "0.00 ms", 314 * time.Microsecond: "0.31 ms", 9990 * time.Microsecond: "9.99 ms",
		12345 * time.Microsecond: "12.3 ms", 250700 * time.Microsecond: "251 ms", 3 * time.Second: "3000 ms",
	} {
		if got := roundTripText(transport.PeerStatus{RoundTrip: d, EchoesSent: 20, EchoesLost: 3}); got != want+", 3 of 20 echoes lost in the last minute" {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestShowWarnsOfADowngradeAsLongAsItLasts(t *testing.T) {
	for _, test := range []struct {
		peer transport.PeerStatus
		want string
	}{
		{transport.PeerStatus{Software: "wireguard"}, ""},
		{transport.PeerStatus{Software: "wireguard", Downgrades: 1}, "it spoke extensions, and now no more: it is another program now, or somebody on the way stops them"},
		{transport.PeerStatus{Software: "stunnel 1.0", Downgrades: 1}, "it spoke extensions, and then for a while no more (1 time)"},
		{transport.PeerStatus{Software: "stunnel 1.0", Downgrades: 7}, "it spoke extensions, and then for a while no more (7 times)"},
	} {
		var b strings.Builder
		block{&b}.extensions(test.peer, time.Now())
		_, got, _ := strings.Cut(b.String(), "  warning:          ")
		if strings.TrimSpace(got) != test.want {
			t.Errorf("%+v: %q, want %q", test.peer, got, test.want)
		}
	}
}

func TestTrustedChecksumsAreMentionedWhereAStunnelHasThemOff(t *testing.T) {
	for _, test := range []struct {
		status transport.Status
		want   bool
	}{
		{transport.Status{}, false}, // of another program
		{transport.Status{MTU: 1420, TrustedChecksums: true}, false},
		{transport.Status{MTU: 1420}, true},
	} {
		var b strings.Builder
		showInterface(&b, tunnel{name: "peer", status: test.status}, showOptions{})
		if got := strings.Contains(b.String(), "  checksums:        computed"); got != test.want {
			t.Errorf("%+v: %v\n%s", test.status, got, &b)
		}
	}
}
