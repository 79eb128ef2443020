package socket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// discovery is what a socket does about the MTU of paths, for IPv4 and IPv6 each. It is an option of the whole socket, and
// the trains of all peers go by one: it is changed in front of a train that wants the other manner, which costs two
// hundred nanoseconds and is rare, since most are like the one before.
//
// Neither manner believes ICMP messages, which anybody can forge, in what matters: what is whole is as long as the
// device's MTU allows, and what may be cut is sent in any case. Datagrams that Offer sends go in the manner of the train
// before them. They are small.
type discovery struct {
	whole [2]bool // of IPv4, of IPv6: DF is set
}

// set makes whatever is sent next to IPv6, or to IPv4, whole or not.
func (d *discovery) set(fd int, is6, whole bool) syscall.Errno {
	family := 0
	if is6 {
		family = 1
	}
	if d.whole[family] == whole {
		return 0
	}
	o := discoveryOption(is6, whole)
	if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
		errno, _ := err.(syscall.Errno)
		return errno
	}
	d.whole[family] = whole
	return 0
}

// discoveryOption is the option of one family. Without discovery the kernel cuts what does not fit into fragments, as WireGuard wants
// it; probing, it sets DF and does not look at what it has heard about the path.
func discoveryOption(is6, whole bool) socketOption {
	switch {
	case is6 && whole:
		return socketOption{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE, "IPV6_MTU_DISCOVER"}
	case is6:
		return socketOption{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT, "IPV6_MTU_DISCOVER"}
	case whole:
		return socketOption{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, "IP_MTU_DISCOVER"}
	}
	return socketOption{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT, "IP_MTU_DISCOVER"}
}
