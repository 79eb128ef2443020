package device

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestOpenMakesAnInterfaceThatCloseRemoves(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1391})
	l := link(t, "t0")
	if tun.Name() != "t0" || tun.MTU() != 1391 || tun.Existed() || tun.Index() != l.Attrs().Index {
		t.Errorf("name %q, MTU %d, index %d, existed %v; want t0, 1391, %d, false",
			tun.Name(), tun.MTU(), tun.Index(), tun.Existed(), l.Attrs().Index)
	}
	if l.Attrs().MTU != 1391 {
		t.Errorf("kernel has MTU %d", l.Attrs().MTU)
	}
	must(t, tun.Close())
	must(t, tun.Close()) // twice is as once
	if _, err := netlink.LinkByName("t0"); err == nil {
		t.Error("the interface is still there")
	}
}

func TestKernelChoosesAName(t *testing.T) {
	privateNetwork(t)
	if a, b := openTUN(t, Options{}), openTUN(t, Options{Name: "stun%d"}); a.Name() != "tun0" || b.Name() != "stun0" {
		t.Errorf("names %q and %q", a.Name(), b.Name())
	}
}

// persistent makes a TUN as "ip tuntap add" does.
func persistent(t testing.TB, name string, flags uint16, owner int) {
	t.Helper()
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	defer func() { _ = unix.Close(fd) }()
	_, err = setInterface(fd, name, flags)
	must(t, err)
	must(t, unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1))
	if owner > 0 {
		must(t, unix.IoctlSetInt(fd, unix.TUNSETOWNER, owner))
	}
}

func TestPersistentInterfaceIsLeftAsFound(t *testing.T) {
	privateNetwork(t)
	for name, flags := range map[string]uint16{
		"plain":  unix.IFF_TUN | unix.IFF_NO_PI,
		"many":   unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE,
		"pi":     unix.IFF_TUN,
		"virtio": unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR,
		"ether":  unix.IFF_TAP | unix.IFF_NO_PI,
		"ether+": unix.IFF_TAP | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE,
	} {
		for _, offload := range []bool{false, true} {
			name := fmt.Sprint(name, offload)
			persistent(t, name, flags, 0)
			must(t, netlink.LinkSetMTU(link(t, name), 1234))
			must(t, netlink.LinkSetUp(link(t, name)))
			before := shown(t, name)
			mac := link(t, name).Attrs().HardwareAddr.String()
			tun := openTUN(t, Options{Name: name, MTU: 1420, Offload: offload, Ethernet: flags&unix.IFF_TAP != 0,
				MAC: net.HardwareAddr{0xfe, 1, 2, 3, 4, 5}})
			if got := link(t, name).Attrs().HardwareAddr.String(); got != mac {
				t.Errorf("%s: its address was %s and is now %s", name, mac, got)
			}
			if !tun.Existed() || tun.MTU() != 1234 {
				t.Errorf("%s: existed %v, MTU %d; want true, 1234", name, tun.Existed(), tun.MTU())
			}
			// Its user may close the queues first.
			must(t, tun.Queues()[0].Close())
			must(t, tun.Close())
			if after := shown(t, name); after != before {
				t.Errorf("%s: it was %s\nand is now %s", name, before, after)
			}
		}
	}
}

// shown is what the kernel shows of a link, but for counters and carrier.
func shown(t testing.TB, name string) string {
	t.Helper()
	l := link(t, name)
	a := l.Attrs()
	features := "?"
	if s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
		features = fmt.Sprint(ethtool(s, name, unix.ETHTOOL_GTSO), ethtool(s, name, unix.ETHTOOL_GTXCSUM))
		_ = unix.Close(s)
	}
	return fmt.Sprintf("MTU %d, up %v, TUN %+v, TSO and checksums %s", a.MTU, a.RawFlags&unix.IFF_UP != 0, lookSettings(name), features)
}

// ethtool reads a feature in the old way: struct ethtool_value.
func ethtool(socket int, name string, command uint32) uint32 {
	value := [2]uint32{command, 0xff}
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifr.name[:], name)
	ifr.data = unsafe.Pointer(&value)
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
	return value[1]
}

