package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/conf"
	"stunnel/cmd/internal/control"
	"stunnel/device"
	"stunnel/device/netconf"
	"stunnel/transport"
)

func upCommand() *cli.Command {
	return &cli.Command{
		Name:      "up",
		Usage:     "start a tunnel from its configuration file",
		ArgsUsage: "FILE or NAME",
		Description: "Makes the interface, gives it its addresses and routes, and runs it until SIGINT (Ctrl-C), SIGTERM or\n" +
			"`stunnel down`. Then, and after an error, everything is as it was before. The interface is named after the\n" +
			"file: peer.conf makes the interface peer. A NAME is looked for in /etc/stunnel, then in /etc/wireguard.\n\n" +
			"Example:\n" +
			"   stunnel up ./peer.conf\n" +
			"   stunnel up peer --detach",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when the tunnel is there, and leave it running"},
			&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warn or error"},
			&cli.StringFlag{Name: "log-file", Usage: "with --detach: log to `FILE` instead of the system's log"},
		},
		Action: func(c *cli.Context) error {
			level, err := logLevel(c.String("log-level"))
			if err != nil {
				return err
			}
			if c.IsSet("log-file") && !c.Bool("detach") {
				return withHint(usageError("--log-file goes with --detach"), "without it, everything goes to stderr: 2>FILE")
			}
			d := inherited()
			if c.Bool("detach") && d == nil {
				return detach(nil, nil)
			}
			return up(c.Args().First(), level, c.String("log-file"), c.App.ErrWriter, d)
		},
	}
}

func logLevel(name string) (slog.Level, error) {
	var l slog.Level
	switch strings.ToLower(name) {
	case "debug", "info", "warn", "error":
		return l, l.UnmarshalText([]byte(name))
	}
	return 0, usageError("--log-level is debug, info, warn or error, not %s", quoted(name))
}

// up runs the tunnel that arg describes until it ends. d is nil in the foreground.
func up(arg string, level slog.Level, logFile string, stderr io.Writer, d *daemon) error {
	path, err := conf.Find(arg)
	if err != nil {
		return err
	}
	file, err := conf.Load(path)
	if err != nil {
		return err
	}
	for _, w := range file.Warnings {
		warn(stderr, "%s", w)
	}
	if d != nil {
		if err := d.openLog(logFile); err != nil {
			return err
		}
	}
	out := &lines{w: terminalLines{stderr}}
	log := newLogger(out, file.Name, level)
	slog.SetDefault(log)

	u := &upward{file: file, log: log, out: out, daemon: d,
		hooks: hooks{name: file.Name, path: file.Path, out: stderr, log: log}}
	err = u.run()
	if d != nil && d.detached && err != nil {
		log.Error(err.Error()) // nobody reads our stderr any more
	}
	return err
}

// readyMessage is the last line of a tunnel that has come up: scripts, and our own demo, wait for it.
const readyMessage = "ready"

// upward is one tunnel's way up and down again.
type upward struct {
	file   *conf.File
	log    *slog.Logger
	out    *lines
	daemon *daemon // nil in the foreground
	hooks  hooks

	tunnel *running
	net    *netconf.Handle
	back   netconf.Stack
}

// run goes up, waits for the end and goes down. The order is that of wg-quick(8), hooks included: those of the way down
// run only after all of the way up has succeeded.
func (u *upward) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	// A reader of our stderr that goes away must not kill us half way.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	leaving, cancel := context.WithCancel(context.Background())
	defer cancel()

	if err := u.open(); err != nil {
		return errors.Join(err, u.back.Undo())
	}
	go func() {
		for {
			select {
			case s := <-signals:
				if s == unix.SIGHUP && u.daemon != nil {
					continue // there is no terminal that could hang up
				}
				if u.tunnel.over.Err() != nil {
					cancel() // the second time: the hooks of the way down are not waited for
				}
				u.tunnel.end(errSignalled)
			case <-leaving.Done():
				return
			}
		}
	}()
	if err := u.climb(u.tunnel.over); err != nil {
		if cause := context.Cause(u.tunnel.over); cause != nil && errors.Is(err, cause) {
			err = u.verdict(cause)
		}
		return errors.Join(err, u.back.Undo())
	}
	<-u.tunnel.over.Done()
	cause := context.Cause(u.tunnel.over)
	u.log.Info(fmt.Sprintf("going down: %v", cause))

	err := u.verdict(cause)
	err = errors.Join(err, u.hooks.run(leaving, "PreDown", u.file.Interface.PreDown))
	err = errors.Join(err, u.back.Undo())
	return errors.Join(err, u.hooks.run(leaving, "PostDown", u.file.Interface.PostDown))
}

