package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"stunnel/cmd/internal/conf"
	"stunnel/transport"
)

func stripCommand() *cli.Command {
	return &cli.Command{
		Name:      "strip",
		Usage:     "print a configuration file as wg(8) reads it",
		ArgsUsage: "FILE or NAME",
		Description: "Prints what of the file is for wg(8), as `wg-quick strip` does: without the keys of wg-quick and our own,\n" +
			"with the keys that stand in files of their own. So a changed file is applied to a running tunnel, whose\n" +
			"sessions go on; addresses, routes, MTU and hooks need down and up. The output has secret keys.\n\n" +
			"Example:\n" +
			"   wg syncconf peer <(stunnel strip peer)",
		Action: func(c *cli.Context) error {
			path, err := conf.Find(c.Args().First())
			if err != nil {
				return err
			}
			file, err := conf.Load(path)
			if err != nil {
				return err
			}
			warnOfReaders(c.App.ErrWriter)
			if file.Interface.PrivateKey == nil {
				warn(c.App.ErrWriter, "%s has no private key: wg syncconf and setconf would take away the one that a hook has set; wg addconf leaves it", path)
			}
			if peers := withExtensions(file); len(peers) > 0 {
				warn(c.App.ErrWriter, "wg knows no Extensions: a running peer keeps what it has, and a new one begins with auto (%s)", strings.Join(peers, ", "))
			}
			if peers := withCarriers(file); len(peers) > 0 {
				warn(c.App.ErrWriter, "wg knows one Endpoint, and neither EndpointTCP nor Transport: a running peer keeps what it has, and a new one has the first Endpoint alone, over UDP (%s)", strings.Join(peers, ", "))
			}
			if peers := withMACs(file); len(peers) > 0 {
				warn(c.App.ErrWriter, "wg knows no MACs: a running peer keeps what it has, and a new one may use any address (%s)", strings.Join(peers, ", "))
			}
			strip(c.App.Writer, file)
			return nil
		},
	}
}

// withExtensions are the titles of the peers whose Extensions are lost by strip.
func withExtensions(f *conf.File) (titles []string) {
	for i := range f.Peers {
		if p := &f.Peers[i]; p.Extensions != transport.ExtensionsAuto {
			titles = append(titles, p.Title())
		}
	}
	return titles
}

// withCarriers are the titles of the peers of whose whereabouts strip tells one.
func withCarriers(f *conf.File) (titles []string) {
	for i := range f.Peers {
		if p := &f.Peers[i]; len(p.Endpoints) > 1 || len(p.EndpointsTCP) > 0 || p.Transport != nil && *p.Transport != transport.TransportUDP {
			titles = append(titles, p.Title())
		}
	}
	return titles
}

// withMACs are the titles of the peers whose MACs are lost by strip.
func withMACs(f *conf.File) (titles []string) {
	for i := range f.Peers {
		if p := &f.Peers[i]; len(p.MACs) > 0 {
			titles = append(titles, p.Title())
		}
	}
	return titles
}

// strip writes f in the format of wg(8), names as comments. Errors are those of w, which remembers them.
func strip(w io.Writer, f *conf.File) {
	in := &f.Interface
	fmt.Fprintln(w, "[Interface]")
	if in.PrivateKey != nil {
		fmt.Fprintf(w, "PrivateKey = %s\n", in.PrivateKey.Base64())
	}
	if in.ListenPort != nil {
		fmt.Fprintf(w, "ListenPort = %d\n", *in.ListenPort)
	}
	if in.FwMark != nil {
		fmt.Fprintf(w, "FwMark = 0x%x\n", *in.FwMark)
	}
	for i := range f.Peers {
		p := &f.Peers[i]
		fmt.Fprint(w, "\n[Peer]\n")
		if p.Name != "" {
			fmt.Fprintf(w, "# Name = %s\n", p.Name)
		}
		fmt.Fprintf(w, "PublicKey = %s\n", p.PublicKey)
		if p.PresharedKey != nil {
			fmt.Fprintf(w, "PresharedKey = %s\n", p.PresharedKey.Base64())
		}
		if len(p.AllowedIPs) > 0 {
			fmt.Fprintf(w, "AllowedIPs = %s\n", join(p.AllowedIPs))
		}
		if len(p.Endpoints) > 0 { // of several wg takes the last one
			fmt.Fprintf(w, "Endpoint = %s\n", p.Endpoints[0])
		}
		if p.PersistentKeepalive != 0 {
			fmt.Fprintf(w, "PersistentKeepalive = %d\n", p.PersistentKeepalive/time.Second)
		}
	}
}
