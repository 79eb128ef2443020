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
}

// run runs the commands of one kind, in order, as wg-quick(8) does: by a bash of their own, under errexit and pipefail.
// The first that fails ends it, and so does ctx.
func (h *hooks) run(ctx context.Context, kind string, commands []string) error {
	for _, command := range commands {
		h.log.Debug("hook", "kind", kind, "command", withoutKeys(command))
		cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-O", "extglob", "-c", strings.ReplaceAll(command, "%i", h.name))
		cmd.Stdin = os.Stdin
		cmd.Stdout, cmd.Stderr = h.out, h.out
		cmd.Env = append(os.Environ(), "INTERFACE="+h.name, "CONFIG_FILE="+h.path, "LC_ALL=C")
		cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
		cmd.WaitDelay = hookGrace
		err := cmd.Run()
		switch {
		case err == nil, errors.Is(err, exec.ErrWaitDelay):
			// The latter: it has done its work, and something that it started keeps our pipe.
		case ctx.Err() != nil:
			return fmt.Errorf("%s %q: %w", kind, withoutKeys(command), context.Cause(ctx))
		case errors.Is(err, exec.ErrNotFound):
			return withHint(fmt.Errorf("%s: %w", kind, err), "the commands of a configuration file are run by bash; install it")
		default:
			return fmt.Errorf("%s %q: %w", kind, withoutKeys(command), err)
		}
	}
	return nil
}

var keyText = regexp.MustCompile(`[A-Za-z0-9+/]{43}=|\b[0-9a-fA-F]{64}\b`)

// withoutKeys is a command for a log or an error, where a key that stands in it has no business.
func withoutKeys(command string) string { return keyText.ReplaceAllString(command, "(key)") }
