package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/conf"
	"stunnel/cmd/internal/control"
	"stunnel/device"
	"stunnel/device/netconf"
)

func upCommand() *cli.Command {
	return &cli.Command{
		Name:      "up",
		Usage:     "start a tunnel from its configuration file",
		ArgsUsage: "FILE or NAME",
		Description: "Makes the interface, gives it its addresses and routes, and runs it until SIGINT (Ctrl-C), SIGTERM, SIGHUP\n" +
			"(which reloads nothing: see strip) or `stunnel down`. Then, and after an error, everything is as it was before.\n" +
			"The interface is named after the file: peer.conf makes the interface peer. A NAME is looked for in\n" +
			"/etc/stunnel, then in /etc/wireguard. With --detach the log goes to the system's: journalctl -t stunnel.\n\n" +
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
	var file *conf.File
	if err == nil {
		file, err = conf.Load(path)
	}
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return withHint(err, "try it as root: sudo stunnel up "+arg)
	}
	if err != nil {
		return err
	}
	for _, w := range file.Warnings {
		warn(stderr, "%s", w)
	}
	out := newLines(terminalLines{stderr})
	if d != nil {
		if err := d.openLog(logFile); err != nil {
			return err
		}
		if d.log == nil {
			warn(stderr, "this host has no system log: what the tunnel says later is lost; --log-file FILE keeps it")
		} else {
			for _, w := range file.Warnings {
				d.log.writeLine(slog.LevelWarn, "warning: "+w)
			}
			out.to(bothLines{terminalLines{stderr}, d.log})
		}
	}
	log := newLogger(out, file.Name, level)
	slog.SetDefault(log)

	u := &upward{file: file, log: log, out: out, daemon: d,
		hooks: hooks{name: file.Name, path: file.Path, out: stderr, log: log}}
	err = u.run()
	if d != nil && err != nil { // the log has the beginning; and perhaps nobody reads our stderr any more
		out.to(d.log)
		log.Error(err.Error())
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

	tunnel  *running
	net     *netconf.Handle
	journal *netconf.Journal

	division      division // of the allowed IPs; of a hook's peers too
	separateTable uint32   // routing table of what is apart in it, 0 for none
	rules         []*netconf.Rule
	tables        []netconf.Tabled
	letRulesGo    func() // nil: they are not kept
	letNamesGo    func() // nil: there are none

	guard      *netconf.Guard  // of a gateway, with its outer interfaces; nil: it is none
	outerLinks map[string]int  // what index these had when they were last looked at, 0 for none
	switches   map[string]bool // steps that had interfaces forward

	lookups *lookups      // of endpoints; set before they are needed
	ownMark *netconf.Mark // of the tunnel's own packets; nil: it has none
	locked  bool          // the kill switch stays in force, unless the end is asked for
}

// run goes up, waits for the end and goes down. The hooks of the way down run only after all of the way up has succeeded, as
// with wg-quick(8). The control socket stays to the very end: it tells that we are there.
func (u *upward) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	// A reader of our stderr that goes away must not kill us half way.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	left := make(chan struct{})
	defer close(left)

	if err := u.open(); err != nil {
		return err
	}
	defer u.net.Close()
	defer u.tunnel.leave()
	go u.obey(signals, left)
	if err := u.climb(u.tunnel.over); err != nil {
		if cause := context.Cause(u.tunnel.over); cause != nil && errors.Is(err, cause) {
			err = u.interrupted(err, cause)
		}
		return errors.Join(err, u.undo(context.Cause(u.tunnel.over)))
	}
	u.locked = u.file.Interface.KillSwitch
	<-u.tunnel.over.Done()
	cause := context.Cause(u.tunnel.over)
	u.log.Info(fmt.Sprintf("going down: %v", cause))

	err := u.verdict(cause)
	err = errors.Join(err, u.hooks.runAll("PreDown", u.file.Interface.PreDown))
	err = errors.Join(err, u.undo(cause))
	return errors.Join(err, u.hooks.runAll("PostDown", u.file.Interface.PostDown))
}

// sameSignal: who signals a process and its group, as timeout(1) does, or a terminal and its shell, signals twice but
// means it once.
const sameSignal = time.Second

// obey ends the tunnel at the first signal. Each further one ends the hook that runs then.
func (u *upward) obey(signals <-chan os.Signal, left <-chan struct{}) {
	var last time.Time
	for {
		select {
		case s := <-signals:
			if s == unix.SIGHUP && u.daemon != nil || time.Since(last) < sameSignal {
				continue // there is no terminal that could hang up
			}
			last = time.Now()
			if u.tunnel.over.Err() != nil {
				u.hooks.hurry()
			}
			if s == unix.SIGHUP {
				u.tunnel.end(errHungUp)
			}
			u.tunnel.end(errSignalled)
		case <-left:
			return
		}
	}
}

