package netconf

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

func testPassage() *Passage {
	return &Passage{Interface: "tun0", Outer: []string{"eth0"}, IPv4: true, IPv6: true}
}

func inetForward(policy string, rules ...string) string {
	return "table inet filter { chain forward { type filter hook forward priority 0; policy " + policy + ";\n" + strings.Join(rules, "\n") + "\n}\n}\n"
}

// load adds rules, in which tables may end in the line of a chain.
func (h host) load(rules string) {
	h.t.Helper()
	h.run(strings.ReplaceAll(rules, "} }", "};\n}\n"), "nft", "-f", "-")
}

func TestAForwardChainThatWouldDropIsFoundAndMadeToLetPass(t *testing.T) {
	needNFT(t)
	for _, c := range []struct {
		name, rules string
		place       string // "": nothing drops
	}{
		{"no rules", "", ""},
		{"a policy of accept", inetForward("accept"), ""},
		{"a policy of drop", inetForward("drop"), "table inet filter, chain forward"},
		{"a last rule that drops", inetForward("accept", "ct state established,related accept", "drop"), "table inet filter, chain forward"},
		{"a last rule that rejects", inetForward("accept", "reject with icmpx admin-prohibited"), "table inet filter, chain forward"},
		{"a drop of others' packets", inetForward("accept", `iifname "eth1" drop`, `oifname != { "eth0", "tun0" } drop`, "ip saddr 10.0.0.0/8 tcp dport 25 drop", "ct state invalid drop"), ""},
		{"a drop of what comes by the tunnel", inetForward("accept", `iifname "tun*" drop`), "table inet filter, chain forward"},
		{"a drop of new ones", inetForward("accept", "ct state new drop"), "table inet filter, chain forward"},
		{"a drop of IPv6 alone", inetForward("accept", "meta nfproto ipv6 drop"), "table inet filter, chain forward"},
		{"accepted by names", inetForward("drop", "ct state established,related accept", `iifname "tun0" oifname "eth0" accept`), ""},
		{"accepted by sets", inetForward("drop", "ct state { established, related } accept", `iifname { "tun0", "tun1" } accept`), ""},
		{"accepted by a map", inetForward("drop", "ct state vmap { established : accept, related : accept, invalid : drop }", `iifname . oifname vmap { "a" . "b" : drop }`, `iif "tun0" accept`), ""},
		{"accepted by a map to chains", "table inet filter { chain tunnels { accept; }\n chain forward { type filter hook forward priority 0; policy drop;\n" +
			"ct state vmap { established : accept, new : jump tunnels }; } }", ""},
		{"dropped by a map", inetForward("accept", `iifname vmap { "tun0" : drop }`), "table inet filter, chain forward"},
		{"accepted by a chain", "table inet filter { chain tunnels { iifname \"tun0\" accept; iifname \"eth0\" goto answers; }\n chain answers { ct state established accept; }\n" +
			"chain forward { type filter hook forward priority 0; policy drop; jump tunnels; } }", ""},
		{"dropped behind a goto", "table inet filter { chain nothing { }\n chain forward { type filter hook forward priority 0; policy drop; goto nothing; accept; } }", "table inet filter, chain forward"},
		{"accepted under a condition", inetForward("drop", "ip saddr 10.9.0.0/24 accept", "limit rate 1/second accept"), "table inet filter, chain forward"},
		{"another hook", "table inet filter { chain input { type filter hook input priority 0; policy drop; } }", ""},
		{"another family", "table bridge filter { chain forward { type filter hook forward priority 0; policy drop; } }", ""},
		{"Docker", "table ip filter { chain DOCKER-USER { return; }\n chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; } }", "table ip filter, chain DOCKER-USER"},
		{"Docker's chain, unused", "table ip filter { chain DOCKER-USER { return; }\n chain FORWARD { type filter hook forward priority 0; policy drop; } }", "table ip filter, chain FORWARD"},
	} {
		inNamespace(t, func(h host) {
			h.load(c.rules)
			before := h.ruleset()
			p := testPassage()
			j := h.NewJournal("tun0")
			if err := j.Do(context.Background(), p); err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			if c.place == "" {
				if after := h.ruleset(); after != before || len(j.Steps()) > 0 {
					t.Errorf("%s: nothing drops, but the rules were changed to\n%s", c.name, after)
				}
				return
			}
			if len(p.Places) != 1 || p.Places[0].String() != c.place {
				t.Errorf("%s: places %v, want %s", c.name, p.Places, c.place)
			}
			if drops, err := h.Drops(p.ways()...); err != nil || len(drops) > 0 {
				t.Errorf("%s: it still drops: %v, %v", c.name, drops, err)
			}
			// In another process.
			read, err := readStep(mustLine(t, p))
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			if err := errors.Join(read.Undo(h.Handle), read.Undo(h.Handle), j.Undo()); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if after := h.ruleset(); after != before {
				t.Errorf("%s: left\n%s\nwhere there was\n%s", c.name, after, before)
			}
		})
	}
}

