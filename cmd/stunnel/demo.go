package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// demoVariable tells a process that it is the demo's inside, in namespaces of its own.
const demoVariable = "STUNNEL_DEMO_INSIDE"

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "show a tunnel between two hosts or two sites, all on this machine",
		Description: "Makes two hosts out of network namespaces, joins them by a cable (veth), gives each a key and a configuration\n" +
			"file, runs `stunnel up` on both, and measures: the first packet with its handshake, pings over IPv4 and IPv6,\n" +
			"a transfer over TCP. Nothing of it is left afterwards, and the machine's own network is not touched. Without\n" +
			"root it works where user namespaces are allowed.\n\n" +
			"With --tap it makes two sites, each with a switch, two hosts, and a VPN host whose bridge the tunnel connects with\n" +
			"the other site's. It shows step by step, from what it captures at every hop, how a host at one site asks for one at\n" +
			"the other and is answered, and measures with full-size packets from host to host.\n\n" +
			"Example:\n" +
			"   stunnel demo\n" +
			"   stunnel demo --size 100M\n" +
			"   stunnel demo --tap",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "tap", Usage: "show two sites that are one Ethernet (Mode = tap)"},
			&cli.StringFlag{Name: "size", Value: "1G", Usage: "how much to send over TCP: `BYTES`, with k, M or G for thousands, millions, ..."},
		},
		Action: func(c *cli.Context) error {
			size, err := parseSize(c.String("size"))
			if err != nil {
				return err
			}
			if os.Getenv(demoVariable) != "" {
				show := demoTwoHosts
				if c.Bool("tap") {
					show = demoTwoSites
				}
				return demoInside(show, size, c.App.Writer, c.App.ErrWriter)
			}
			return demoOutside()
		},
	}
}

// parseSize reads a number of bytes.
func parseSize(text string) (int64, error) {
	digits, unit := text, int64(1)
	for suffix, factor := range map[string]int64{"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9} {
		if before, found := strings.CutSuffix(text, suffix); found {
			digits, unit = before, factor
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > 1e15/unit {
		return 0, usageError("--size is a number of bytes from 1 on, such as 5000000 or 100M, not %s", quoted(text))
	}
	return n * unit, nil
}

var errInterrupted = errors.New("the demo was interrupted; nothing is left of it")

// demoOutside runs this very command once more, in namespaces of its own: processes, so that all of them die with the first;
// mounts, so that their control sockets are not in the way of real ones; and where we aren't root, users, which is what
// allows all the rest.
func demoOutside() error {
	if err := tunUsable(); err != nil {
		return err
	}
	// The child is to die with us, which for the kernel means with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), demoVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return explainNamespaces(fmt.Errorf("cannot make the namespaces of two hosts: %w", err))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	interrupted := false
	var again <-chan time.Time
	for {
		select {
		case <-signals:
			interrupted = true
			_ = cmd.Process.Signal(unix.SIGTERM) // it tears down, and we wait for that
			again = time.Tick(100 * time.Millisecond)
		case <-again: // the first process of a namespace misses what comes before it listens
			_ = cmd.Process.Signal(unix.SIGTERM)
		case err := <-ended:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return nil
			case interrupted && (!errors.As(err, &exit) || exit.ExitCode() != exitFailed):
				return errInterrupted // it had not begun, and could not say so itself
			case errors.As(err, &exit) && exit.Exited():
				return errSaid
			}
			return fmt.Errorf("the demo died: %w", err)
		}
	}
}

// demoInside shows something, until it is over or interrupted.
func demoInside(show func(ctx context.Context, size int64, stdout, stderr io.Writer) error, size int64, stdout, stderr io.Writer) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE, unix.SIGTERM) // for good: it may come again when all is done
	defer func() {
		if ctx.Err() != nil {
			err = errInterrupted
		}
	}()
	return show(ctx, size, stdout, stderr)
}

// demoTwoHosts shows a tunnel between two hosts.
func demoTwoHosts(ctx context.Context, size int64, stdout, stderr io.Writer) (err error) {
	alice, bob, err := newDemoNet(stderr)
	if err != nil {
		return err
	}
	for _, h := range []*demoHost{alice, bob} {
		defer func() { err = errors.Join(err, h.down()) }()
	}
	for _, h := range []*demoHost{alice, bob} {
		if err := h.startUp(ctx); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
	}

	var r demoResult
	if err := r.measure(ctx, alice, bob, size, stderr); err != nil {
		return err
	}
	r.print(stdout, alice, bob)
	return nil
}

// demoResult is what the demo has measured.
type demoResult struct {
	first      time.Duration // of the first packet, there and back, handshake included
	handshake  time.Time
	ipv4, ipv6 pings
	size       int64
	took       time.Duration // of the transfer
	sealed     uint64        // bytes that alice has sent to bob, outside
	speaks     string        // what bob is to alice
}

func (r *demoResult) measure(ctx context.Context, alice, bob *demoHost, size int64, stderr io.Writer) error {
	const count = 50
	first, err := ping(ctx, alice, bob.inner4, 1, 0)
	if err != nil {
		return fmt.Errorf("the first ping through the tunnel: %w", err)
	}
	if len(first.times) == 0 {
		return fmt.Errorf("no answer to the first ping through the tunnel")
	}
	r.first = first.times[0]
	if r.ipv4, err = ping(ctx, alice, bob.inner4, count, 0); err != nil {
		return fmt.Errorf("ping over IPv4: %w", err)
	}
	if r.ipv6, err = ping(ctx, alice, bob.inner6, count, 0); err != nil {
		return fmt.Errorf("ping over IPv6: %w", err)
	}
	fmt.Fprintf(stderr, "stunnel: sending %s from %s to %s over TCP\n", bytesText(size), alice.name, bob.name)
	r.size = size
	if r.took, err = transfer(ctx, alice, bob, size); err != nil {
		return fmt.Errorf("TCP through the tunnel: %w", err)
	}
	status, err := alice.status()
	if err != nil {
		return err
	}
	for _, p := range status.Peers {
		r.handshake, r.sealed, r.speaks = p.LastHandshake, p.TxBytes, speaksText(p)
	}
	if r.handshake.IsZero() {
		return errors.New("packets passed, but there was no handshake: they did not go through the tunnel")
	}
	if r.sealed < uint64(size) {
		return fmt.Errorf("%d bytes arrived, but the tunnel carried only %d", size, r.sealed)
	}
	return nil
}

func (r *demoResult) print(w io.Writer, alice, bob *demoHost) {
	fmt.Fprintf(w, "%s (%s, %s) and %s (%s, %s), through a tunnel between %s and %s:\n\n",
		alice.name, alice.inner4, alice.inner6, bob.name, bob.inner4, bob.inner6, alice.outer, bob.outer)
	fmt.Fprintf(w, "  first packet   %s, with the handshake (%s)\n", millis(r.first), r.handshake.Format(time.TimeOnly))
	fmt.Fprintf(w, "  ping IPv4      %s\n", r.ipv4)
	fmt.Fprintf(w, "  ping IPv6      %s\n", r.ipv6)
	fmt.Fprintf(w, "  TCP            %s in %.2f s, %.2f Gbit/s, all of it checked by a hash\n",
		bytesText(r.size), r.took.Seconds(), float64(r.size)*8/r.took.Seconds()/1e9)
	fmt.Fprintf(w, "  sealed         %s in UDP from %s to %s\n", bytesText(int64(r.sealed)), alice.name, bob.name)
	fmt.Fprintf(w, "  %-14s %s\n", bob.name+" speaks", r.speaks)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

// bytesText is a number of bytes in decimal units, as --size takes them.
func bytesText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}
