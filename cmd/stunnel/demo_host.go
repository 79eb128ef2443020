package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/control"
	"stunnel/crypto"
	"stunnel/device/netconf"
	"stunnel/transport"
)

// demoHost is one of the demo's hosts: a thread in a network and a mount namespace of its own. It and all that it has
// started die with the process.
type demoHost struct {
	// constant once it stands
	name           string
	outer          netip.Addr // on the cable
	inner4, inner6 netip.Addr // in the tunnel
	conf           string     // path of the configuration file, on a file system that only this host sees
	stderr         io.Writer

	key  crypto.PrivateKey
	jobs chan func()

	up      *exec.Cmd     // nil: not started
	upMet   chan struct{} // closed when up has met its peer, a stunnel
	upEnded chan struct{} // closed when up has ended, with upErr
	upErr   error
}

const (
	demoPort  = 51820
	demoCable = "eth0" // what each host calls its end
)

// newDemoNet makes two hosts joined by a cable, with keys and configuration files, ready for `stunnel up`.
func newDemoNet(stderr io.Writer) (alice, bob *demoHost, err error) {
	alice = &demoHost{name: "alice", outer: netip.MustParseAddr("192.0.2.1"),
		inner4: netip.MustParseAddr("10.77.0.1"), inner6: netip.MustParseAddr("fd77::1")}
	bob = &demoHost{name: "bob", outer: netip.MustParseAddr("192.0.2.2"),
		inner4: netip.MustParseAddr("10.77.0.2"), inner6: netip.MustParseAddr("fd77::2")}
	for _, h := range []*demoHost{alice, bob} {
		h.stderr, h.key = stderr, crypto.NewPrivateKey()
		if err := h.begin(); err != nil {
			return nil, nil, explainNamespaces(fmt.Errorf("cannot make the host %s: %w", h.name, err))
		}
	}
	if err := plug(alice, bob); err != nil {
		return nil, nil, fmt.Errorf("cannot join the hosts by a veth: %w", err)
	}
	psk := crypto.NewPresharedKey()
	if err := errors.Join(alice.configure(bob, psk), bob.configure(alice, psk)); err != nil {
		return nil, nil, err
	}
	return alice, bob, nil
}

// begin starts the host's thread and its namespaces.
func (h *demoHost) begin() error {
	h.jobs = make(chan func())
	begun := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: nobody else may run in these namespaces
		begun <- h.unshare()
		for job := range h.jobs {
			job()
		}
	}()
	return <-begun
}

func (h *demoHost) unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	// Control sockets and the file with its keys are on this: two hosts have two of it, and it is never on a disk.
	run, err := filepath.EvalSymlinks(filepath.Dir(control.Dir))
	if err != nil {
		return err
	}
	if err := unix.Mount("stunnel-demo", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", run, err)
	}
	h.conf = filepath.Join(run, h.name+".conf")
	nl, err := netconf.New()
	if err != nil {
		return err
	}
	defer nl.Close()
	return nl.Apply(&netconf.Up{Interface: "lo"})
}

// do runs f on the host: its sockets are the host's, its files too.
func (h *demoHost) do(f func() error) error {
	done := make(chan error, 1)
	h.jobs <- func() { done <- f() }
	return <-done
}

// configure writes the host's configuration file, such as anybody would write it for these two.
func (h *demoHost) configure(peer *demoHost, psk crypto.PresharedKey) error {
	text := fmt.Sprintf(`[Interface]
PrivateKey = %s
ListenPort = %d
Address = %s/24, %s/64

[Peer]
Name = %s
PublicKey = %s
PresharedKey = %s
Endpoint = %s
AllowedIPs = %s/32, %s/128
`, h.key.Base64(), demoPort, h.inner4, h.inner6,
		peer.name, peer.key.Public(), psk.Base64(), netip.AddrPortFrom(peer.outer, demoPort), peer.inner4, peer.inner6)
	return h.do(func() error { return os.WriteFile(h.conf, []byte(text), 0o600) })
}

// startUp runs `stunnel up` on the host and returns when that says that it is ready.
func (h *demoHost) startUp(ctx context.Context) error {
	said, saying, err := os.Pipe()
	if err != nil {
		return err
	}
	h.up = exec.Command("/proc/self/exe", "up", h.conf)
	h.up.Args[0] = "stunnel"
	h.up.Stderr = saying
	h.up.Env = withoutVariable(os.Environ(), demoVariable)
	// A process group of its own: a Ctrl-C is for the demo, which ends its hosts in order.
	h.up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	err = h.do(h.up.Start)
	saying.Close()
	if err != nil {
		said.Close()
		h.up = nil
		return err
	}

	ready, told, met := make(chan struct{}), sync.Once{}, sync.Once{}
	h.upMet, h.upEnded = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(h.upEnded)
		defer said.Close()
		sc := bufio.NewScanner(said)
		for sc.Scan() {
			fmt.Fprintln(h.stderr, sc.Text())
			if strings.HasSuffix(sc.Text(), ": "+readyMessage) {
				told.Do(func() { close(ready) })
			}
			if strings.Contains(sc.Text(), ": the peer speaks our extensions") {
				met.Do(func() { close(h.upMet) })
			}
		}
		h.upErr = h.up.Wait()
	}()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.upEnded:
		return fmt.Errorf("stunnel up ended: %w", errors.Join(h.upErr, errors.New("it was not ready")))
	}
}

// down ends what startUp has started, as a service manager would, and looks whether anything is left.
func (h *demoHost) down() error {
	if h.up == nil {
		return nil
	}
	select {
	case <-h.upEnded:
		return fmt.Errorf("%s: stunnel up ended by itself: %w", h.name, errors.Join(h.upErr, errors.New("it should have gone on")))
	default:
	}
	_ = h.up.Process.Signal(unix.SIGTERM)
	const patience = 15 * time.Second
	select {
	case <-h.upEnded:
	case <-time.After(patience):
		_ = h.up.Process.Kill()
		<-h.upEnded
		return fmt.Errorf("%s: stunnel up did not end within %v", h.name, patience)
	}
	if h.upErr != nil {
		return fmt.Errorf("%s: stunnel up: %w", h.name, h.upErr)
	}
	return h.do(func() error {
		nl, err := netconf.New()
		if err != nil {
			return err
		}
		defer nl.Close()
		if there, err := nl.Exists(h.name); err != nil || there {
			return errors.Join(err, fmt.Errorf("%s: the interface is still there", h.name))
		}
		return nil
	})
}

// status asks the host's tunnel through its control socket.
func (h *demoHost) status() (s transport.Status, err error) {
	err = h.do(func() error {
		c, err := control.Dial(h.name)
		if err != nil {
			return err
		}
		defer c.Close()
		s, err = c.Status()
		return err
	})
	return s, err
}

// withoutVariable is an environment without one of its variables.
func withoutVariable(env []string, name string) (rest []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			rest = append(rest, v)
		}
	}
	return rest
}
