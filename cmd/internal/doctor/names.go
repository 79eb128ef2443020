package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
)

// readServers reads the name servers of resolv.conf(5).
func readServers(path string) (servers []netip.Addr, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // then 127.0.0.1 is asked
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			servers = append(servers, a)
		}
	}
	return servers, nil
}

// checkNames: name servers of the file that have private addresses are meant to be reached through the tunnel.
func checkNames(m *Machine, t *Tunnel) (found []Finding) {
	for _, w := range t.Servers {
		if w.Err == nil && (w.Interface == t.Name || w.Local) {
			continue
		}
		f := Finding{
			ID: "dns_not_in_tunnel", Note: w.Err == nil && !w.To.IsPrivate(),
			What:     fmt.Sprintf("questions to the name server %s of the file do not go through the tunnel", w.To),
			Evidence: []Evidence{w.evidence(), {t.Path, "DNS = " + w.To.String()}},
			Remedies: []Remedy{
				{Why: fmt.Sprintf("%s: %s into the AllowedIPs of the peer that leads to it", t.arg(), hostPrefix(w.To))},
				{fmt.Sprintf("sudo ip route add %s dev %s", hostPrefix(w.To), t.Name), "if it is there already, and the route is missing"},
			},
		}
		found = append(found, f)
	}
	return found
}

// checkNftables: what needs a table of rules needs a kernel that has them.
func checkNftables(m *Machine, t *Tunnel) []Finding {
	if !absent(m.FirewallErr) || t.File == nil {
		return nil
	}
	needs := t.needsNftables()
	if needs == "" {
		return nil
	}
	return one(Finding{
		ID: "no_nftables", What: needs + " needs nftables, and this kernel has none",
		Evidence: []Evidence{{"netlink, NFNL_SUBSYS_NFTABLES", m.FirewallErr.Error()}},
		Remedies: []Remedy{{"sudo modprobe nf_tables", "loads the module, if there is one (CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET)"},
			{Why: t.Path + ": or take it out"}},
	})
}
