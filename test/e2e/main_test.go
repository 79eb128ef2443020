// Package e2e runs the built binary between real network namespaces, as a
// user would: configuration files, `stunnel up`, ping, TCP. See test/lab for
// how the hosts are made; nothing of them outlives a test.
package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	return m.Run()
}

// tools are what a host runs to move and check content.
var tools = map[string]func(args []string) error{
	// tool-sink LISTEN: says "listening", takes one connection to its end, and
	// prints the number and the hash of the bytes that came.
	"tool-sink": func(args []string) error {
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			return err
		}
		fmt.Println("listening")
		c, err := l.Accept()
		if err != nil {
			return err
		}
		h := sha256.New()
		n, err := io.Copy(h, c)
		if err != nil {
			return err
		}
		fmt.Printf("got %d %s\n", n, hex.EncodeToString(h.Sum(nil)))
		return nil
	},
	// tool-hold-port PORT: takes the UDP port and keeps it.
	"tool-hold-port": func(args []string) error {
		if _, err := net.ListenPacket("udp", ":"+args[0]); err != nil {
			return err
		}
		fmt.Println("holding")
		select {}
	},
	// tool-send TO BYTES [BYTES PER SECOND]: sends random bytes, prints the same.
	"tool-send": func(args []string) error {
		size, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			return err
		}
		var pace time.Duration
		const chunk = 64 << 10
		if len(args) > 2 {
			rate, err := strconv.Atoi(args[2])
			if err != nil {
				return err
			}
			pace = time.Second * chunk / time.Duration(rate)
		}
		h := sha256.New()
		source := rand.NewChaCha8([32]byte{1})
		for left := size; left > 0; {
			b := make([]byte, min(left, chunk))
			source.Read(b)
			h.Write(b)
			if _, err := c.Write(b); err != nil {
				return err
			}
			left -= int64(len(b))
			time.Sleep(pace) // the rate is what this tool is asked for
		}
		if err := c.Close(); err != nil {
			return err
		}
		fmt.Printf("got %d %s\n", size, hex.EncodeToString(h.Sum(nil)))
		return nil
	},
}

// tool is the command line of a tool.
func tool(args ...string) []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return append([]string{self}, args...)
}

// transfer moves size random bytes over TCP to address on host to, and fails
// the test if what arrives is not what was sent.
func transfer(t *testing.T, from, to *lab.Host, address string, size int, during ...func()) {
	t.Helper()
	rate := []string{}
	if len(during) > 0 {
		rate = append(rate, "4000000") // long enough for something to happen during it
	}
	finish := beginTransfer(t, from, to, address, size, rate...)
	for _, f := range during {
		f()
	}
	finish()
}

// beginTransfer is the first half of transfer; what it returns is the second.
func beginTransfer(t *testing.T, from, to *lab.Host, address string, size int, rate ...string) (finish func()) {
	t.Helper()
	sink := to.Start(tool("tool-sink", address)...)
	sink.Await("listening")
	send := from.Start(tool(append([]string{"tool-send", address, fmt.Sprint(size)}, rate...)...)...)
	return func() {
		t.Helper()
		if status := send.Wait(); status != 0 {
			t.Fatalf("sender ended with %d: %s", status, send.Output())
		}
		if status := sink.Wait(); status != 0 {
			t.Fatalf("receiver ended with %d: %s", status, sink.Output())
		}
		if got, want := strings.TrimPrefix(sink.Output(), "listening\n"), send.Output(); got != want {
			t.Fatalf("received %q, sent %q", got, want)
		}
	}
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
		Name           string
		Lanes          int
		DroppedPackets map[string]int `json:"dropped_packets"`
		Peers          []struct {
			Name            string
			Endpoint        string
			LatestHandshake string         `json:"latest_handshake"`
			RxBytes         int            `json:"rx_bytes"`
			TxBytes         int            `json:"tx_bytes"`
			DroppedPackets  map[string]int `json:"dropped_packets"`
		}
	}
}

func show(t *testing.T, h *lab.Host, name string) shown {
	t.Helper()
	var s shown
	if err := json.Unmarshal([]byte(h.Run(binary, "show", "--json", name)), &s); err != nil {
		t.Fatal(err)
	}
	return s
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
		fmt.Fprintln(&s, h.Run(args...))
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
