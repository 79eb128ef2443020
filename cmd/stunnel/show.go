package main

import (
	"cmp"
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

	"stunnel/cmd/internal/conf"
	"stunnel/cmd/internal/conf/nearest"
	"stunnel/cmd/internal/control"
	"stunnel/transport"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show running tunnels and their peers",
		ArgsUsage: "[NAME or FILE]",
		Description: "Shows the tunnel of the interface NAME, or that of a configuration FILE, or all that run on this host. Any\n" +
			"program that has WireGuard's control socket is shown, wireguard-go too; for interfaces of the kernel there\n" +
			"is wg(8). What was dropped is told in words; --json has the reasons' names, and docs/operations.md says what\n" +
			"to do about each.\n\n" +
			jsonDescription + "\n\n" +
			"Example:\n" +
			"   stunnel show peer\n" +
			"   stunnel show --json | jq '.interfaces[].peers[].latest_handshake'",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.BoolFlag{Name: "show-keys", Usage: "print private and preshared keys too"},
			&cli.BoolFlag{Name: "macs", Usage: "print the MAC addresses that were heard, and on which side (Mode = tap)"},
		},
		Action: func(c *cli.Context) error {
			shown, err := gather(c.Args().First())
			o := showOptions{now: time.Now(), keys: c.Bool("show-keys"), macs: c.Bool("macs")}
			switch {
			case c.Bool("json"):
				if c.Args().Present() && err != nil {
					return err
				}
				err = errors.Join(err, showJSON(c.App.Writer, shown, o))
			case len(shown) == 0 && err == nil:
				fmt.Fprintln(c.App.ErrWriter, "stunnel: no tunnel is running")
				printHint(c.App.ErrWriter, kernelHint(""))
			case o.macs:
				showMACs(c.App.Writer, shown)
			default:
				showText(c.App.Writer, shown, o)
			}
			if !c.Args().Present() {
				warnOfLeftKillSwitches(c.App.ErrWriter, shown)
			}
			return err
		},
	}
}

// tunnel is one interface as it is shown.
type tunnel struct {
	name      string
	status    transport.Status
	elsewhere int // the process that runs it in another network namespace; 0: it is in ours, or that is not known
}

type showOptions struct {
	now  time.Time
	keys bool // show private and preshared keys
	macs bool // list stations

	ethernet bool // of a tunnel in tap mode
	ours     bool // of a stunnel, which tells all that there is to be told
}

// gather asks the interface that arg means, a NAME or a FILE, or all of them when it is "". What
// could be had comes back beside the error.
func gather(arg string) ([]tunnel, error) {
	names := []string{interfaceName(arg)}
	if arg == "" {
		var err error
		if names, err = control.Interfaces(); err != nil {
			return nil, err
		}
	}
	var all []tunnel
	var faults []error
	for _, n := range names {
		t, err := ask(n)
		switch {
		case err == nil:
			all = append(all, t)
		case arg == "" && errors.Is(err, control.ErrNotRunning): // it has just ended
		case arg == "":
			faults = append(faults, withHint(err, dialHint(n, err)))
		default:
			faults = append(faults, withHint(err, dialHint(arg, err)))
		}
	}
	return all, errors.Join(faults...)
}

func ask(name string) (tunnel, error) {
	c, err := control.Dial(name)
	if err != nil {
		return tunnel{}, err
	}
	defer c.Close()
	t := tunnel{name: name}
	if pid := c.PID(); elsewhere(pid) {
		t.elsewhere = pid
	}
	t.status, err = c.Status()
	return t, err
}

// dialHint says what to do when the tunnel that arg means, a NAME or a FILE, cannot be asked.
func dialHint(arg string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return "only root may ask a tunnel: try it with sudo"
	case !errors.Is(err, control.ErrNotRunning):
		return ""
	}
	name := interfaceName(arg)
	if hint := cmp.Or(kernelHint(name), heldHint(name)); hint != "" {
		return hint
	}
	running, _ := control.Interfaces()
	return notRunningHint(arg, running)
}

// notRunningHint is for a tunnel that does not run: there may be a configuration for it, or one of a name like that runs.
func notRunningHint(arg string, running []string) string {
	if _, err := conf.Find(arg); err == nil {
		return fmt.Sprintf("stunnel up %s starts this one", arg)
	}
	if near := nearest.Word(interfaceName(arg), running); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	if len(running) > 0 {
		return "running now: " + strings.Join(running, ", ")
	}
	return "no tunnel is running"
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
		o.ethernet, o.ours = t.status.Ethernet != nil, t.status.MTU != 0
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
	if pid := t.elsewhere; pid != 0 {
		b.line("runs in", fmt.Sprintf("another network namespace (nsenter --net=/proc/%d/ns/net)", pid))
	}
	if !s.PublicKey.IsZero() {
		b.line("public key", s.PublicKey.String())
		b.line("private key", secret(s.PrivateKey.Base64(), o))
	}
	if s.ListenPort != 0 {
		b.line("listening port", fmt.Sprint(s.ListenPort))
	}
	b.listening(s)
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
	b.ethernet(s.Ethernet)
	b.offloads(s.Offloads)
	if s.MTU != 0 && !s.TrustedChecksums {
		b.line("checksums", "computed and verified for every packet; trusted ones are off")
	}
	b.drops("dropped, of no one peer", s.Drops)
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
	} else {
		b.line("endpoint", unknownEndpoint(&p))
	}
	if o.ours {
		b.carrier(&p, o.now)
	}
	switch {
	case len(p.AllowedIPs) > 0:
		b.line("allowed ips", strings.Join(texts(p.AllowedIPs), ", "))
	case !o.ethernet:
		b.line("allowed ips", "(none)")
	}
	b.line("latest handshake", handshakeText(p, o.now))
	b.extensions(p, o.now)
	b.port(&p.Port)
	if p.RxBytes != 0 || p.TxBytes != 0 {
		b.line("transfer", iec(p.RxBytes)+" received, "+iec(p.TxBytes)+" sent")
	}
	if p.PersistentKeepalive != 0 {
		b.line("keepalive", "every "+count(int64(p.PersistentKeepalive/time.Second), "second"))
	}
	b.drops("dropped, of this peer", p.Drops)
}

// unknownEndpoint says why there is none.
func unknownEndpoint(p *transport.PeerStatus) string {
	if len(p.EndpointsTCP)+len(p.Endpoints) > 0 {
		return "none is in use"
	}
	return "not known; this peer has to speak first, or its name to be resolved"
}

// handshakeText says when the latest handshake was, and where there ought to be another one, what that means.
func handshakeText(p transport.PeerStatus, now time.Time) string {
	switch age := now.Sub(p.LastHandshake); {
	case !p.LastHandshake.IsZero():
		text := ago(age)
		switch {
		case p.Silent(now):
			text += "; a new one has had no answer, tried first " + ago(now.Sub(p.UnansweredSince))
		case p.PersistentKeepalive != 0 && age > transport.RejectAfterTime+transport.RekeyTimeout:
			// With a keepalive something is always sent, so that an old session is followed by a new one.
			text += "; that session is over, and there is no new one"
		}
		return text
	case p.TxBytes != 0 || p.Silent(now):
		return "never; it has not answered"
	case p.Endpoint.IsValid():
		return "never; nothing was sent to it yet"
	}
	return "never"
}
