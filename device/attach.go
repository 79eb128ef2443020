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

// attachment is descriptors that are queues of one interface.
type attachment struct {
	fds      []int // at least one
	name     string
	ethernet bool // it is a TAP
	existed  bool
	virtio   bool // packets have a virtio header
	wanted   bool // offloads are to be used
	agreed   offloads
	before   settings
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
	fd, err := openClone()
	if err != nil {
		return attachment{}, err
	}
	a := attachment{fds: []int{fd}, ethernet: o.Ethernet, wanted: o.Offload}
	mode, err := a.attachFirst(o, before)
	if err == nil {
		err = a.prepare(o.setOffload)
	}
	for err == nil && len(a.fds) < o.Queues && mode&unix.IFF_MULTI_QUEUE != 0 {
		err = a.attachNext(mode)
	}
	if err != nil {
		a.close()
		return attachment{}, err
	}
	if a.existed {
		a.before = before
	}
	return a, nil
}

func openClone() (int, error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, explainOpen(err)
	}
	return fd, nil
}

// attachFirst makes the interface, or attaches to it, and returns its mode.
func (a *attachment) attachFirst(o Options, before settings) (mode uint16, err error) {
	mode = typeFlag(o.Ethernet) | unix.IFF_NO_PI
	if o.Offload || o.Ethernet { // a frame needs its place for the room in front
		mode |= unix.IFF_VNET_HDR
	}
	one, many := mode, mode|unix.IFF_MULTI_QUEUE
	if mode = one; o.Queues > 1 {
		mode = many
	}
	var made error
	if a.name, made = setInterface(a.fds[0], o.Name, mode|unix.IFF_TUN_EXCL); made == nil {
		return mode, nil
	}
	// EBUSY: there is one of that name.
	if made != unix.EBUSY || o.Name == "" || strings.Contains(o.Name, "%") {
		return 0, explainAttach(o, made)
	}
	if before.held > 0 {
		// The kernel would let us share its packets with whoever has them now.
		return 0, explainAttach(o, unix.EBUSY)
	}
	a.existed = true
	a.name, err = setInterface(a.fds[0], o.Name, mode)
	if err == unix.EINVAL {
		// It was made with "multi_queue", or without, and stays so.
		mode ^= unix.IFF_MULTI_QUEUE
		a.name, err = setInterface(a.fds[0], o.Name, mode)
	}
	if err != nil {
		return 0, explainAttach(o, err)
	}
	return mode, nil
}

// typeFlag is the flag of TUNSETIFF for TUN or TAP.
func typeFlag(ethernet bool) uint16 {
	if ethernet {
		return unix.IFF_TAP
	}
	return unix.IFF_TUN
}

// typeName is what users call the one or the other.
func typeName(ethernet bool) string {
	if ethernet {
		return "TAP (Ethernet)"
	}
	return "TUN (IP)"
}

// attachNext adds a queue.
func (a *attachment) attachNext(mode uint16) error {
	fd, err := openClone()
	if err != nil {
		return err
	}
	a.fds = append(a.fds, fd)
	if _, err := setInterface(fd, a.name, mode); err != nil {
		return fmt.Errorf("device: queue %d of %s: %w", len(a.fds), a.name, err)
	}
	return nil
}

func (a *attachment) close() {
	for _, fd := range a.fds {
		_ = unix.Close(fd)
	}
}

// prepare agrees with the kernel on the format of packets. set is
// TUNSETOFFLOAD; nil for the real one.
func (a *attachment) prepare(set func(fd, flags int) error) error {
	_, flags, err := getInterface(a.fds[0])
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
		_ = set(a.fds[0], 0)
		return nil
	}
	if err := unix.IoctlSetPointerInt(a.fds[0], unix.TUNSETVNETHDRSZ, virtioSize); err != nil {
		return fmt.Errorf("device: %s: set the virtio header's size: %w", a.name, err)
	}
	if !a.wanted { // whoever made it wants the header, which is all we do then
		_ = set(a.fds[0], 0)
		return nil
	}
	a.agreed = negotiate(func(flags int) error { return set(a.fds[0], flags) })
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
	case flags&typeFlag(o.Ethernet) == 0:
		return attachment{}, fmt.Errorf("device: descriptor %d: %s is a %s interface, a %s is needed", fd, name, typeName(!o.Ethernet), typeName(o.Ethernet))
	case flags&unix.IFF_NO_PI == 0:
		return attachment{}, fmt.Errorf("device: descriptor %d: %s was attached without IFF_NO_PI", fd, name)
	case o.Ethernet && flags&unix.IFF_VNET_HDR == 0:
		return attachment{}, fmt.Errorf("device: descriptor %d: %s was attached without IFF_VNET_HDR, which a TAP needs", fd, name)
	}
	unix.CloseOnExec(fd)
	a := attachment{fds: []int{fd}, name: name, ethernet: o.Ethernet, existed: true, wanted: o.Offload}
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

func explainAttach(o Options, err error) error {
	name, mode, needed := o.Name, "tun", typeName(o.Ethernet)
	if o.Ethernet {
		mode = "tap"
	}
	switch err {
	case unix.EPERM:
		if _, lookErr := interfaceKind(name); lookErr != nil {
			return fmt.Errorf("device: make %s interface %q: %w: that needs root or CAP_NET_ADMIN "+
				"(or root makes it for you: ip tuntap add mode %s name NAME user USER)", needed, name, err, mode)
		}
		return fmt.Errorf("device: attach to %s: %w: it belongs to another user and this process has no CAP_NET_ADMIN", name, err)
	case unix.EBUSY:
		return fmt.Errorf("device: attach to %s: %w: another process holds it", name, err)
	case unix.EINVAL:
		switch kind, lookErr := interfaceKind(name); {
		case lookErr != nil:
			return fmt.Errorf("device: make %s interface %q: %w: is that a good name?", needed, name, err)
		case kind == mode:
			return fmt.Errorf("device: attach to %s: %w", name, err)
		case kind == "tap" || kind == "tun":
			return fmt.Errorf("device: attach to %s: %w: it is a %s interface, a %s is needed", name, err, typeName(!o.Ethernet), needed)
		case kind == "":
			return fmt.Errorf("device: attach to %s: %w: it exists and is not a %s interface", name, err, needed)
		default:
			return fmt.Errorf("device: attach to %s: %w: it exists and is of kind %s, a %s is needed", name, err, kind, needed)
		}
	}
	return fmt.Errorf("device: %s interface %q: %w", needed, name, err)
}
