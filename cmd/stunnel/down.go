package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/control"
)

// downTime is what a tunnel has to end after it was told to, its PreDown and PostDown included. downPatience is after
// how much of it we say what we wait for.
const (
	downTime     = 30 * time.Second
	downPatience = 2 * time.Second
)

func downCommand() *cli.Command {
	return &cli.Command{
		Name:      "down",
		Usage:     "end a tunnel that was started by up",
		ArgsUsage: "NAME or FILE",
		Description: "Tells the program that runs the interface to end, and returns when the interface, its addresses and\n" +
			"routes and the control socket are gone. If that program was killed, what it has left is taken back instead.\n\n" +
			"Example:\n" +
			"   stunnel down peer\n" +
			"   stunnel down ./peer.conf",
		Action: func(c *cli.Context) error {
			return down(c.Context, c.App.ErrWriter, interfaceName(c.Args().First()))
		},
	}
}

// interfaceName is the name of the interface that is meant by a NAME or a FILE. The file need not exist any more.
func interfaceName(arg string) string {
	if strings.Contains(arg, "/") || strings.HasSuffix(arg, ".conf") {
		return strings.TrimSuffix(filepath.Base(arg), ".conf")
	}
	return arg
}

func down(ctx context.Context, stderr io.Writer, name string) error {
	if err := mendDNS(func(note string) { fmt.Fprintf(stderr, "stunnel: %s\n", note) }); err != nil {
		warn(stderr, "what killed tunnels have left in resolv.conf can't be taken out: %v", err)
	}
	c, err := control.Dial(name)
	if errors.Is(err, control.ErrNotRunning) {
		if done, err := downLeft(stderr, name); done || err != nil {
			return err
		}
	}
	if err != nil {
		return withHint(err, downHint(name, err))
	}
	defer c.Close()
	pid := c.PID()
	if elsewhere(pid) {
		return withHint(fmt.Errorf("%s runs in another network namespace, in the process %d", name, pid),
			fmt.Sprintf("nsenter --net=/proc/%d/ns/net stunnel down %s", pid, name))
	}

	// All that tells of the end is set up before it is asked for.
	ctx, cancel := context.WithTimeout(ctx, downTime)
	defer cancel()
	watch, err := control.WatchSocket(name)
	if err != nil {
		return fmt.Errorf("control socket of %s: %w", name, err)
	}
	defer watch.Close()
	process := openProcess(pid)
	defer process.close()
	index := tunIndex(name)

	switch err := c.Stop(); {
	case errors.Is(err, control.ErrForeign):
		return withHint(fmt.Errorf("%w%s", err, programOf(pid)), "it is left alone; end it the way it was started")
	case hungUp(err):
		// It has died while it was asked, most likely killed a moment ago: what it has left is taken back.
		if err := process.ended(ctx); err != nil {
			return stillThere(name, pid, err)
		}
		if done, left := downLeft(stderr, name); done || left != nil {
			return left
		}
		return err
	case err != nil:
		return err
	}
	said := time.AfterFunc(downPatience, func() {
		fmt.Fprintf(stderr, "stunnel: waiting for the end of %s%s, which perhaps waits for its PreDown or PostDown\n", name, programOf(pid))
	})
	defer said.Stop()
	if err := errors.Join(watch.Gone(ctx), process.ended(ctx)); err != nil {
		return stillThere(name, pid, err)
	}
	kept, err := linkGone(ctx, index)
	if err != nil {
		return stillThere(name, pid, err)
	}
	if err := notTakenBack(name); err != nil {
		return err
	}
	if kept {
		fmt.Fprintf(stderr, "stunnel: %s is down; its interface was there before it and stays\n", name)
	} else {
		fmt.Fprintf(stderr, "stunnel: %s is down\n", name)
	}
	return nil
}

// hungUp says whether the other end of the control socket has gone without an answer.
func hungUp(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF)
}

func downHint(name string, err error) string {
	if errors.Is(err, control.ErrNotRunning) && strings.HasPrefix(kernelHint(name), name+" ") {
		return fmt.Sprintf("%s is a WireGuard interface of the kernel: wg-quick down %s, or ip link delete %s", name, name, name)
	}
	if hint := heldHint(name); errors.Is(err, control.ErrNotRunning) && hint != "" {
		return hint
	}
	if errors.Is(err, control.ErrNotRunning) {
		if running, _ := control.Interfaces(); len(running) > 0 {
			return "running now: " + strings.Join(running, ", ")
		}
		return ""
	}
	return dialHint(name, err)
}

func stillThere(name string, pid int, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("waiting for the end of %s: %w", name, err)
	}
	hint := "perhaps it waits for a PreDown or PostDown command"
	if pid != 0 {
		hint += fmt.Sprintf("; its process is %d", pid)
	}
	return withHint(fmt.Errorf("%s was told to end, but is still there after %v", name, downTime), hint)
}

// elsewhere says whether the process lives in another network namespace than we do. What cannot be known is no.
func elsewhere(pid int) bool {
	ours, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil || pid == 0 {
		return false
	}
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && !os.SameFile(ours, theirs)
}

// programOf names the program of a process, as far as it is known: " (wireguard-go, process 123)".
func programOf(pid int) string {
	if pid == 0 {
		return ""
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (%s, process %d)", strings.TrimSpace(string(comm)), pid)
}

// process is a process whose end can be waited for; the zero value is one that cannot.
type process struct{ pidfd *os.File }

func openProcess(pid int) process {
	if pid == 0 || pid == os.Getpid() {
		return process{}
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return process{}
	}
	return process{os.NewFile(uintptr(fd), "pidfd")}
}

// ended waits for the end of the process. All that it held open is closed by then, its interface too.
func (p process) ended(ctx context.Context) error {
	if p.pidfd == nil {
		return nil
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { p.pidfd.SetReadDeadline(time.Unix(1, 0)) })()
	err = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (p process) close() {
	if p.pidfd != nil {
		p.pidfd.Close()
	}
}

// tunIndex returns the index of the TUN interface of that name, 0 if there is none in our namespace.
func tunIndex(name string) int {
	link, err := netlink.LinkByName(name)
	if err != nil || link.Type() != "tuntap" && link.Type() != "tun" {
		return 0
	}
	return link.Attrs().Index
}

// linkGone waits until the TUN interface with that index has gone. kept says that it is there still because it is
// a persistent one, which was there before the tunnel.
func linkGone(ctx context.Context, index int) (kept bool, err error) {
	if index == 0 {
		return false, nil
	}
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	defer close(done)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return false, err
	}
	for {
		link, err := netlink.LinkByIndex(index)
		if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if tun, ok := link.(*netlink.Tuntap); ok && !tun.NonPersist {
			return true, nil
		}
		select {
		case <-updates:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
