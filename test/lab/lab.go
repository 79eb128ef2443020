// Package lab makes hosts of network namespaces on one Linux machine, for
// tests and measurements of real tunnels. New makes a Lab, Lab.Host a host in
// it; Host.Run runs a command there and Host.Start leaves one running.
//
// A host is a process that holds a network and a mount namespace with no name:
// when the test ends, however it ends, the kernel takes host, interfaces,
// routes and rules away. /run, /var/lib and /etc/resolv.conf are the host's
// own, so what hosts keep there does not meet what others or the machine do.
// Nothing leaves the machine: hosts have only the links that Lab.Link and, to
// switches, Lab.Plug give them.
package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Lab is the hosts of one test, and where its files are.
type Lab struct {
	t     testing.TB
	Dir   string // removed after the test
	hosts []*Host
}

// New makes an empty Lab. It skips the test, with words, where this machine or
// this user cannot have namespaces.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces: sudo make test")
	}
	for _, command := range []string{"ip", "unshare", "nsenter"} {
		Need(t, command)
	}
	l := &Lab{t: t, Dir: t.TempDir()}
	t.Cleanup(l.report)
	return l
}

// Need skips the test, with words, if command is not installed.
func Need(t testing.TB, command string) {
	t.Helper()
	if _, err := exec.LookPath(command); err != nil {
		t.Skipf("needs %s(8), which is not installed: make test installs it as root", command)
	}
}

// report prints what the hosts' processes said, if the test has failed.
func (l *Lab) report() {
	if !l.t.Failed() {
		return
	}
	for _, h := range l.hosts {
		for _, p := range h.processes {
			l.t.Logf("--- %s: %s\n%s", h.Name, strings.Join(p.cmd.Args[nsenterArgs:], " "), p.Output())
		}
	}
}

// Host is a machine of its own as far as its network is concerned.
type Host struct {
	lab       *Lab
	Name      string
	pid       int
	processes []*Process
}

// Host makes a host with nothing but a loopback interface.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	// The shell says when it is ready and then waits for its input to end,
	// which it does when we close it or die.
	// A resolv.conf that was a link into the machine's /run is out of reach.
	const script = `mount -t tmpfs -o mode=755 none /run && mount -t tmpfs -o mode=755 none /var/lib &&
		if [ -f /etc/resolv.conf ]; then
			cp /etc/resolv.conf /var/lib/resolv.conf && mount --bind /var/lib/resolv.conf /etc/resolv.conf
		fi && ip link set lo up &&
		sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 && echo ready && read -r _`
	cmd := exec.Command("unshare", "--net", "--mount", "sh", "-c", script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	l.check(err)
	stdout, err := cmd.StdoutPipe()
	l.check(err)
	l.check(cmd.Start())
	h := &Host{lab: l, Name: name, pid: cmd.Process.Pid}
	l.t.Cleanup(func() {
		for _, p := range h.processes {
			p.Kill()
		}
		h.killDetached()
		stdin.Close()
		cmd.Wait()
	})
	ready := make([]byte, 6)
	if _, err := io.ReadFull(stdout, ready); err != nil {
		cmd.Process.Kill()
		l.t.Fatalf("cannot make host %s: %s", name, &stderr)
	}
	l.hosts = append(l.hosts, h)
	return h
}

// Etc gives the host an /etc of its own, a layer over the machine's, where
// files can be replaced. It skips the test, with words, where the kernel has no
// such layers.
func (h *Host) Etc() {
	h.lab.t.Helper()
	const script = `umount /etc/resolv.conf 2>/dev/null; mkdir -p /var/lib/etc/upper /var/lib/etc/work &&
		mount -t overlay -o lowerdir=/etc,upperdir=/var/lib/etc/upper,workdir=/var/lib/etc/work none /etc`
	if out, err := h.Try("sh", "-c", script); err != nil {
		h.lab.t.Skipf("needs overlayfs for an /etc of the host's own: %s", out)
	}
}

