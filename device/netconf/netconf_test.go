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

	"stunnel/device/netconf/dns"
)

// host is a network namespace of the test's own, with the interface tun0, which the tests configure, and eth0, which is
// somebody else's: 192.0.2.1/24, a default route and an MTU of 1480. There is a bridge, br8, without ports.
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
		if err := unshare(); err != nil {
			t.Error(err)
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
		x.must(nil, h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br8"}}))
		x.took(address("eth0", "192.0.2.1/24"))
		x.took(&Up{Interface: "eth0"})
		test(x)
	}()
	<-done
}

// unshare gives the thread network, mounts, and a /run, /var/lib and /etc of its own, the last with nothing but a resolv.conf.
func unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib", "/etc"} {
		if err := unix.Mount("stunnel-test", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
		}
	}
	return os.WriteFile("/etc/resolv.conf", []byte("nameserver 192.0.2.53\n"), 0o644)
}

// tun makes a persistent TUN interface that nobody has opened.
func (h host) tun(name string) {
	h.must(nil, h.nl.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}))
}

func (h host) veth(name string, mtu int) {
	h.must(nil, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu}, PeerName: name + "-peer"}))
}

// undo takes one step back.
type undo func() error

// take takes a step and returns the way back, which is none if there was nothing to do.
func (h host) take(s Step) (undo, error) {
	done, err := s.Look(h.Handle)
	if done || err != nil {
		return func() error { return nil }, err
	}
	return func() error { return s.Undo(h.Handle) }, s.Make(h.Handle)
}

func (h host) must(u undo, err error) undo {
	h.t.Helper()
	if err != nil {
		h.t.Error(err)
		runtime.Goexit()
	}
	return u
}

// took takes a step that must succeed.
func (h host) took(s Step) undo {
	h.t.Helper()
	return h.must(h.take(s))
}

func address(name, prefix string) *Address {
	return &Address{Interface: name, Prefix: netip.MustParsePrefix(prefix)}
}

func routes(table uint32, texts ...string) *Routes {
	return &Routes{Interface: "tun0", Table: table, Prefixes: prefixes(texts...)}
}

func tunMTU(bytes int) *MTU { return &MTU{Interface: "tun0", Bytes: bytes} }

func tunLinkUp() *Up { return &Up{Interface: "tun0"} }

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
		lines = append(lines, fmt.Sprintf("link %s mtu %d up %v", a.Name, a.MTU, a.Flags&net.FlagUp != 0),
			fmt.Sprintf("link %s mac %s port of %d", a.Name, a.HardwareAddr, a.MasterIndex))
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
		rules, err := h.rules(f == unix.AF_INET6)
		if err != nil {
			h.t.Error(err)
		}
		for _, r := range rules {
			lines = append(lines, fmt.Sprintf("rule %d table %d mark %d not %v suppress %d", r.Priority, r.Table, r.Mark, r.Invert, r.SuppressPrefixlen))
		}
	}
	c, err := h.nft()
	if err != nil {
		h.t.Error(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		h.t.Error(err)
	}
	for _, t := range tables {
		lines = append(lines, fmt.Sprintf("nft table %d %s", t.Family, t.Name))
	}
	valid, err := sysctlFor("").read()
	if err != nil {
		h.t.Error(err)
	}
	lines = append(lines, "src_valid_mark "+valid)
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		h.t.Error(err)
	}
	lines = append(lines, fmt.Sprintf("resolv.conf %q", text))
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (h host) hasLine(line string) bool {
	return slices.Contains(strings.Split(h.state(), "\n"), line)
}

// linkSteps are those that end with the interface, too.
func linkSteps() []Step {
	return []Step{
		address("tun0", "10.7.0.1/24"), address("tun0", "fd07::1/64"), tunMTU(1420), tunLinkUp(),
		routes(0, "10.8.0.0/16", "10.9.1.1/32"), routes(0, "fd08::/32"), routes(4711, "0.0.0.0/0"), routes(4711, "::/0"),
	}
}

