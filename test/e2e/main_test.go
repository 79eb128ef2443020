// Package e2e runs the built binary between real network namespaces, as a
// user would: configuration files, `stunnel up`, ping, TCP. See test/lab for
// how the hosts are made; nothing of them outlives a test.
package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stunnel/test/lab"
)

// binary is stunnel as the Makefile builds it.
var binary string

func TestMain(m *testing.M) {
	// A host runs this test binary as its own small tools.
	if len(os.Args) > 1 {
		if tool, ok := tools[os.Args[1]]; ok {
			if err := tool(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "stunnel-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "stunnel")
	cmd := exec.Command("go", "build", "-o", binary, "stunnel/cmd/stunnel")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		return 1
	}
	before := machineDNS()
	status := m.Run()
	if after := machineDNS(); after != before {
		fmt.Fprintf(os.Stderr, "FAIL: the machine's own DNS was touched\nbefore:\n%s\nafter:\n%s\n", before, after)
		return 1
	}
	return status
}

// pair is a private and its public key.
type pair struct{ private, public string }

func newPair(t *testing.T) pair {
	t.Helper()
	private, err := exec.Command(binary, "genkey").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "pubkey")
	cmd.Stdin = strings.NewReader(string(private))
	public, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return pair{strings.TrimSpace(string(private)), strings.TrimSpace(string(public))}
}

// up starts `stunnel up` and waits until the tunnel is there.
func up(h *lab.Host, path string) *lab.Process {
	p := h.Start(binary, "up", path)
	name := strings.TrimSuffix(filepath.Base(path), ".conf")
	p.Await(name + ": " + upSaid)
	return p
}

// upSaid is the last that `up` says of its own doing.
const upSaid = "ready"

// ping sends echo requests until n are answered, and fails the test if that
// takes more than ten seconds. (Without -w, ping gives the last answer no more
// than two round-trip times, which a busy machine can exceed.)
func ping(t *testing.T, h *lab.Host, address string, n int, args ...string) {
	t.Helper()
	out, err := h.Try(append([]string{"ping", "-n", "-i", "0.05", "-w", "10", "-c", fmt.Sprint(n), address}, args...)...)
	if err != nil {
		t.Fatalf("%s: ping %s: %v\n%s", h.Name, address, err, out)
	}
}

// shown is what the tests read of `stunnel show --json`.
type shown struct {
	Interfaces []struct {
		Name             string
		Lanes            int
		TrustedChecksums bool           `json:"trusted_checksums"`
		DroppedPackets   map[string]int `json:"dropped_packets"`
		Streams          int
		Strangers        int
		MTU              int
		Peers            []shownPeer
	}
}

type shownPeer struct {
	Name            string
	Endpoint        string
	LatestHandshake string         `json:"latest_handshake"`
	HandshakeAgo    float64        `json:"latest_handshake_seconds_ago"`
	RxBytes         int            `json:"rx_bytes"`
	TxBytes         int            `json:"tx_bytes"`
	DroppedPackets  map[string]int `json:"dropped_packets"`
	Extensions      string
	Software        string
	Announced       []string
	Refused         string
	Downgrades      int
	Goodbye         *string
	RoundTrip       *float64 `json:"round_trip_seconds"`
	EchoesSent      int      `json:"echoes_sent"`
	EchoesLost      int      `json:"echoes_lost"`
	Transport       string
	Carrier         string
	CarrierSince    string `json:"carrier_since"`
	CarrierWhy      string `json:"carrier_why"`
	PathMTU         int    `json:"path_mtu"`
}

func show(t *testing.T, h *lab.Host, name string) shown {
	t.Helper()
	var s shown
	if err := json.Unmarshal([]byte(h.Run(binary, "show", "--json", name)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// showPeer is what is shown of the only peer of tun0.
func showPeer(t *testing.T, h *lab.Host) shownPeer {
	t.Helper()
	return show(t, h, "tun0").Interfaces[0].Peers[0]
}

// awaitPeer waits, by asking, until what is shown of the only peer of tun0 is as
// wanted.
func awaitPeer(t *testing.T, h *lab.Host, want string, is func(shownPeer) bool) (p shownPeer) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if p = showPeer(t, h); is(p) {
			return p
		}
	}
	t.Fatalf("%s: after 10 s the peer is not %s: %+v", h.Name, want, p)
	return p
}

// state is what a tunnel may change on a host, to compare before and after.
func state(h *lab.Host) string {
	var s strings.Builder
	for _, args := range [][]string{
		{"ip", "-o", "link"}, {"ip", "-o", "address"}, {"ip", "-o", "rule"}, {"ip", "-6", "-o", "rule"},
		{"ip", "-o", "route", "show", "table", "all"}, {"ip", "-6", "-o", "route", "show", "table", "all"},
		{"sh", "-c", "find /run -type s -o -type f | sort"},
	} {
		fmt.Fprintln(&s, args)
		// Whether the kernel still looks for a duplicate of an address is nothing that anybody has set.
		fmt.Fprintln(&s, strings.ReplaceAll(h.Run(args...), " tentative", ""))
	}
	return s.String()
}

func sameState(t *testing.T, h *lab.Host, before string) {
	t.Helper()
	if after := state(h); after != before {
		t.Errorf("%s: something was left behind\nbefore:\n%s\nafter:\n%s", h.Name, before, after)
	}
}

// awaitGone is sameState for what ends a program without waiting for it.
func awaitGone(t *testing.T, h *lab.Host, before string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); state(h) != before && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	sameState(t, h, before)
}
