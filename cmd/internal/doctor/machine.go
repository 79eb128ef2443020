package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stunnel/device/netconf"
	"stunnel/device/netconf/ruleset"
)

// Machine is what was read of this host, as it is seen from the network namespace of the calling thread.
type Machine struct {
	NetAdmin bool  // this process may change the network
	TUN      error // why /dev/net/tun can't be opened; nil: it can
	Clock    Clock
	Links    []Link
	Rules    []Rule
	RulesErr error    // why there are none, if the kernel knows no rules
	Sockets  []Socket // of UDP

	Firewall    Firewall // nil: it could not be read, for FirewallErr
	FirewallErr error
	Legacy      []string // tables of the old iptables, which ruleset does not see

	Sysctls map[string]string // below /proc/sys, as net/ipv4/ip_forward

	// AddressErrors counts IPv4 packets that came for other hosts while this one does not forward; and Link.AddressErrors
	// those of IPv6.
	AddressErrors uint64

	Servers      []netip.Addr // name servers in /etc/resolv.conf
	Leftovers    []Leftover
	KillSwitches []string // the interfaces of those in force
	Running      []string // interfaces whose control sockets are answered
	Unread       []Unread
}

// Firewall is a *[ruleset.RuleSet].
type Firewall interface {
	Judge(ruleset.Packet) ruleset.Verdict
}

// Link is a network interface.
type Link struct {
	Name          string
	Index         int
	Kind          string // as netlink has it: "tuntap", "wireguard", "veth"
	Master        string // the bridge that it is a port of; "": none
	MTU           int    // in bytes
	Up            bool
	Addresses     []netip.Prefix
	AddressErrors uint64
}

// Rule is a rule of policy routing.
type Rule struct {
	Is6      bool
	Priority int
	Table    int
	Mark     uint32
	Text     string // in the words of ip(8)
}

// ReadMachine looks at the machine. running are the interfaces whose control sockets are answered.
func ReadMachine(running []string) *Machine {
	m := &Machine{Running: running, Sysctls: make(map[string]string)}
	m.NetAdmin = hasNetAdmin()
	m.TUN = openTUN()
	m.Clock = readClock()
	m.unread("the interfaces", m.readLinks())
	m.unread("the rules of routing", m.readRules())
	var err error
	m.Sockets, err = ReadSockets()
	m.unread("the sockets of UDP", err)
	m.readFirewall()
	m.readSysctls()
	m.AddressErrors = readCounter("/proc/net/snmp", "Ip", "InAddrErrors")
	m.Servers, err = readServers("/etc/resolv.conf")
	m.unread("the name servers", err)
	m.readLeftovers()
	return m
}

func (m *Machine) unread(what string, err error) {
	if err != nil {
		m.Unread = append(m.Unread, Unread{What: what, Why: err.Error()})
	}
}

func (m *Machine) readFirewall() {
	rules, err := ruleset.Read()
	switch {
	case err == nil:
		m.Firewall = rules
	case absent(err): // then there are no rules
	default:
		m.unread("the firewall", err)
	}
	m.FirewallErr = err
	if m.Legacy = netconf.LegacyTables(); len(m.Legacy) > 0 {
		m.unread("rules of the old iptables (iptables-legacy -S shows them)", fmt.Errorf("its tables are in use: %s", strings.Join(m.Legacy, ", ")))
	}
}

// absent: the kernel has no such thing at all.
func absent(err error) bool {
	for _, e := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EINVAL, unix.ENOENT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func hasNetAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

func (m *Machine) readLinks() error {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	addresses, err := netlink.AddrList(nil, unix.AF_UNSPEC)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	names := make(map[int]string)
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		link := Link{Name: a.Name, Index: a.Index, Kind: l.Type(), Master: names[a.MasterIndex], MTU: a.MTU, Up: a.Flags&net.FlagUp != 0}
		counters := "/proc/net/dev_snmp6/" + a.Name
		link.AddressErrors = readCounter(counters, "", "Ip6InAddrErrors") + readCounter(counters, "", "Ip6InNoRoutes")
		for _, of := range addresses {
			if of.LinkIndex == a.Index && of.IPNet != nil {
				if addr, ok := netip.AddrFromSlice(of.IP); ok {
					bits, _ := of.Mask.Size()
					link.Addresses = append(link.Addresses, netip.PrefixFrom(addr.Unmap(), bits))
				}
			}
		}
		m.Links = append(m.Links, link)
	}
	return nil
}

