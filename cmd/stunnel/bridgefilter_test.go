package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

func ruleOf(exprs ...expr.Any) *nftables.Rule { return &nftables.Rule{Exprs: exprs} }

func chainOf(family nftables.TableFamily, policy nftables.ChainPolicy, rules ...*nftables.Rule) forwardChain {
	return forwardChain{&nftables.Chain{Name: "FORWARD", Table: &nftables.Table{Name: "filter", Family: family}, Policy: &policy}, rules}
}

func TestAChainThatMayDropBridgedFramesIsNamedWithItsRemedy(t *testing.T) {
	accept, drop := &expr.Verdict{Kind: expr.VerdictAccept}, &expr.Verdict{Kind: expr.VerdictDrop}
	jump := &expr.Verdict{Kind: expr.VerdictJump, Chain: "DOCKER"}
	iifname := func(name string) []expr.Any {
		data := make([]byte, 16)
		copy(data, name)
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}}
	}
	all := []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"}
	const (
		ip, ip6, inet, arp, bridge = nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet,
			nftables.TableFamilyARP, nftables.TableFamilyBridge
		dropping, accepting = nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
	)
	for _, c := range []struct {
		name  string
		on    []string
		chain forwardChain
		want  []string // parts of each warning, separated by |; none: no warning
	}{
		{"nothing is called", nil, chainOf(ip, dropping), nil},
		{"another family's switch", all[1:], chainOf(ip, dropping), nil},
		{"policy accept", all, chainOf(ip, accepting), nil},
		{"policy drop, as Docker has it", all, chainOf(ip, dropping, ruleOf(jump)),
			[]string{"policy is drop|sysctl -w net.bridge.bridge-nf-call-iptables=0|nft insert rule ip filter FORWARD iifname br0 oifname br0 accept"}},
		{"IPv6", all, chainOf(ip6, dropping), []string{"sysctl -w net.bridge.bridge-nf-call-ip6tables=0|ip6 filter FORWARD"}},
		{"ARP", all, chainOf(arp, dropping), []string{"sysctl -w net.bridge.bridge-nf-call-arptables=0"}},
		{"both families", all, chainOf(inet, dropping), []string{"bridge-nf-call-iptables=0", "bridge-nf-call-ip6tables=0"}},
		{"one switch of two", all[:1], chainOf(inet, dropping), []string{"bridge-nf-call-iptables=0"}},
		{"a bridge's own chain, whatever is called", nil, chainOf(bridge, dropping), []string{"nft insert rule bridge filter FORWARD iifname lan accept|nft insert rule bridge filter FORWARD oifname lan accept"}},
		{"a bridge's own chain, mended", all, chainOf(bridge, dropping, ruleOf(append(iifname("lan"), accept)...)), nil},
		{"a last rule that drops", all, chainOf(ip, accepting, ruleOf(&expr.Counter{}, drop)), []string{"a rule of it drops everything"}},
		{"a last rule that rejects", all, chainOf(ip, accepting, ruleOf(&expr.Log{}, &expr.Reject{})), []string{"a rule of it drops everything"}},
		{"iptables' REJECT", all, chainOf(ip, accepting, ruleOf(&expr.Counter{}, &expr.Target{Name: "REJECT"})), []string{"a rule of it drops everything"}},
		{"a rule that drops something else", all, chainOf(ip, accepting, ruleOf(append(iifname("eth0"), drop)...)), nil},
		{"mended by name", all, chainOf(ip, dropping, ruleOf(append(iifname("br0"), accept)...)), nil},
		{"mended for another bridge", all, chainOf(ip, dropping, ruleOf(append(iifname("br1"), accept)...)), []string{"policy is drop"}},
		{"mended by physdev", all, chainOf(ip, dropping, ruleOf(&expr.Match{Name: "physdev"}, &expr.Counter{}, accept)), nil},
		{"everything is accepted first", all, chainOf(ip, dropping, ruleOf(accept), ruleOf(drop)), nil},
		{"dropped before it is mended", all, chainOf(ip, accepting, ruleOf(drop), ruleOf(append(iifname("br0"), accept)...)), []string{"drops everything"}},
	} {
		on := make(map[string]bool)
		for _, name := range all {
			on[name] = slices.Contains(c.on, name)
		}
		got := filterWarnings("br0", "lan", on, []forwardChain{c.chain})
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for i, parts := range c.want {
			for part := range strings.SplitSeq(parts, "|") {
				if !strings.Contains(got[i], part) {
					t.Errorf("%s: %q does not say %q", c.name, got[i], part)
				}
			}
		}
	}
}
