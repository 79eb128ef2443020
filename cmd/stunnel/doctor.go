package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"stunnel/cmd/internal/conf"
	"stunnel/cmd/internal/control"
	"stunnel/cmd/internal/doctor"
	"stunnel/transport/socket"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "tell why a tunnel does not work, and what mends it",
		ArgsUsage: "[NAME or FILE]",
		Description: "Looks at the machine and at the tunnel of the interface NAME, or that of a configuration FILE, or at all that\n" +
			"run on this host: rights, clock, port, names and routes of endpoints, handshakes, allowed IPs, forwarding,\n" +
			"firewall, MTU, and what tunnels that died have left. Of a tunnel that does not run it tells what `up` would meet.\n" +
			"Each finding comes with what was read and what mends it; what to mend first comes first. It changes nothing, and\n" +
			"sends nothing but questions for the names of endpoints, and to a silent peer that should take TCP an attempt. Run it at\n" +
			"both ends, as root, while something is sent.\n\n" +
			"The exit status is 0 if nothing is wrong, and 1 if something is. --json prints {\"tunnels\": [names],\n" +
			"\"findings\": [...], \"notes\": [...] (which may be meant so), \"unread\": [{what, why}]}; of a finding: id (a word\n" +
			"that stays the same), tunnel, peer, what, evidence [{source, says}], remedies [{command, why}].\n\n" +
			"Example:\n" +
			"   sudo stunnel doctor work\n" +
			"   sudo stunnel doctor ./peer.conf --json | jq -r '.findings[].id'",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}},
		Action: func(c *cli.Context) error {
			running, err := control.Interfaces()
			if err != nil {
				return err
			}
			patients, unread, err := patients(c.Args().First(), running)
			if err != nil {
				return err
			}
			m := doctor.ReadMachine(running)
			m.Unread = append(m.Unread, unread...)
			for _, p := range patients {
				p.Read(c.Context, m)
			}
			report := doctor.Examine(m, patients)
			if c.Bool("json") {
				err = writeJSON(c.App.Writer, report)
			} else {
				printReport(c.App.Writer, report)
			}
			if err == nil && len(report.Findings) > 0 {
				err = errSaid // by the report
			}
			return err
		},
	}
}

// patients are the tunnels that arg means, a NAME or a FILE, or all that run if it is "".
func patients(arg string, running []string) (all []*doctor.Tunnel, unread []doctor.Unread, err error) {
	if arg != "" {
		t, err := patient(arg, running)
		if err != nil {
			return nil, nil, err
		}
		return []*doctor.Tunnel{t}, nil, nil
	}
	for _, name := range running {
		t, err := patient(name, running)
		switch {
		case err == nil:
			all = append(all, t)
		case !errors.Is(err, control.ErrNotRunning): // that one has just ended
			unread = append(unread, doctor.Unread{What: "the tunnel " + name, Why: err.Error()})
		}
	}
	return all, unread, nil
}

// patient is what is known of one tunnel without looking at the machine. It is an error if there is neither a running one of
// that name nor a file.
func patient(arg string, running []string) (*doctor.Tunnel, error) {
	name := interfaceName(arg)
	t := &doctor.Tunnel{Name: name}
	path, fileErr := conf.Find(arg)
	if fileErr == nil {
		t.Path = path
		if t.File, t.Faults = conf.Load(path); t.Faults != nil {
			t.File = nil
		}
	}
	if err := cmp.Or(fileErr, t.Faults); errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return nil, withHint(err, "try it as root: sudo stunnel doctor "+arg)
	}
	t.Lookup = net.DefaultResolver.LookupNetIP
	if !slices.Contains(running, name) {
		t.Holder = holderOf(name)
		return t, fileErr
	}
	shown, err := ask(name)
	if err != nil {
		return nil, withHint(err, dialHint(arg, err))
	}
	t.Status, t.Elsewhere = &shown.status, shown.elsewhere
	if t.File != nil { // as the tunnel itself does
		l := &lookups{mark: func() uint32 { return t.Status.FwMark }, direct: pastResolved(t.File), own: t.File.Interface.DNS.Servers}
		t.Lookup = l.lookup
		t.Dial = dialAs(&t.File.Interface, t.Status.FwMark)
	}
	return t, nil
}

// dialAs makes TCP connections as the tunnel of in does, and ends them.
func dialAs(in *conf.Interface, mark uint32) func(context.Context, netip.AddrPort) error {
	return func(ctx context.Context, to netip.AddrPort) error {
		s, err := socket.Dial(ctx, to, socket.Options{Mark: mark, Address: socketAddress(in), Device: in.BindDevice})
		if err != nil {
			return err
		}
		return s.Close()
	}
}

func writeJSON(w io.Writer, r doctor.Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func printReport(w io.Writer, r doctor.Report) {
	number := 0
	for _, f := range r.Findings {
		number++
		printFinding(w, fmt.Sprintf("%d. ", number), f)
	}
	for _, f := range r.Notes {
		printFinding(w, "note: ", f)
	}
	for _, u := range r.Unread {
		fmt.Fprintf(w, "not looked at: %s: %s\n", printable(u.What), printable(u.Why))
	}
	if len(r.Unread) > 0 {
		fmt.Fprintln(w)
	}
	of := "the machine; no tunnel is running"
	if len(r.Tunnels) > 0 {
		of = "the machine and " + strings.Join(r.Tunnels, ", ")
	}
	switch n := len(r.Findings); n {
	case 0:
		fmt.Fprintf(w, "nothing wrong was found (%s)\n", printable(of))
	default:
		fmt.Fprintf(w, "%s found (%s); mend the first one first, others may be its consequences\n", count(uint64(n), "fault"), printable(of))
	}
}

func printFinding(w io.Writer, mark string, f doctor.Finding) {
	about := ""
	if f.Tunnel != "" {
		about = f.Tunnel + ": "
	}
	if f.Peer != "" {
		about += "peer " + f.Peer + ": "
	}
	fmt.Fprintf(w, "%s%s%s [%s]\n", mark, printable(about), printable(f.What), f.ID)
	for _, e := range f.Evidence {
		fmt.Fprintf(w, "   seen  %s: %s\n", printable(e.Source), printable(e.Says))
	}
	for _, r := range f.Remedies {
		switch {
		case r.Command == "":
			fmt.Fprintf(w, "   mend  %s\n", printable(r.Why))
		case r.Why == "":
			fmt.Fprintf(w, "   mend  $ %s\n", printable(r.Command))
		default:
			fmt.Fprintf(w, "   mend  $ %s\n           %s\n", printable(r.Command), printable(r.Why))
		}
	}
	fmt.Fprintln(w)
}
