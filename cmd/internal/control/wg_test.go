package control

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stunnel/transport"
)

// alone runs the rest of a test in a process of its own, in private mount and network
// namespaces with an empty /run, and says whether we are in there.
func alone(t *testing.T) bool {
	t.Helper()
	const mark = "STUNNEL_TEST_ALONE"
	if os.Getenv(mark) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for namespaces of its own: run it with sudo")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// wg runs wg(8) and returns its stdout.
func wg(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "wg", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("wg %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

func TestWgReadsAndConfigures(t *testing.T) {
	if _, err := exec.LookPath("wg"); err != nil {
		t.Skip("needs wg(8): apt-get install wireguard-tools")
	}
	if !alone(t) {
		return
	}
	d := &fakeDevice{status: fullStatus()}
	l, err := Listen("peer")
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, d, nil)

	if got := wg(t, "", "show", "interfaces"); got != "peer\n" {
		t.Errorf("interfaces: %q", got)
	}
	s := fullStatus()
	s.Peers[0].RxBytes = 7
	s.Peers[1].Endpoint = transport.PeerStatus{}.Endpoint // eth0 is not there, and wg wants to know it
	d.mu.Lock()
	d.status = s
	d.mu.Unlock()
	want := strings.Join([]string{
		s.PrivateKey.Base64() + "\t" + s.PublicKey.String() + "\t51820\t0xca6c",
		s.Peers[0].PublicKey.String() + "\t" + s.Peers[0].PresharedKey.Base64() + "\t192.0.2.7:4500\t10.0.0.2/32,fd00::/64\t1700000000\t7\t1099511627776\t25",
		s.Peers[1].PublicKey.String() + "\t(none)\t(none)\t(none)\t1700000000\t0\t0\toff",
		s.Peers[2].PublicKey.String() + "\t(none)\t(none)\t(none)\t0\t0\t0\toff",
	}, "\n") + "\n"
	if got := wg(t, "", "show", "peer", "dump"); got != want {
		t.Errorf("dump: got\n%swant\n%s", got, want)
	}

	psk := s.Peers[0].PresharedKey.Base64()
	key := publicKey(5).String()
	wg(t, psk+"\n", "set", "peer", "listen-port", "7", "fwmark", "0x10", "peer", key, "preshared-key", "/dev/stdin",
		"endpoint", "[2001:db8::5]:5", "persistent-keepalive", "9", "allowed-ips", "10.5.0.0/16,fd05::/16", "peer", publicKey(4).String(), "remove")
	got := wg(t, "", "show", "peer", "dump")
	for _, line := range []string{"\t7\t0x10\n", "\n" + key + "\t" + psk + "\t[2001:db8::5]:5\t10.5.0.0/16,fd05::/16\t0\t0\t0\t9\n"} {
		if !strings.Contains(got, line) || strings.Contains(got, publicKey(4).String()) {
			t.Errorf("after set: %q is not in\n%s", line, got)
		}
	}

	config := fmt.Sprintf("[Interface]\nPrivateKey = %s\nListenPort = 8\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.6.0.0/16\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.7.0.0/16\n",
		privateKey(6).Base64(), key, publicKey(7))
	wg(t, config, "syncconf", "peer", "/dev/stdin") // keeps what the file does not name
	for i, line := range strings.Split(strings.TrimSpace(wg(t, "", "show", "peer", "dump")), "\n") {
		want := []string{"\t8\toff", "\t[2001:db8::5]:5\t10.6.0.0/16\t", publicKey(7).String() + "\t(none)\t(none)\t10.7.0.0/16\t"}
		if i >= len(want) || !strings.Contains(line, want[i]) {
			t.Errorf("after syncconf, line %d: %s", i, line)
		}
	}
	wg(t, config, "setconf", "peer", "/dev/stdin")
	want = privateKey(6).Base64() + "\t" + privateKey(6).Public().String() + "\t8\toff\n" +
		key + "\t(none)\t(none)\t10.6.0.0/16\t0\t0\t0\toff\n" + publicKey(7).String() + "\t(none)\t(none)\t10.7.0.0/16\t0\t0\t0\toff\n"
	if got := wg(t, "", "show", "peer", "dump"); got != want {
		t.Errorf("after setconf: got\n%swant\n%s", got, want)
	}

	d.mu.Lock()
	d.refuse = syscall.EADDRINUSE
	d.mu.Unlock()
	out, err := exec.CommandContext(t.Context(), "wg", "set", "peer", "listen-port", "9").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Address already in use") {
		t.Errorf("a refused set: %v, %s", err, out)
	}
}