func TestInterfaceThatWasHandedOverIsNotRestored(t *testing.T) {
	privateNetwork(t)
	persistent(t, "t0", unix.IFF_TUN|unix.IFF_NO_PI, 0)
	parent := openTUN(t, Options{Name: "t0", Offload: true})
	fd, err := unix.FcntlInt(parent.File().Fd(), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	child, err := FromFD(fd, Options{Offload: true})
	must(t, err)
	t.Cleanup(func() { _ = child.Close() })
	before := shown(t, "t0")
	must(t, parent.Close())
	if after := shown(t, "t0"); after != before {
		t.Errorf("it was %s\nand is now %s", before, after)
	}
	if child.Features() != parent.Features() || !strings.Contains(child.Features(), "vnet_hdr") {
		t.Errorf("features %q, and %q before", child.Features(), parent.Features())
	}
}

func TestOrdinaryUserAttachesToHisOwnInterface(t *testing.T) {
	privateNetwork(t)
	const user = 65534
	if info, err := os.Stat(clonePath); err != nil || info.Mode().Perm()&0o006 != 0o006 {
		t.Skipf("needs %s to be open to all: chmod 666 %s", clonePath, clonePath)
	}
	persistent(t, "mine", unix.IFF_TUN|unix.IFF_NO_PI, user)
	persistent(t, "roots", unix.IFF_TUN|unix.IFF_NO_PI, 0)
	persistent(t, "others", unix.IFF_TUN|unix.IFF_NO_PI, 12345)
	must(t, netlink.LinkSetMTU(link(t, "mine"), 1300))
	// Of this thread alone, which ends with the test.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, user, user, user); errno != 0 {
		t.Fatal(errno)
	}
	tun := openTUN(t, Options{Name: "mine"})
	if !tun.Existed() || tun.Name() != "mine" || tun.MTU() != 1300 || tun.Index() == 0 {
		t.Errorf("existed %v, name %q, MTU %d, index %d", tun.Existed(), tun.Name(), tun.MTU(), tun.Index())
	}
	_, err := Open(Options{Name: "others"})
	wantError(t, err, unix.EPERM, "another user")
	_, err = Open(Options{Name: "new"})
	wantError(t, err, unix.EPERM, "CAP_NET_ADMIN")
	_, err = Open(Options{})
	wantError(t, err, unix.EPERM, "CAP_NET_ADMIN")
	_, err = Open(Options{Name: "new", Ethernet: true})
	wantError(t, err, unix.EPERM, "mode tap")
}

func TestOpenSaysWhatIsInTheWay(t *testing.T) {
	privateNetwork(t)
	persistent(t, "ether", unix.IFF_TAP|unix.IFF_NO_PI, 0)
	persistent(t, "ip", unix.IFF_TUN|unix.IFF_NO_PI, 0)
	openTUN(t, Options{Name: "held"})
	for _, c := range []struct {
		o     Options
		errno error
		words string
	}{
		{Options{Name: "ether"}, unix.EINVAL, "it is a TAP (Ethernet) interface, a TUN (IP) is needed"},
		{Options{Name: "ip", Ethernet: true}, unix.EINVAL, "it is a TUN (IP) interface, a TAP (Ethernet) is needed"},
		{Options{Name: "held"}, unix.EBUSY, "another process"},
		{Options{Name: "lo"}, unix.EINVAL, "not a TUN"},
		{Options{Name: "lo", Ethernet: true}, unix.EINVAL, "not a TAP"},
	} {
		_, err := Open(c.o)
		wantError(t, err, c.errno, c.words)
	}
}

func TestImpossibleNamesAreRefused(t *testing.T) {
	for _, name := range []string{"sixteen-bytes-ab", "a/b", "..", "a b", "a:b", "a\x00b"} {
		if _, err := Open(Options{Name: name}); err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestMissingDriverAndMissingRightAreTold(t *testing.T) {
	wantError(t, explainOpen(unix.ENOENT), unix.ENOENT, "modprobe tun")
	wantError(t, explainOpen(unix.EACCES), unix.EACCES, "may not open")
}

func wantError(t testing.TB, err, errno error, words string) {
	t.Helper()
	if !errors.Is(err, errno) || !strings.Contains(err.Error(), words) {
		t.Errorf("error is %v; want one that wraps %q and says %q", err, errno, words)
	}
}

func TestDescriptorOfAnotherProcessIsTakenOver(t *testing.T) {
	privateNetwork(t)
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	if _, err := FromFD(fd, Options{Offload: true}); !errors.Is(err, unix.EBADFD) {
		t.Errorf("descriptor without interface: %v", err)
	}
	_, err = setInterface(fd, "t0", unix.IFF_TUN|unix.IFF_NO_PI)
	must(t, err)
	tun, err := FromFD(fd, Options{Offload: true})
	must(t, err)
	defer func() { _ = tun.Close() }()
	if tun.Name() != "t0" || !tun.Existed() {
		t.Errorf("name %q, existed %v", tun.Name(), tun.Existed())
	}
	pipe, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	must(t, err)
	defer func() { _ = unix.Close(pipe) }()
	if _, err := FromFD(pipe, Options{}); err == nil {
		t.Error("a socket was taken for a TUN")
	}
	tap, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	defer func() { _ = unix.Close(tap) }()
	_, err = setInterface(tap, "t1", unix.IFF_TAP|unix.IFF_NO_PI)
	must(t, err)
	if _, err := FromFD(tap, Options{}); err == nil || !strings.Contains(err.Error(), "TAP") {
		t.Errorf("a TAP was taken for a TUN: %v", err)
	}
	if _, err := FromFD(tap, Options{Ethernet: true}); err == nil || !strings.Contains(err.Error(), "IFF_VNET_HDR") {
		t.Errorf("a TAP without a place for the room was taken: %v", err)
	}
}
