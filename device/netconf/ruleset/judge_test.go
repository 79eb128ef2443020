package ruleset

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// withRules loads rules, as nft(8) reads them, into a fresh network namespace and reads them back.
func withRules(t *testing.T, rules string, test func(*RuleSet)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace: run the tests with sudo")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft(8), which is not installed: make test installs it as root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with the thread
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("nft: %v\n%s", err, out)
			return
		}
		rs, err := Read()
		if err != nil {
			t.Error(err)
			return
		}
		test(rs)
	}()
	<-done
}

// The packets that tunnels are about.
var (
	sealed = Packet{Way: In, InInterface: "eth0", InIndex: 2, Protocol: unix.IPPROTO_UDP, DestinationPort: 51820,
		Source: netip.MustParseAddr("198.51.100.7"), Destination: netip.MustParseAddr("192.0.2.1")}
	answer = Packet{Way: In, InInterface: "eth0", InIndex: 2, Protocol: unix.IPPROTO_UDP, SourcePort: 51820, DestinationPort: 40000,
		Source: netip.MustParseAddr("198.51.100.7"), Destination: netip.MustParseAddr("192.0.2.1"), State: Established}
	leaving = Packet{Way: Out, OutInterface: "eth0", OutIndex: 2, Protocol: unix.IPPROTO_UDP, DestinationPort: 51820, Mark: 0xca6c,
		Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("198.51.100.7")}
	through = Packet{Way: Through, InInterface: "wg0", InIndex: 3, OutInterface: "eth0", OutIndex: 2,
		Source: netip.MustParseAddr("10.9.0.2"), Destination: netip.MustParseAddr("203.0.113.1")}
	family6 = Packet{Way: Through, InInterface: "wg0", OutInterface: "eth0", Family: unix.NFPROTO_IPV6}
	sealed6 = Packet{Way: In, InInterface: "eth0", InIndex: 2, Protocol: unix.IPPROTO_UDP, DestinationPort: 51820,
		Source: netip.MustParseAddr("2001:db8::7"), Destination: netip.MustParseAddr("2001:db8::1")}
)

