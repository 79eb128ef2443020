package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
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
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print the steps, and warnings, as JSON"}},
		Action: func(c *cli.Context) error {
			path, err := conf.Find(c.Args().First())
			if err != nil {
				return err
			}
			file, err := conf.Load(path)
			if err != nil {
				return err
			}
			if err := sharedPort(file); err != nil {
				return err
			}
			warnings := file.Warnings
			needed := "TUN"
			if file.Interface.Ethernet {
				needed = "TAP"
			}
			if kind := kindOf(file.Name); kind != "" && kind != needed {
				warnings = append(warnings, fmt.Sprintf("there is an interface %s, of kind %s, and a %s is needed: up will refuse", file.Name, kind, needed))
			}
			if bridge := file.Interface.Bridge; bridge != "" {
				if kind := kindOf(bridge); kind != "" && kind != "bridge" {
					warnings = append(warnings, fmt.Sprintf("there is an interface %s, of kind %s, and a bridge is needed: up will refuse", bridge, kind))
				}
				warnings = append(warnings, bridgeFilterWarnings(bridge, file.Name)...)
			}
			if why := cannotSplit(file); why != "" {
				warnings = append(warnings, why)
			}
			if c.Bool("json") {
				return printPlanJSON(c.App.Writer, newPlan(file), warnings)
			}
			for _, w := range warnings {
				warn(c.App.ErrWriter, "%s", w)
			}
			printPlan(c.App.Writer, newPlan(file))
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
	if tuntap, ok := link.(*netlink.Tuntap); ok {
		if tuntap.Mode == netlink.TUNTAP_MODE_TAP {
			return "TAP"
		}
		return "TUN"
	}
	return link.Type()
}

// printPlan writes the steps of `up`, one a line, in the order in which it takes them.
func printPlan(w io.Writer, p *plan) {
	for _, s := range p.steps {
		if s.kind == "" {
			continue
		}
		text := s.text
		if s.down {
			text += " (by down)"
		}
		fmt.Fprintf(w, "%-9s %s\n", s.kind, printable(text))
	}
}

// planJSON is the plan for programs. Fields are only ever added.
type planJSON struct {
	Interface string     `json:"interface"`
	File      string     `json:"file"`
	Warnings  []string   `json:"warnings"`
	Up        []stepJSON `json:"up"`   // in the order in which up takes them
	Down      []stepJSON `json:"down"` // the hooks; all else goes the way of up backwards
}

type stepJSON struct {
	Step string `json:"step"`
	Text string `json:"text"`
}

func printPlanJSON(w io.Writer, p *plan, warnings []string) error {
	out := planJSON{Interface: p.file.Name, File: p.file.Path, Warnings: warnings, Up: []stepJSON{}, Down: []stepJSON{}}
	if warnings == nil {
		out.Warnings = []string{}
	}
	for _, s := range p.steps {
		switch {
		case s.kind == "":
		case s.down:
			out.Down = append(out.Down, stepJSON{s.kind, s.text})
		default:
			out.Up = append(out.Up, stepJSON{s.kind, s.text})
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(out)
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
	if len(p.Endpoints) > 0 {
		fmt.Fprintf(&b, " at %s", strings.Join(p.Endpoints, ", then "))
	} else {
		b.WriteString(", wherever it speaks from")
	}
	b.WriteString(describeCarrier(p))
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

// describeCarrier says how TCP comes in, if it does.
func describeCarrier(p *conf.Peer) string {
	at := ""
	if len(p.EndpointsTCP) > 0 {
		at = " at " + strings.Join(p.EndpointsTCP, ", then ")
	}
	switch p.TransportOf(false) {
	case transport.TransportTCP:
		return ", over TCP alone" + at
	case transport.TransportAuto:
		return ", over TCP" + at + " where UDP does not get through"
	}
	return ""
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
