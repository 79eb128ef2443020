package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// resolvconfTime is what the command has: it may restart a name server of the machine's own.
const resolvconfTime = 30 * time.Second

// resolvconf is the path of the command, of openresolv or of Debian's package of that name; "" without one that is in charge
// of resolv.conf. That of systemd-resolved is no other than resolvectl, and of no use where resolved does not serve.
func resolvconf() string {
	path, err := exec.LookPath("resolvconf")
	if err != nil {
		return ""
	}
	if program, err := filepath.EvalSymlinks(path); err != nil || strings.HasPrefix(filepath.Base(program), "resolvectl") ||
		strings.HasPrefix(filepath.Base(program), "systemd-resolve") {
		return ""
	}
	if openresolv(path) {
		return path
	}
	// Debian's keeps a file in /run, and resolv.conf is a link to it, or else is left alone.
	if p, err := findPlace(resolvConf); err != nil || !strings.HasSuffix(p.path, "/resolvconf/resolv.conf") {
		return ""
	}
	return path
}

// openresolv tells the two programs apart: only openresolv says its version.
func openresolv(path string) bool {
	out, _ := runResolvconf(path, "", "--version") // Debian's fails, with the usage
	return bytes.HasPrefix(out, []byte("openresolv"))
}

// addToResolvconf tells the command, in the words of wg-quick(8), and sees that programs will hear of it.
func addToResolvconf(s Settings) error {
	path := resolvconf()
	if path == "" {
		return errors.New("the command resolvconf is not there any more")
	}
	t := text{servers: s.Servers, search: s.Search}
	if len(s.Servers) == 0 {
		return setWith(path, t, s, "-m", "0")
	}
	return setWith(path, t, s, "-m", "0", "-x")
}

func setWith(path string, t text, s Settings, options ...string) error {
	args := append([]string{"-a", record(s.Interface)}, options...)
	if out, err := runResolvconf(path, t.lines(), args...); err != nil {
		return fmt.Errorf("%s %s: %w%s", path, strings.Join(args, " "), err, said(out))
	}
	p, err := findPlace(resolvConf)
	if err != nil {
		return err
	}
	if len(s.Servers) == 0 {
		return nil
	}
	for _, server := range parse(p.text).servers {
		if server == s.Servers[0] || server.IsLoopback() { // the latter is a name server that resolvconf has told
			return nil
		}
	}
	return fmt.Errorf("resolvconf has taken the name server %s, but %s does not name it", s.Servers[0], resolvConf)
}

// deleteFromResolvconf takes the record out. Where the command has gone there is none.
func deleteFromResolvconf(s Settings) error {
	path, err := exec.LookPath("resolvconf")
	if err != nil {
		return nil
	}
	args := []string{"-d", record(s.Interface), "-f"}
	if out, err := runResolvconf(path, "", args...); err != nil {
		return fmt.Errorf("%s %s: %w%s", path, strings.Join(args, " "), err, said(out))
	}
	return nil
}

func runResolvconf(path, stdin string, args ...string) (output []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolvconfTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}

func said(output []byte) string {
	if text := strings.TrimSpace(string(output)); text != "" {
		return ": " + text
	}
	return ""
}

var wildcard = regexp.MustCompile(`^([A-Za-z0-9-]+)\*$`)

// record is the name under which the command knows an interface. Where it orders them by their names, the first kind that is
// in its list with a wildcard goes before, so that the tunnel's servers come before those of a network card.
func record(name string) string {
	order, _ := os.ReadFile("/etc/resolvconf/interface-order") // Debian's alone has it
	for line := range strings.Lines(string(order)) {
		if kind := wildcard.FindStringSubmatch(strings.TrimSpace(line)); kind != nil {
			return kind[1] + "." + name
		}
	}
	return name
}
