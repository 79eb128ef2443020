package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/test/lab"
)

// sites are networks, each with a host in it and a VPN host, on whose bridge br0 the
// host's cable and the TAP are ports. A router connects the VPN hosts.
type sites struct {
	*lab.Lab
	vpn, host []*lab.Host
	up        []*lab.Process
}

// newSites makes n of them. knows says whether site i has site j for a peer, lines what
// else site i has in [Interface].
func newSites(t *testing.T, n int, knows func(i, j int) bool, lines func(i int) string) *sites {
	t.Helper()
	l := lab.New(t)
	lab.Need(t, "ping")
	s := &sites{Lab: l}
	router := l.Host("router")
	router.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	var keys []pair
	for i := range n {
		keys = append(keys, newPair(t))
		vpn, host := l.Host(fmt.Sprint("vpn", i)), l.Host(fmt.Sprint("host", i))
		s.vpn, s.host = append(s.vpn, vpn), append(s.host, host)
		l.Link(fmt.Sprint("eth", i), router, []string{fmt.Sprintf("192.0.2.%d/30", 4*i+1)}, vpn, []string{outerOf(i) + "/30"})
		vpn.Run("ip", "route", "add", "default", "via", fmt.Sprintf("192.0.2.%d", 4*i+1))
		l.Link("lan", vpn, nil, host, []string{innerOf(i) + "/24"})
		vpn.Run("ip", "link", "add", "br0", "type", "bridge")
		vpn.Run("ip", "link", "set", "lan", "master", "br0")
		vpn.Run("ip", "link", "set", "br0", "up")
		awaitCarrier(t, vpn, "br0")
	}
	for i := range n {
		conf := fmt.Sprintf("[Interface]\nMode = tap\nBridge = br0\nPrivateKey = %s\nListenPort = 51820\n%s", keys[i].private, lines(i))
		for j := range n {
			if i != j && knows(i, j) {
				conf += fmt.Sprintf("[Peer]\nName = site%d\nPublicKey = %s\nEndpoint = %s:51820\n", j, keys[j].public, outerOf(j))
			}
		}
		s.up = append(s.up, up(s.vpn[i], l.File(fmt.Sprintf("vpn%d/tun0.conf", i), conf)))
	}
	return s
}

func outerOf(i int) string { return fmt.Sprintf("192.0.2.%d", 4*i+2) }
func innerOf(i int) string { return fmt.Sprintf("192.168.0.%d", 1+i) }

func fullMesh(i, j int) bool { return true }
func nothing(int) string     { return "" }

// mac is the address of a host's only cable.
func mac(h *lab.Host) string {
	words := strings.Fields(h.Run("ip", "-o", "link", "show", "lan"))
	for i, w := range words {
		if w == "link/ether" {
			return words[i+1]
		}
	}
	return "none"
}

// switched is what the tests read of a tunnel in tap mode.
type switched struct {
	Interfaces []struct {
		Ethernet struct {
			Local    switchedSide
			Stations []struct{ MAC, Peer string }
		}
		DroppedPackets map[string]int `json:"dropped_packets"`
		Peers          []struct {
			Name           string
			Port           switchedSide
			DroppedPackets map[string]int `json:"dropped_packets"`
		}
	}
}

type switchedSide struct {
	Stations  int
	Loop      bool
	Unlearned int `json:"unlearned_frames"`
}

