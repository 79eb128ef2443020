package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// world is two hosts joined by a cable, and a tunnel between them.
type world struct {
	a, b     *host
	dir      string // for configuration files; goes with the world
	programs []*program
	ends     [2]*program // the tunnel's, on a and on b; nil without a tunnel
}

// Addresses on the cable and in the tunnel, of a and of b.
const (
	outerA, outerB = "192.0.2.1", "192.0.2.2"
	innerA, innerB = "10.77.0.1", "10.77.0.2"
	innerMTU       = 1420
)

// newWorld makes hosts and cable, starts the tunnel and an iperf3 server on b,
// and returns when a ping gets through.
func newWorld(ctx context.Context, t *tunnel) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			w.end()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "stunnel-bench-"); err != nil {
		return w, err
	}
	if w.a, err = newHost("a"); err != nil {
		return w, err
	}
	if w.b, err = newHost("b"); err != nil {
		return w, err
	}
	for _, step := range []error{
		w.a.ip(ctx, "link add eth0 mtu 1500 type veth peer name eth0 netns %d", w.b.pid()),
		w.a.ip(ctx, "address add %s/24 dev eth0", outerA),
		w.b.ip(ctx, "address add %s/24 dev eth0", outerB),
		w.a.ip(ctx, "link set eth0 up"),
		w.b.ip(ctx, "link set eth0 up"),
	} {
		if step != nil {
			return w, step
		}
	}
	if err := t.start(ctx, w); err != nil {
		return w, err
	}
	if err := w.awaitPing(ctx); err != nil {
		return w, err
	}
	server, err := w.start(w.b, nil, "iperf3", "-s", "--forceflush")
	if err != nil {
		return w, err
	}
	return w, server.await(ctx, "server", func() bool { return strings.Contains(server.output(), "listening") })
}

// start starts a program that lives as long as the world.
func (w *world) start(h *host, env []string, args ...string) (*program, error) {
	p, err := h.start(env, args...)
	if err == nil {
		w.programs = append(w.programs, p)
	}
	return p, err
}

// startEnds starts the tunnel's program on a and on b.
func (w *world) startEnds(env []string, a, b []string) (err error) {
	// The listening end first: some of the others retry slowly.
	if w.ends[1], err = w.start(w.b, env, b...); err != nil {
		return err
	}
	w.ends[0], err = w.start(w.a, env, a...)
	return err
}

// address gives the tunnel's interfaces, once they are there, their addresses.
func (w *world) address(ctx context.Context, device string) error {
	for i, h := range []*host{w.a, w.b} {
		there := func() bool { return h.ip(ctx, "link show %s", device) == nil }
		if err := w.ends[i].await(ctx, "interface "+device, there); err != nil {
			return err
		}
		if err := errors.Join(
			h.ip(ctx, "address add %s/24 dev %s", [2]string{innerA, innerB}[i], device),
			h.ip(ctx, "link set %s mtu %d up", device, innerMTU)); err != nil {
			return err
		}
	}
	return nil
}

// file writes a file that only its owner can read, or run, and returns its
// path.
func (w *world) file(name, text string, mode os.FileMode) (string, error) {
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text), mode)
}

func (w *world) awaitPing(ctx context.Context) error {
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err = w.a.run(ctx, "ping", "-c1", "-W1", innerB); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for _, p := range w.ends {
		if p != nil {
			err = fmt.Errorf("%w\n%s", err, p.output())
		}
	}
	return fmt.Errorf("no ping through the tunnel: %w", err)
}

// pids is the tunnel's processes, at both ends.
func (w *world) pids() []int { return append(w.pidsOf(0), w.pidsOf(1)...) }

// pidsOf is the tunnel's processes at one end: 0 is a, 1 is b.
func (w *world) pidsOf(end int) []int {
	if w.ends[end] == nil {
		return nil
	}
	// nsenter has become the program.
	return treeOf(w.ends[end].cmd.Process.Pid)
}

func (w *world) end() {
	for _, p := range w.programs {
		p.stop()
	}
	for _, h := range []*host{w.a, w.b} {
		if h != nil {
			h.end()
		}
	}
	if w.dir != "" {
		os.RemoveAll(w.dir)
	}
}
