package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"stunnel/test/lab"
)

// leaks are what a client must not send past its tunnel.
var leaks = []string{ip1 + ":9", "[" + ip16 + "]:9", "192.0.2.1:9", "[2001:db8:1::1]:9"}

func leakFlows() (kinds []string) {
	for _, to := range leaks {
		from := clientOuter
		if strings.Contains(to, "[") {
			from = clientOuter6
		}
		kinds = append(kinds, fmt.Sprintf("udp %s > %s", from, to))
	}
	return kinds
}

// gate is a hook that waits in the middle of up or down until the test lets it
// go on.
type gate struct{ fifo string }

func newGate(t *testing.T, l *lab.Lab, name string) gate {
	t.Helper()
	path := filepath.Join(l.Dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return gate{path}
}

func (g gate) hook(kind string) string {
	return fmt.Sprintf("%s = echo waiting; cat %s\n", kind, g.fifo)
}

// open waits until the hook is there, and lets it go on.
func (g gate) open(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(g.fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// mustBlock: nothing but what is sealed leaves the client while during runs,
// though it tries to all the time.
func (f *friends) mustBlock(t *testing.T, what string, during func()) {
	t.Helper()
	end := beginFlows(t, f.firewall, "eth0")
	endPester := beginPester(t, f.client, leaks...)
	during()
	tries := endPester()
	if left := others(end(), sealed(clientOuter, ip2)...); len(left) > 0 {
		t.Errorf("%s: of %d tries there leaked %q", what, tries, left)
	}
	t.Logf("%s: %d tries to send past the tunnel, by each of %d ways; none has left", what, tries, len(leaks))
}

// mustLeak: without a kill switch these do leave, or mustBlock proves nothing.
func (f *friends) mustLeak(t *testing.T) {
	t.Helper()
	end := beginFlows(t, f.firewall, "eth0")
	tries := beginPester(t, f.client, leaks...)()
	seen := end()
	for _, kind := range leakFlows() {
		if seen[kind] == 0 {
			t.Errorf("of %d tries no %s has left", tries, kind)
		}
	}
}

func TestNothingLeavesPastATunnelWithAKillSwitch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, allowed string }{{"both families", "0.0.0.0/0, ::/0"}, {"IPv4 in the tunnel, IPv6 blocked", "0.0.0.0/0"}} {
		t.Run(c.name, func(t *testing.T) {
			f := newFriends(t, 1500, "", "Masquerade = yes\n")
			before := wholeState(f.client)
			up(f.gateway, f.gatewayConf)
			text, err := os.ReadFile(f.clientConf)
			if err != nil {
				t.Fatal(err)
			}
			beginning, ending := newGate(t, f.Lab, "beginning"), newGate(t, f.Lab, "ending")
			conf := f.File("locked/tun0.conf", strings.NewReplacer("[Peer]", "KillSwitch = yes\n"+beginning.hook("PreUp")+ending.hook("PreDown")+"[Peer]",
				"0.0.0.0/0, ::/0", c.allowed).Replace(string(text)))
			f.mustLeak(t)

			// On the way up, from before the first change.
			a := f.client.Start(binary, "up", conf)
			a.Await("waiting")
			f.mustBlock(t, "up", func() {
				beginning.open(t)
				a.Await("tun0: " + upSaid)
			})
			f.mustBlock(t, "running", func() {
				if got := f.curl(ip1, 10); got != ip2 {
					t.Errorf("the server was asked by %q, want %q", got, ip2)
				}
			})
			// A firewall that is loaded anew takes it away with all else, and it comes back.
			table := f.client.Run("nft", "-s", "list", "table", "inet", "stunnel-tun0/killswitch")
			f.client.Run("nft", "flush", "ruleset")
			a.Await("somebody has removed this tunnel's nft table inet stunnel-tun0/killswitch, which is put back")
			if now := f.client.Run("nft", "-s", "list", "table", "inet", "stunnel-tun0/killswitch"); now != table {
				t.Errorf("it is\n%s\nand was\n%s", now, table)
			}
			f.mustBlock(t, "after a flush of all rules", func() {
				if got := f.curl(ip1, 10); got != ip2 {
					t.Errorf("the server was asked by %q, want %q", got, ip2)
				}
			})
			// Killed.
			f.mustBlock(t, "kill -9", func() { a.Kill() })
			f.mustBlock(t, "killed", func() { f.mustNotPass(t) })
			// An up that fails leaves it as it was.
			f.mustBlock(t, "an up that fails", func() {
				p := f.client.Start(binary, "up", f.File("failing/tun0.conf", strings.ReplaceAll(string(text), "[Peer]", "KillSwitch = yes\nPreUp = false\n[Peer]")))
				if status := p.Wait(); status != 1 || !strings.Contains(p.Output(), "stays in force") {
					t.Errorf("exit status %d\n%s", status, p.Output())
				}
			})
			// One that succeeds replaces it.
			f.mustBlock(t, "up again", func() {
				a = f.client.Start(binary, "up", conf)
				beginning.open(t)
				a.Await("tun0: " + upSaid)
			})
			if got := f.curl(ip1, 10); got != ip2 {
				t.Errorf("after up again the server was asked by %q, want %q", got, ip2)
			}
			// Its interface goes.
			f.mustBlock(t, "interface deleted", func() {
				f.client.Run("ip", "link", "del", "tun0")
				ending.open(t)
				if status := a.Wait(); status != 1 || !strings.Contains(a.Output(), "stays in force") {
					t.Errorf("exit status %d\n%s", status, a.Output())
				}
			})
			f.mustBlock(t, "without interface", func() { f.mustNotPass(t) })
			f.client.Run(binary, "down", "tun0")
			sameWholeState(t, f.client, before, "after down")
			f.mustLeak(t)

			// SIGTERM is down. Until the last step of it nothing leaves.
			a = f.client.Start(binary, "up", conf)
			beginning.open(t)
			a.Await("tun0: " + upSaid)
			a.Signal(syscall.SIGTERM)
			f.mustBlock(t, "going down", func() {})
			ending.open(t)
			if status := a.Wait(); status != 0 {
				t.Errorf("exit status %d\n%s", status, a.Output())
			}
			sameWholeState(t, f.client, before, "after down")
		})
	}
}

func TestUnlockLiftsTheKillSwitchOfADeadTunnel(t *testing.T) {
	t.Parallel()
	f := newFriends(t, 1500, "KillSwitch = yes\n", "")
	before := wholeState(f.client)
	if out := f.client.Run(binary, "unlock"); !strings.Contains(out, "no kill switch is in force") {
		t.Errorf("unlock without a kill switch says %s", out)
	}
	a := up(f.client, f.clientConf)
	a.Kill()
	f.mustBlock(t, "killed", func() {})
	if out := f.client.Run(binary, "show"); !strings.Contains(out, "the kill switch of tun0 is in force, and its tunnel does not run") {
		t.Errorf("show says %s", out)
	}
	if out, err := f.client.Try(binary, "unlock", "tun1"); err == nil || !strings.Contains(out, "tun0") {
		t.Errorf("unlock of another: %v, %s", err, out)
	}
	if out := f.client.Run(binary, "unlock"); !strings.Contains(out, "the kill switch of tun0 is lifted") || !strings.Contains(out, "stunnel down tun0") {
		t.Errorf("unlock says %s", out)
	}
	f.client.Run(binary, "down", "tun0")
	sameWholeState(t, f.client, before, "after down")
	f.mustLeak(t)
}

func TestAKillSwitchLetsLocalNetworksPassIfToldTo(t *testing.T) {
	t.Parallel()
	f := newFriends(t, 1500, "KillSwitch = yes\nKillSwitchAllow = lan, 192.0.2.1\n", "")
	f.client.Address("192.168.7.2/24", "eth0")
	f.firewall.Address("192.168.7.1/24", "eth0")
	a := up(f.client, f.clientConf)
	ping(t, f.client, "192.168.7.1", 1)
	ping(t, f.client, "192.0.2.1", 1)
	if out, err := f.client.Try("ping", "-n", "-c", "1", "-W", "2", "2001:db8:1::1"); err == nil {
		t.Errorf("a connected network that is not private was allowed:\n%s", out)
	}
	if !strings.Contains(a.Output(), "192.0.2.0/24") {
		t.Errorf("up does not say what it has left out:\n%s", a.Output())
	}
}

func TestAKillSwitchInForceIsToldToOtherTunnels(t *testing.T) {
	t.Parallel()
	f := newFriends(t, 1500, "KillSwitch = yes\n", "")
	before := wholeState(f.client)
	a := up(f.client, f.clientConf)
	b := up(f.client, f.File("client/tun1.conf", "[Interface]\nPrivateKey = "+newPair(t).private+"\nAddress = 10.8.0.1/24\n"))
	if !strings.Contains(b.Output(), "the kill switch of tun0 is in force") {
		t.Errorf("up of a second tunnel says\n%s", b.Output())
	}
	// Each has its own.
	f.client.Run(binary, "down", "tun1")
	f.mustBlock(t, "after the end of another tunnel", func() {})
	a.Stop()
	sameWholeState(t, f.client, before, "after both")
}

func TestTheEndpointsNameIsLookedUpPastTheKillSwitchAndNoOther(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "KillSwitch = yes\nDNS = "+innerB+"\n")
	a := up(r.alpha, r.alphaConf)
	ping(t, r.alpha, innerB, 1)
	r.finds(t, "www.corp.example", "10.9.0.80")
	a.Kill()
	asked := r.outside.Output()
	if out, err := r.alpha.Try("getent", "ahostsv4", "www.isp.example"); err == nil {
		t.Errorf("a name was found past the kill switch: %s", out)
	}
	if out := r.outside.Output(); out != asked {
		t.Errorf("the name server outside was asked past the kill switch:\n%s", strings.TrimPrefix(out, asked))
	}
	// The next one asks for its endpoint while the other's kill switch is in force.
	a = up(r.alpha, r.alphaConf)
	ping(t, r.alpha, innerB, 1)
	if out := strings.TrimPrefix(r.outside.Output(), asked); !strings.Contains(out, "asked "+remote) {
		t.Errorf("the name server outside was asked only\n%s", out)
	}
	a.Stop()
	r.finds(t, "www.isp.example", "192.0.2.67")
}

func TestAReloadDoesNotTakeAwayTheMark(t *testing.T) {
	t.Parallel()
	for _, lines := range []string{"", "KillSwitch = yes\n"} {
		f := newFriends(t, 1500, lines, "Masquerade = yes\n")
		lab.Need(t, "wg")
		up(f.gateway, f.gatewayConf)
		a := up(f.client, f.clientConf)
		f.mustPass(t)
		mark := f.client.Run("wg", "show", "tun0", "fwmark")
		f.client.Run("wg", "syncconf", "tun0", f.File("stripped", f.client.Run(binary, "strip", f.clientConf)+"\n"))
		f.client.Run("wg", "set", "tun0", "fwmark", "7")
		if got := f.client.Run("wg", "show", "tun0", "fwmark"); got != mark || mark == "off" {
			t.Errorf("the mark was %s and is %s", mark, got)
		}
		f.mustPass(t)
		a.Await("the mark stays as it is")
	}
}