// killDetached kills what commands on the host have left running there.
func (h *Host) killDetached() {
	mine, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", h.pid))
	if err != nil {
		return
	}
	spaces, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, path := range spaces {
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		if space, err := os.Readlink(path); err == nil && space == mine && pid != h.pid && pid != os.Getpid() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (l *Lab) check(err error) {
	if err != nil {
		l.t.Helper()
		l.t.Fatal(err)
	}
}

// Init is the process that holds the host's namespaces, for `ip link set ...
// netns`.
func (h *Host) Init() int { return h.pid }

// Link lays a cable between two hosts: an interface named device on each, up,
// with the given addresses ("192.0.2.1/24").
func (l *Lab) Link(device string, one *Host, oneAddresses []string, two *Host, twoAddresses []string) {
	l.t.Helper()
	one.Run("ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", fmt.Sprint(two.pid))
	for _, end := range []struct {
		h         *Host
		addresses []string
	}{{one, oneAddresses}, {two, twoAddresses}} {
		for _, address := range end.addresses {
			end.h.Address(address, device)
		}
		end.h.Run("ip", "link", "set", device, "up")
	}
	one.settle(device)
	two.settle(device)
}

// settle waits until the kernel has given device what it gives by itself once
// the other end is up, if it has IPv6: then nothing but the test changes it.
func (h *Host) settle(device string) {
	h.lab.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		routes := h.Run("ip", "-6", "-o", "route", "show", "table", "all", "dev", device)
		if strings.Contains(routes, "local fe80:") && strings.Contains(routes, "multicast ff00::/8") {
			return
		}
	}
	h.lab.t.Fatalf("%s: %s has no link-local address after 10 s", h.Name, device)
}

// Address gives device an address, usable at once (no duplicate detection).
func (h *Host) Address(address, device string) {
	h.lab.t.Helper()
	h.Run(append([]string{"ip"}, addressArgs(address, device)...)...)
}

func addressArgs(address, device string) []string {
	args := []string{"address", "add", address, "dev", device}
	if p := netip.MustParsePrefix(address); p.Addr().Is6() {
		args = append(args, "nodad")
	}
	return args
}

// File writes a file that only its owner can read, and returns its path.
func (l *Lab) File(name, text string) string {
	l.t.Helper()
	path := filepath.Join(l.Dir, name)
	l.check(os.MkdirAll(filepath.Dir(path), 0o700))
	l.check(os.WriteFile(path, []byte(text), 0o600))
	return path
}

const nsenterArgs = 6

// Command is a command that would run on the host. It dies with the test.
func (h *Host) Command(args ...string) *exec.Cmd {
	enter := []string{"--target", fmt.Sprint(h.pid), "--net", "--mount", "--"}
	cmd := exec.Command("nsenter", append(enter, args...)...)
	return cmd
}

// Try runs a command on the host for at most a minute and returns its output,
// both streams, and its error.
func (h *Host) Try(args ...string) (string, error) {
	return h.try(nil, args...)
}

func (h *Host) try(stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := h.Command(args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
	cmd.WaitDelay = time.Second
	if err := start(cmd); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		err = fmt.Errorf("took more than a minute: %w", err)
	}
	return out.String(), err
}

// Run is Try where failing fails the test. It returns the trimmed output.
func (h *Host) Run(args ...string) string {
	h.lab.t.Helper()
	out, err := h.Try(args...)
	if err != nil {
		h.lab.t.Fatalf("%s: %s: %v\n%s", h.Name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// Input is Run with something on standard input.
func (h *Host) Input(stdin string, args ...string) string {
	h.lab.t.Helper()
	out, err := h.try(strings.NewReader(stdin), args...)
	if err != nil {
		h.lab.t.Fatalf("%s: %s: %v\n%s", h.Name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// Process is a command that goes on running on a host.
type Process struct {
	host *Host
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid after done

	mu   sync.Mutex
	out  bytes.Buffer
	more chan struct{} // closed at the next output
}

// Start starts a command on the host. It is killed when the test ends.
func (h *Host) Start(args ...string) *Process {
	h.lab.t.Helper()
	return h.StartEnv(nil, args...)
}

// StartEnv is Start with additions to the environment ("NAME=value").
func (h *Host) StartEnv(env []string, args ...string) *Process {
	h.lab.t.Helper()
	p := &Process{host: h, cmd: h.Command(args...), done: make(chan struct{}), more: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = time.Second
	h.lab.check(start(p.cmd))
	h.processes = append(h.processes, p)
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// start starts cmd so that it dies with this process. The kernel ties that to
// the thread that starts it: here, one that lives as long as the process.
func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	starts <- func() { started <- cmd.Start() }
	return <-started
}

var (
	starts  = make(chan func())
	started = make(chan error)
)

func init() {
	go func() {
		runtime.LockOSThread()
		for f := range starts {
			f()
		}
	}()
}

// Write takes the process's output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Write(b)
	close(p.more)
	p.more = make(chan struct{})
	return len(b), nil
}

// Output is what the process has said so far, both streams.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Await waits until the process has said text.
func (p *Process) Await(text string) {
	t := p.host.lab.t
	t.Helper()
	if !p.Finally(text) {
		t.Fatalf("%s: %v ended (%v) without saying %q", p.host.Name, p.cmd.Args[nsenterArgs:], p.err, text)
	}
}

// Finally waits until the process has said text, or has ended: then it is false.
func (p *Process) Finally(text string) bool {
	t := p.host.lab.t
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		p.mu.Lock()
		said, more := strings.Contains(p.out.String(), text), p.more
		p.mu.Unlock()
		if said {
			return true
		}
		select {
		case <-more:
		case <-p.done:
			return strings.Contains(p.Output(), text)
		case <-timeout:
			t.Fatalf("%s: %v neither said %q nor ended in 30 s", p.host.Name, p.cmd.Args[nsenterArgs:], text)
		}
	}
}

// Signal sends a signal. nsenter has become the command: it reaches it.
func (p *Process) Signal(s os.Signal) { p.cmd.Process.Signal(s) }

// Kill kills the process (SIGKILL) and waits for its end.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Wait waits for the process's end and returns its exit status.
func (p *Process) Wait() int {
	t := p.host.lab.t
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: %v did not end in 30 s", p.host.Name, p.cmd.Args[nsenterArgs:])
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stop asks the process to end (SIGTERM) and returns its exit status.
func (p *Process) Stop() int {
	p.host.lab.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait()
}

// PID is the process's in the machine's own numbering.
func (p *Process) PID() int { return p.cmd.Process.Pid }
