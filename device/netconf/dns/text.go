package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// text is a resolv.conf, taken apart; see resolv.conf(5).
type text struct {
	servers []netip.Addr
	search  []string // of the last search or domain line, which is the one that counts
	others  []string // lines of other keywords, as they are
}

func parse(s string) (t text) {
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if len(fields) > 1 {
				if a, err := netip.ParseAddr(fields[1]); err == nil {
					t.servers = append(t.servers, a.Unmap())
				}
			}
		case "search", "domain":
			t.search = fields[1:]
		default:
			t.others = append(t.others, line)
		}
	}
	return t
}

// lines are t as resolv.conf has it.
func (t *text) lines() string {
	var b strings.Builder
	for _, s := range t.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(t.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(t.search, " "))
	}
	for _, line := range t.others {
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// with is what holds when a tunnel that wants s comes up where t held. Its name servers replace all others, and with them
// what belongs to those; without name servers its domains are tried before the others.
func (t text) with(s *Settings) text {
	if len(s.Servers) > 0 {
		return text{servers: s.Servers, search: s.Search}
	}
	t.search = append(slices.Clone(s.Search), t.search...)
	return t
}

// render is the resolv.conf for tunnels, the last of which came up last, where original was. kept is where that is now.
func render(original string, owners []owner, kept string) string {
	t := parse(original)
	for i := range owners {
		t = t.with(&owners[i].Settings)
	}
	return fmt.Sprintf("# Written by stunnel for %s. It takes this back when it goes down;\n# what was here before is in %s\n%s",
		owners[len(owners)-1].Interface, kept, t.lines())
}
