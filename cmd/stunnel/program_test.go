package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/crypto"
)

// programVariable makes the test binary be the program: what it runs again to detach is then the program too.
const programVariable = "STUNNEL_TEST_PROGRAM"

func init() {
	if os.Getenv(programVariable) != "" {
		os.Exit(run(os.Args, os.Stdout, os.Stderr))
	}
}

// patience bounds every wait for an event in these tests.
const patience = 20 * time.Second

// box is a host in namespaces of its own, with a directory of its own.
type box struct {
	*demoHost
	t   *testing.T
	dir string
}

func newBox(t *testing.T) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network and mount namespaces: run the tests with sudo, or under unshare --user --map-root-user --mount --net")
	}
	if err := tunUsable(); err != nil {
		t.Skipf("needs TUN interfaces: %v (modprobe tun)", err)
	}
	h := &demoHost{name: "box"}
	if err := h.begin(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(h.jobs) })
	return &box{demoHost: h, t: t, dir: t.TempDir()}
}

// forEverybody lets ordinary users of the box run the program, whose path it returns, and open /dev/net/tun as udev's rules
// have it, whatever the rights of the machine's own are.
func (b *box) forEverybody() (path string) {
	b.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	path = filepath.Join(b.dir, "stunnel") // where nobody else may look into the test's directory
	b.sh("cp " + exe + " " + path + "; chmod 755 " + path + " " + b.dir + " " + filepath.Dir(b.dir))
	device := filepath.Join(b.dir, "tun")
	b.sh("mknod -m 666 " + device + " c 10 200; mount --bind " + device + " /dev/net/tun")
	return path
}

// file writes a configuration file and returns its path.
func (b *box) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// tunnelFile is a file with a key, an address of each kind and a peer; more goes into [Interface].
func (b *box) tunnelFile(name, more string) string {
	return b.file(name, "[Interface]\nPrivateKey = "+crypto.NewPrivateKey().Base64()+
		"\nAddress = 10.5.0.1/24, fd05::1/64\n"+more+
		"\n[Peer]\nName = friend\nPublicKey = "+crypto.NewPrivateKey().Public().String()+
		"\nEndpoint = 192.0.2.9:1\nAllowedIPs = 10.5.0.2/32, 10.6.0.0/16, fd06::/32\n")
}

// program is a run of stunnel.
type program struct {
	*exec.Cmd
	t     *testing.T
	ended chan struct{} // closed when it has ended and said all
	ready chan struct{} // closed when it has said that it is ready
	heard chan struct{} // has one when there was a new line

	mu     sync.Mutex
	stderr bytes.Buffer // guarded by mu
}

// start runs the program on the host; args[0] is its name.
func (b *box) start(env []string, args ...string) *program {
	b.t.Helper()
	return b.startFiles(env, nil, args...)
}

func (b *box) startFiles(env []string, files []*os.File, args ...string) *program {
	b.t.Helper()
	p := &program{Cmd: exec.Command("/proc/self/exe"), t: b.t, ended: make(chan struct{}), ready: make(chan struct{}), heard: make(chan struct{}, 1)}
	p.Args = args
	p.Env = append(append(os.Environ(), programVariable+"=1"), env...)
	p.ExtraFiles = files
	said, saying, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	p.Stderr = saying
	err = b.do(p.Start)
	saying.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.Process.Kill(); <-p.ended })
	// What has ended has said all, but not everybody who could say something on this pipe has ended: a daemon that keeps it.
	go func() {
		defer said.Close()
		var once sync.Once
		r := bufio.NewReader(said)
		for {
			line, err := r.ReadString('\n')
			p.mu.Lock()
			p.stderr.WriteString(line)
			p.mu.Unlock()
			select {
			case p.heard <- struct{}{}:
			default:
			}
			if strings.HasSuffix(line, ": ready\n") {
				once.Do(func() { close(p.ready) })
			}
			if err != nil {
				p.Wait()
				close(p.ended)
				return
			}
		}
	}()
	return p
}

// waitFor waits until p has said words.
func waitFor(t *testing.T, p *program, words string) {
	t.Helper()
	late := time.After(patience)
	for !strings.Contains(p.said(), words) {
		select {
		case <-p.heard:
		case <-p.ended:
			t.Fatalf("%v ended before it said %q:\n%s", p.Args, words, p.said())
		case <-late:
			t.Fatalf("%v does not say %q:\n%s", p.Args, words, p.said())
		}
	}
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// untilReady waits until up has said that all is there.
func (p *program) untilReady() *program {
	p.t.Helper()
	select {
	case <-p.ready:
	case <-p.ended:
		p.t.Fatalf("%v ended with %d before it was ready:\n%s", p.Args, p.ProcessState.ExitCode(), p.said())
	case <-time.After(patience):
		p.t.Fatalf("%v is not ready:\n%s", p.Args, p.said())
	}
	return p
}

// status waits for the end and returns the exit status.
func (p *program) status() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%v does not end:\n%s", p.Args, p.said())
	}
	return -1
}

// wants checks the exit status of a program that is ending, and what it said.
func (p *program) wants(status int, words ...string) {
	p.t.Helper()
	if got := p.status(); got != status {
		p.t.Errorf("%v: status %d, want %d:\n%s", p.Args, got, status, p.said())
	}
	for _, w := range words {
		if !strings.Contains(p.said(), w) {
			p.t.Errorf("%v did not say %q:\n%s", p.Args, w, p.said())
		}
	}
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// sh runs a script on the host and returns its output.
func (b *box) sh(script string) string {
	b.t.Helper()
	cmd := exec.Command("bash", "-ec", script)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = b.dir
	err := b.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out.String()
}

// state is all that a tunnel may change on the host.
func (b *box) state() string {
	b.t.Helper()
	return b.sh(`ip -br link | sed 's/ *$//' | sort; ip -o -4 addr; ip -o -6 addr | sed 's/ dynamic//' | sort
		ip -4 route show table all; ip -6 route show table all | sort; ip -4 rule; ip -6 rule
		if command -v nft >/dev/null; then nft list ruleset; fi; sysctl net.ipv4.conf.all.src_valid_mark
		ls -A /var/run/wireguard 2>/dev/null || true; find /run/stunnel -type f 2>/dev/null || true`)
}

// same checks that the host is as it was.
func (b *box) same(before string) {
	b.t.Helper()
	if after := b.state(); after != before {
		b.t.Errorf("the host was not left as it was found. It was\n%s\nand is\n%s", before, after)
	}
}

// gone waits until the process that listens on a control socket has ended: it is not our child.
func gone(t *testing.T, pid int) func() {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	return func() {
		t.Helper()
		defer unix.Close(fd)
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n != 1 {
				t.Fatalf("process %d does not end: %v", pid, err)
			}
			return
		}
	}
}
