package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// tunUsable says what is in the way of making TUN interfaces, as far as that shows before one is made.
func tunUsable() error {
	const path = "/dev/net/tun"
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case err == nil:
		f.Close()
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return withHint(fmt.Errorf("there is no TUN driver: %w", err),
			"sudo modprobe tun; a container needs --device "+path)
	case errors.Is(err, unix.EACCES):
		return withHint(fmt.Errorf("this user may not make TUN interfaces: %w", err), "sudo stunnel demo, or sudo chmod 666 "+path)
	case errors.Is(err, unix.EPERM):
		return withHint(fmt.Errorf("this container may not make TUN interfaces: %w", err), "run it with --device "+path)
	}
	return err
}

// obstacle is a switch of the system that forbids user namespaces.
type obstacle struct{ file, value, remedy string }

var obstacles = []obstacle{
	{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000"},
	{"/proc/sys/user/max_net_namespaces", "0", "sudo sysctl user.max_net_namespaces=10000"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
}

// explainNamespaces adds to err, which came of making namespaces, what in this system forbids them and who can change it.
func explainNamespaces(err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if _, statErr := os.Stat("/proc/self/ns/user"); errors.Is(statErr, os.ErrNotExist) {
		return withHint(err, "this kernel has no user namespaces (CONFIG_USER_NS): sudo stunnel demo")
	}
	var set, remedies []string
	for _, o := range obstacles {
		if value, readErr := os.ReadFile(o.file); readErr == nil && strings.TrimSpace(string(value)) == o.value {
			set, remedies = append(set, o.file+" is "+o.value), append(remedies, o.remedy)
		}
	}
	if len(set) > 0 {
		return withHint(fmt.Errorf("%w (%s)", err, strings.Join(set, " and ")), "sudo stunnel demo, or "+strings.Join(remedies, " and "))
	}
	if isRoot() {
		return withHint(err, "this root lacks the right CAP_SYS_ADMIN; a container gets it by --cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun")
	}
	return withHint(err, "sudo stunnel demo; a container needs --cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun")
}

// isRoot tells a real root from one in a user namespace of ours, whose map has a single user.
func isRoot() bool {
	if os.Geteuid() != 0 {
		return false
	}
	uids, err := os.ReadFile("/proc/self/uid_map")
	return err != nil || len(strings.Fields(string(uids))) != 3 || strings.Fields(string(uids))[2] != "1"
}
