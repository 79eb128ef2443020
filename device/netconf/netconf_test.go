package netconf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is a network namespace of the test's own, with the interface tun0, which the tests configure, and eth0, which is
// somebody else's: 192.0.2.1/24, a default route and an MTU of 1480.
type host struct {
	*Handle
	t *testing.T
}

// inNamespace runs test in a fresh network namespace, which is gone afterwards.
func inNamespace(t *testing.T, test func(h host)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace: run the tests with sudo, or under unshare --user --map-root-user")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with the thread
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		h, err := New()
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		x := host{h, t}
		x.tun("tun0")
		x.veth("eth0", 1480)
		x.must(x.AddAddress("eth0", netip.MustParsePrefix("192.0.2.1/24")))
		x.must(x.SetUp("eth0"))
		test(x)
	}()
	<-done
}

// tun makes a persistent TUN interface that nobody has opened.
func (h host) tun(name string) {
	h.must(nil, h.nl.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}))
}

func (h host) veth(name string, mtu int) {
	h.must(nil, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu}, PeerName: name + "-peer"}))
}

func (h host) must(u Undo, err error) Undo {
	h.t.Helper()
	if err != nil {
		h.t.Error(err)
		runtime.Goexit()
	}
	return u
}

// state is everything that these steps may touch, as text.
func (h host) state() string {
	h.t.Helper()
	var lines []string
	links, err := h.nl.LinkList()
	if err != nil {
		h.t.Error(err)
	}
	for _, l := range links {
		a := l.Attrs()
		lines = append(lines, fmt.Sprintf("link %s mtu %d up %v", a.Name, a.MTU, a.Flags&net.FlagUp != 0))
		addrs, err := h.nl.AddrList(l, unix.AF_UNSPEC)
		if err != nil {
			h.t.Error(err)
		}
		for _, x := range addrs {
			lines = append(lines, fmt.Sprintf("address %s on %s", x.IPNet, a.Name))
		}
	}
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := h.nl.RouteListFiltered(f, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			h.t.Error(err)
		}
		for _, r := range routes {
			if r.Table == unix.RT_TABLE_LOCAL {
				continue // the kernel keeps that one, and in its own time
			}
			lines = append(lines, fmt.Sprintf("route %v via link %d table %d", r.Dst, r.LinkIndex, r.Table))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (h host) hasLine(line string) bool {
	return slices.Contains(strings.Split(h.state(), "\n"), line)
}

// step is one of the steps that bring up a tunnel.
type step struct {
	name string
	do   func() (Undo, error)
}

func (h host) steps() []step {
	return []step{
		{"IPv4 address", func() (Undo, error) { return h.AddAddress("tun0", netip.MustParsePrefix("10.7.0.1/24")) }},
		{"IPv6 address", func() (Undo, error) { return h.AddAddress("tun0", netip.MustParsePrefix("fd07::1/64")) }},
		{"MTU", func() (Undo, error) { return h.SetMTU("tun0", 1420) }},
		{"up", func() (Undo, error) { return h.SetUp("tun0") }},
		{"IPv4 routes", func() (Undo, error) {
			_, u, err := h.AddRoutes("tun0", prefixes("10.8.0.0/16", "10.9.1.1/32"), 0)
			return u, err
		}},
		{"IPv6 route", func() (Undo, error) { return h.AddRoute("tun0", netip.MustParsePrefix("fd08::/32"), 0) }},
		{"default route in a table", func() (Undo, error) { return h.AddRoute("tun0", netip.MustParsePrefix("0.0.0.0/0"), 4711) }},
		{"IPv6 default route in a table", func() (Undo, error) { return h.AddRoute("tun0", netip.MustParsePrefix("::/0"), 4711) }},
	}
}

func TestAnErrorAfterAnyStepLeavesNothingBehind(t *testing.T) {
	for _, present := range []string{"nothing", "address, up, small MTU", "address while down", "IPv6 address while down"} {
		for fail := range 9 {
			inNamespace(t, func(h host) {
				switch present {
				case "address, up, small MTU":
					h.must(h.AddAddress("tun0", netip.MustParsePrefix("10.7.0.1/24")))
					h.must(h.SetMTU("tun0", 1300))
					h.must(h.SetUp("tun0"))
				case "address while down":
					h.must(h.AddAddress("tun0", netip.MustParsePrefix("10.99.0.1/24")))
				case "IPv6 address while down":
					h.must(h.AddAddress("tun0", netip.MustParsePrefix("fd99::1/64")))
				}
				before := h.state()
				var back Stack
				for _, s := range h.steps()[:fail] {
					u, err := s.do()
					if err != nil {
						t.Errorf("%s: %s: %v", present, s.name, err)
					}
					back.Push(u)
				}
				if fail > 0 && present == "nothing" && h.state() == before {
					t.Errorf("%d steps did nothing", fail)
				}
				if err := back.Undo(); err != nil {
					t.Errorf("%s: %d steps: undo: %v", present, fail, err)
				}
				if after := h.state(); after != before {
					t.Errorf("%s: %d steps and back leave\n%s\nwhere there was\n%s", present, fail, after, before)
				}
			})
		}
	}
}

func TestUndoDoesNotMindThatTheInterfaceHasGone(t *testing.T) {
	for gone := range 9 {
		inNamespace(t, func(h host) {
			var back Stack
			for i, s := range h.steps() {
				if i == gone {
					break
				}
				back.Push(h.must(s.do()))
			}
			l, err := h.link("tun0")
			if err != nil {
				t.Error(err)
				return
			}
			if err := h.nl.LinkDel(l); err != nil {
				t.Error(err)
			}
			h.tun("tun0") // somebody else's now, under the same name
			h.must(h.AddAddress("tun0", netip.MustParsePrefix("10.7.0.1/24")))
			h.must(h.SetUp("tun0"))
			before := h.state()
			if err := back.Undo(); err != nil {
				t.Errorf("%d steps: %v", gone, err)
			}
			if after := h.state(); after != before {
				t.Errorf("undo touched an interface that only has the name:\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

func TestEachStepSaysThatThereIsNoSuchInterface(t *testing.T) {
	inNamespace(t, func(h host) {
		p := netip.MustParsePrefix("10.0.0.1/24")
		for name, do := range map[string]func() (Undo, error){
			"address": func() (Undo, error) { return h.AddAddress("none", p) },
			"MTU":     func() (Undo, error) { return h.SetMTU("none", 1400) },
			"up":      func() (Undo, error) { return h.SetUp("none") },
			"route":   func() (Undo, error) { return h.AddRoute("none", p.Masked(), 0) },
		} {
			u, err := do()
			if u != nil || !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "none") {
				t.Errorf("%s: undo %v, error %v", name, u != nil, err)
			}
		}
		if there, err := h.Exists("none"); there || err != nil {
			t.Errorf("exists: %v, %v", there, err)
		}
		if there, err := h.Exists("tun0"); !there || err != nil {
			t.Errorf("exists: %v, %v", there, err)
		}
	})
}

func TestAnAddressThatWasThereStays(t *testing.T) {
	for _, a := range []string{"10.7.0.1/24", "fd07::1/64"} {
		inNamespace(t, func(h host) {
			p := netip.MustParsePrefix(a)
			h.must(h.AddAddress("tun0", p))
			again := h.must(h.AddAddress("tun0", p))
			if err := again(); err != nil {
				t.Error(err)
			}
			if !h.hasLine("address " + a + " on tun0") {
				t.Errorf("%s was removed, though it was there before", a)
			}
		})
	}
}

func TestAnAddressWithAnotherPrefixLengthIsAConflict(t *testing.T) {
	inNamespace(t, func(h host) {
		h.must(h.AddAddress("tun0", netip.MustParsePrefix("fd07::1/64")))
		_, err := h.AddAddress("tun0", netip.MustParsePrefix("fd07::1/128"))
		if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "fd07::1/64") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAnAddressHasNoBroadcast(t *testing.T) {
	inNamespace(t, func(h host) {
		h.must(h.AddAddress("tun0", netip.MustParsePrefix("10.7.0.1/24")))
		l, _ := h.link("tun0")
		addrs, err := h.nl.AddrList(l, unix.AF_INET)
		if err != nil || len(addrs) != 1 {
			t.Errorf("addresses %v, %v", addrs, err)
			return
		}
		if addrs[0].Broadcast != nil {
			t.Errorf("broadcast %v", addrs[0].Broadcast)
		}
	})
}

func TestIPv6OnAnInterfaceWithoutIPv6IsExplained(t *testing.T) {
	inNamespace(t, func(h host) {
		h.must(h.SetMTU("tun0", 1200))
		_, err := h.AddAddress("tun0", netip.MustParsePrefix("fd07::1/64"))
		if err == nil || !strings.Contains(err.Error(), "1280") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAnMTUBelow1280DoesNotCostIPv6AddressesForGood(t *testing.T) {
	inNamespace(t, func(h host) {
		h.must(h.AddAddress("tun0", netip.MustParsePrefix("fd99::1/64")))
		h.must(h.SetUp("tun0"))
		before := h.state()
		u := h.must(h.SetMTU("tun0", 1000))
		if h.hasLine("address fd99::1/64 on tun0") {
			t.Error("this kernel keeps IPv6 addresses at an MTU of 1000: the test proves nothing")
		}
		if err := u(); err != nil {
			t.Error(err)
		}
		if after := withoutLinkLocal(h.state()); after != withoutLinkLocal(before) {
			t.Errorf("left\n%s\nwhere there was\n%s", after, before)
		}
	})
}

// withoutLinkLocal drops what the kernel makes by itself and in its own time.
func withoutLinkLocal(state string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(state, "\n"), func(l string) bool {
		return strings.Contains(l, "fe80:") || strings.Contains(l, "ff00::")
	}), "\n")
}

func TestEveryUndoRunsInReverseOrderThoughOneFails(t *testing.T) {
	var s Stack
	var order []int
	broken := errors.New("broken")
	for i := range 4 {
		s.Push(func() error {
			order = append(order, i)
			if i == 2 {
				return broken
			}
			return nil
		})
	}
	s.Push(nil)
	if err := s.Undo(); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(order, []int{3, 2, 1, 0}) {
		t.Errorf("order %v", order)
	}
	if err := s.Undo(); err != nil || len(order) != 4 {
		t.Errorf("a second Undo ran again: %v, %v", order, err)
	}
}
