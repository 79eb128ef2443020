package transport

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel itself is asked whether it takes the answer: a program that sends into the tunnel gets the error.
func TestTheKernelHandsTheAnswerToTheProgramThatSent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: making a network namespace and a TUN device needs root; run the tests as root or under unshare -rn")
	}
	runtime.LockOSThread() // never unlocked: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	tun := openTUN(t, "10.7.0.1/24", "fd07::1/64")
	for _, remote := range []string{"10.7.0.9:7", "[fd07::9]:7"} {
		conn, err := net.Dial("udp", remote)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		hearErrors(t, conn.(*net.UDPConn))
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		want := netip.MustParseAddrPort(remote).Addr()
		for packet := make([]byte, 2000); ; {
			_ = tun.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := tun.Read(packet)
			if err != nil {
				t.Fatal(err)
			}
			if destination(packet[:n]) != want { // the kernel has things of its own to say
				continue
			}
			if _, err := tun.Write(unreachable(nil, packet[:n], netip.Addr{}, netip.Addr{})); err != nil {
				t.Fatal(err)
			}
			break
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 10)); !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("%s: the program is told %v", remote, err)
		}
	}
}

// hearErrors makes the kernel report errors that may pass, as those about hosts are.
func hearErrors(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	})
}

func destination(packet []byte) netip.Addr {
	if packet[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(packet[16:20]))
	}
	return netip.AddrFrom16([16]byte(packet[24:40]))
}

func openTUN(t *testing.T, prefixes ...string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("SKIPPED: no TUN devices here (modprobe tun): %v", err)
	}
	request, err := unix.NewIfreq("tun0")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "tun")
	t.Cleanup(func() { file.Close() })
	link, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	routes, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	defer close(done)
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags |= unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
		for timeout := time.After(10 * time.Second); ; { // IPv6 makes its routes later
			var route netlink.RouteUpdate
			select {
			case route = <-routes:
			case <-timeout:
				t.Fatalf("%s: there is no route to it", p)
			}
			if route.Table == unix.RT_TABLE_LOCAL && route.Dst != nil && route.Dst.IP.Equal(addr.IP) {
				break
			}
		}
	}
	return file
}
