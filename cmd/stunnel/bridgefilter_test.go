package main

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stunnel/device/netconf/ruleset"
)

// withRules has a shell load rules in a fresh network namespace, and reads them there.
func withRules(t *testing.T, commands string, test func(*ruleset.RuleSet)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with the thread
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		if out, err := exec.Command("sh", "-ec", commands).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", commands, err, out)
			return
		}
		rules, err := ruleset.Read()
		if err != nil {
			t.Error(err)
			return
		}
		test(rules)
	}()
	<-done
}

func TestAChainThatMayDropBridgedFramesIsNamedWithItsRemedy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace: run the tests with sudo")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft(8), which is not installed: make test installs it as root")
	}
	all := []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"}
	chain := func(family, policy string, rules ...string) string {
		return "nft 'table " + family + " filter { chain other { accept; }; chain closed { drop; }; chain nothing { }; " +
			"chain FORWARD { type filter hook forward priority 0; policy " + policy + "; " + strings.Join(append(rules, ""), "; ") + "}; }'"
	}
	iptables := func(rule string) string {
		return "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD " + rule
	}
	for _, c := range []struct {
		name  string
		on    []string
		rules string
		want  []string // parts of each warning, separated by |; none: no warning
	}{
		{"nothing is called", nil, chain("ip", "drop"), nil},
		{"another family's switch", all[1:], chain("ip", "drop"), nil},
		{"policy accept", all, chain("ip", "accept"), nil},
		{"policy drop", all, chain("ip", "drop"),
			[]string{"policy is drop|sysctl -w net.bridge.bridge-nf-call-iptables=0|nft insert rule ip filter FORWARD iifname br0 oifname br0 accept"}},
		{"policy drop behind a jump that lets nothing pass", all, chain("ip", "drop", "jump nothing"), []string{"policy is drop"}},
		{"a jump that lets it pass", all, chain("ip", "drop", "jump other"), nil},
		{"a jump that drops it", all, chain("ip", "accept", "iifname br0 jump closed"), []string{"chain ip filter FORWARD (by drop (handle |insert rule ip filter FORWARD"}},
		{"a jump for others that drops it", all, chain("ip", "accept", "iifname eth0 jump closed"), nil},
		{"IPv6", all, chain("ip6", "drop"), []string{"sysctl -w net.bridge.bridge-nf-call-ip6tables=0|ip6 filter FORWARD"}},
		{"both families", all, chain("inet", "drop"), []string{"bridge-nf-call-iptables=0", "bridge-nf-call-ip6tables=0"}},
		{"one family of both", all, chain("inet", "accept", "meta nfproto ipv6 drop"), []string{"bridge-nf-call-ip6tables=0"}},
		{"one switch of two", all[:1], chain("inet", "drop"), []string{"bridge-nf-call-iptables=0"}},
		{"a bridge's own chain, whatever is called", nil, chain("bridge", "drop"), []string{"nft insert rule bridge filter FORWARD iifname lan accept|nft insert rule bridge filter FORWARD oifname lan accept"}},
		{"a bridge's own chain, mended", all, chain("bridge", "drop", "iifname lan accept", "oifname lan accept"), nil},
		{"a bridge's own chain, mended one way", all, chain("bridge", "drop", "iifname lan accept"), []string{"policy is drop"}},
		{"a bridge's own chain about the bridge", all, chain("bridge", "drop", "iifname br0 accept"), []string{"policy is drop"}},
		{"a last rule that drops", all, chain("ip", "accept", "counter drop"), []string{"(by drop (handle "}},
		{"a last rule that rejects", all, chain("ip", "accept", "log reject"), []string{"(by reject (handle "}},
		{"iptables' REJECT", all[:1], "iptables-nft -A FORWARD -j REJECT", []string{"(by reject (handle "}},
		{"a rule that drops something else", all, chain("ip", "accept", "iifname eth0 drop"), nil},
		{"mended by name", all, chain("ip", "drop", "iifname br0 accept"), nil},
		{"mended for another bridge", all, chain("ip", "drop", "iifname br1 accept"), []string{"policy is drop"}},
		{"mended by physdev", all[:1], iptables("-m physdev --physdev-is-bridged -j ACCEPT"), nil},
		{"mended by the port", all[:1], iptables("-m physdev --physdev-in lan -j ACCEPT; iptables-nft -A FORWARD -m physdev --physdev-is-bridged --physdev-out la+ -j ACCEPT"), nil},
		{"mended by another port", all[:1], iptables("-m physdev --physdev-in eth7 -j ACCEPT"), []string{"policy is drop"}},
		{"mended by all but another port", all[:1], iptables("-m physdev ! --physdev-in eth7 -j ACCEPT; iptables-nft -A FORWARD -m physdev --physdev-out lan -j ACCEPT"), nil},
		{"everything is accepted first", all, chain("ip", "drop", "accept", "drop"), nil},
		{"dropped before it is mended", all, chain("ip", "accept", "drop", "iifname br0 accept"), []string{"(by drop"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath("iptables-nft"); err != nil && strings.Contains(c.rules, "iptables-nft") {
				t.Skip("needs iptables-nft: apt-get install iptables")
			}
			on := make(map[string]bool)
			for _, name := range all {
				on[name] = slices.Contains(c.on, name)
			}
			withRules(t, c.rules, func(rules *ruleset.RuleSet) {
				got := filterWarnings("br0", "lan", on, rules)
				if len(got) != len(c.want) {
					t.Errorf("%q", got)
					return
				}
				for i, parts := range c.want {
					for part := range strings.SplitSeq(parts, "|") {
						if !strings.Contains(got[i], part) {
							t.Errorf("%q does not say %q", got[i], part)
						}
					}
				}
			})
		})
	}
}
