package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// faulty is the binary whose steps can be made to fail (see device/netconf).
var faulty = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(binary), "stunnel-faults")
	cmd := exec.Command("go", "build", "-tags", "faults", "-o", path, "stunnel/cmd/stunnel")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s%w", out, err)
	}
	return path, nil
})

func TestAKilledFullTunnelIsTakenBackExactly(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"down", "up"} {
		w := newFullWorld(t, 2)
		before := wholeState(w.client)
		other := up(w.client, w.file("two", 1, everything, ""))
		withOther := wholeState(w.client)
		p := up(w.client, w.file("one", 0, everything, ""))
		w.carries(0, "up")
		p.Kill()
		switch by {
		case "down":
			w.client.Run(binary, "down", "one")
			sameWholeState(t, w.client, withOther, "after down")
			w.carries(1, "the other alone")
		case "up":
			p = up(w.client, w.file("one", 0, everything, ""))
			w.carries(0, "up again")
			p.Stop()
			sameWholeState(t, w.client, withOther, "after up and its end")
		}
		other.Stop()
		sameWholeState(t, w.client, before, "after all")
	}
}

func TestTwoKilledFullTunnelsAreTakenBackInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"one", "two"}, {"two", "one"}} {
		w := newFullWorld(t, 2)
		before := wholeState(w.client)
		one := up(w.client, w.file("one", 0, everything, ""))
		two := up(w.client, w.file("two", 1, everything, ""))
		one.Kill()
		two.Kill()
		for _, name := range order {
			w.client.Run(binary, "down", name)
		}
		sameWholeState(t, w.client, before, strings.Join(order, ", "))
	}
}

func TestAFaultOrAKillAtAnyStepOfUpLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	n := w.failAtEveryStep(w.file("full", 0, everything+", 10.8.0.0/16", ""), "error:look", "error:before", "error:after", "kill:before", "kill:after")
	t.Logf("%d faults and kills, nothing left after any", n)
}

// Of an interface that stays, nothing goes by itself.
func TestAFaultOrAKillAtAnyStepLeavesAPersistentInterfaceAsItWas(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	w.client.Run("sh", "-ec", "ip tuntap add dev full mode tun; ip link set full mtu 1300; ip addr add 10.99.0.1/24 dev full; ip addr add fd99::1/64 dev full")
	// The first time that a program uses it the kernel gives it a queue and a secret for its link-local address, which nobody can
	// take away again (a sysctl stable_secret can be set, not unset).
	if status := up(w.client, w.file("full", 0, everything, "")).Stop(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	n := w.failAtEveryStep(w.file("full", 0, everything+", 10.8.0.0/16", ""), "error:after", "kill:before", "kill:after")
	t.Logf("%d faults and kills, nothing left after any", n)
}

// failAtEveryStep lets the client's `up` of this file, full.conf, fail, or die and be taken back, at each step, and checks that all
// is as before.
func (w *fullWorld) failAtEveryStep(path string, faults ...string) (injected int) {
	t := w.t
	t.Helper()
	program, err := faulty()
	if err != nil {
		t.Fatal(err)
	}
	before := wholeState(w.client)
	for _, fault := range faults {
		for step := 1; ; step++ {
			at := fmt.Sprintf("%s:%d", fault, step)
			p := w.client.StartEnv([]string{"STUNNEL_FAULT=" + at}, program, "up", path)
			if p.Finally("full: " + upSaid) {
				p.Stop()
				sameWholeState(t, w.client, before, at+", which there is not")
				if step < 10 {
					t.Errorf("%s: it came up", at)
				}
				break
			}
			injected++
			if strings.HasPrefix(at, "kill") {
				w.client.Run(program, "down", "full")
			} else if !strings.Contains(p.Output(), "a fault was asked for: "+at) {
				t.Errorf("%s: it said\n%s", at, p.Output())
			}
			sameWholeState(t, w.client, before, at)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	return injected
}

func TestAFullTunnelThatCannotBeMadeIsSaidAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ prepare, allowed, words, hint string }{
		"nft table in the way":  {"nft add table inet stunnel-full", everything, "nft table inet stunnel-full already", "nft delete table"},
		"read-only sysctls":     {"mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys", everything, "net.ipv4.conf.all.src_valid_mark can't be set to 1", "--sysctl net.ipv4.conf.all.src_valid_mark=1"},
		"IPv6 switched off":     {"sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1", everything, "IPv6 is switched off", "take IPv6 out"},
		"a half that is there":  {"ip route add 128.0.0.0/1 dev eth1", "0.0.0.0/1, 128.0.0.0/1", "128.0.0.0/1 through full: it goes through eth1 already", ""},
		"the cable's network":   {"true", "203.0.113.0/24, 192.0.2.0/24, 0.0.0.0/0", "192.0.2.0/24 through full: it goes through eth0 already", ""},
		"a journal unwritable":  {"touch /run/stunnel", everything, "error: journal", ""},
		"no nftables in kernel": {"", everything, "this kernel lacks nftables", "Table = off"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFullWorld(t, 1)
			command := []string{binary, "up"}
			if c.prepare == "" {
				command = append(tool("tool-without-nft"), command...)
			} else {
				w.client.Run("sh", "-ec", c.prepare)
			}
			before := wholeState(w.client)
			out, err := w.client.Try(append(command, w.file("full", 0, c.allowed, ""))...)
			if err == nil || !strings.Contains(out, c.words) || !strings.Contains(out, c.hint) {
				t.Errorf("%v\n%s", err, out)
			}
			sameWholeState(t, w.client, before, "after the failure")
		})
	}
}

func TestReadOnlySysctlsDoNotMatterWhereTheReversePathIsNotChecked(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	w.client.Run("sh", "-ec", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 2 > $f; done; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")
	before := wholeState(w.client)
	p := up(w.client, w.file("full", 0, everything, ""))
	p.Await("src_valid_mark stays as it is")
	w.carries(0, "up")
	p.Stop()
	sameWholeState(t, w.client, before, "after")
}

func TestOneFamilyOnlyIsWarnedOf(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	p := up(w.client, w.file("full", 0, "0.0.0.0/0", ""))
	p.Await("has 0.0.0.0/0 and not ::/0: where this host has IPv6, that goes on outside the tunnel")
	ping(t, w.client, farAway, 2)
	ping(t, w.client, w.servers[0].outer6, 2) // outside, as is said
	p.Stop()
}
