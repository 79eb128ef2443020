package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/control"
)

// types runs a script of what a user types, with `stunnel` in it, and returns what is then on the screen. The script's
// own status is its last line.
func (b *box) types(script string) string {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	bin := filepath.Join(b.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if copied := filepath.Join(bin, "program"); fileExists(copied) {
		self = copied
	}
	stub := fmt.Sprintf("#!/bin/bash\nexport %s=1\nexec -a stunnel %q \"$@\"\n", programVariable, self)
	if err := os.WriteFile(filepath.Join(bin, "stunnel"), []byte(stub), 0o755); err != nil {
		b.t.Fatal(err)
	}
	return b.sh("PATH=" + bin + ":$PATH\n" + script + "; echo status $?\n")
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func wantWords(t *testing.T, got string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(got, w) {
			t.Errorf("no %q in\n%s", w, got)
		}
	}
}

func TestTheNameOfAFileIsThatOfItsInterface(t *testing.T) {
	for arg, want := range map[string]string{"peer": "peer", "peer.conf": "peer", "./peer.conf": "peer", "/etc/stunnel/a.b.conf": "a.b", "dir/peer": "peer", "a.b": "a.b"} {
		if got := interfaceName(arg); got != want {
			t.Errorf("%s: %s", arg, got)
		}
	}
}

func TestShowAndDownSayWhenNothingRuns(t *testing.T) {
	b := newBox(t)
	for script, words := range map[string][]string{
		"stunnel show || true":          {"stunnel: no tunnel is running", "status 0"},
		"stunnel show --json":           {`"interfaces": []`, "status 0"},
		"stunnel show peer || false":    {"peer is not running", "hint: no tunnel is running"},
		"stunnel down peer || false":    {"peer is not running"},
		"stunnel down ./peer.conf":      {"error: peer is not running"},
		"stunnel down ../x/..":          {`".." is not a name`},
		"stunnel show 0123456789abcdef": {"too long"},
	} {
		wantWords(t, b.types("set +e; "+script), words...)
	}
	if got := b.types("set +e; stunnel down peer"); !strings.Contains(got, "status 1") {
		t.Errorf("%s", got)
	}
}

func TestShowShowsWhatRuns(t *testing.T) {
	b := newBox(t)
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "ListenPort = 4711\nMTU = 1400\n")).untilReady()
	for _, script := range []string{"stunnel show", "stunnel show peer"} {
		wantWords(t, b.types(script), "interface: peer\n", "4711", "1400", "(hidden)", "peer: friend\n", "192.0.2.9:1", "10.5.0.2/32, 10.6.0.0/16, fd06::/32", "status 0")
	}
	wantWords(t, b.types("stunnel show --json peer"), `"name": "friend"`, `"listen_port": 4711`, `"up": true`, `"latest_handshake": null`, "status 0")
	wantWords(t, b.types("set +e; stunnel show other"), "other is not running", "running now: peer", "status 1")
	wantWords(t, b.types("set +e; stunnel down other"), "other is not running", "running now: peer", "status 1")
	wantWords(t, b.types("stunnel down "+filepath.Join(b.dir, "peer.conf")), "peer is down", "status 0")
	p.wants(0)
}

func TestShowForAnOrdinaryUserSaysWhatIsMissing(t *testing.T) {
	b := newBox(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b.sh("chmod 755 . ..; mkdir bin; cp " + self + " bin/program") // the test's own is in a directory of root's
	b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
	for _, script := range []string{"show", "show peer", "down peer"} {
		wantWords(t, b.types("set +e; setpriv --reuid 65534 --regid 65534 --clear-groups stunnel "+script), "peer", "permission denied", "hint", "sudo", "status 1")
	}
	b.start(nil, "stunnel", "down", "peer").wants(0)
}

func TestUpForAnOrdinaryUserSaysTheCommand(t *testing.T) {
	b := newBox(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b.tunnelFile("peer.conf", "")
	b.sh("chmod 755 . ..; mkdir bin; cp " + self + " bin/program")
	wantWords(t, b.types("set +e; setpriv --reuid 65534 --regid 65534 --clear-groups stunnel up ./peer.conf"), "permission denied", "hint: try it as root: sudo stunnel up ./peer.conf\n", "status 1")
}

func TestDownWaitsForPostDown(t *testing.T) {
	b := newBox(t)
	fifo := filepath.Join(b.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PostDown = cat "+fifo+"\n")).untilReady()
	p := b.start(nil, "stunnel", "down", "peer")
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // returns when PostDown reads
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
		t.Errorf("down did not wait for PostDown:\n%s", p.said())
	default:
	}
	w.Close()
	p.wants(0, "peer is down")
}

func TestDownLeavesAnInterfaceThatWasThereBefore(t *testing.T) {
	b := newBox(t)
	b.sh("ip tuntap add dev peer mode tun")
	before := b.state()
	b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
	b.start(nil, "stunnel", "down", "peer").wants(0, "was there before", "stays")
	b.same(before)
}

func TestDownNamesATunnelInAnotherNetworkNamespace(t *testing.T) {
	b := newBox(t)
	b.tunnelFile("peer.conf", "")
	b.types("unshare --net bash -ec 'ip link set lo up; stunnel up ./peer.conf --detach'")
	pid := b.pidOf("peer")
	ended := gone(t, pid)
	wantWords(t, b.types("set +e; stunnel down peer"), fmt.Sprintf("peer runs in another network namespace, in the process %d", pid), "hint: nsenter --net", "status 1")
	wantWords(t, b.types("set +e; stunnel up ./peer.conf"), "running already", "status 1")
	// The advice is good.
	wantWords(t, b.types(fmt.Sprintf("nsenter --net=/proc/%d/ns/net stunnel down peer", pid)), "peer is down", "status 0")
	ended()
}

func TestDownLeavesOtherProgramsAlone(t *testing.T) {
	if _, err := exec.LookPath("wireguard-go"); err != nil {
		t.Skip("needs wireguard-go: apt-get install wireguard-go")
	}
	b := newBox(t)
	b.sh("wireguard-go wg0")
	end := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		index := tunIndex("wg0")
		if err := os.Remove(control.Dir + "/wg0.sock"); err != nil || index == 0 {
			return fmt.Errorf("interface %d: %w", index, err)
		}
		kept, err := linkGone(ctx, index)
		if kept {
			err = errors.New("the interface was taken for a persistent one")
		}
		return err
	}
	b.sh("wg set wg0 listen-port 4712 private-key <(wg genkey) peer $(wg genkey | wg pubkey) allowed-ips 10.0.0.0/8")
	wantWords(t, b.types("set +e; stunnel down wg0"), "wg0 is run by another program", "left alone", "status 1")
	wantWords(t, b.types("stunnel show wg0"), "interface: wg0", "4712", "10.0.0.0/8", "status 0")
	wantWords(t, b.types("stunnel show --json"), `"mtu": null`, "status 0")
	if err := b.do(end); err != nil {
		t.Error(err)
	}
}