func TestTwoTunnelsPassTheSameFirewallInAllOrders(t *testing.T) {
	needNFT(t)
	for _, order := range orders {
		inNamespace(t, func(h host) {
			h.tun("tun1")
			h.load(inetForward("drop", "tcp dport 25 drop"))
			before := h.ruleset()
			names, journals := map[byte]string{'a': "tun0", 'b': "tun1"}, map[byte]*Journal{}
			for i := 0; i < len(order); i += 2 {
				which := order[i]
				if order[i+1] == '-' {
					h.must(nil, journals[which].Undo())
					delete(journals, which)
				} else {
					p := testPassage()
					p.Interface = names[which]
					journals[which] = h.NewJournal(names[which])
					h.doAll(journals[which], []Step{p})
				}
				for which, name := range names {
					drops, err := h.Drops(Way{In: name, Out: "eth0"}, Way{In: "eth0", Out: name, Answer: true, IPv6: true})
					if _, up := journals[which]; err != nil || up != (len(drops) == 0) {
						t.Errorf("%s: after %s %s is up: %v, and dropped by %v, %v", order, order[:i+2], name, up, drops, err)
					}
				}
			}
			if after := h.ruleset(); after != before {
				t.Errorf("%s: left\n%s\nwhere there was\n%s", order, after, before)
			}
		})
	}
}

func TestAFirewallThatIsNotOursToChangeIsQuoted(t *testing.T) {
	needNFT(t)
	for _, c := range []struct{ name, rules, says, advises string }{
		{"firewalld", `table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;
			ct state { established, related } accept; iifname "eth9" accept; reject with icmpx admin-prohibited; } }`,
			"table inet firewalld, chain filter_FORWARD: reject (handle ", "firewall-cmd --zone=trusted --add-interface=tun0"},
		{"another's kill switch", `table inet stunnel-tun1/killswitch { chain forward { type filter hook forward priority 400; policy drop; } }`,
			"chain forward { type filter hook forward; policy drop; }", "stunnel unlock"},
	} {
		inNamespace(t, func(h host) {
			h.load(c.rules)
			before := h.ruleset()
			j := h.NewJournal("tun0")
			err := j.Do(context.Background(), testPassage())
			var blocked *BlockedError
			if !errors.As(err, &blocked) || !strings.Contains(err.Error(), c.says) || !strings.Contains(blocked.Advice(), c.advises) {
				t.Errorf("%s: it says %v", c.name, err)
			}
			if after := h.ruleset(); after != before || len(j.Steps()) > 0 {
				t.Errorf("%s: left\n%s\nwhere there was\n%s", c.name, after, before)
			}
		})
	}
}

func TestIptablesGoesOnToUnderstandItsChains(t *testing.T) {
	needNFT(t)
	inNamespace(t, func(h host) {
		for _, iptables := range []string{"iptables-nft", "ip6tables-nft"} {
			if _, err := exec.LookPath(iptables); err != nil {
				t.Skip("needs iptables-nft: apt-get install iptables")
			}
			h.run("", iptables, "-P", "FORWARD", "DROP")
			h.run("", iptables, "-A", "FORWARD", "-i", "eth7", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-m", "comment", "--comment", "theirs", "-j", "ACCEPT")
		}
		before := h.ruleset()
		j := h.NewJournal("tun0")
		h.doAll(j, []Step{testPassage()})
		for _, iptables := range []string{"iptables-nft", "ip6tables-nft"} {
			got := h.run("", iptables, "-S", "FORWARD")
			want := `-P FORWARD DROP
-A FORWARD -i eth0 -o tun0 -m comment --comment "stunnel tun0" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i tun0 -o eth0 -m comment --comment "stunnel tun0" -j ACCEPT
`
			if !sameRules(got, want) {
				t.Errorf("%s prints\n%s, want\n%s", iptables, got, want)
			}
		}
		// A rule that iptables has taken out meanwhile is not missed.
		h.run("", "iptables-nft", "-D", "FORWARD", "1")
		h.run("", "ip6tables-nft", "-F", "FORWARD")
		h.run("", "ip6tables-nft", "-A", "FORWARD", "-i", "eth7", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-m", "comment", "--comment", "theirs", "-j", "ACCEPT")
		h.must(nil, j.Undo())
		if after := h.ruleset(); after != before {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}
	})
}

func TestTablesOfTheLegacyIptablesAreFound(t *testing.T) {
	inNamespace(t, func(h host) {
		if _, err := exec.LookPath("iptables-legacy"); err != nil {
			t.Skip("needs iptables-legacy: apt-get install iptables")
		}
		if found := LegacyTables(); len(found) > 0 {
			t.Errorf("found %q where none is in use", found)
		}
		if out, err := exec.Command("iptables-legacy", "-L", "FORWARD").CombinedOutput(); err != nil {
			t.Skipf("this kernel has none of them: %v\n%s", err, out)
		}
		if found := LegacyTables(); len(found) != 1 || found[0] != "iptables filter" {
			t.Errorf("found %q", found)
		}
	})
}

// sameRules: the same lines, whatever the order of their matches, and those of others beside them.
func sameRules(got, want string) bool {
	words := func(line string) string {
		parts := strings.Split(line, " -")
		for i := range parts {
			for j := range i {
				if parts[i] < parts[j] {
					parts[i], parts[j] = parts[j], parts[i]
				}
			}
		}
		return strings.Join(parts, " -")
	}
	all := make(map[string]bool)
	for line := range strings.Lines(got) {
		all[words(strings.TrimSpace(line))] = true
	}
	for line := range strings.Lines(want) {
		if !all[words(strings.TrimSpace(line))] {
			return false
		}
	}
	return true
}

func mustLine(t *testing.T, s Step) []byte {
	t.Helper()
	line, err := stepLine(s)
	if err != nil {
		t.Fatal(err)
	}
	return line
}