func TestWhatBecomesOfAPacketIsReadFromTheRules(t *testing.T) {
	const (
		passes       = "passes"
		passesUnsure = "passes, perhaps"
		drops        = "drops"
		dropsUnsure  = "drops, perhaps"
	)
	input := func(rules string) string {
		return "table inet filter {\n set ports { type inet_service; flags interval; elements = { 100-200, 51820 }; }\n" +
			"chain other { udp dport 51820 accept; }\n" +
			"chain back { udp dport 51820 return\n drop; }\n" +
			"chain input { type filter hook input priority filter; policy drop\n" + rules + "\n}\n}\n"
	}
	for _, c := range []struct {
		name, rules string
		packet      Packet
		want        string
	}{
		{"no rules at all", "", sealed, passes},
		{"a policy of drop", input(""), sealed, drops},
		{"a policy of drop does not see what leaves", input(""), leaving, passes},
		{"the port is let in", input("udp dport 51820 accept"), sealed, passes},
		{"the port is let in, over IPv6", input("udp dport 51820 accept"), sealed6, passes},
		{"another port is let in", input("udp dport 51821 accept"), sealed, drops},
		{"only TCP is let in", input("tcp dport 51820 accept"), sealed, drops},
		{"the port in a range", input("udp dport 51000-52000 accept"), sealed, passes},
		{"the port not in a range", input("udp dport 100-200 accept"), sealed, drops},
		{"the port is in a set of the rule's own", input("udp dport { 53, 51820 } accept"), sealed, passes},
		{"the port is not in a set of the rule's own", input("udp dport { 53, 123 } accept"), sealed, drops},
		{"the port is in a set with intervals", input("udp dport @ports accept"), sealed, passes},
		{"all but a set", input("udp dport != { 53, 123 } accept"), sealed, passes},
		{"answers only", input("ct state established,related accept"), sealed, drops},
		{"answers are let in", input("ct state established,related accept"), answer, passes},
		{"by a map of states", input("ct state vmap { established : accept, related : accept, invalid : drop }"), answer, passes},
		{"a map of states has nothing for it", input("ct state vmap { established : accept, invalid : drop }"), sealed, drops},
		{"a map of interfaces that jumps", input("iifname vmap { lo : accept, eth0 : jump other }"), sealed, passes},
		{"another interface", input(`iifname "wlan0" accept`), sealed, drops},
		{"the interface by a pattern", input(`iifname "eth*" accept`), sealed, passes},
		{"a chain that lets it in", input("jump other"), sealed, passes},
		{"a chain that returns it to the policy", input("goto back\n accept"), sealed, drops},
		{"a chain that returns it to an accept", input("jump back\n accept"), sealed, passes},
		{"from one network only", input("ip saddr 198.51.100.0/24 udp dport 51820 accept"), sealed, passes},
		{"from another network only", input("ip saddr 203.0.113.0/24 udp dport 51820 accept"), sealed, drops},
		{"an IPv4 rule does not let IPv6 in", input("ip protocol udp accept"), sealed6, drops},
		{"by the type of the address", input("fib daddr type local udp dport 51820 accept"), sealed, passes},
		{"within a rate", input("udp dport 51820 limit rate 10/second accept"), sealed, dropsUnsure},
		{"a packet without addresses is of its family", "table ip6 f { chain c { type filter hook forward priority 0; policy drop\n}; }", family6, drops},
		{"a packet without addresses has none that match", "table inet f { chain c { type filter hook forward priority 0; policy drop\n ip6 saddr fd00::/8 accept; }; }", family6, dropsUnsure},
		{"a packet of which the protocol is not known", "table inet f { chain c { type filter hook forward priority 0; policy drop\n udp dport 53 accept; }; }", family6, dropsUnsure},
		{"a user's packets", input("meta skuid 1000 accept"), sealed, dropsUnsure},
		{"a reject", input("udp dport 51820 reject\n accept"), sealed, drops},
		{"counted and logged before", input(`counter log prefix "x" udp dport 51820 counter accept`), sealed, passes},
		{"a rate of drops", "table ip t { chain c { type filter hook input priority 0\n limit rate over 1/second drop; }; }", sealed, passesUnsure},
		{"accepted in one table, dropped in the next",
			input("accept") + "table ip late { chain c { type filter hook input priority 10\n udp dport 51820 drop; }; }", sealed, drops},
		{"dropped before routing", "table ip raw { chain c { type filter hook prerouting priority raw\n ip daddr 192.0.2.1 iifname eth0 drop; }; }", sealed, drops},
		{"a chain of NAT has no say", "table ip nat { chain c { type nat hook prerouting priority dstnat; policy accept\n }; }", sealed, passes},
		{"a table of the other family", "table ip6 t { chain c { type filter hook input priority 0; policy drop\n}; }", sealed, passes},
		{"not out but with the mark", "table inet k { chain c { type filter hook output priority 0; policy drop\n meta mark 0xca6c accept; }; }", leaving, passes},
		{"not out with another mark", "table inet k { chain c { type filter hook output priority 0; policy drop\n meta mark 0x1 accept; }; }", leaving, drops},
		{"by one bit of the mark", "table inet k { chain c { type filter hook output priority 0; policy drop\n meta mark & 0x8000 == 0x8000 accept; }; }", leaving, passes},
		{"not out but here", `table inet k { chain c { type filter hook output priority 0; policy drop` + "\n" + `oifname "eth0" accept; }; }`, leaving, passes},
		{"a mark that a rule has set", "table inet k { chain a { type filter hook output priority -1\n meta mark set 0x7; }\n" +
			"chain c { type filter hook output priority 0; policy drop\n meta mark 0x7 accept; }; }", leaving, passes},
		{"a mark that a rule may have set", "table inet k { chain a { type filter hook output priority -1\n ct mark 0x7 meta mark set 0x7; }\n" +
			"chain c { type filter hook output priority 0; policy drop\n meta mark 0x7 accept; }; }", leaving, dropsUnsure},
		{"nothing is forwarded", "table inet f { chain c { type filter hook forward priority 0; policy drop\n}; }", through, drops},
		{"the tunnel is forwarded", "table inet f { chain c { type filter hook forward priority 0; policy drop\n iifname wg0 accept; }; }", through, passes},
		{"answers are forwarded", "table inet f { chain c { type filter hook forward priority 0; policy drop\n ct state established accept; }; }", through, drops},
	} {
		t.Run(c.name, func(t *testing.T) {
			withRules(t, c.rules, func(rs *RuleSet) {
				v := rs.Judge(c.packet)
				got := passes
				if v.Drops {
					got = drops
				}
				if !v.Sure {
					got += ", perhaps"
				}
				if got != c.want {
					t.Errorf("%s (%s), want %s", got, v.By, c.want)
				}
			})
		})
	}
}

