package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"stunnel/crypto/chachapoly"
)

// Set by the linker: -ldflags "-X main.version=1.2.3 -X main.commit=0123abcd".
var (
	version = "development"
	commit  = ""
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print version, commit, Go, how packets are sealed, and the kernel features found",
		Description: "Tells which program this is and what it finds on this machine. It makes nothing and needs no root.\n\n" +
			"Example:\n" +
			"   stunnel version",
		Action: func(c *cli.Context) error {
			w := c.App.Writer
			fmt.Fprintf(w, "stunnel %s\n", version)
			fmt.Fprintf(w, "commit  %s\n", builtFrom())
			fmt.Fprintf(w, "go      %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
			fmt.Fprintf(w, "aead    %s\n", aeadInUse())
			fmt.Fprintf(w, "kernel  %s\n", kernelRelease())
			for _, f := range kernelFeatures() {
				found := "no"
				if f.found {
					found = "yes"
				}
				fmt.Fprintf(w, "   %-24s %-3s", f.name, found)
				if f.why != "" {
					fmt.Fprintf(w, " (%s)", f.why)
				}
				fmt.Fprintln(w)
			}
			return nil
		},
	}
}

// aeadInUse tells how packets are sealed, and why not otherwise if that is a fault.
func aeadInUse() string {
	if err := chachapoly.Fault(); err != nil {
		return chachapoly.Path() + " (" + strings.ReplaceAll(err.Error(), "\n", "; ") + ")"
	}
	return chachapoly.Path()
}

// builtFrom returns the commit that the linker or else the Go tool wrote into the program.
func builtFrom() string {
	if commit != "" {
		return commit
	}
	revision, modified := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = " (modified)"
			}
		}
	}
	return revision + modified
}
