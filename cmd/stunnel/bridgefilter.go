package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"stunnel/device/netconf/ruleset"
)

// A bridge forwards frames without asking anybody, unless the kernel's br_netfilter is there: then they pass the forward chains
// that were written for routed packets (net.bridge.bridge-nf-call-iptables and its like). Where one of these drops what it
// does not know, as Docker's does, hosts on both sides of the tunnel see each other's ARP and nothing more. Chains of nft's
// own family bridge see all frames in any case.

// frameFilters are the switches that send bridged frames through chains for packets of these families, those of nft's inet too.
// (That for ARP leads to the old arptables only, which can't be read: nft's family arp has no such hook.)
var frameFilters = []struct {
	sysctl string // in /proc/sys/net/bridge
	family byte
}{
	{"bridge-nf-call-iptables", unix.NFPROTO_IPV4},
	{"bridge-nf-call-ip6tables", unix.NFPROTO_IPV6},
}

// bridgeFilterWarnings say what would drop frames that the bridge forwards from or to its port, each with the command that
// mends it.
func bridgeFilterWarnings(bridge, port string) []string {
	on := make(map[string]bool)
	for _, f := range frameFilters {
		text, err := os.ReadFile("/proc/sys/net/bridge/" + f.sysctl)
		on[f.sysctl] = err == nil && strings.TrimSpace(string(text)) != "0"
	}
	rules, err := ruleset.Read()
	switch {
	case errors.Is(err, unix.EPERM) && len(onlyOn(on)) > 0:
		return []string{fmt.Sprintf("frames of %s pass the packet filter (net.bridge.%s is 1), which only root can read: "+
			"check it as root", bridge, onlyOn(on)[0])}
	case err != nil:
		return nil // no nf_tables here
	}
	return filterWarnings(bridge, port, on, rules)
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

// filterWarnings asks the rules about frames from and to the port, where these switches are on.
func filterWarnings(bridge, port string, on map[string]bool, rules *ruleset.RuleSet) (warnings []string) {
	for _, f := range frameFilters {
		from := ruleset.Packet{Way: ruleset.Bridged, Family: f.family, Bridge: bridge, InInterface: port}
		to := ruleset.Packet{Way: ruleset.Bridged, Family: f.family, Bridge: bridge, OutInterface: port}
		for _, d := range append(rules.Drops(from), rules.Drops(to)...) {
			own := d.Chain.Table.Family == nftables.TableFamilyBridge
			if !own && !on[f.sysctl] {
				continue
			}
			where := fmt.Sprintf("%s %s %s", ruleset.FamilyName(d.Chain.Table.Family), d.Chain.Table.Name, d.Chain.Name)
			why := "its policy is drop"
			if d.By.Handle != 0 {
				why = "by " + d.Rule
			}
			text := fmt.Sprintf("the chain %s (%s) may drop frames that %s forwards: ", where, why, bridge)
			if own {
				text += fmt.Sprintf("nft insert rule %s iifname %s accept; nft insert rule %s oifname %s accept", where, port, where, port)
			} else {
				text = fmt.Sprintf("net.bridge.%s is 1, and %ssysctl -w net.bridge.%s=0, or nft insert rule %s iifname %s oifname %s accept",
					f.sysctl, text, f.sysctl, where, bridge, bridge)
			}
			if !slices.Contains(warnings, text) { // the same chain sees all families, and both directions
				warnings = append(warnings, text)
			}
		}
	}
	return warnings
}
