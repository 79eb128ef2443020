package netconf

import (
	"fmt"
	"net/netip"
	"strings"

	"stunnel/device/netconf/dns"
)

// DNS leads the machine's look-ups of names to the tunnel's name servers. It comes late on the way up, when the servers can
// be reached, and so goes early on the way down.
type DNS struct {
	Way      dns.Way // chosen by Look, unless it is given
	Settings dns.Settings
}

// NewDNS is the step for an interface, which need not be there before Look.
func NewDNS(name string, servers []netip.Addr, search, route []string) *DNS {
	return &DNS{Settings: dns.Settings{Interface: name, Servers: servers, Search: search, Route: route}}
}

func (s *DNS) String() string {
	var what []string
	for _, server := range s.Settings.Servers {
		what = append(what, server.String())
	}
	if len(s.Settings.Servers) > 0 {
		what = []string{"name servers " + strings.Join(what, ", ")}
	}
	if len(s.Settings.Route) > 0 {
		what = append(what, "for "+strings.Join(s.Settings.Route, ", "))
	}
	if len(s.Settings.Search) > 0 {
		what = append(what, "search "+strings.Join(s.Settings.Search, ", "))
	}
	text := "DNS " + strings.Join(what, ", ")
	if s.Way != "" {
		text += fmt.Sprintf(" (by %s)", s.Way)
	}
	return text
}

// Look chooses the way. An error wraps dns.ErrSplit where the machine has none that could do this. Never done: what tunnels
// want is ordered by when they come up.
func (s *DNS) Look(h *Handle) (done bool, err error) {
	if s.Way == "" {
		s.Way = dns.Choose()
	}
	if err := dns.Check(s.Way, s.Settings); err != nil {
		return false, fmt.Errorf("DNS: %w", err)
	}
	l, err := h.link(s.Settings.Interface)
	if err != nil {
		return false, fmt.Errorf("DNS: %w", err)
	}
	s.Settings.Index, s.Settings.NetNS = l.Attrs().Index, h.netns
	return false, nil
}

func (s *DNS) Make(*Handle) error {
	if err := dns.Set(s.Way, s.Settings); err != nil {
		return fmt.Errorf("DNS by %s: %w", s.Way, err)
	}
	return nil
}

func (s *DNS) Undo(h *Handle) error {
	note, err := dns.Revert(s.Way, s.Settings)
	if err != nil {
		return fmt.Errorf("take DNS back from %s: %w", s.Way, err)
	}
	if note != "" {
		h.note(note)
	}
	return nil
}
