package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stunnel/test/lab"
)

func TestDetachedTunnelIsShownAndTakenDown(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	beforeA, beforeB := state(h.alpha), state(h.beta)
	h.alpha.Run(binary, "up", "--detach", h.alphaConf)
	h.beta.Run(binary, "up", h.conf, "--detach") // flags behind arguments are flags
	// Everything is there when up returns.
	ping(t, h.alpha, innerB, 3)
	if out := h.alpha.Run(binary, "show"); !strings.Contains(out, "beta") || strings.Contains(out, h.alphaKeys.private) {
		t.Errorf("show prints %s", out)
	}
	if out := h.alpha.Run(binary, "show", "--show-keys", "tun0"); !strings.Contains(out, h.alphaKeys.private) {
		t.Errorf("show --show-keys prints %s", out)
	}
	if out, err := h.alpha.Try(binary, "up", h.alphaConf); err == nil || !strings.Contains(out, "running") {
		t.Errorf("a second up: %v\n%s", err, out)
	}
	ping(t, h.alpha, innerB, 1) // and has done no harm
	h.alpha.Run(binary, "down", "tun0")
	sameState(t, h.alpha, beforeA) // everything is gone when down returns
	h.beta.Run(binary, "down", h.conf)
	sameState(t, h.beta, beforeB)
	if out, err := h.alpha.Try(binary, "down", "tun0"); err == nil {
		t.Errorf("down of what does not run: exit status 0\n%s", out)
	}
}

func TestDetachTellsTheDaemonsFate(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	before := state(h.alpha)
	taken := h.alpha.Start(tool("tool-hold-port", "51820")...)
	taken.Await("holding")
	out, err := h.alpha.Try(binary, "up", "--detach", h.alphaConf)
	if err == nil || !strings.Contains(out, "51820") {
		t.Errorf("up with a port that is taken: %v\n%s", err, out)
	}
	sameState(t, h.alpha, before)
}