// steps bring up a tunnel. There is one of each kind, at least.
func steps() []Step {
	return append(linkSteps(),
		&Mark{Interface: "tun0"}, MarkRule(false, 51820), MarkRule(true, 51820), sysctlFor("tun0"),
		&MarkTable{Interface: "tun0", Mark: 51820, Addresses: []netip.Addr{netip.MustParseAddr("10.7.0.1"), netip.MustParseAddr("fd07::1")}},
		&Rule{IPv6: true, Priority: 1000, Not: true, Mark: 51820, Table: 51820, Suppress: -1},
		&KillSwitch{Interface: "tun0", Mark: 51820, Allow: prefixes("198.51.100.0/24"), LAN: true},
		&Gateway{Interface: "tun0", Masquerade: true, MSS: PathMSS}, &Guard{Interface: "tun0", Outer: []string{"eth0"}}, &RouterIPv6{For: "tun0"},
		&Rule{Priority: 1001, From: netip.MustParsePrefix("10.7.0.1/32"), Table: 7, Suppress: -1}, nameServer("tun0", "10.7.0.53"),
		&MAC{Interface: "eth0-peer", Address: "fe:00:00:00:00:01"},
		&Bridge{Name: "br7", For: "tun0"}, &BridgePort{Interface: "eth0-peer", Bridge: "br8"},
	)
}

// nameServer is told by the file, whatever the machine has.
func nameServer(name, server string) *DNS {
	s := NewDNS(name, []netip.Addr{netip.MustParseAddr(server)}, nil, nil)
	s.Way = dns.ByFile
	return s
}

// undoAll goes back, the last one first.
func undoAll(back []undo) error {
	var errs []error
	for _, u := range slices.Backward(back) {
		errs = append(errs, u())
	}
	return errors.Join(errs...)
}

func TestAnErrorAfterAnyStepLeavesNothingBehind(t *testing.T) {
	for _, present := range []string{"nothing", "address, up, small MTU", "address while down", "IPv6 address while down"} {
		for fail := range len(steps()) + 1 {
			inNamespace(t, func(h host) {
				switch present {
				case "address, up, small MTU":
					h.took(address("tun0", "10.7.0.1/24"))
					h.took(tunMTU(1300))
					h.took(&Up{Interface: "tun0"})
				case "address while down":
					h.took(address("tun0", "10.99.0.1/24"))
				case "IPv6 address while down":
					h.took(address("tun0", "fd99::1/64"))
				}
				before := h.state()
				var back []undo
				for _, s := range steps()[:fail] {
					u, err := h.take(s)
					if err != nil {
						t.Errorf("%s: %s: %v", present, s, err)
					}
					back = append(back, u)
				}
				if fail > 0 && present == "nothing" && h.state() == before {
					t.Errorf("%d steps did nothing", fail)
				}
				if err := undoAll(back); err != nil {
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
	for gone := range len(linkSteps()) + 1 {
		inNamespace(t, func(h host) {
			var back []undo
			for _, s := range linkSteps()[:gone] {
				back = append(back, h.took(s))
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
			h.took(address("tun0", "10.7.0.1/24"))
			h.took(&Up{Interface: "tun0"})
			before := h.state()
			if err := undoAll(back); err != nil {
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
		for _, s := range []Step{
			address("none", "10.0.0.1/24"), &MTU{Interface: "none", Bytes: 1400}, &Up{Interface: "none"},
			&Routes{Interface: "none", Prefixes: prefixes("10.0.0.0/24")},
		} {
			done, err := s.Look(h.Handle)
			if done || !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "none") {
				t.Errorf("%s: done %v, error %v", s, done, err)
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
			h.took(address("tun0", a))
			again := h.took(address("tun0", a))
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
		h.took(address("tun0", "fd07::1/64"))
		_, err := h.take(address("tun0", "fd07::1/128"))
		if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "fd07::1/64") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAnAddressHasNoBroadcast(t *testing.T) {
	inNamespace(t, func(h host) {
		h.took(address("tun0", "10.7.0.1/24"))
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
		h.took(tunMTU(1200))
		_, err := h.take(address("tun0", "fd07::1/64"))
		if err == nil || !strings.Contains(err.Error(), "1280") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAnMTUBelow1280DoesNotCostIPv6AddressesForGood(t *testing.T) {
	inNamespace(t, func(h host) {
		h.took(address("tun0", "fd99::1/64"))
		h.took(&Up{Interface: "tun0"})
		before := h.state()
		u := h.took(tunMTU(1000))
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