func TestWhatDropsAPacketIsNamed(t *testing.T) {
	rules := `table inet filter {
		chain sub { udp dport 51820 drop comment "no tunnels here"; }
		chain input { type filter hook input priority 0; policy accept
			jump sub; }; }`
	withRules(t, rules, func(rs *RuleSet) {
		by := rs.Judge(sealed).By
		if by.Chain != "sub" || by.Table != "filter" || by.Family != "inet" || by.Handle == 0 || by.Comment != "no tunnels here" {
			t.Errorf("%+v", by)
		}
		if got, want := by.Command(), "nft -a list chain inet filter sub"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
	withRules(t, "table ip6 t { chain c { type filter hook input priority 0; policy drop\n}; }", func(rs *RuleSet) {
		if got, want := rs.Judge(sealed6).By.String(), "the policy of chain c of table ip6 t"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestEachChainThatDropsIsNamed(t *testing.T) {
	rules := `table inet first {
		chain sub { iifname wg0 drop comment "no tunnels here"; }
		chain skipped { drop; }
		chain forward { type filter hook forward priority 0; policy accept
			jump sub; jump skipped; }; }
	table ip second { chain forward { type filter hook forward priority 10; policy drop
			ip saddr 10.0.0.0/8 limit rate 1/second accept; }; }
	table ip third { chain forward { type filter hook forward priority 20; policy drop
			accept; }; }`
	withRules(t, rules, func(rs *RuleSet) {
		got := rs.Drops(through)
		if len(got) != 2 {
			t.Errorf("%+v", got)
			return
		}
		if d := got[0]; d.Chain.Table.Name != "first" || d.Chain.Name != "forward" || d.By.Chain != "sub" || !d.Sure || !slices.Equal(d.Passed, []string{"forward", "sub"}) ||
			!strings.HasPrefix(d.Rule, `iifname "wg0" drop comment "no tunnels here" (handle `) {
			t.Errorf("%+v", d)
		}
		if d := got[1]; d.Chain.Table.Name != "second" || d.By.Handle != 0 || d.Sure || d.Rule != "chain forward { type filter hook forward; policy drop; }" {
			t.Errorf("%+v", d)
		}
	})
}

// Not every kernel can load such rules.
func TestWhatAnotherProgramDecidesNoRuleBehindItDoes(t *testing.T) {
	hook, policy := nftables.ChainHookInput, nftables.ChainPolicyDrop
	from := &nftables.Chain{Name: "input", Table: &nftables.Table{Name: "t", Family: nftables.TableFamilyINet}, Hooknum: hook, Policy: &policy}
	for _, rule := range [][]expr.Any{{&expr.Queue{}}, {&expr.Target{Name: "NFQUEUE"}}} {
		rs := &RuleSet{chains: make(map[key]*chain)}
		rs.add(from)
		c := rs.bases[0]
		c.read, c.rules = true, []*nftables.Rule{{Exprs: rule}, {Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}}}
		if v := rs.Judge(sealed); v.Drops || v.Sure {
			t.Errorf("%T: %+v", rule[0], v)
		}
		c.rules[0].Exprs = append([]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}}}, rule...)
		if v := rs.Judge(sealed); !v.Drops || !v.Sure {
			t.Errorf("%T of others' packets: %+v", rule[0], v)
		}
	}
}
