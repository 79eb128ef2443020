package netconf

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tap makes a persistent TAP interface that nobody has opened.
func (h host) tap(name, mac string) {
	h.t.Helper()
	h.must(nil, h.nl.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI}))
	if mac != "" {
		address, err := net.ParseMAC(mac)
		h.must(nil, err)
		h.must(nil, h.nl.LinkSetHardwareAddr(h.found(name), address))
	}
}

func (h host) bridge(name string, ports ...string) {
	h.t.Helper()
	attributes := netlink.NewLinkAttrs()
	attributes.Name = name
	h.must(nil, h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}))
	for _, port := range ports {
		h.must(nil, h.nl.LinkSetMaster(h.found(port), h.found(name)))
	}
	h.must(nil, h.nl.LinkSetUp(h.found(name)))
}

func (h host) found(name string) netlink.Link {
	h.t.Helper()
	l, err := h.link(name)
	h.must(nil, err)
	return l
}

func TestABridgeIsMadeForItsTunnelsAndGoesWithTheLast(t *testing.T) {
	inNamespace(t, func(h host) {
		before := h.state()
		var undos []undo
		for _, name := range []string{"tap0", "tap1", "tap2"} {
			undos = append(undos, h.took(&Bridge{Name: "br0", For: name}))
		}
		if a := h.found("br0").Attrs(); h.found("br0").Type() != "bridge" || a.Flags&net.FlagUp == 0 {
			t.Errorf("br0 is %s, %v", h.found("br0").Type(), a.Flags)
		}
		for _, i := range []int{1, 0, 2} { // in whatever order
			if exists, err := h.Exists("br0"); !exists || err != nil {
				t.Errorf("br0 went before its last tunnel (%v)", err)
			}
			h.must(nil, undos[i]())
			h.must(nil, undos[i]()) // twice is as once
		}
		if said := h.Notes(); h.state() != before || len(said) > 0 {
			t.Errorf("left\n%s\nand said %q", h.state(), said)
		}
	})
}

func TestABridgeThatOthersUseIsLeftAndThatIsSaid(t *testing.T) {
	for _, c := range []struct {
		name string
		use  func(h host)
		said string
	}{
		{"a port", func(h host) { h.must(nil, h.nl.LinkSetMaster(h.found("eth0"), h.found("br0"))) }, "port eth0"},
		{"an IPv4 address", func(h host) { h.took(address("br0", "10.1.1.1/24")) }, "address 10.1.1.1/24"},
		{"an IPv6 address", func(h host) { h.took(address("br0", "fd01::1/64")) }, "address fd01::1/64"},
	} {
		inNamespace(t, func(h host) {
			u := h.took(&Bridge{Name: "br0", For: "tap0"})
			c.use(h)
			h.must(nil, u())
			exists, _ := h.Exists("br0")
			if said := h.Notes(); !exists || len(said) != 1 || !strings.Contains(said[0], c.said) {
				t.Errorf("%s: br0 there: %v, said %q", c.name, exists, said)
			}
			// It is not ours any more.
			if done, err := (&Bridge{Name: "br0", For: "tap0"}).Look(h.Handle); !done || err != nil {
				t.Errorf("%s: it is still ours: %v", c.name, err)
			}
		})
	}
}

func TestABridgeOfOthersIsNotOurs(t *testing.T) {
	inNamespace(t, func(h host) {
		h.bridge("br0")
		before := h.state()
		h.must(nil, h.took(&Bridge{Name: "br0", For: "tap0"})())
		if h.state() != before {
			t.Errorf("left\n%s\nwhere there was\n%s", h.state(), before)
		}
		if _, err := (&Bridge{Name: "eth0", For: "tap0"}).Look(h.Handle); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "veth") {
			t.Errorf("eth0 for a bridge: %v", err)
		}
		// One that was made anew, under the name of ours.
		u := h.took(&Bridge{Name: "br1", For: "tap0"})
		h.must(nil, h.nl.LinkDel(h.found("br1")))
		h.must(nil, u())
		u = h.took(&Bridge{Name: "br1", For: "tap0"})
		h.must(nil, h.nl.LinkDel(h.found("br1")))
		h.bridge("br1")
		h.must(nil, u())
		if exists, _ := h.Exists("br1"); !exists {
			t.Error("somebody's bridge was removed")
		}
	})
}

// Killed between any two calls to the kernel.
func TestAHalfMadeBridgeIsRemoved(t *testing.T) {
	for _, reached := range []string{"claimed", "added", "marked"} {
		inNamespace(t, func(h host) {
			before := h.state()
			b := &Bridge{Name: "br0", For: "tap0"}
			done, err := b.Look(h.Handle)
			if done || err != nil {
				t.Error(done, err)
			}
			_, err = h.claim(b.thing(), b.For, func() (string, error) { return "", nil })
			h.must(nil, err)
			if reached != "claimed" {
				attributes := netlink.NewLinkAttrs()
				attributes.Name = "br0"
				h.must(nil, h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}))
			}
			if reached == "marked" {
				h.must(nil, h.nl.LinkSetAlias(h.found("br0"), bridgeAlias))
			}
			h.must(nil, b.Undo(h.Handle))
			if h.state() != before {
				t.Errorf("%s: left\n%s", reached, h.state())
			}
		})
	}
}

