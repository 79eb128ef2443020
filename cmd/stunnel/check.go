package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/vishvananda/netlink"

	"stunnel/cmd/internal/conf"
	"stunnel/crypto"
	"stunnel/transport"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "check a configuration file and tell what `up` would do with it",
		ArgsUsage: "FILE",
		Description: "Reads FILE (or, for a bare NAME, NAME.conf in /etc/stunnel or /etc/wireguard), reports all errors\n" +
			"in it at once, or else prints the steps of `up` in their order. It changes nothing, resolves no\n" +
			"names and needs no root beyond the right to read the file.\n\n" +
			"Example:\n" +
			"   stunnel check ./peer.conf",
		Action: func(c *cli.Context) error {
			path, err := conf.Find(c.Args().First())
			if err != nil {
				return err
			}
			file, err := conf.Load(path)
			if err != nil {
				return err
			}
			for _, w := range file.Warnings {
				warn(c.App.ErrWriter, "%s", w)
			}
			if kind := kindOf(file.Name); kind != "" && kind != "tuntap" && kind != "tun" {
				warn(c.App.ErrWriter, "there is an interface %s, of kind %s, and a TUN is needed: up will refuse", file.Name, kind)
			}
			printPlan(c.App.Writer, file)
			return nil
		},
	}
}

// kindOf is the kind of the interface of that name, "" if there is none.
func kindOf(name string) string {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return ""
	}
	return link.Type()
}

// printPlan writes the steps of `up`, one a line, in the order in which it takes them.
func printPlan(w io.Writer, f *conf.File) {
	in := &f.Interface
	step := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", what, printable(fmt.Sprintf(format, args...)))
	}
	step("interface", "%s", f.Name)
	for _, h := range in.PreUp {
		step("PreUp", "%s", hideKeys(h, f))
	}
	switch {
	case in.PrivateKey != nil:
		step("key", "%s (public)", in.PrivateKey.Public())
	default:
		step("key", "none here; a hook has to set it")
	}
	if in.ListenPort != nil && *in.ListenPort != 0 {
		step("listen", "UDP port %d", *in.ListenPort)
	} else {
		step("listen", "a UDP port that the kernel chooses")
	}
	if in.FwMark != nil && *in.FwMark != 0 {
		step("fwmark", "0x%x", *in.FwMark)
	}
	for i := range f.Peers {
		p := &f.Peers[i]
		step("peer", "%s", describePeer(p))
	}
	for _, a := range in.Address {
		step("address", "%s", a)
	}
	if in.MTU != 0 {
		step("mtu", "%d", in.MTU)
	} else {
		step("mtu", "chosen at the start: that of the way to the peers, less 80 (usually 1420)")
	}
	if !in.Offload {
		step("offload", "none: the kernel hands over every packet singly")
	}
	if !in.TrustedChecksums {
		step("checksums", "computed and verified for every packet, also between two stunnels")
	}
	for _, text := range describeSwitch(in) {
		step("switch", "%s", text)
	}
	if in.Lanes != 0 {
		step("lanes", "%d", in.Lanes)
	}
	printRoutes(step, f)
	for _, h := range in.PostUp {
		step("PostUp", "%s", hideKeys(h, f))
	}
	for _, h := range in.PreDown {
		step("PreDown", "%s (by down)", hideKeys(h, f))
	}
	for _, h := range in.PostDown {
		step("PostDown", "%s (by down)", hideKeys(h, f))
	}
}

// describeSwitch says what the file changes in how frames are switched.
func describeSwitch(in *conf.Interface) (texts []string) {
	if in.MACAgeing != 0 {
		texts = append(texts, fmt.Sprintf("MAC addresses are forgotten after %v", in.MACAgeing))
	}
	if in.MACLimit != 0 {
		texts = append(texts, fmt.Sprintf("at most %d MAC addresses behind each peer", in.MACLimit))
	}
	switch {
	case in.StormLimit == nil:
	case *in.StormLimit == 0:
		texts = append(texts, "no limit for frames to all")
	default:
		texts = append(texts, fmt.Sprintf("at most %d frames to all a second from each peer", *in.StormLimit))
	}
	if in.Forward {
		texts = append(texts, "frames go from one peer to another")
	}
	if in.PortSecurity {
		texts = append(texts, "no peer can use a MAC address that was heard elsewhere")
	}
	if in.LinkLocalFrames {
		texts = append(texts, "spanning tree, LACP, 802.1X and LLDP pass")
	}
	return texts
}

func describePeer(p *conf.Peer) string {
	var b strings.Builder
	if p.Name != "" {
		fmt.Fprintf(&b, "%s ", p.Name)
	}
	fmt.Fprintf(&b, "%s", p.PublicKey)
	if p.Endpoint != "" {
		fmt.Fprintf(&b, " at %s", p.Endpoint)
	} else {
		b.WriteString(", wherever it speaks from")
	}
	if p.PresharedKey != nil {
		b.WriteString(", preshared key")
	}
	if p.PersistentKeepalive != 0 {
		fmt.Fprintf(&b, ", keepalive every %d s", int(p.PersistentKeepalive.Seconds()))
	}
	switch p.Extensions {
	case transport.ExtensionsOff:
		b.WriteString(", plain WireGuard")
	case transport.ExtensionsRequired:
		b.WriteString(", no packet before it announces extensions")
	}
	if len(p.MACs) > 0 {
		fmt.Fprintf(&b, ", MAC addresses %s and no others", strings.Join(texts(p.MACs), ", "))
	}
	if len(p.AllowedIPs) > 0 {
		fmt.Fprintf(&b, ", allowed IPs %s", join(p.AllowedIPs))
	}
	return b.String()
}

// printRoutes lists them the most specific first, as up and wg-quick add them. In the main table a prefix that an
// address of the interface covers has its route by that.
func printRoutes(step func(what, format string, args ...any), f *conf.File) {
	t := f.Interface.Table
	if t.Off {
		step("routes", "none (Table = off)")
		return
	}
	const mainTable = 254
	ownTable := t.Number != 0 && t.Number != mainTable
	type route struct {
		prefix netip.Prefix
		peer   *conf.Peer
	}
	var routes []route
	for i := range f.Peers {
		for _, p := range f.Peers[i].AllowedIPs {
			routes = append(routes, route{p, &f.Peers[i]})
		}
	}
	slices.SortStableFunc(routes, func(a, b route) int { return b.prefix.Bits() - a.prefix.Bits() })
	for _, r := range routes {
		where, covered := "", ""
		if ownTable {
			where = fmt.Sprintf(" in table %d", t.Number)
		} else if a, ok := covering(f.Interface.Address, r.prefix); ok {
			covered = fmt.Sprintf(" (none of its own: %s covers it)", a)
		}
		step("route", "%s%s, to peer %s%s", r.prefix, where, r.peer.Title(), covered)
	}
}

// covering returns the address whose network p lies in.
func covering(addresses []netip.Prefix, p netip.Prefix) (netip.Prefix, bool) {
	for _, a := range addresses {
		if a.Bits() <= p.Bits() && a.Contains(p.Addr()) {
			return a, true
		}
	}
	return netip.Prefix{}, false
}

func join(prefixes []netip.Prefix) string {
	var texts []string
	for _, p := range prefixes {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ", ")
}

// hideKeys masks in a hook what is a key and not the public one of a peer.
func hideKeys(hook string, f *conf.File) string {
	return keyText.ReplaceAllStringFunc(hook, func(text string) string {
		k, err := crypto.ParsePublicKey(text)
		for _, p := range f.Peers {
			if err == nil && p.PublicKey == k {
				return text
			}
		}
		return "(hidden)"
	})
}
