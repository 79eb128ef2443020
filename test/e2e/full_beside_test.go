package e2e

import (
	"fmt"
	"strings"
	"testing"

	"stunnel/test/lab"
)

// quickFile is a file for wg-quick(8) and server i.
func (w *fullWorld) quickFile(name string, i int) string {
	s := w.servers[i]
	return w.File("client/"+name+".conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/32, %s/128\n[Peer]\nPublicKey = %s\nAllowedIPs = %s\nEndpoint = %s:51820\n",
		s.clientKeys.private, s.inner, s.inner6, s.keys.public, everything, s.outer))
}

func needWgQuick(t *testing.T) {
	t.Helper()
	for _, command := range []string{"wg-quick", "wireguard-go"} {
		lab.Need(t, command)
	}
}

func TestAFullTunnelBesideOneOfWgQuick(t *testing.T) {
	t.Parallel()
	needWgQuick(t)
	w := newFullWorld(t, 2)
	before := wholeState(w.client)
	quick := w.quickFile("quick", 0)
	w.client.Run("wg-quick", "up", quick)
	w.carries(0, "wg-quick's alone")
	withQuick := wholeState(w.client)
	p := up(w.client, w.file("full", 1, everything, ""))
	w.carries(1, "ours after wg-quick's")
	p.Stop()
	sameWholeState(t, w.client, withQuick, "after ours")
	w.carries(0, "wg-quick's again")
	w.client.Run("wg-quick", "down", quick)
	w.client.Run("sysctl", "-qw", "net.ipv4.conf.all.src_valid_mark=0") // which it leaves, always
	sameWholeState(t, w.client, before, "after all")
}

func TestAFullTunnelOfWgQuickThatComesAndGoesBesideOurs(t *testing.T) {
	t.Parallel()
	needWgQuick(t)
	w := newFullWorld(t, 2)
	before := wholeState(w.client)
	p := up(w.client, w.file("full", 1, everything, ""))
	w.carries(1, "ours alone")
	quick := w.quickFile("quick", 0)
	w.client.Run("wg-quick", "up", quick)
	// Until wg-quick has made its rule nothing tells its packets from those of other programs.
	p.Await("full: rule 32763: fwmark 0xca6d lookup main")
	p.Await("IPv6 rule 32763: fwmark 0xca6d lookup main")
	w.forgetInside()
	w.carries(0, "wg-quick's after ours")
	w.client.Run("wg-quick", "down", quick)
	w.carries(1, "ours again")
	p.Stop()
	sameWholeState(t, w.client, before, "after all")
}

func TestALoadedFirewallDoesNotTakeOurTableWithIt(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	before := wholeState(w.client)
	p := up(w.client, w.file("full", 0, everything, ""))
	table := w.client.Run("nft", "list", "table", "inet", "stunnel-full")
	w.client.Run("nft", "flush ruleset; add table inet filter") // as nftables.service does
	p.Await("somebody has removed this tunnel's nft table inet stunnel-full, which is put back")
	if now := w.client.Run("nft", "list", "table", "inet", "stunnel-full"); now != table {
		t.Errorf("it is\n%s\nand was\n%s", now, table)
	}
	w.carries(0, "after that")
	w.client.Run("nft", "delete", "table", "inet", "filter")
	p.Stop()
	sameWholeState(t, w.client, before, "after all")
}

func TestWgQuickDoesNotTakeOurRulesWithItsOwn(t *testing.T) {
	t.Parallel()
	needWgQuick(t)
	w := newFullWorld(t, 2)
	before := wholeState(w.client)
	quick := w.quickFile("quick", 0)
	w.client.Run("wg-quick", "up", quick)
	p := up(w.client, w.file("full", 1, everything, ""))
	rules := w.client.Run("sh", "-c", "ip rule; ip -6 rule")
	w.client.Run("wg-quick", "down", quick) // removes what looks like its own rule, and finds ours first
	p.Await("somebody has removed a rule of this tunnel, which is put back: rule 32762: not fwmark 0xca6d lookup main suppress_prefixlength 0")
	p.Await("which is put back: IPv6 rule 32762")
	for line := range strings.Lines(rules) {
		if now := w.client.Run("sh", "-c", "ip rule; ip -6 rule"); strings.Contains(line, "proto 115") && !strings.Contains(now, strings.TrimSpace(line)) {
			t.Errorf("this rule of ours is gone: %s\n%s", line, now)
		}
	}
	w.carries(1, "ours alone")
	ping(t, w.client, routerA, 2)
	p.Stop()
	w.client.Run("sysctl", "-qw", "net.ipv4.conf.all.src_valid_mark=0") // which wg-quick leaves, always
	sameWholeState(t, w.client, before, "after all")
}
