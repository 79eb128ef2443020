package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// bridging is a tunnel in tap mode with all that can be told.
func bridging() tunnel {
	return tunnel{name: "site", status: transport.Status{
		Up: true, MTU: 1500, TrustedChecksums: true,
		Ethernet: &transport.EthernetStatus{
			MACAgeing: time.Minute, MACLimit: 4096, StormLimit: 2000, Forward: true, PortSecurity: true, LinkLocalFrames: true,
			Local: transport.PortStatus{Stations: []transport.Station{{MAC: transport.MAC{2, 0, 0, 0, 0, 1}, Age: 3 * time.Second}}},
		},
		Peers: []transport.PeerStatus{
			{Name: "office", PublicKey: crypto.PublicKey{1}, Software: "stunnel 1.0", Announced: []string{"frames"}, Port: transport.PortStatus{
				Stations: []transport.Station{{MAC: transport.MAC{2, 0, 0, 0, 0, 2}, VLAN: transport.VLAN{Outer: 100, Inner: 7}}},
				MACs:     []transport.MAC{{2, 0, 0, 0, 0, 2}}, Loop: true, Flaps: 2, Unlearned: 5,
			}},
			{PublicKey: crypto.PublicKey{2}, Software: "wireguard", Refused: "it is a plain WireGuard, which carries no frames",
				Extensions: transport.ExtensionsRequired},
		},
	}}
}

func TestShowListsStations(t *testing.T) {
	var b strings.Builder
	tun, _ := shown(t)
	showMACs(&b, []tunnel{bridging(), tun[0]})
	want := "interface: site\n" +
		"  MAC                VLAN   side of    heard\n" +
		"  02:00:00:00:00:01  0      this host  3 seconds ago\n" +
		"  02:00:00:00:00:02  100.7  office     now\n" +
		"\n" +
		"interface: peer\n" +
		"  it carries IP packets, and knows no MAC addresses (Mode = tun)\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestShowTellsHowFramesAreSwitched(t *testing.T) {
	var b strings.Builder
	showText(&b, []tunnel{bridging()}, showOptions{now: time.Now()})
	for _, want := range []string{
		"mode:             tap", "2000 frames a second", "forgotten after 1m0s", "forwarding:       between peers", "port security:    on",
		"link-local:       frames", "1 heard", "allowed macs:     02:00:00:00:00:02", "a loop", "held 2 times", "5 frames of others",
		"speaks:           wireguard; it is a plain WireGuard, which carries no frames\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "allowed ips") {
		t.Errorf("allowed IPs have no meaning in\n%s", b.String())
	}
}

func TestTheJSONOfATapNamesStationsWhenAskedAndIsDescribed(t *testing.T) {
	for _, all := range []bool{false, true} {
		var b strings.Builder
		if err := showJSON(&b, []tunnel{bridging()}, showOptions{now: time.Now(), macs: all}); err != nil {
			t.Fatal(err)
		}
		var j struct {
			Interfaces []struct {
				Ethernet struct {
					Stations []struct {
						MAC       string
						VLAN      int
						Peer      string
						PublicKey *string `json:"public_key"`
					}
				}
				Peers []struct{ Port struct{ Loop bool } }
			}
		}
		if err := json.Unmarshal([]byte(b.String()), &j); err != nil {
			t.Fatal(err)
		}
		stations := j.Interfaces[0].Ethernet.Stations
		switch {
		case !all && len(stations) > 0, !j.Interfaces[0].Peers[0].Port.Loop:
			t.Errorf("%s", b.String())
		case all && (len(stations) != 2 || stations[0].PublicKey != nil || stations[1].Peer != "office" || stations[1].VLAN != 100):
			t.Errorf("%+v", stations)
		}
		for line := range strings.Lines(b.String()) {
			name, _, ok := strings.Cut(strings.TrimSpace(line), `":`)
			if name = strings.TrimPrefix(name, `"`); ok && !strings.Contains(jsonDescription, name) {
				t.Errorf("%s is not described", name)
			}
		}
	}
}
