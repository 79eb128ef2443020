package interop

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// In the child that inNamespaces makes these name the programs under test.
const (
	stunnelVariable     = "INTEROP_STUNNEL"
	wireguardGoVariable = "INTEROP_WIREGUARD_GO"
)

const debianWireGuardGo = "/usr/bin/wireguard-go"

// inNamespaces runs the calling test once more, in a process with a network,
// mount and process namespace of its own, where test is called. What that
// leaves behind ends with the namespaces.
func inNamespaces(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv(stunnelVariable) != "" {
		prepare(t)
		test(t)
		return
	}
	switch {
	case os.Geteuid() != 0:
		t.Skip("SKIPPED: making namespaces takes root: run as root, or with `unshare --map-root-user --user`")
	case !exists("/dev/net/tun"):
		t.Skip("SKIPPED: /dev/net/tun is missing: `modprobe tun`, or give it to this container")
	}
	if _, err := exec.LookPath("wg"); err != nil {
		t.Skip("SKIPPED: wg(8) is missing: `apt-get install wireguard-tools`")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("SKIPPED: ip(8) is missing: `apt-get install iproute2`")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	child.Env = append(os.Environ(), stunnelVariable+"="+filepath.Join(dir, "stunnel"),
		wireguardGoVariable+"="+filepath.Join(dir, "wireguard-go"))
	child.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is of the thread that forks
	defer runtime.UnlockOSThread()
	output, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Logf("in namespaces of its own:\n%s", output)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// prepare makes the child's namespaces fit to live in.
func prepare(t *testing.T) {
	t.Helper()
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, ""),
	)
	if err != nil {
		t.Fatal(err)
	}
	if real, err := filepath.EvalSymlinks("/var/run"); err != nil || real != "/run" {
		if err := unix.Mount("tmpfs", "/var/run", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "ip", "link", "set", "lo", "up")
}

// programs builds the programs under test, once: ours, and the wireguard-go
// that go.mod names.
var programs = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("", "stunnel-interop-")
	if err != nil {
		return "", err
	}
	cleanups = append(cleanups, func() { os.RemoveAll(dir) })
	for name, from := range map[string][2]string{
		"stunnel":      {"../..", "./cmd/stunnel"},
		"wireguard-go": {".", "golang.zx2c4.com/wireguard"},
	} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), from[1])
		build.Dir = from[0]
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			return "", errors.Join(err, errors.New(string(output)))
		}
	}
	return dir, nil
})

// cleanups are called after the last test.
var cleanups []func()

func TestMain(m *testing.M) {
	status := m.Run()
	for _, c := range cleanups {
		c()
	}
	os.Exit(status)
}

// must runs a program that may not fail and returns its standard output.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	stdout, stderr, err := run(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, stderr)
	}
	return stdout
}

func run(t *testing.T, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	// Files, not pipes: a daemon that inherits a pipe keeps it open.
	var out, errs *os.File
	for _, f := range []**os.File{&out, &errs} {
		if *f, err = os.CreateTemp(t.TempDir(), "output"); err != nil {
			t.Fatal(err)
		}
		defer (*f).Close()
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = out, errs
	err = cmd.Run()
	return content(t, out), content(t, errs), err
}

func content(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
