package socket

import (
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNetworkNamespace moves the test into a network namespace of its own, in which the loopback is up. The thread is
// never unlocked, so it and the namespace end with the test.
func inNetworkNamespace(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: making a network namespace needs root; run the tests as root or under unshare -rn")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}

// listenOn opens sockets that are closed with the test.
func listenOn(t testing.TB, port uint16, n int, o Options) []*UDP {
	t.Helper()
	sockets, err := Listen(port, n, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range sockets {
		t.Cleanup(func() { u.Close() })
	}
	return sockets
}

func pair(t testing.TB) (a, b *UDP) {
	t.Helper()
	return listenOn(t, 0, 1, Options{})[0], listenOn(t, 0, 1, Options{})[0]
}

func to(addr string, u *UDP) Path {
	return Path{Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), u.Port())}
}

// received is one datagram, copied.
type received struct {
	data string
	path Path
}

// collect takes n datagrams from u, and fails if they do not come.
func collect(t testing.TB, u *UDP, n int) (all []received) {
	t.Helper()
	timer := time.AfterFunc(10*time.Second, func() { u.Close() })
	defer timer.Stop()
	for len(all) < n {
		burst, err := u.Receive()
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", len(all), n, err)
		}
		for _, d := range burst {
			all = append(all, received{string(d.Data), d.Path})
		}
	}
	return all
}

// addAddresses gives the loopback more addresses, and waits until they are of use: IPv6 has its routes to them later.
func addAddresses(t testing.TB, prefixes ...string) {
	t.Helper()
	routes, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	defer close(done)
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		for timeout := time.After(10 * time.Second); ; {
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
}

func deleteAddress(t testing.TB, name, prefix string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrDel(link, addr); err != nil {
		t.Fatal(err)
	}
}
