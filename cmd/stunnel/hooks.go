package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hookGrace is what a hook gets to end after it was told to.
const hookGrace = 5 * time.Second

// hooks runs the commands of a configuration file (PreUp, PostUp, PreDown, PostDown).
type hooks struct {
	name string    // of the interface; a command's %i
	path string    // of the configuration file
	out  io.Writer // gets what they print; an *os.File is handed over as it is
	log  *slog.Logger

	mu   sync.Mutex
	stop context.CancelCauseFunc // of the command that runs, nil: none does; guarded by mu
}

// run runs the commands of one kind, in order, as wg-quick(8) does. The first that fails ends it, and so does ctx.
func (h *hooks) run(ctx context.Context, kind string, commands []string) error {
	for _, command := range commands {
		if err := h.command(ctx, kind, command); err != nil {
			return err
		}
	}
	return nil
}

// runAll is run for the way down: after a command that was stopped by hurry come those behind it.
func (h *hooks) runAll(kind string, commands []string) (err error) {
	for _, command := range commands {
		failed := h.command(context.Background(), kind, command)
		err = errors.Join(err, failed)
		if failed != nil && !errors.Is(failed, errHurry) {
			break
		}
	}
	return err
}

// hurry stops the command that runs now, if one does.
func (h *hooks) hurry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stop != nil {
		h.stop(errHurry)
	}
}

// command runs one command, by a bash of its own under errexit and pipefail.
func (h *hooks) command(ctx context.Context, kind, command string) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	h.mu.Lock()
	h.stop = stop
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.stop = nil
		h.mu.Unlock()
	}()

	h.log.Debug("hook", "kind", kind, "command", withoutKeys(command))
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-O", "extglob", "-c", strings.ReplaceAll(command, "%i", h.name))
	cmd.Stdin = os.Stdin
	cmd.Stdout, cmd.Stderr = h.out, h.out
	cmd.Env = append(os.Environ(), "INTERFACE="+h.name, "CONFIG_FILE="+h.path, "LC_ALL=C")
	// A process group of its own, so that what the command has started can be stopped with it. But not on a terminal:
	// only its foreground group can read from that, for a passphrase say, and is reached by Ctrl-C, as a whole.
	grouped := !atTerminal()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: grouped}
	stopped := false // written before Run returns
	cmd.Cancel = func() error {
		stopped = true
		if grouped {
			return unix.Kill(-cmd.Process.Pid, unix.SIGTERM)
		}
		return cmd.Process.Signal(unix.SIGTERM)
	}
	cmd.WaitDelay = hookGrace
	err := cmd.Run()
	if stopped && grouped {
		endGroup(cmd.Process.Pid)
	}
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		// The latter: it has done its work, and something that it started keeps our pipe.
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s %q: %w", kind, withoutKeys(command), context.Cause(ctx))
	case errors.Is(err, exec.ErrNotFound):
		return withHint(fmt.Errorf("%s: %w", kind, err), "the commands of a configuration file are run by bash; install it")
	}
	return fmt.Errorf("%s %q: %w", kind, withoutKeys(command), err)
}

// atTerminal says whether stdin is a terminal and we are in its foreground.
func atTerminal() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// endGroup gives what is left of a process group some time, as its leader had, and then no more. Nothing tells of the end
// of processes that are not our children.
func endGroup(pgid int) {
	for end := time.Now().Add(hookGrace); unix.Kill(-pgid, 0) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			_ = unix.Kill(-pgid, unix.SIGKILL)
			return
		}
	}
}

var keyText = regexp.MustCompile(`[A-Za-z0-9+/]{43}=|\b[0-9a-fA-F]{64}\b`)

// withoutKeys is a command for a log or an error, where a key that stands in it has no business.
func withoutKeys(command string) string { return keyText.ReplaceAllString(command, "(key)") }
