package netconf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The name of the table is that of the interface between these. A '/' stands in no interface's name.
const ourTables, killSwitchTable = "stunnel-", "/killswitch"

// afterOthers is the priority of the kill switch's chains: whatever rules of others have done to a packet, its mark and its
// way, is done by then. All that comes later is source NAT.
const afterOthers = 400

// KillSwitch lets nothing leave the machine, its own packets or forwarded ones, but through the interface. Exempt are
// loopback, the tunnel's own sealed packets by their mark, what a network needs to give the machine an address (DHCP,
// IPv6 neighbour discovery with router advertisements, reports of multicast listeners), and what Allow and LAN say.
// A connection that was there before is not.
//
// It is a table of nftables, and so outlives the process and the interface. It goes by the interface's name.
type KillSwitch struct {
	Interface string
	Mark      uint32 // of the tunnel's own packets
	Allow     []netip.Prefix
	LAN       bool // allow the private networks that the machine is connected to, too

	Networks []netip.Prefix // those, as Look has found them
	Foreign  []netip.Prefix // connected networks that are not private, and so not allowed
}

func (k *KillSwitch) String() string {
	allowed := []string{fmt.Sprintf("its own packets (mark 0x%x)", k.Mark), "DHCP", "neighbour discovery"}
	if k.LAN {
		allowed = append(allowed, "the local networks")
	}
	for _, p := range k.Allow {
		allowed = append(allowed, p.String())
	}
	return fmt.Sprintf("kill switch: nothing leaves but through %s, except %s (nftables: table inet %s)", k.Interface, strings.Join(allowed, ", "), k.Table())
}

// Table is the table's name.
func (k *KillSwitch) Table() string { return KillSwitchTable(k.Interface) }

// KillSwitchTable is the name of the interface's table.
func KillSwitchTable(name string) string { return ourTables + name + killSwitchTable }

// Look is never done: a table that is there may be one of an earlier tunnel, and is replaced.
func (k *KillSwitch) Look(h *Handle) (done bool, err error) {
	k.Networks, k.Foreign = nil, nil
	if !k.LAN {
		return false, nil
	}
	connected, err := h.connectedNetworks(k.Interface)
	for _, p := range connected {
		if isPrivate(p) {
			k.Networks = append(k.Networks, p)
		} else {
			k.Foreign = append(k.Foreign, p)
		}
	}
	return false, err
}

// Make puts it in force, in one transaction, and in the place of an older one of that name: in between is nothing.
func (k *KillSwitch) Make(h *Handle) error {
	if err := h.release(lifted(k.Interface), k.Interface, func(string) error { return nil }); err != nil {
		return err
	}
	return k.write(h)
}

// restore is Make for a table that has gone while the tunnel runs, unless somebody has lifted it, be it in this very moment.
func (k *KillSwitch) restore(h *Handle) (restored bool, err error) {
	if meant, err := h.claimed(lifted(k.Interface)); meant || err != nil {
		return false, err
	}
	if err := k.write(h); err != nil {
		return false, err
	}
	meant, err := h.claimed(lifted(k.Interface))
	if meant {
		_, err = h.removeTable(k.Table())
	}
	return !meant, err
}

// write replaces the rules in chains that stay. With other chains in the place of the old ones a packet that meets both just then
// can find the rules of neither in force.
func (k *KillSwitch) write(h *Handle) error {
	t, err := h.sameTable(k.Table())
	if err != nil {
		return err
	}
	t.conn.FlushTable(t.table)
	for _, hook := range []*nftables.ChainHook{nftables.ChainHookOutput, nftables.ChainHookForward} {
		c := t.chain(hook, nftables.ChainTypeFilter, afterOthers, nftables.ChainPolicyDrop)
		accept := func(comment string, parts ...[]expr.Any) {
			t.rule(c, comment, append(parts, verdict(expr.VerdictAccept))...)
		}
		accept("", out(k.Interface))
		if hook == nftables.ChainHookForward {
			accept("answers, and what the other end begins", in(k.Interface))
		} else {
			k.exempt(accept)
		}
		for _, p := range k.allowed() {
			accept("", towards(p))
		}
		// Not dropped in silence: programs learn at once that there is no way.
		t.rule(c, "no way but "+k.Interface, counted(), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}})
	}
	return t.commit()
}

