package device

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	clonePath = "/dev/net/tun"
)

// attachment is a descriptor that is a queue of an interface.
type attachment struct {
	fd      int
	name    string
	existed bool
	virtio  bool // packets have a virtio header
	wanted  bool // offloads are to be used
	agreed  offloads
	before  settings
}

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

// attach opens /dev/net/tun and makes it a queue of the interface o.Name. The
// exclusive try comes first: only so it is certain whether the interface is
// ours.
func attach(o Options) (attachment, error) {
	before := lookSettings(o.Name)
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return attachment{}, explainOpen(err)
	}
	a := attachment{fd: fd, wanted: o.Offload}
	a.name, a.existed, err = attachFD(fd, o.Name, o.Offload)
	if err == nil {
		err = a.prepare(o.setOffload)
	}
	if err != nil {
		_ = unix.Close(fd)
		return attachment{}, err
	}
	if a.existed {
		a.before = before
	}
	return a, nil
}

func attachFD(fd int, name string, virtio bool) (got string, existed bool, err error) {
	mode := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if virtio {
		mode |= unix.IFF_VNET_HDR
	}
	got, made := setInterface(fd, name, mode|unix.IFF_TUN_EXCL)
	if made == nil {
		return got, false, nil
	}
	// EBUSY: there is one of that name.
	if made != unix.EBUSY || name == "" || strings.Contains(name, "%") {
		return "", false, explainAttach(name, made)
	}
	got, err = setInterface(fd, name, mode)
	if err == unix.EINVAL {
		// It may have been made with "multi_queue": attach to one queue of it.
		got, err = setInterface(fd, name, mode|unix.IFF_MULTI_QUEUE)
	}
	if err != nil {
		return "", false, explainAttach(name, err)
	}
	return got, true, nil
}

// prepare agrees with the kernel on the format of packets. set is
// TUNSETOFFLOAD; nil for the real one.
func (a *attachment) prepare(set func(fd, flags int) error) error {
	_, flags, err := getInterface(a.fd)
	if err != nil {
		return fmt.Errorf("device: %s: %w", a.name, err)
	}
	if set == nil {
		set = setOffload
	}
	a.virtio = flags&unix.IFF_VNET_HDR != 0
	if !a.virtio {
		// Nothing can be left to us without that header, whatever the program
		// before us has agreed to.
		_ = set(a.fd, 0)
		return nil
	}
	if err := unix.IoctlSetPointerInt(a.fd, unix.TUNSETVNETHDRSZ, virtioSize); err != nil {
		return fmt.Errorf("device: %s: set the virtio header's size: %w", a.name, err)
	}
	if !a.wanted { // whoever made it wants the header, which is all we do then
		_ = set(a.fd, 0)
		return nil
	}
	a.agreed = negotiate(func(flags int) error { return set(a.fd, flags) })
	return nil
}

func setOffload(fd, flags int) error { return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags) }

// adopt examines a descriptor that somebody else made and attached.
func adopt(fd int, o Options) (attachment, error) {
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
	}
	unix.CloseOnExec(fd)
	a := attachment{fd: fd, name: name, existed: true, wanted: o.Offload}
	return a, a.prepare(o.setOffload)
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
		if _, lookErr := interfaceKind(name); lookErr != nil {
			return fmt.Errorf("device: make TUN interface %q: %w: that needs root or CAP_NET_ADMIN "+
				"(or root makes it for you: ip tuntap add mode tun name NAME user USER)", name, err)
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
