package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// machine is what the figures were measured on, and of what.
type machine struct {
	Date, Commit   string
	Processor      string
	CPUs           int
	MemoryGB       float64
	Kernel, System string
	Go, Iperf3     string
	LoadBefore     string
}

func thisMachine(ctx context.Context) machine {
	m := machine{
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Commit: commit(ctx),
		Processor: fieldOf("/proc/cpuinfo", "model name"), CPUs: runtime.NumCPU(),
		System: strings.Trim(fieldOf("/etc/os-release", "PRETTY_NAME"), `"`),
		Go:     runtime.Version(), Iperf3: firstLine("iperf3", "--version"),
	}
	var kb float64
	fmt.Sscan(fieldOf("/proc/meminfo", "MemTotal"), &kb)
	m.MemoryGB = kb * 1024 / 1e9
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(b)) + " " + runtime.GOARCH
	if b, _ = os.ReadFile("/proc/loadavg"); len(b) > 0 {
		m.LoadBefore = strings.Fields(string(b))[0]
	}
	return m
}

// fieldOf is the value of the first line "name: value" or "name=value".
func fieldOf(path, name string) string {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		if at := strings.IndexAny(line, ":="); at > 0 && strings.TrimSpace(line[:at]) == name {
			return strings.TrimSpace(line[at+1:])
		}
	}
	return "unknown"
}

// commit is that of the tree, with a mark if the tree is not it.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// build builds ./cmd/stunnel as the Makefile does, but for the symbols, which
// a profile needs; they are not loaded when it runs.
func build(ctx context.Context, dir, commit string) (path string, err error) {
	path = filepath.Join(dir, "stunnel")
	return path, goCommand(ctx, "", "build", "-trimpath", "-ldflags", "-X main.commit="+commit, "-o", path, "./cmd/stunnel")
}

// buildWireguardGo fetches and builds the newest wireguard-go.
func buildWireguardGo(ctx context.Context, dir string) (path, version string, err error) {
	if err := goCommand(ctx, dir, "install", "golang.zx2c4.com/wireguard@latest"); err != nil {
		return "", "", err
	}
	path = filepath.Join(dir, "wireguard")
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	return path, info.Main.Version, nil
}

func goCommand(ctx context.Context, bin string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if bin != "" {
		cmd.Env = append(cmd.Env, "GOBIN="+bin)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
