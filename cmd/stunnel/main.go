// Command stunnel makes an encrypted tunnel between hosts and speaks WireGuard's protocol.
//
// Each file of this package is one command: NAME.go defines nameCommand, and newApp lists them. Results go to
// stdout, everything else to stderr; the exit status is 0 (done), 1 (failed) or 2 (wrong usage).
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

func main() {
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// newApp lists the commands, in the order in which help shows them.
func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:      "stunnel",
		HelpName:  "stunnel",
		Usage:     "an encrypted tunnel between hosts, WireGuard on the wire",
		UsageText: "stunnel COMMAND [flags and arguments, in any order]\nstunnel COMMAND --help",
		Commands: []*cli.Command{
			demoCommand(),
			upCommand(),
			downCommand(),
			unlockCommand(),
			showCommand(),
			doctorCommand(),
			checkCommand(),
			stripCommand(),
			genkeyCommand(),
			genpskCommand(),
			pubkeyCommand(),
			userspaceCommand(),
			versionCommand(),
		},
		Writer:          stdout,
		ErrWriter:       stderr,
		HideVersion:     true, // `version` says more; --version is mapped to it
		HideHelpCommand: true, // arrange has taken it
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "do as the command version", DisableDefaultText: true},
		},
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usageError("%v", err)
		},
	}
}

// run is the whole program but for the exit: args are those of the process, args[0] included.
func run(args []string, stdout, stderr io.Writer) (status int) {
	out := &resultWriter{w: stdout}
	return runApp(newApp(out, stderr), asUserspace(args), out, stderr)
}

// runApp is the only place where an error becomes words and an exit status. out is app's Writer.
func runApp(app *cli.App, args []string, out *resultWriter, stderr io.Writer) (status int) {
	defer func() {
		if p := recover(); p != nil {
			report(stderr, withHint(fmt.Errorf("internal error: %v", p),
				"this is a bug in stunnel; please report it, with what STUNNEL_TRACE=1 in the environment adds"))
			if os.Getenv("STUNNEL_TRACE") != "" {
				fmt.Fprintf(stderr, "%s", debug.Stack())
			}
			status = exitFailed
		}
	}()
	for _, c := range app.Commands {
		adopt(c)
	}
	args, err := arrange(app, args)
	if err == nil {
		err = app.Run(args)
	}
	if err == nil && out.err != nil {
		err = fmt.Errorf("cannot write the result: %w", out.err)
	}
	if err == nil {
		return exitDone
	}
	report(stderr, err)
	return exitStatus(err)
}

// asUserspace makes the program behave as wireguard-go does when it is called through a link of that name:
// what was written for wireguard-go (wg-quick's WG_QUICK_USERSPACE_IMPLEMENTATION) then works unchanged.
func asUserspace(args []string) []string {
	if len(args) == 0 {
		return []string{"stunnel"}
	}
	if !strings.HasSuffix(filepath.Base(args[0]), "wireguard-go") {
		return args
	}
	if len(args) == 2 && args[1] == "--version" {
		return []string{"stunnel", "version"}
	}
	return append([]string{"stunnel", "userspace"}, args[1:]...)
}

// resultWriter is stdout with a memory: a result that could not be written (a full disk) is a failure,
// even where a command does not look at every error of Fprintf.
type resultWriter struct {
	w   io.Writer
	err error // the first
}

func (r *resultWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n, err
}
