package device

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	clonePath = "/dev/net/tun"

	// tunFlagPersist is IFF_PERSIST, which TUNGETIFF shows.
	tunFlagPersist = 0x0800
)

// attachment is a descriptor that is a queue of an interface.
type attachment struct {
	fd      int
	name    string
	existed bool
	flags   uint16 // as TUNGETIFF gives them
	before  settings
}

// settings are those that attaching changes in a persistent interface and that
// outlive the descriptor.
type settings struct{}

// checkName refuses what the kernel would refuse, in better words, and what it
// would cut short without a word.
func checkName(name string) error {
	switch {
	case len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("device: interface name %q has %d bytes, at most %d are possible", name, len(name), unix.IFNAMSIZ-1)
	case name == "." || name == "..", strings.ContainsAny(name, "/: \t\n\v\f\r\x00"):
		return fmt.Errorf("device: %q can't be the name of an interface", name)
	}
	return nil
}

// attach opens /dev/net/tun and makes it a queue of the interface name. The
// exclusive try comes first: only so it is certain whether the interface is
// ours.
func attach(name string) (attachment, error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return attachment{}, explainOpen(err)
	}
	a, err := attachFD(fd, name)
	if err != nil {
		_ = unix.Close(fd)
		return attachment{}, err
	}
	return a, nil
}

func attachFD(fd int, name string) (attachment, error) {
	const mode = unix.IFF_TUN | unix.IFF_NO_PI
	got, err := setInterface(fd, name, mode|unix.IFF_TUN_EXCL)
	if err == nil {
		return attachment{fd: fd, name: got, flags: mode}, nil
	}
	if name == "" || strings.Contains(name, "%") {
		return attachment{}, explainAttach(name, err)
	}
	// EBUSY: there is one of that name. EPERM: we may not make one, and the
	// kernel asks for that right before it looks for the name on some
	// versions, so look.
	if err != unix.EBUSY && err != unix.EPERM {
		return attachment{}, explainAttach(name, err)
	}
	made := err
	got, err = setInterface(fd, name, mode)
	if err == unix.EINVAL {
		// It may have been made with "multi_queue": attach to one queue of it.
		got, err = setInterface(fd, name, mode|unix.IFF_MULTI_QUEUE)
	}
	if err != nil {
		if made == unix.EPERM && err == unix.EPERM && !exists(name) {
			return attachment{}, fmt.Errorf("device: make TUN interface %s: %w: that needs root or CAP_NET_ADMIN "+
				"(or let root make it for you: ip tuntap add mode tun name %s user $USER)", name, err, name)
		}
		return attachment{}, explainAttach(name, err)
	}
	a := attachment{fd: fd, name: got, existed: true}
	_, a.flags, err = getInterface(fd)
	if err != nil {
		return attachment{}, fmt.Errorf("device: %s: %w", name, err)
	}
	return a, nil
}

// adopt examines a descriptor that somebody else made and attached.
func adopt(fd int) (attachment, error) {
	name, flags, err := getInterface(fd)
	switch {
	case err == unix.ENOTTY || err == unix.EBADF || err == unix.EINVAL || err == unix.EOPNOTSUPP:
		return attachment{}, fmt.Errorf("device: descriptor %d is not a TUN queue: %w", fd, err)
	case err == unix.EBADFD:
		return attachment{}, fmt.Errorf("device: descriptor %d is /dev/net/tun but attached to no interface: %w", fd, err)
	case err != nil:
		return attachment{}, fmt.Errorf("device: descriptor %d: %w", fd, err)
	case flags&unix.IFF_TUN == 0:
		return attachment{}, fmt.Errorf("device: descriptor %d: %s is a TAP (Ethernet) interface, a TUN is needed", fd, name)
	case flags&unix.IFF_NO_PI == 0:
		return attachment{}, fmt.Errorf("device: descriptor %d: %s was attached without IFF_NO_PI", fd, name)
	case flags&unix.IFF_VNET_HDR != 0:
		return attachment{}, fmt.Errorf("device: descriptor %d: %s was attached with IFF_VNET_HDR", fd, name)
	}
	unix.CloseOnExec(fd)
	return attachment{fd: fd, name: name, existed: true, flags: flags}, nil
}

// setInterface is TUNSETIFF. It returns the name that the interface got.
func setInterface(fd int, name string, flags uint16) (string, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// getInterface is TUNGETIFF. EBADFD says that there is no interface (any more).
func getInterface(fd int) (name string, flags uint16, err error) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return "", 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return "", 0, err
	}
	return ifr.Name(), ifr.Uint16(), nil
}

// exists says whether the calling thread's namespace has an interface name.
func exists(name string) bool {
	_, err := interfaceKind(name)
	return err == nil
}

// interfaceKind is what the driver of an interface calls itself: "tun", "tap",
// "veth"; "" for a driver that doesn't say.
func interfaceKind(name string) (string, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(s) }()
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, ifr); err != nil {
		return "", err
	}
	info, err := unix.IoctlGetEthtoolDrvinfo(s, name)
	if err != nil {
		return "", nil
	}
	driver, bus := unix.ByteSliceToString(info.Driver[:]), unix.ByteSliceToString(info.Bus_info[:])
	if driver == "tun" {
		return bus, nil // the driver is "tun" for both
	}
	return driver, nil
}

func explainOpen(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("device: open %s: %w: the kernel's TUN driver is not there "+
			"(modprobe tun; a container needs --device %s)", clonePath, err, clonePath)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("device: open %s: %w: this user may not open it, or the container may not (--device %s)", clonePath, err, clonePath)
	}
	return fmt.Errorf("device: open %s: %w", clonePath, err)
}

func explainAttach(name string, err error) error {
	switch err {
	case unix.EPERM:
		if name == "" || strings.Contains(name, "%") {
			return fmt.Errorf("device: make a TUN interface: %w: that needs root or CAP_NET_ADMIN", err)
		}
		return fmt.Errorf("device: attach to %s: %w: it belongs to another user and this process has no CAP_NET_ADMIN", name, err)
	case unix.EBUSY:
		return fmt.Errorf("device: attach to %s: %w: another process holds it", name, err)
	case unix.EINVAL:
		switch kind, lookErr := interfaceKind(name); {
		case lookErr != nil:
			return fmt.Errorf("device: make TUN interface %q: %w: is that a good name?", name, err)
		case kind == "tap":
			return fmt.Errorf("device: attach to %s: %w: it is a TAP (Ethernet) interface, a TUN is needed", name, err)
		case kind == "tun":
			return fmt.Errorf("device: attach to %s: %w", name, err)
		case kind == "":
			return fmt.Errorf("device: attach to %s: %w: it exists and is not a TUN interface", name, err)
		default:
			return fmt.Errorf("device: attach to %s: %w: it exists and is of kind %s, a TUN is needed", name, err, kind)
		}
	}
	return fmt.Errorf("device: TUN interface %q: %w", name, err)
}
