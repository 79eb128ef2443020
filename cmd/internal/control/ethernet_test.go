package control

import (
	"bufio"
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"stunnel/transport"
)

// mac is that of station number n.
func mac(n int) transport.MAC { return transport.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)} }

// macs are n addresses.
func macs(n int) (all []transport.MAC) {
	for i := range n {
		all = append(all, mac(i))
	}
	return all
}

// switching is a tunnel in tap mode with all that can be told.
func switching() transport.Status {
	s := fullStatus()
	s.Ethernet = &transport.EthernetStatus{
		MACAgeing: 77 * time.Second, MACLimit: 5, StormLimit: 0, Forward: true, PortSecurity: true, LinkLocalFrames: true,
		Local: transport.PortStatus{
			Stations: []transport.Station{{MAC: mac(1)}, {MAC: mac(2), VLAN: transport.VLAN{Outer: 4094, Inner: 7}, Age: 299 * time.Second}},
			Loop:     true, Flaps: 3, Unlearned: 1 << 40,
		},
	}
	s.Peers[0].Port = transport.PortStatus{
		MACs: macs(1000), Stations: []transport.Station{{MAC: mac(3), VLAN: transport.VLAN{Outer: 100}, Age: time.Second}},
		Flaps: 1,
	}
	return s
}

func TestClientReadsWhatTheServerWritesOfEthernet(t *testing.T) {
	want := switching()
	text := appendErrno(appendStatus(nil, &want), 0)
	for line := range bytes.Lines(text) {
		if len(line) > maxLine || bytes.Count(line, []byte("=")) > 1 {
			t.Fatalf("the line %.80q has %d bytes", line, len(line))
		}
	}
	got, err := readStatus(bufio.NewReaderSize(bytes.NewReader(text), maxLine))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTunnelsInTunModeTellNothingOfEthernet(t *testing.T) {
	s := fullStatus()
	text := string(appendStatus(nil, &s))
	for _, key := range []string{"mode=", "mac", "storm", "station", "loop"} {
		if strings.Contains(text, "\n"+key) {
			t.Errorf("%s is told:\n%s", key, text)
		}
	}
}

func TestClientRefusesFaultyEthernet(t *testing.T) {
	for _, line := range []string{
		"mode=tun", "mac_ageing=-1", "mac_limit=x", "storm_limit=2147483648", "forward=perhaps", "port_security=", "link_local_frames=2",
		"macs=02:00:00:00:00:0g", "macs=02:00:00:00:00:01,", "loop=maybe", "flaps=-1", "unlearned=", "station=", "station=02:00:00:00:00:01",
		"station=02:00:00:00:00:01,0", "station=02:00:00:00:00:01,4096,0", "station=02:00:00:00:00:01,1.2.3,0", "station=02:00:00:00:00:01,0.5,0",
		"station=02:00:00:00:00:01,0,-1", "station=\x1b[31m,0,1", "station=02:00:00:00:00:01,0,1,2",
	} {
		text := "mode=tap\n" + line + "\nerrno=0\n\n"
		if s, err := readStatus(bufio.NewReaderSize(strings.NewReader(text), maxLine)); err == nil {
			t.Errorf("%q became %+v", line, s.Ethernet)
		}
	}
}

func TestSettingsOfEthernetSurviveTheWayThere(t *testing.T) {
	a := publicKey(1)
	for name, want := range map[string]transport.Config{
		"all": {MACAgeing: to(time.Hour), MACLimit: to(9), StormLimit: to(0), Forward: to(true), PortSecurity: to(false), LinkLocalFrames: to(true),
			Peers: []transport.PeerConfig{{PublicKey: a, MACs: to(macs(250))}}},
		"any address": {Peers: []transport.PeerConfig{{PublicKey: a, MACs: new([]transport.MAC)}}},
		"nothing":     {Peers: []transport.PeerConfig{{PublicKey: a}}},
	} {
		r, refused, err := parseSet(string(appendConfig(nil, &want)) + "\n")
		if refused != nil || err != nil {
			t.Fatal(name, refused, err)
		}
		if !reflect.DeepEqual(r.config, want) {
			t.Errorf("%s: got  %+v\nwant %+v", name, r.config, want)
		}
	}
	for _, lines := range []string{"mac_ageing=x\n", "mac_limit=-1\n", "storm_limit=\n", "forward=yes\n", "port_security=1\n", "link_local_frames=pass\n",
		"public_key=" + a.Hex() + "\nmacs=1\n", "public_key=" + a.Hex() + "\nforward=true\n"} {
		if _, refused, _ := parseSet(lines + "\n"); refused == nil {
			t.Errorf("%q is taken", lines)
		}
	}
}
