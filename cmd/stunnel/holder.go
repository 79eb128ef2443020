package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/control"
)

// openHint says what to do about a device that could not be opened or configured.
func openHint(err error, command string) error {
	switch {
	case len(advice(err)) > 0, !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return err
	case os.Geteuid() != 0:
		return withHint(err, "try it as root: sudo "+command)
	}
	return withHint(err, "this root lacks the right CAP_NET_ADMIN; a container gets it by --cap-add NET_ADMIN")
}

// busyHint says who holds an interface that is in use.
func busyHint(err error, name string) error {
	if errors.Is(err, unix.EBUSY) {
		return withHint(err, heldHint(name))
	}
	return err
}

// heldHint says what to do about an interface that a process holds without having a control socket; "" if there is none.
func heldHint(name string) string {
	pid := holderOf(name)
	if pid == 0 {
		return ""
	}
	return fmt.Sprintf("process %d holds the interface and has no control socket (was its file removed?): ip link delete %s ends it, or kill %d", pid, name, pid)
}

// holderOf is the process, in our network namespace, that has the TUN interface open. 0: none, or it can't be seen.
func holderOf(name string) int {
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is right
	for _, file := range files {
		if open, err := os.Readlink(file); err != nil || open != "/dev/net/tun" {
			continue
		}
		part := strings.Split(file, "/") // "", proc, PID, fd, FD
		pid, err := strconv.Atoi(part[2])
		if err == nil && tunOf(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, part[4])) == name && !elsewhere(pid) {
			return pid
		}
	}
	return 0
}

// tunOf is the name of the interface that an open /dev/net/tun belongs to.
func tunOf(fdinfo string) string {
	f, err := os.Open(fdinfo)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, found := strings.CutPrefix(s.Text(), "iff:"); found {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// runningHint says where the tunnel is that is in the way.
func runningHint(err error, name string) error {
	c, dialErr := control.Dial(name)
	if dialErr != nil {
		return err
	}
	defer c.Close()
	pid := c.PID()
	where := strings.TrimSpace(programOf(pid))
	switch {
	case elsewhere(pid):
		return withHint(err, fmt.Sprintf("it runs in another network namespace, in the process %d", pid))
	case tunIndex(name) == 0:
		return withHint(err, strings.TrimSpace(fmt.Sprintf("it is just ending, its PostDown perhaps runs still; stunnel down %s waits for the end %s", name, where)))
	}
	return withHint(err, strings.TrimSpace(fmt.Sprintf("stunnel show %s shows it, stunnel down %s ends it %s", name, name, where)))
}
