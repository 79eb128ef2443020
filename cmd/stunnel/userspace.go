package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/conf"
	"stunnel/cmd/internal/control"
	"stunnel/device"
	"stunnel/device/netconf"
)

// userspaceMTU is what an interface begins with that is configured by others, as wireguard-go's.
const userspaceMTU = 1420

func userspaceCommand() *cli.Command {
	return &cli.Command{
		Name:      "userspace",
		Usage:     "make an interface that others configure, as wireguard-go does",
		ArgsUsage: "IFACE",
		Description: "Makes the interface and its control socket, and returns when both are ready; wg(8), ip(8), wg-quick(8) and\n" +
			"other programs do the rest. The interface goes when its link or its control socket is deleted. Called through\n" +
			"a link whose name ends in wireguard-go, stunnel does the same. In the environment: WG_TUN_FD, WG_UAPI_FD,\n" +
			"WG_TUN_NAME_FILE, WG_PROCESS_FOREGROUND=1 and LOG_LEVEL (verbose, error or silent); STUNNEL_OFFLOAD=no takes\n" +
			"every packet singly, as kernels and devices with faults may need, and STUNNEL_LANES=N sets how many cores share\n" +
			"the work.\n\n" +
			"Example:\n" +
			"   stunnel userspace wg0 && wg setconf wg0 wg0.conf && ip link set wg0 up\n" +
			"   ln -s $(command -v stunnel) /usr/local/bin/stunnel-wireguard-go\n" +
			"   WG_QUICK_USERSPACE_IMPLEMENTATION=stunnel-wireguard-go wg-quick up wg0",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "stay in the foreground"},
		},
		Action: func(c *cli.Context) error {
			tunFD, err := descriptor("WG_TUN_FD")
			if err != nil {
				return err
			}
			uapiFD, err := descriptor("WG_UAPI_FD")
			if err != nil {
				return err
			}
			d := inherited()
			if d != nil || c.Bool("foreground") || os.Getenv("WG_PROCESS_FOREGROUND") == "1" {
				return userspace(c.Args().First(), tunFD, uapiFD, c.App.ErrWriter, d)
			}
			// The numbers 0 to 3 are taken in the daemon: stdio and its status.
			var files []*os.File
			var env []string
			if tunFD >= 0 {
				files, env = append(files, os.NewFile(uintptr(tunFD), "WG_TUN_FD")), append(env, fmt.Sprintf("WG_TUN_FD=%d", 4+len(files)))
			}
			if uapiFD >= 0 {
				files, env = append(files, os.NewFile(uintptr(uapiFD), "WG_UAPI_FD")), append(env, fmt.Sprintf("WG_UAPI_FD=%d", 4+len(files)))
			}
			return detach(files, env)
		},
	}
}

// descriptor is the number of an open file that an environment variable has; -1 when the variable is not set.
func descriptor(variable string) (int, error) {
	text := os.Getenv(variable)
	if text == "" {
		return -1, nil
	}
	fd, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return -1, fmt.Errorf("%s is %s, not the number of an open file", variable, quoted(text))
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return -1, fmt.Errorf("%s is %d: %w", variable, fd, err)
	}
	// Said here, where the number is the one that was given.
	var stat unix.Stat_t
	if err := unix.Fstat(int(fd), &stat); variable == "WG_UAPI_FD" && (err != nil || stat.Mode&unix.S_IFMT != unix.S_IFSOCK) {
		return -1, fmt.Errorf("%s is %d, which is no control socket: a listening Unix socket is needed", variable, fd)
	}
	if variable == "WG_TUN_FD" && !isTUN(int(fd)) {
		return -1, fmt.Errorf("%s is %d, which is no open /dev/net/tun", variable, fd)
	}
	return int(fd), nil
}

func isTUN(fd int) bool {
	ifr, err := unix.NewIfreq("")
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr)
	}
	return !errors.Is(err, unix.ENOTTY)
}

// userspaceLevel is what LOG_LEVEL asks for; silent is above everything.
func userspaceLevel() slog.Level {
	switch os.Getenv("LOG_LEVEL") {
	case "verbose", "debug":
		return slog.LevelDebug
	case "silent":
		return slog.LevelError + 100
	}
	return slog.LevelError
}