// link is the interface of that name, nil if there is none.
func (m *Machine) link(name string) *Link {
	if i := slices.IndexFunc(m.Links, func(l Link) bool { return l.Name == name }); i >= 0 {
		return &m.Links[i]
	}
	return nil
}

func (m *Machine) readRules() error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := netlink.RuleList(family)
		switch {
		case err == nil, errors.Is(err, netlink.ErrDumpInterrupted):
		case !absent(err):
			return err
		case family == unix.AF_INET:
			m.RulesErr = err
		}
		for _, r := range rules {
			m.Rules = append(m.Rules, Rule{
				Is6: family == unix.AF_INET6, Priority: r.Priority, Table: r.Table, Mark: r.Mark, Text: ruleText(r),
			})
		}
	}
	return nil
}

// ruleText is a rule in the words of `ip rule`.
func ruleText(r netlink.Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", r.Priority)
	if r.Invert {
		b.WriteString(" not")
	}
	from := "all"
	if r.Src != nil {
		from = r.Src.String()
	}
	fmt.Fprintf(&b, " from %s", from)
	if r.Dst != nil {
		fmt.Fprintf(&b, " to %s", r.Dst)
	}
	switch {
	case r.Mark != 0 && r.Mask != nil && *r.Mask != 0xffffffff:
		fmt.Fprintf(&b, " fwmark %#x/%#x", r.Mark, *r.Mask)
	case r.Mark != 0:
		fmt.Fprintf(&b, " fwmark %#x", r.Mark)
	}
	if r.IifName != "" {
		fmt.Fprintf(&b, " iif %s", r.IifName)
	}
	if r.OifName != "" {
		fmt.Fprintf(&b, " oif %s", r.OifName)
	}
	switch r.Table {
	case 0:
	case unix.RT_TABLE_LOCAL:
		b.WriteString(" lookup local")
	case unix.RT_TABLE_MAIN:
		b.WriteString(" lookup main")
	case unix.RT_TABLE_DEFAULT:
		b.WriteString(" lookup default")
	default:
		fmt.Fprintf(&b, " lookup %d", r.Table)
	}
	if r.SuppressPrefixlen >= 0 {
		fmt.Fprintf(&b, " suppress_prefixlength %d", r.SuppressPrefixlen)
	}
	return b.String()
}

// readSysctls reads the switches that checks ask for, of all interfaces. One that is not there is not in the map.
func (m *Machine) readSysctls() {
	patterns := []string{
		"net/ipv4/ip_forward", "net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/src_valid_mark",
		"net/ipv6/conf/*/disable_ipv6", "net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/force_forwarding",
		bridgeFilter,
	}
	const root = "/proc/sys/"
	for _, p := range patterns {
		paths, _ := filepath.Glob(root + p) // the pattern is right
		for _, path := range paths {
			if text, err := os.ReadFile(path); err == nil {
				m.Sysctls[strings.TrimPrefix(path, root)] = strings.TrimSpace(string(text))
			}
		}
	}
}

// sysctl is a switch as evidence.
func (m *Machine) sysctl(key string) Evidence {
	value, there := m.Sysctls[key]
	if !there {
		value = "is not there"
	}
	return Evidence{"/proc/sys/" + key, value}
}

// readCounter reads the number called name: in a file of lines "name number", or, with a section, in one like /proc/net/snmp,
// where a line of names is followed by a line of numbers and both begin with the section. 0: it is not there.
func readCounter(path, section, name string) uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case section == "" && len(words) == 2 && words[0] == name:
			n, _ := strconv.ParseUint(words[1], 10, 64)
			return n
		case section == "" || len(words) == 0 || words[0] != section+":":
		case names == nil:
			names = words
		default:
			if i := slices.Index(names, name); i >= 0 && i < len(words) {
				n, _ := strconv.ParseUint(words[i], 10, 64)
				return n
			}
		}
	}
	return 0
}