func TestHooksRunInOrderAndTheirFailureIsUndone(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	trace := filepath.Join(h.Dir, "trace")
	hooked := func(extra string) string {
		text, err := os.ReadFile(h.alphaConf)
		if err != nil {
			t.Fatal(err)
		}
		var hooks strings.Builder
		for _, hook := range []string{"PreUp", "PostUp", "PreDown", "PostDown"} {
			fmt.Fprintf(&hooks, "%s = echo %s %%i $(ip -o link show %%i 2>/dev/null | grep -c .) >> %s # kept\n", hook, hook, trace)
		}
		return h.File("hooked/tun0.conf", strings.Replace(string(text), "[Interface]\n", "[Interface]\n"+hooks.String()+extra, 1))
	}
	before := state(h.alpha)
	if status := up(h.alpha, hooked("")).Stop(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	got, _ := os.ReadFile(trace)
	if want := "PreUp tun0 1\nPostUp tun0 1\nPreDown tun0 1\nPostDown tun0 0\n"; string(got) != want {
		t.Errorf("hooks ran as\n%swant\n%s", got, want)
	}
	sameState(t, h.alpha, before)

	out, err := h.alpha.Try(binary, "up", hooked("PostUp = exit 3\n"))
	if err == nil || !strings.Contains(out, "PostUp") {
		t.Errorf("up with a failing hook: %v\n%s", err, out)
	}
	sameState(t, h.alpha, before)
}

func TestUpThatFailsHalfWayLeavesNothing(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	// One of the routes that are needed is somebody else's already.
	h.alpha.Run("ip", "route", "add", "10.50.0.0/16", "dev", "eth0")
	text, err := os.ReadFile(h.alphaConf)
	if err != nil {
		t.Fatal(err)
	}
	conf := h.File("taken/tun0.conf", string(text)+"AllowedIPs = 10.49.0.0/16, 10.50.0.0/16\n")
	before := state(h.alpha)
	out, err := h.alpha.Try(binary, "up", conf)
	if err == nil || !strings.Contains(out, "10.50.0.0/16") || !strings.Contains(out, "eth0") {
		t.Errorf("up with a route that is taken: %v\n%s", err, out)
	}
	sameState(t, h.alpha, before)
}

func TestPersistentInterfaceIsLeftAsFound(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	h.alpha.Run("ip", "tuntap", "add", "tun0", "mode", "tun")
	h.alpha.Run("ip", "link", "set", "tun0", "mtu", "1333")
	h.alpha.Run("ip", "link", "set", "tun0", "up") // the first time, the kernel gives it a queueing discipline
	h.alpha.Run("ip", "link", "set", "tun0", "down")
	h.alpha.Address("10.33.0.1/32", "tun0")
	before := state(h.alpha)
	a := up(h.alpha, h.alphaConf)
	up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 3)
	if status := a.Stop(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	sameState(t, h.alpha, before)
}

func TestBrokenFilesLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	host, self, peer := l.Host("host"), newPair(t), newPair(t)
	good := "[Interface]\nPrivateKey = " + self.private + "\nAddress = 10.9.0.1/24\n"
	section := "[Peer]\nPublicKey = " + peer.public + "\n"
	for _, c := range []struct{ what, text, line, says string }{
		{"empty file", "", "", "Interface"},
		{"no section", "PrivateKey = " + self.private + "\n", "", "[Interface]"},
		{"unknown section", good + "[Pear]\n", "4", "Peer"},
		{"unknown key", good + "MUT = 1400\n", "4", "MTU"},
		{"key of the other section", good + "AllowedIPs = 10.0.0.0/8\n", "4", "Peer"},
		{"no private key", "[Interface]\nAddress = 10.9.0.1/24\n", "", "PrivateKey"},
		{"short private key", "[Interface]\nPrivateKey = " + self.private[:40] + "\n", "2", "44"},
		{"missing key file", "[Interface]\nPrivateKeyFile = /nonexistent\n", "2", "/nonexistent"},
		{"bad address", good + "Address = 10.9.0.300/24\n", "4", "10.9.0.300"},
		{"bad port", good + "ListenPort = 70000\n", "4", "65535"},
		{"bad MTU", good + "MTU = big\n", "4", "big"},
		{"bad mark", good + "FwMark = 0xfffffffff\n", "4", "0xfffffffff"},
		{"bad table", good + "Table = nosuchtable\n", "4", "nosuchtable"},
		{"DNS", good + "DNS = 10.9.0.1:53\n", "4", "DNS"},
		{"SaveConfig", good + "SaveConfig = true\n", "4", "SaveConfig"},
		{"peer without key", good + "[Peer]\nAllowedIPs = 10.9.0.2/32\n", "4", "PublicKey"},
		{"same peer twice", good + section + section, "7", "5"},
		{"same prefix twice", good + section + "AllowedIPs = 10.9.0.2/32\n[Peer]\nPublicKey = " + self.public[:0] + newPair(t).public + "\nAllowedIPs = 10.9.0.2/32\n", "9", "6"},
		{"own key as a peer", good + "[Peer]\nPublicKey = " + self.public + "\n", "5", "2"},
		{"bad endpoint", good + section + "Endpoint = 192.0.2.1\n", "6", "192.0.2.1"},
		{"bad keepalive", good + section + "PersistentKeepalive = -1\n", "6", "-1"},
		{"no equals sign", good + "ListenPort 51820\n", "4", "ListenPort"},
	} {
		t.Run(c.what, func(t *testing.T) {
			before := state(host)
			path := l.File("broken.conf", c.text)
			p := host.Start(binary, "up", path)
			if status := p.Wait(); status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			place := "broken.conf:"
			if c.line != "" {
				place += c.line + ":"
			}
			if out := p.Output(); !strings.Contains(out, place) || !strings.Contains(out, c.says) {
				t.Errorf("said %q, want %q and %q in it", out, place, c.says)
			}
			if strings.Contains(p.Output(), self.private[:40]) {
				t.Errorf("the private key was printed: %s", p.Output())
			}
			sameState(t, host, before)
		})
	}
}