// userspaceOffload is what STUNNEL_OFFLOAD asks for.
func userspaceOffload() (bool, error) {
	switch text := os.Getenv("STUNNEL_OFFLOAD"); text {
	case "", "yes":
		return true, nil
	case "no":
		return false, nil
	default:
		return false, fmt.Errorf("STUNNEL_OFFLOAD is %s; right is yes or no", quoted(text))
	}
}

// userspaceLanes is what STUNNEL_LANES asks for, 0 for nothing.
func userspaceLanes() (int, error) {
	text := os.Getenv("STUNNEL_LANES")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || n < 1 || n > conf.MaxLanes {
		return 0, fmt.Errorf("STUNNEL_LANES is %s; right is a number from 1 to %d", quoted(text), conf.MaxLanes)
	}
	return int(n), nil
}

// userspace runs the interface until it ends. tunFD and uapiFD are -1 when they are to be made here; d is nil in the
// foreground.
func userspace(name string, tunFD, uapiFD int, stderr io.Writer, d *daemon) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(signals)
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)

	offload, err := userspaceOffload()
	if err != nil {
		return err
	}
	wanted, err := userspaceLanes()
	if err != nil {
		return err
	}
	tun, l, err := openUserspace(name, tunFD, uapiFD, device.Options{MTU: userspaceMTU, Offload: offload, Queues: lanes(wanted)})
	if err != nil {
		return err
	}
	name = tun.Name()
	if path := os.Getenv("WG_TUN_NAME_FILE"); path != "" {
		if err := os.WriteFile(path, []byte(name+"\n"), 0o400); err != nil {
			l.Close()
			return errors.Join(fmt.Errorf("WG_TUN_NAME_FILE: %w", err), tun.Close())
		}
	}
	out := newLines(terminalLines{stderr})
	log := newLogger(out, name, userspaceLevel())
	slog.SetDefault(log)

	routes, err := netconf.New()
	if err != nil {
		l.Close()
		return errors.Join(err, tun.Close())
	}
	defer routes.Close()
	t := start(tun, routes, l, log, manner{offload: offload})
	t.tellLanes(wanted)

	if d != nil {
		// As wireguard-go: who asks for a log has it on the stderr he gave.
		d.keepErr = os.Getenv("LOG_LEVEL") != "" && userspaceLevel() <= slog.LevelError
		if _, err := d.ready(out, log); err != nil {
			return errors.Join(err, t.close())
		}
	}
	select {
	case <-signals:
		t.end(errSignalled)
	case <-t.over.Done():
	}
	cause := context.Cause(t.over)
	log.Info(fmt.Sprintf("going down: %v", cause))
	err = t.close()
	for _, usual := range []error{errSignalled, errAsked, errUnlinked, device.ErrGone} {
		if errors.Is(cause, usual) {
			return err
		}
	}
	return errors.Join(fmt.Errorf("%s: %w", name, cause), err)
}

// openUserspace makes the interface and then its control socket: who sees the socket may rely on the interface.
func openUserspace(name string, tunFD, uapiFD int, o device.Options) (*device.TUN, *net.UnixListener, error) {
	command := "stunnel userspace " + name
	if uapiFD < 0 {
		if c, err := control.Dial(name); err == nil {
			c.Close()
			return nil, nil, runningHint(fmt.Errorf("%s %w", name, control.ErrRunning), name)
		}
	}
	o.Name = name
	var tun *device.TUN
	var err error
	if tunFD >= 0 {
		tun, err = device.FromFD(tunFD, o)
	} else {
		tun, err = device.Open(o)
	}
	if err != nil {
		return nil, nil, busyHint(openHint(err, command), name)
	}
	var l *net.UnixListener
	if uapiFD >= 0 {
		f := os.NewFile(uintptr(uapiFD), "WG_UAPI_FD")
		l, err = control.ListenerFromFile(f)
		f.Close()
	} else {
		l, err = control.Listen(tun.Name())
	}
	if errors.Is(err, fs.ErrPermission) {
		err = withHint(err, "try it as root: sudo "+command+"; or let root make "+control.Dir+" writable for you, or hand a listening socket over in WG_UAPI_FD")
	}
	if err != nil {
		return nil, nil, errors.Join(err, tun.Close())
	}
	return tun, l, nil
}
