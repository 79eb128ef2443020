package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/vishvananda/netlink"

	"stunnel/cmd/internal/control"
	"stunnel/transport"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show running tunnels and their peers",
		ArgsUsage: "[NAME]",
		Description: "Shows the tunnel of the interface NAME, or all that run on this host. Any program that has WireGuard's\n" +
			"control socket is shown, wireguard-go too; for interfaces of the kernel there is wg(8).\n\n" +
			jsonDescription + "\n\n" +
			"Example:\n" +
			"   stunnel show peer\n" +
			"   stunnel show --json | jq '.interfaces[].peers[].latest_handshake'",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.BoolFlag{Name: "show-keys", Usage: "print private and preshared keys too"},
		},
		Action: func(c *cli.Context) error {
			shown, err := gather(c.Args().First())
			o := showOptions{now: time.Now(), keys: c.Bool("show-keys")}
			switch {
			case c.Bool("json"):
				if c.Args().Present() && err != nil {
					return err
				}
				err = errors.Join(err, showJSON(c.App.Writer, shown, o))
			case len(shown) == 0 && err == nil:
				fmt.Fprintln(c.App.ErrWriter, "stunnel: no tunnel is running")
				printHint(c.App.ErrWriter, kernelHint(""))
			default:
				showText(c.App.Writer, shown, o)
			}
			return err
		},
	}
}

// tunnel is one interface as it is shown.
type tunnel struct {
	name   string
	status transport.Status
}

type showOptions struct {
	now  time.Time
	keys bool // show private and preshared keys
}

// gather asks one interface, or all of them when name is "". What could be had comes back
// beside the error.
func gather(name string) ([]tunnel, error) {
	names := []string{name}
	if name == "" {
		var err error
		if names, err = control.Interfaces(); err != nil {
			return nil, err
		}
	}
	var all []tunnel
	var faults []error
	for _, n := range names {
		status, err := statusOf(n)
		switch {
		case err == nil:
			all = append(all, tunnel{n, status})
		case name == "" && errors.Is(err, control.ErrNotRunning): // it has just ended
		default:
			faults = append(faults, withHint(err, dialHint(n, err)))
		}
	}
	return all, errors.Join(faults...)
}

func statusOf(name string) (transport.Status, error) {
	c, err := control.Dial(name)
	if err != nil {
		return transport.Status{}, err
	}
	defer c.Close()
	return c.Status()
}

// dialHint says what to do when the tunnel of that name cannot be asked.
func dialHint(name string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return "only root may ask a tunnel: try it with sudo"
	case !errors.Is(err, control.ErrNotRunning):
		return ""
	}
	if hint := kernelHint(name); hint != "" {
		return hint
	}
	if running, _ := control.Interfaces(); len(running) > 0 {
		return "running now: " + strings.Join(running, ", ")
	}
	return fmt.Sprintf("no tunnel is running; stunnel up %s starts this one", name)
}

// kernelHint points to wg(8) if the interface of that name, or any for "", is the kernel's own
// WireGuard: those have no control socket.
func kernelHint(name string) string {
	links, err := netlink.LinkList()
	if err != nil {
		return ""
	}
	i := slices.IndexFunc(links, func(l netlink.Link) bool {
		return l.Type() == "wireguard" && (name == "" || l.Attrs().Name == name)
	})
	if i < 0 {
		return ""
	}
	name = links[i].Attrs().Name
	return fmt.Sprintf("%s is a WireGuard interface of the kernel: wg show %s", name, name)
}

// showText prints in the spirit of wg(8): a block per interface and per peer.
func showText(w io.Writer, tunnels []tunnel, o showOptions) {
	for i, t := range tunnels {
		if i > 0 {
			fmt.Fprintln(w)
		}
		showInterface(w, t, o)
		for _, p := range t.status.Peers {
			fmt.Fprintln(w)
			showPeer(w, p, o)
		}
	}
}

func showInterface(w io.Writer, t tunnel, o showOptions) {
	s := &t.status
	b := block{w}
	b.head("interface", t.name)
	if !s.PublicKey.IsZero() {
		b.line("public key", s.PublicKey.String())
		b.line("private key", secret(s.PrivateKey.Base64(), o))
	}
	if s.ListenPort != 0 {
		b.line("listening port", fmt.Sprint(s.ListenPort))
	}
	if s.FwMark != 0 {
		b.line("fwmark", fmt.Sprintf("%#x", s.FwMark))
	}
	if s.MTU != 0 { // told by stunnel only, and then Up is told too
		b.line("mtu", fmt.Sprint(s.MTU))
		b.line("state", upOrDown(s.Up))
	}
	if s.Lanes > 0 {
		b.line("lanes", fmt.Sprint(s.Lanes))
	}
	b.offloads(s.Offloads)
	b.drops(s.Drops)
}

func showPeer(w io.Writer, p transport.PeerStatus, o showOptions) {
	b := block{w}
	if p.Name != "" {
		b.head("peer", p.Name)
		b.line("public key", p.PublicKey.String())
	} else {
		b.head("peer", p.PublicKey.String())
	}
	if !p.PresharedKey.IsZero() {
		b.line("preshared key", secret(p.PresharedKey.Base64(), o))
	}
	if p.Endpoint.IsValid() {
		b.line("endpoint", p.Endpoint.String())
	}
	allowed := "(none)"
	if len(p.AllowedIPs) > 0 {
		allowed = strings.Join(texts(p.AllowedIPs), ", ")
	}
	b.line("allowed ips", allowed)
	if !p.LastHandshake.IsZero() {
		b.line("latest handshake", ago(o.now.Sub(p.LastHandshake)))
	}
	if p.RxBytes != 0 || p.TxBytes != 0 {
		b.line("transfer", iec(p.RxBytes)+" received, "+iec(p.TxBytes)+" sent")
	}
	if p.PersistentKeepalive != 0 {
		b.line("keepalive", "every "+count(int64(p.PersistentKeepalive/time.Second), "second"))
	}
	b.drops(p.Drops)
}
