package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// feature is something of the kernel that the tunnel uses, as it was found by trying.
type feature struct {
	name  string
	found bool
	why   string // when not found, or what else is worth saying
}

// kernelFeatures tries what can be tried without making anything. It needs no root.
func kernelFeatures() []feature {
	features := tunFeatures()
	udp := func(name string, option int) feature {
		return tryOption(name, unix.SOL_UDP, option)
	}
	return append(features,
		udp("UDP segmentation (GSO)", unix.UDP_SEGMENT),
		udp("UDP coalescing (GRO)", unix.UDP_GRO),
		ipv6Feature(),
		bootClockFeature(),
		netAdminFeature(),
		kernelWireGuard())
}

// tunFeatures asks the TUN driver, by ioctls of a descriptor that is not bound to an interface.
func tunFeatures() []feature {
	const tun, header, queues, uso = "TUN", "TUN offload headers", "TUN multiqueue", "TUN UDP offload (USO)"
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		why := "/dev/net/tun: " + err.Error()
		return []feature{{tun, false, why}}
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
	if err != nil {
		return []feature{{tun, false, "TUNGETFEATURES: " + err.Error()}}
	}
	list := []feature{
		{tun, flags&unix.IFF_TUN != 0, ""},
		{header, flags&unix.IFF_VNET_HDR != 0, ""},
		{queues, flags&unix.IFF_MULTI_QUEUE != 0, ""},
	}
	// The driver tells an offload only of an interface, and none is made for asking.
	if major, minor, ok := kernelVersion(kernelRelease()); ok {
		list = append(list, feature{uso, major > 6 || major == 6 && minor >= 2, "by the release: Linux 6.2 brought it"})
	}
	return list
}

// tryOption sets an option of a UDP socket to 0, which every kernel takes that knows it.
func tryOption(name string, level, option int) feature {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return feature{name, false, err.Error()}
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, level, option, 0); err != nil {
		return feature{name, false, err.Error()}
	}
	return feature{name, true, ""}
}

func ipv6Feature() feature {
	const name = "IPv6"
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return feature{name, false, err.Error()}
	}
	unix.Close(fd)
	if text, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6"); err == nil && strings.TrimSpace(string(text)) == "1" {
		return feature{name, false, "switched off by net.ipv6.conf.all.disable_ipv6"}
	}
	return feature{name, true, ""}
}

func bootClockFeature() feature {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return feature{"CLOCK_BOOTTIME", false, err.Error()}
	}
	return feature{"CLOCK_BOOTTIME", true, ""}
}

// netAdminFeature looks at the right that up needs.
func netAdminFeature() feature {
	const name = "CAP_NET_ADMIN"
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return feature{name, false, err.Error()}
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return feature{name, false, "this user does not have it; up needs it, root has it"}
	}
	return feature{name, true, ""}
}

func kernelWireGuard() feature {
	_, err := os.Stat("/sys/module/wireguard")
	return feature{"WireGuard in the kernel", err == nil, "not needed"}
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// kernelVersion reads the two numbers at the beginning of a release, as 6.12.3-amd64.
func kernelVersion(release string) (major, minor int, ok bool) {
	n, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor, err == nil && n == 2
}