// interrupted is what an end before the tunnel was there means: whoever waits for it must not go on. err says what was
// being done.
func (u *upward) interrupted(err, cause error) error {
	if errors.Is(cause, errSignalled) || errors.Is(cause, errHungUp) || errors.Is(cause, errAsked) {
		return fmt.Errorf("%s: interrupted before it was ready: %w", u.file.Name, err)
	}
	return u.verdict(cause)
}

// verdict is what the reason of an end means for the exit status.
func (u *upward) verdict(cause error) error {
	switch {
	case errors.Is(cause, errSignalled), errors.Is(cause, errHungUp), errors.Is(cause, errAsked):
		return nil
	case errors.Is(cause, device.ErrGone):
		return fmt.Errorf("the interface %s was deleted", u.file.Name)
	case errors.Is(cause, errUnlinked):
		return withHint(fmt.Errorf("%s: %w", u.file.Name, cause), "without it neither show nor down would have found the tunnel")
	}
	return fmt.Errorf("%s: %w", u.file.Name, cause)
}

// undo takes everything back but the control socket; the kill switch last of all, or not at all.
func (u *upward) undo(cause error) error {
	if u.letRulesGo != nil {
		u.letRulesGo()
	}
	if u.letNamesGo != nil {
		u.letNamesGo()
	}
	err := u.journal.UndoBut(isKillSwitch)
	u.tellNotes()
	var stopped error
	if u.tunnel != nil {
		stopped = u.tunnel.stop()
	}
	if u.staysLocked(cause) {
		return errors.Join(err, stopped)
	}
	// What could not be taken back a moment ago is tried once more, and told once.
	return errors.Join(stopped, u.journal.Undo())
}

// tellNotes says what steps have found changed by others.
func (u *upward) tellNotes() {
	for _, note := range u.net.Notes() {
		u.log.Warn(note)
	}
}

// open makes the control socket, which is also what keeps a second one of that name out, takes back what an earlier one may
// have left, puts the kill switch in force and makes the interface.
func (u *upward) open() (err error) {
	name := u.file.Name
	command := "stunnel up " + u.file.Path
	l, err := control.Listen(name)
	switch {
	case errors.Is(err, control.ErrRunning):
		return runningHint(err, name)
	case err != nil:
		return openHint(err, command)
	}
	if err := sharedPort(u.file); err != nil {
		l.Close()
		return err
	}
	if u.net, err = netconf.New(); err != nil {
		l.Close()
		return err
	}
	if err := u.takeBack(); err != nil {
		l.Close()
		u.net.Close()
		return openHint(err, command)
	}
	if err := mendDNS(func(note string) { u.log.Warn(note) }); err != nil { // before names are looked up
		u.log.Warn("what killed tunnels have left in resolv.conf can't be taken out", "error", err)
	}
	if u.journal == nil {
		u.journal = u.net.NewJournal(name)
	}
	if err := u.lock(context.Background()); err != nil {
		err = errors.Join(err, u.undo(nil))
		l.Close()
		u.net.Close()
		return err
	}
	in := &u.file.Interface
	tun, err := device.Open(device.Options{Name: name, Ethernet: in.Ethernet, MAC: newPlan(u.file).mac(), Offload: in.Offload, Queues: lanes(in.Lanes)})
	if err != nil {
		err = errors.Join(busyHint(openHint(err, command), name), u.undo(nil))
		l.Close()
		u.net.Close()
		return err
	}
	u.tunnel = start(tun, u.net, l, u.log, manner{in.Offload, in.Bridge != "", socketAddress(in), in.BindDevice})
	u.tunnel.tellLanes(in.Lanes)
	return nil
}

// takeBack undoes what a process of this tunnel has left that was killed, but for a kill switch that this one wants too.
func (u *upward) takeBack() error {
	left, err := u.net.OpenJournal(u.file.Name)
	switch {
	case errors.Is(err, netconf.ErrNoJournal), errors.Is(err, netconf.ErrElsewhere):
		return nil // what is elsewhere is not in our way
	case errors.Is(err, netconf.ErrInUse):
		return endingHint(left, err)
	case err != nil:
		return err
	}
	u.log.Warn("an earlier process of this tunnel was killed; what it has left is taken back", "pid", left.Owner().PID)
	u.locked = u.file.Interface.KillSwitch && slices.ContainsFunc(left.Steps(), isKillSwitch)
	for _, s := range left.Steps() {
		if u.locked && isKillSwitch(s) {
			u.log.Info("was left, and stays in force: the kill switch")
		} else {
			u.log.Info(fmt.Sprintf("was left: %s", s))
		}
	}
	defer u.tellNotes()
	if u.locked {
		u.journal = left
		return errors.Join(left.UndoBut(isKillSwitch), left.Resume())
	}
	defer left.Close()
	return left.Undo()
}