// verdict is what the reason of an end means for the exit status.
func (u *upward) verdict(cause error) error {
	switch {
	case errors.Is(cause, errSignalled), errors.Is(cause, errAsked):
		return nil
	case errors.Is(cause, device.ErrGone):
		return fmt.Errorf("the interface %s was deleted", u.file.Name)
	}
	return fmt.Errorf("%s: %w", u.file.Name, cause)
}

// open makes the control socket, which is also what keeps a second one of that name out, and the interface.
func (u *upward) open() error {
	name := u.file.Name
	command := "stunnel up " + u.file.Path
	l, err := control.Listen(name)
	switch {
	case errors.Is(err, control.ErrRunning):
		return runningHint(err, name)
	case err != nil:
		return openHint(err, command)
	}
	tun, err := device.Open(device.Options{Name: name})
	if err != nil {
		l.Close()
		return openHint(err, command)
	}
	if u.net, err = netconf.New(); err != nil {
		l.Close()
		return errors.Join(err, tun.Close())
	}
	u.back.Push(func() error { u.net.Close(); return nil })
	u.tunnel = start(tun, l, u.log)
	u.back.Push(u.tunnel.close)
	return nil
}

// climb does everything between the bare interface and a tunnel that works.
func (u *upward) climb(ctx context.Context) error {
	in, name := &u.file.Interface, u.file.Name
	if err := u.hooks.run(ctx, "PreUp", in.PreUp); err != nil {
		return err
	}
	if err := u.configure(ctx); err != nil {
		return err
	}
	for _, a := range in.Address {
		if err := u.step(ctx, func() (netconf.Undo, error) { return u.net.AddAddress(name, a) }); err != nil {
			return err
		}
		u.log.Info(fmt.Sprintf("address %s", a))
	}
	mtu := in.MTU
	if mtu == 0 {
		mtu = u.net.DefaultMTU(u.endpoints())
	}
	if err := u.step(ctx, func() (netconf.Undo, error) { return u.net.SetMTU(name, mtu) }); err != nil {
		return err
	}
	// Before the link is up: when the port is taken the error belongs to us, not to the one who watches the link.
	if err := u.engineUp(); err != nil {
		return err
	}
	if err := u.step(ctx, func() (netconf.Undo, error) { return u.net.SetUp(name) }); err != nil {
		return err
	}
	u.log.Info(fmt.Sprintf("interface up, MTU %d", mtu))
	if err := u.routes(ctx); err != nil {
		return err
	}
	u.log.Info(fmt.Sprintf("listening on UDP port %d", u.tunnel.engine.Status().ListenPort))
	if err := u.hooks.run(ctx, "PostUp", in.PostUp); err != nil {
		return err
	}
	if u.tunnel.engine.Status().PrivateKey.IsZero() {
		return withHint(fmt.Errorf("%s: there is no private key: the file has none, and no PreUp or PostUp has set one", u.file.Path),
			"a hook sets it by: wg set %i private-key FILE")
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	u.log.Info(readyMessage)
	if u.daemon != nil {
		return u.ready()
	}
	return nil
}

// step takes one step of netconf's, unless the end has come.
func (u *upward) step(ctx context.Context, do func() (netconf.Undo, error)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	undo, err := do()
	if err != nil {
		return openHint(err, "stunnel up "+u.file.Path)
	}
	u.back.Push(undo)
	return nil
}

func (u *upward) engineUp() error {
	err := u.tunnel.engine.SetUp(true)
	if errors.Is(err, unix.EADDRINUSE) {
		port := uint16(0)
		if p := u.file.Interface.ListenPort; p != nil {
			port = *p
		}
		return withHint(fmt.Errorf("UDP port %d: %w", port, err), "another program has it: ss -lunp shows which; or choose another ListenPort")
	}
	return err
}

// configure gives the engine what the file says, the names of endpoints resolved.
func (u *upward) configure(ctx context.Context) error {
	endpoints, err := u.resolve(ctx)
	if err != nil {
		return err
	}
	in := &u.file.Interface
	c := transport.Config{PrivateKey: in.PrivateKey, ListenPort: in.ListenPort, FwMark: in.FwMark}
	for i, p := range u.file.Peers {
		pc := transport.PeerConfig{PublicKey: p.PublicKey, PresharedKey: p.PresharedKey, PersistentKeepalive: &p.PersistentKeepalive}
		if p.Name != "" {
			pc.Name = &p.Name
		}
		if endpoints[i].IsValid() {
			pc.Endpoint = &endpoints[i]
		}
		for _, prefix := range p.AllowedIPs {
			pc.AllowedIPs = append(pc.AllowedIPs, transport.AllowedIPChange{Prefix: prefix})
		}
		c.Peers = append(c.Peers, pc)
	}
	if err := u.tunnel.engine.Configure(c); err != nil {
		return fmt.Errorf("%s: %w", u.file.Path, err)
	}
	return nil
}

// resolvePatience is how long a resolver may take before we say what we wait for.
const resolvePatience = 2 * time.Second

// resolve finds the addresses of all endpoints at the same time. A peer without one has the zero AddrPort.
func (u *upward) resolve(ctx context.Context) ([]netip.AddrPort, error) {
	found := make([]netip.AddrPort, len(u.file.Peers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, p := range u.file.Peers {
		if p.Endpoint == "" {
			continue
		}
		g.Go(func() error {
			said := time.AfterFunc(resolvePatience, func() {
				u.log.Warn("no answer for the name of an endpoint yet, still trying", "peer", p.Title(), "endpoint", p.Endpoint)
			})
			defer said.Stop()
			a, err := conf.ResolveEndpoint(gctx, p.Endpoint)
			if err != nil {
				return fmt.Errorf("%s:%d: peer %s: %w", u.file.Path, p.Line, p.Title(), err)
			}
			found[i] = a
			return nil
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return found, err
}

// endpoints are where packets will go, a hook's peers included.
func (u *upward) endpoints() []netip.Addr {
	var addrs []netip.Addr
	for _, p := range u.tunnel.engine.Status().Peers {
		if p.Endpoint.IsValid() {
			addrs = append(addrs, p.Endpoint.Addr())
		}
	}
	return addrs
}

// routes leads all allowed IPs, those of a hook's peers too, into the interface.
func (u *upward) routes(ctx context.Context) error {
	table := u.file.Interface.Table
	if table.Off {
		return nil
	}
	var prefixes []netip.Prefix
	for _, p := range u.tunnel.engine.Status().Peers {
		for _, prefix := range p.AllowedIPs {
			if prefix.Bits() == 0 && table.Auto {
				return withHint(fmt.Errorf("%s: the allowed IPs %s would become the default route, which Table = auto does not support yet", u.file.Path, prefix),
					"set Table = off, or Table = and a number for routes in a table of their own")
			}
			prefixes = append(prefixes, prefix)
		}
	}
	var added []netip.Prefix
	err := u.step(ctx, func() (undo netconf.Undo, err error) {
		added, undo, err = u.net.AddRoutes(u.file.Name, prefixes, table.Number)
		return undo, err
	})
	if err != nil {
		return err
	}
	const listed = 8 // more would fill the screen
	for i, p := range added {
		if i == listed && len(added) > listed+1 {
			u.log.Info(fmt.Sprintf("and %d more routes", len(added)-listed))
			break
		}
		if table.Number != 0 {
			u.log.Info(fmt.Sprintf("route %s in table %d", p, table.Number))
		} else {
			u.log.Info(fmt.Sprintf("route %s", p))
		}
	}
	return nil
}

// ready tells the parent that all is there, and lets go of the terminal.
func (u *upward) ready() error {
	hookOutput, err := u.daemon.ready(u.out, u.log)
	if err != nil {
		return err
	}
	u.hooks.out = hookOutput
	return nil
}
