package device

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// privateNetwork moves the test to a network namespace of its own. The test's
// goroutine stays on its thread, which ends with it, and so does the namespace.
func privateNetwork(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace and a TUN: run the test as root, or under \"unshare -rn\"")
	}
	if _, err := os.Stat(clonePath); err != nil {
		t.Skipf("needs %s: modprobe tun (%v)", clonePath, err)
	}
	runtime.LockOSThread() // never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs a network namespace: run the test with CAP_SYS_ADMIN (%v)", err)
	}
}

// anotherNetwork makes a second namespace, which lives as long as its descriptor.
func anotherNetwork(t testing.TB) netns.NsHandle {
	t.Helper()
	result := make(chan netns.NsHandle)
	go func() {
		runtime.LockOSThread()
		ns := netns.None()
		if err := unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns, _ = netns.Get()
		}
		result <- ns
	}()
	ns := <-result
	if !ns.IsOpen() {
		t.Fatal("no second network namespace")
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func openTUN(t testing.TB, o Options) *TUN {
	t.Helper()
	tun, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	return tun
}

// addressed sets the interface up with 10.9.8.1/24 and without IPv6, so that
// the kernel says nothing there on its own.
func addressed(t testing.TB, tun *TUN) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+tun.Name()+"/disable_ipv6", []byte("1"), 0o644))
	l := link(t, tun.Name())
	must(t, netlink.AddrAdd(l, address(t, "10.9.8.1/24")))
	must(t, netlink.LinkSetUp(l))
}

// neighbour is a host behind a TAP that need not be asked for its address.
func neighbour(t testing.TB, name string, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		must(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: link(t, name).Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: net.ParseIP(a), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}}))
	}
}

func address(t testing.TB, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, err)
	return a
}

func link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await returns the next event or fails.
func await(t testing.TB, events <-chan Event) Event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("no more events")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event within 10 s")
	}
	panic("unreachable")
}

// within fails when f takes longer than a generous time.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not end within 10 s", what)
	}
}