// identity is what must not change about a bridge when a TAP comes and goes.
func (h host) identity(name string) string {
	h.t.Helper()
	a := h.found(name).Attrs()
	return fmt.Sprintf("%s, MTU %d", a.HardwareAddr, a.MTU)
}

func TestABridgeKeepsItsAddressAndMTUWhenATAPComesAndGoes(t *testing.T) {
	for _, mtu := range []int{1400, 1500, 9000} {
		inNamespace(t, func(h host) {
			h.veth("lan", mtu) // with an address as of a network card: the kernel's own choice may be above fe:00:00:00:00:01
			h.must(nil, h.nl.LinkSetHardwareAddr(h.found("lan"), net.HardwareAddr{2, 0, 0, 0, 0, 1}))
			h.bridge("br0", "lan")
			h.tap("tap0", "")
			before := h.identity("br0")
			h.took(&MTU{Interface: "tap0", Bytes: h.found("br0").Attrs().MTU})
			h.took(&MAC{Interface: "tap0", Address: "fe:00:00:00:00:01"})
			u := h.took(&BridgePort{Interface: "tap0", Bridge: "br0"})
			h.took(&Up{Interface: "tap0"})
			if during := h.identity("br0"); during != before {
				t.Errorf("br0 was %s and became %s", before, during)
			}
			if ports, err := h.bridgePorts(h.found("br0").Attrs().Index); err != nil || !slices.Equal(ports, []string{"lan", "tap0"}) {
				t.Errorf("ports %v, %v", ports, err)
			}
			h.must(nil, u())
			h.must(nil, u())
			if after := h.identity("br0"); after != before {
				t.Errorf("br0 was %s and is now %s", before, after)
			}
		})
	}
}

func TestABridgeWithoutPortsGetsItsAddressBack(t *testing.T) {
	inNamespace(t, func(h host) {
		h.bridge("br0")
		h.tap("tap0", "fe:00:00:00:00:01")
		before := h.identity("br0")
		h.must(nil, h.took(&BridgePort{Interface: "tap0", Bridge: "br0"})())
		if after := h.identity("br0"); after != before {
			t.Errorf("br0 was %s and is now %s", before, after)
		}
	})
}

func TestAPortStaysWhereItIs(t *testing.T) {
	inNamespace(t, func(h host) {
		h.tap("tap0", "")
		h.tap("tap1", "")
		h.bridge("br0", "tap0")
		h.bridge("br1")
		h.must(nil, h.took(&BridgePort{Interface: "tap0", Bridge: "br0"})())
		if h.found("tap0").Attrs().MasterIndex != h.found("br0").Attrs().Index {
			t.Error("tap0 was a port of br0 before, and is none now")
		}
		_, err := (&BridgePort{Interface: "tap0", Bridge: "br1"}).Look(h.Handle)
		if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "br0") {
			t.Errorf("a port of br0 for br1: %v", err)
		}
		// Who moved it meanwhile has reasons.
		u := h.took(&BridgePort{Interface: "tap1", Bridge: "br0"})
		h.must(nil, h.nl.LinkSetMaster(h.found("tap1"), h.found("br1")))
		h.must(nil, u())
		if h.found("tap1").Attrs().MasterIndex != h.found("br1").Attrs().Index {
			t.Error("tap1 was taken out of somebody's bridge")
		}
		h.must(nil, h.nl.LinkDel(h.found("br1")))
		h.must(nil, u())
		for _, s := range []Step{&BridgePort{Interface: "tap9", Bridge: "br0"}, &BridgePort{Interface: "tap1", Bridge: "br9"}} {
			if _, err := s.Look(h.Handle); !errors.Is(err, unix.ENODEV) {
				t.Errorf("%+v: %v", s, err)
			}
		}
	})
}

func TestAnInterfaceGetsItsAddressAndTheOldOneBack(t *testing.T) {
	inNamespace(t, func(h host) {
		h.tap("tap0", "02:00:00:00:00:09")
		mac := func() string { return h.found("tap0").Attrs().HardwareAddr.String() }
		u := h.took(&MAC{Interface: "tap0", Address: "fe:00:00:00:00:01"})
		if mac() != "fe:00:00:00:00:01" {
			t.Errorf("it has %s", mac())
		}
		h.must(nil, h.took(&MAC{Interface: "tap0", Address: "fe:00:00:00:00:01"})()) // not ours twice
		h.must(nil, u())
		if mac() != "02:00:00:00:00:09" {
			t.Errorf("it has %s back", mac())
		}
		u = h.took(&MAC{Interface: "tap0", Address: "fe:00:00:00:00:01"})
		other, _ := net.ParseMAC("02:00:00:00:00:0a")
		h.must(nil, h.nl.LinkSetHardwareAddr(h.found("tap0"), other))
		h.must(nil, u())
		if mac() != "02:00:00:00:00:0a" {
			t.Errorf("what somebody else has set became %s", mac())
		}
		h.must(nil, h.nl.LinkDel(h.found("tap0")))
		h.must(nil, u())
		for _, bad := range []string{"01:00:00:00:00:01", "fe:00", "x"} {
			if err := (&MAC{Interface: "tun0", Address: bad}).Make(h.Handle); !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s: %v", bad, err)
			}
		}
	})
}