func showSwitch(t *testing.T, h *lab.Host) (s switched) {
	t.Helper()
	if err := json.Unmarshal([]byte(h.Run(binary, "show", "--json", "--macs", "tun0")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// reachEachOther pings from every host to every other one; no answer may come twice.
func (s *sites) reachEachOther(t *testing.T) {
	t.Helper()
	for i, from := range s.host {
		for j := range s.host {
			if i == j {
				continue
			}
			ping(t, from, innerOf(j), 1) // the first may have to wait for handshakes
			if out, err := from.Try("ping", "-n", "-c", "3", "-i", "0.05", "-w", "10", "-s", "1472", "-M", "do", innerOf(j)); err != nil || strings.Contains(out, "DUP!") {
				t.Errorf("host%d to host%d: %v\n%s", i, j, err, out)
			}
		}
	}
}

func TestThreeSitesThatKnowEachOtherAreOneNetworkWithoutALoop(t *testing.T) {
	t.Parallel()
	s := newSites(t, 3, fullMesh, nothing)
	s.reachEachOther(t)
	seen := showSwitch(t, s.vpn[0]).Interfaces[0]
	for i, host := range s.host {
		want := ""
		if i > 0 {
			want = fmt.Sprint("site", i)
		}
		found := false
		for _, station := range seen.Ethernet.Stations {
			if station.MAC == mac(host) {
				found = true
				if station.Peer != want {
					t.Errorf("host%d is shown on the side of %q, want %q", i, station.Peer, want)
				}
			}
		}
		if !found {
			t.Errorf("host%d is not shown", i)
		}
	}
	if text := s.vpn[0].Run(binary, "show", "--macs", "tun0"); !strings.Contains(text, mac(s.host[2])) || !strings.Contains(text, "site2") {
		t.Errorf("show --macs says\n%s", text)
	}
}

func TestAHubConnectsSitesThatDoNotKnowEachOther(t *testing.T) {
	t.Parallel()
	s := newSites(t, 4, func(i, j int) bool { return i == 0 || j == 0 }, func(i int) string {
		if i == 0 {
			return "Forward = yes\n"
		}
		return ""
	})
	s.reachEachOther(t)
	transfer(t, s.host[1], s.host[2], innerOf(2)+":7000", 8<<20)
	for i, host := range s.host {
		if wrong := counters(host, "InCsumErrors"); len(wrong) > 0 {
			t.Errorf("host%d has met wrong checksums: %v", i, wrong)
		}
	}
}

func TestWithoutForwardAHubKeepsItsPeersApart(t *testing.T) {
	t.Parallel()
	s := newSites(t, 3, func(i, j int) bool { return i == 0 || j == 0 }, nothing)
	ping(t, s.host[1], innerOf(0), 3)
	ping(t, s.host[2], innerOf(0), 3)
	if out, err := s.host[1].Try("ping", "-n", "-c", "3", "-i", "0.05", "-w", "1", innerOf(2)); err == nil {
		t.Errorf("host1 has reached host2:\n%s", out)
	}
}

// received is how many frames have come to a host by its cable.
func received(t *testing.T, h *lab.Host) int {
	t.Helper()
	for line := range strings.Lines(h.Run("cat", "/proc/net/dev")) {
		if name, figures, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == "lan" {
			n, err := strconv.Atoi(strings.Fields(figures)[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no lan", h.Name)
	return 0
}

func TestASecondCableBetweenSitesIsFoundAndItsStormEnds(t *testing.T) {
	t.Parallel()
	s := newSites(t, 2, fullMesh, nothing)
	s.reachEachOther(t)
	s.Link("cable", s.vpn[0], nil, s.vpn[1], nil)
	for _, vpn := range s.vpn {
		vpn.Run("ip", "link", "set", "cable", "master", "br0")
	}
	s.host[0].Try("ping", "-n", "-b", "-i", "0.05", "-w", "2", "192.168.0.255") // nobody answers
	for _, p := range s.up {
		p.Await("a loop: ")
	}
	before := received(t, s.host[0])
	const while = 5 * time.Second
	time.Sleep(while)
	if n := received(t, s.host[0]) - before; n > 500 {
		t.Errorf("%d frames came in %v", n, while)
	} else {
		t.Logf("%d frames came in %v", n, while)
	}
	for i, vpn := range s.vpn {
		if !showSwitch(t, vpn).Interfaces[0].Peers[0].Port.Loop {
			t.Errorf("vpn%d does not show the loop", i)
		}
	}
	ping(t, s.host[0], innerOf(1), 3) // by the cable
	s.vpn[0].Run("ip", "link", "delete", "cable")
	for end := time.Now().Add(40 * time.Second); ; {
		if _, err := s.host[0].Try("ping", "-n", "-c", "1", "-w", "2", innerOf(1)); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the tunnel does not carry again what the cable carried")
		}
	}
	for _, p := range s.up {
		p.Await("frames are flooded again")
	}
}

// floodAddresses is tool-flood-addresses INTERFACE DESTINATION N: that many frames, each
// from an address of its own.
func floodAddresses(args []string) error {
	device, err := net.InterfaceByName(args[0])
	if err != nil {
		return err
	}
	destination, err := net.ParseMAC(args[1])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	frame := make([]byte, 60)
	copy(frame, destination)
	frame[12], frame[13] = 0x88, 0xb6 // for experiments
	for i := range n {
		copy(frame[6:], []byte{0x02, 0xbb, 0, byte(i >> 16), byte(i >> 8), byte(i)})
		if err := unix.Sendto(s, frame, 0, &unix.SockaddrLinklayer{Ifindex: device.Index}); err != nil {
			return err
		}
	}
	return nil
}

func TestASiteThatFloodsAddressesLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	s := newSites(t, 3, fullMesh, nothing)
	s.reachEachOther(t)
	finish := beginTransfer(t, s.host[0], s.host[1], innerOf(1)+":7000", 16<<20)
	s.host[2].Run(tool("tool-flood-addresses", "lan", mac(s.host[0]), "100000")...)
	finish()
	seen := showSwitch(t, s.vpn[0]).Interfaces[0]
	for _, p := range seen.Peers {
		switch p.Name {
		case "site1":
			if p.Port.Stations == 0 || p.Port.Unlearned != 0 {
				t.Errorf("of the site that did nothing is shown %+v", p.Port)
			}
		case "site2":
			if p.Port.Stations != 4096 || p.Port.Unlearned == 0 {
				t.Errorf("of the site that floods is shown %+v", p.Port)
			}
			t.Logf("of the site that floods is shown %+v, dropped %v", p.Port, p.DroppedPackets)
		}
	}
	for _, station := range seen.Ethernet.Stations {
		if station.MAC == mac(s.host[1]) && station.Peer == "site1" {
			return
		}
	}
	t.Error("host1 has been forgotten")
}
