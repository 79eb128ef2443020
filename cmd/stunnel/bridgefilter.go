package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A bridge forwards frames without asking anybody, unless the kernel's br_netfilter is there: then they pass the forward chains
// that were written for routed packets (net.bridge.bridge-nf-call-iptables and its like). Where one of these drops what it
// does not know, as Docker's does, hosts on both sides of the tunnel see each other's ARP and nothing more. Chains of nft's
// own family bridge see all frames in any case.

// forwardChain is a base chain at the hook through which bridged frames may pass.
type forwardChain struct {
	*nftables.Chain
	rules []*nftables.Rule
}

// frameFilters are the switches that send bridged frames through chains of these families.
var frameFilters = []struct {
	sysctl   string // in /proc/sys/net/bridge
	families []nftables.TableFamily
}{
	{"bridge-nf-call-iptables", []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet}},
	{"bridge-nf-call-ip6tables", []nftables.TableFamily{nftables.TableFamilyIPv6, nftables.TableFamilyINet}},
	{"bridge-nf-call-arptables", []nftables.TableFamily{nftables.TableFamilyARP}},
}

var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	nftables.TableFamilyARP: "arp", nftables.TableFamilyBridge: "bridge",
}

// bridgeFilterWarnings say what would drop frames that the bridge forwards from or to its port, each with the command that
// mends it.
func bridgeFilterWarnings(bridge, port string) []string {
	on := make(map[string]bool)
	for _, f := range frameFilters {
		text, err := os.ReadFile("/proc/sys/net/bridge/" + f.sysctl)
		on[f.sysctl] = err == nil && strings.TrimSpace(string(text)) != "0"
	}
	chains, err := forwardChains()
	switch {
	case errors.Is(err, unix.EPERM) && len(onlyOn(on)) > 0:
		return []string{fmt.Sprintf("frames of %s pass the packet filter (net.bridge.%s is 1), which only root can read: "+
			"check it as root", bridge, onlyOn(on)[0])}
	case err != nil:
		return nil // no nf_tables here
	}
	return filterWarnings(bridge, port, on, chains)
}

// onlyOn are the switches that are on, in their order.
func onlyOn(on map[string]bool) (names []string) {
	for _, f := range frameFilters {
		if on[f.sysctl] {
			names = append(names, f.sysctl)
		}
	}
	return names
}

// filterWarnings judges the chains, where these switches are on.
func filterWarnings(bridge, port string, on map[string]bool, chains []forwardChain) (warnings []string) {
	for _, c := range chains {
		about := bridge // for chains of routed packets the bridge is the interface
		if c.Table.Family == nftables.TableFamilyBridge {
			about = port
		}
		why := c.drops(about)
		if why == "" {
			continue
		}
		family := familyNames[c.Table.Family]
		where := fmt.Sprintf("%s %s %s", family, c.Table.Name, c.Name)
		if c.Table.Family == nftables.TableFamilyBridge {
			warnings = append(warnings, fmt.Sprintf("the chain %s (%s) may drop frames that %s forwards: "+
				"nft insert rule %s iifname %s accept; nft insert rule %s oifname %s accept", where, why, bridge, where, port, where, port))
			continue
		}
		for _, f := range frameFilters {
			if !on[f.sysctl] || !slices.Contains(f.families, c.Table.Family) {
				continue
			}
			mend := fmt.Sprintf("sysctl -w net.bridge.%s=0", f.sysctl)
			if c.Table.Family != nftables.TableFamilyARP {
				mend += fmt.Sprintf(", or nft insert rule %s iifname %s oifname %s accept", where, bridge, bridge)
			}
			warnings = append(warnings, fmt.Sprintf("net.bridge.%s is 1, and the chain %s (%s) may drop frames that %s forwards: %s",
				f.sysctl, where, why, bridge, mend))
		}
	}
	return warnings
}

// forwardChains reads the rule set.
func forwardChains() (found []forwardChain, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	all, err := conn.ListChains()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		// NF_BR_FORWARD and NF_ARP_FORWARD have the same number as NF_INET_FORWARD.
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || familyNames[c.Table.Family] == "" {
			continue
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return nil, err
		}
		found = append(found, forwardChain{c, rules})
	}
	return found, nil
}

// drops says in words why frames of that interface may not get through the chain; "" when they do. Rules that jump or compare are
// not followed: what they would do to which frame nobody can tell here.
func (c *forwardChain) drops(about string) string {
	for _, r := range c.rules {
		verdict, always := judge(r)
		switch {
		case verdict == acceptVerdict && (always || isAbout(r, about)):
			return ""
		case verdict == dropVerdict && always:
			return "a rule of it drops everything"
		}
	}
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return "its policy is drop"
	}
	return ""
}

// verdict is what a rule does in the end.
type verdict int

const (
	noVerdict verdict = iota
	acceptVerdict
	dropVerdict
)

// judge finds a rule's verdict, and whether it is for every packet.
func judge(r *nftables.Rule) (v verdict, always bool) {
	always = true
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Verdict:
			switch e.Kind {
			case expr.VerdictAccept:
				v = acceptVerdict
			case expr.VerdictDrop:
				v = dropVerdict
			}
		case *expr.Reject:
			v = dropVerdict
		case *expr.Target: // of iptables
			if e.Name == "REJECT" {
				v = dropVerdict
			}
		default:
			always = false
		}
	}
	return v, always
}

// isAbout says whether a rule is about packets of that interface: by its name, or of any bridge as iptables has it (-m physdev).
func isAbout(r *nftables.Rule, name string) bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Cmp:
			if e.Op == expr.CmpOpEq && bytes.Equal(bytes.TrimRight(e.Data, "\x00"), []byte(name)) {
				return true
			}
		case *expr.Match:
			if e.Name == "physdev" {
				return true
			}
		}
	}
	return false
}
