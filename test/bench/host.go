package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// host is a machine of its own as far as its network is concerned: a process
// that holds a network and a mount namespace with no name. When this program
// ends, however it ends, the kernel takes all of it away.
type host struct {
	name  string
	shell *exec.Cmd
	stdin io.Closer
}

// newHost makes a host with nothing but a loopback interface. /run is its own:
// control sockets of hosts and of the machine do not meet.
func newHost(name string) (*host, error) {
	// The shell says when it is ready and then waits for its input to end,
	// which it does when we close it or die.
	const script = `mount -t tmpfs -o mode=755 none /run && ip link set lo up && echo ready && read -r _`
	cmd := exec.Command("unshare", "--net", "--mount", "sh", "-c", script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &host{name: name, shell: cmd, stdin: stdin}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready"))); err != nil {
		h.end()
		return nil, fmt.Errorf("cannot make the host %s: %s", name, &stderr)
	}
	return h, nil
}

func (h *host) end() {
	h.stdin.Close()
	h.shell.Process.Kill()
	h.shell.Wait()
}

func (h *host) pid() int { return h.shell.Process.Pid }

// command is a command that would run on the host.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"--target", fmt.Sprint(h.pid()), "--net", "--mount", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs a command on the host to its end and returns its standard output.
func (h *host) run(ctx context.Context, args ...string) (string, error) {
	cmd := h.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %s: %w: %s", h.name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// ip runs ip(8) on the host; the arguments are separated by spaces.
func (h *host) ip(ctx context.Context, format string, args ...any) error {
	_, err := h.run(ctx, append([]string{"ip"}, strings.Fields(fmt.Sprintf(format, args...))...)...)
	return err
}

// program is a command that goes on running on a host.
type program struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // valid after done

	mu   sync.Mutex
	said bytes.Buffer // both streams, at most maxSaid bytes
}

const maxSaid = 64 << 10

// start starts a command on the host and leaves it running.
func (h *host) start(env []string, args ...string) (*program, error) {
	p := &program{cmd: h.command(context.Background(), args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := start(p.cmd); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Write takes the program's output.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.Write(b[:min(len(b), maxSaid-p.said.Len())])
	return len(b), nil
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// await waits until ready says so. It fails when the program ends before.
func (p *program) await(ctx context.Context, what string, ready func() bool) error {
	end := time.Now().Add(15 * time.Second)
	for !ready() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%v): %s", p.cmd.Args[nsenterArgs], p.err, p.output())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: no %s after 15 s: %s", p.cmd.Args[nsenterArgs], what, p.output())
		}
	}
	return nil
}

const nsenterArgs = 6

// stop asks the program to end, makes it after a while, and waits for its end.
func (p *program) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
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

// missing names those commands that are not installed.
func missing(commands ...string) error {
	var errs []error
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			errs = append(errs, fmt.Errorf("%s is not installed (apt-get install %s)", c, packageOf[c]))
		}
	}
	return errors.Join(errs...)
}

// packageOf is the Debian package of each command that is used.
var packageOf = map[string]string{
	"ip": "iproute2", "ping": "iputils-ping", "iperf3": "iperf3", "unshare": "util-linux", "nsenter": "util-linux",
	"git": "git", "perf": "linux-perf", "fastd": "fastd", "openvpn": "openvpn", "tincd": "tinc",
}