// exempt lets pass what the machine itself must send. None of it carries what programs say to others, and none but the
// sealed packets and the renewal of a DHCP lease goes beyond the link.
func (k *KillSwitch) exempt(accept func(comment string, parts ...[]expr.Any)) {
	accept("", out("lo"))
	// Not by the mark alone: where ping(8) is setuid, everybody can mark what that sends.
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} { // TCP: long answers of name servers
		accept("sealed", ofProtocol(protocol), marked(k.Mark))
	}
	accept("DHCP", inFamily(unix.NFPROTO_IPV4), betweenPorts(68, 67))
	for _, to := range []string{"fe80::/10", "ff02::1:2/128"} { // the server, and all servers and relays of the link
		accept("DHCPv6", towards(netip.MustParsePrefix(to)), betweenPorts(546, 547))
	}
	const hopLimit = 7 // its offset in the IPv6 header
	for kind := byte(133); kind <= 136; kind++ {
		// Router solicitation and advertisement, neighbour solicitation and advertisement (RFC 4861): a hop limit of 255
		// is what makes them valid.
		accept("neighbour discovery", inFamily(unix.NFPROTO_IPV6), headerField(expr.PayloadBaseNetworkHeader, hopLimit, 255),
			ofProtocol(unix.IPPROTO_ICMPV6), headerField(expr.PayloadBaseTransportHeader, 0, kind))
	}
	for _, kind := range []byte{131, 132, 143} { // report and done (RFC 2710), report of version 2 (RFC 3810)
		accept("multicast listener", towards(netip.MustParsePrefix("ff02::/16")),
			ofProtocol(unix.IPPROTO_ICMPV6), headerField(expr.PayloadBaseTransportHeader, 0, kind))
	}
}

func (k *KillSwitch) allowed() []netip.Prefix {
	all := slices.Clone(k.Allow)
	if k.LAN {
		all = append(append(all, k.Networks...), localScope...)
	}
	return all
}

// Undo lifts it.
func (k *KillSwitch) Undo(h *Handle) error {
	if _, err := h.removeTable(k.Table()); err != nil {
		return err
	}
	return h.release(lifted(k.Interface), k.Interface, func(string) error { return nil })
}

// KillSwitches are the interfaces whose kill switch is in force, whether their tunnels run or not.
func (h *Handle) KillSwitches() (names []string, err error) {
	c, err := h.nft()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	for _, t := range tables {
		if name, is := KillSwitchOf(t.Name); is {
			names = append(names, name)
		}
	}
	return names, refusedByNft("list the tables of nftables", err)
}

// KillSwitchOf is the interface whose kill switch a table of this name is; is: it is one.
func KillSwitchOf(table string) (name string, is bool) {
	name, ours := strings.CutPrefix(table, ourTables)
	name, is = strings.CutSuffix(name, killSwitchTable)
	return name, ours && is
}

// LiftKillSwitch lifts that of the interface, also for its tunnel, which would put it back. was: there was one.
func (h *Handle) LiftKillSwitch(name string) (was bool, err error) {
	_, noted := h.claim(lifted(name), name, func() (string, error) { return "", nil })
	was, err = h.removeTable(KillSwitchTable(name))
	return was, errors.Join(err, noted)
}

// lifted is what is claimed, while its tunnel runs, when somebody has lifted a kill switch.
func lifted(name string) string { return "lifted." + name }

var (
	// privateNetworks can't be a place in the Internet: an access point that calls the address of a server its own
	// network does not thereby get what is meant for that (the attack LocalNet of TunnelCrack, 2023).
	privateNetworks = prefixList("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10")

	// localScope is where a local network's own protocols go (link-local addresses, broadcast, DNS-SD, SSDP); no router
	// passes it on to the Internet.
	localScope = prefixList("169.254.0.0/16", "224.0.0.0/24", "239.255.0.0/16", "255.255.255.255/32", "fe80::/10", "ff02::/16")
)

func prefixList(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func isPrivate(p netip.Prefix) bool {
	return slices.ContainsFunc(privateNetworks, func(n netip.Prefix) bool { return n.Bits() <= p.Bits() && n.Contains(p.Addr()) })
}

// connectedNetworks are the networks to which the main table has a route without a gateway, but for loopback and the
// interface of that name, which need not be there.
func (h *Handle) connectedNetworks(except string) ([]netip.Prefix, error) {
	skip := make(map[int]bool)
	links, err := h.nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	for _, l := range links {
		skip[l.Attrs().Index] = l.Attrs().Name == "lo" || l.Attrs().Name == except
	}
	var found []netip.Prefix
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		routes, err := h.listRoutes(family(any), &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("connected networks: %w", err)
		}
		for _, r := range routes {
			p, ok := destination(r, any)
			if ok && p.Bits() > 0 && r.Type == unix.RTN_UNICAST && r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0 && !skip[r.LinkIndex] && !slices.Contains(found, p) {
				found = append(found, p)
			}
		}
	}
	return found, nil
}
