package netconf

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// needNFT skips the test where nft(8) is missing, which shows what was set.
func needNFT(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft(8): apt-get install nftables")
	}
}

const tunnelMark, otherMark = 0x1234, 0x1235

func testKillSwitch() *KillSwitch {
	return &KillSwitch{Interface: "tun0", Mark: tunnelMark}
}

// online gives eth0 a way to a host 192.0.2.9 and 2001:db8::9, which is also the router to everywhere, and eth1 a network
// 10.1.0.0/24 with hosts that send by us.
func (h host) online() {
	h.t.Helper()
	h.wire("eth0")
	h.took(address("eth0", "2001:db8::1/64"))
	for _, far := range []string{"192.0.2.9", "2001:db8::9", "fe80::9"} {
		h.neighbor("eth0", far)
	}
	h.run("", "ip", "route", "add", "default", "via", "192.0.2.9")
	h.run("", "ip", "-6", "route", "add", "default", "via", "2001:db8::9")
	h.veth("eth1", 1500)
	h.wire("eth1")
	h.took(address("eth1", "10.1.0.1/24"))
	for _, i := range []string{"eth0", "eth1"} {
		h.must(nil, (&Sysctl{Key: "net/ipv4/conf/" + i + "/forwarding"}).set("1"))
	}
}

// sending is one kind of packet that a machine sends, with its name in it.
type sending struct {
	name   string
	passes bool // a kill switch that allows nothing
	send   func(h host, text string) error
}

var sendings = []sending{
	{"<udp4>", false, func(_ host, text string) error { return datagram("198.51.100.5", 53, 0, 0, "", text) }},
	{"<udp6>", false, func(_ host, text string) error { return datagram("2001:db8:5::5", 53, 0, 0, "", text) }},
	{"<on the link>", false, func(_ host, text string) error { return datagram("192.0.2.9", 53, 0, 0, "", text) }},
	{"<on the link6>", false, func(_ host, text string) error { return datagram("2001:db8::9", 53, 0, 0, "", text) }},
	{"<multicast>", false, func(_ host, text string) error { return datagram("224.0.0.251", 5353, 0, 0, "eth0", text) }},
	{"<broadcast>", false, func(_ host, text string) error { return datagram("255.255.255.255", 9, 0, 0, "eth0", text) }},
	{"<another mark>", false, func(_ host, text string) error { return datagram("198.51.100.5", 53, 0, otherMark, "", text) }},
	{"<bound to eth0>", false, func(_ host, text string) error { return datagram("198.51.100.5", 53, 0, 0, "eth0", text) }},
	{"<from port 68>", false, func(_ host, text string) error { return datagram("198.51.100.5", 53, 68, 0, "", text) }},
	{"<to port 67>", false, func(_ host, text string) error { return datagram("198.51.100.5", 67, 0, 0, "", text) }},
	{"<DHCPv6 far away>", false, func(_ host, text string) error { return datagram("2001:db8:5::5", 547, 546, 0, "", text) }},
	{"<echo6>", false, func(h host, text string) error { return h.icmp6("2001:db8::9", 128, 255, "eth0", text) }},
	{"<echo with the mark>", false, func(_ host, text string) error { return echo("198.51.100.5", tunnelMark, text) }},
	{"<neighbour, forwarded>", false, func(h host, text string) error { return h.icmp6("2001:db8::9", 135, 254, "eth0", text) }},
	{"<report far away>", false, func(h host, text string) error { return h.icmp6("2001:db8:5::5", 143, 255, "eth0", text) }},
	{"<forwarded>", false, func(h host, text string) error {
		h.inject("eth1", unix.ETH_P_IP, udp4("10.1.0.5", "198.51.100.5", text))
		return nil
	}},
	{"<sealed4>", true, func(_ host, text string) error { return datagram("198.51.100.5", 51820, 0, tunnelMark, "", text) }},
	{"<sealed6>", true, func(_ host, text string) error { return datagram("2001:db8:5::5", 51820, 0, tunnelMark, "", text) }},
	{"<DHCP>", true, func(_ host, text string) error { return datagram("255.255.255.255", 67, 68, 0, "eth0", text) }},
	{"<DHCP renewal>", true, func(_ host, text string) error { return datagram("192.0.2.9", 67, 68, 0, "", text) }},
	{"<DHCPv6>", true, func(_ host, text string) error { return datagram("ff02::1:2", 547, 546, 0, "eth0", text) }},
	{"<solicitation>", true, func(h host, text string) error { return h.icmp6("ff02::2", 133, 255, "eth0", text) }},
	{"<neighbour>", true, func(h host, text string) error { return h.icmp6("2001:db8::9", 135, 255, "eth0", text) }},
	{"<report>", true, func(h host, text string) error { return h.icmp6("ff02::16", 143, 1, "eth0", text) }},
}

func names(list []sending, want func(sending) bool) (all []string) {
	for _, s := range list {
		if want(s) {
			all = append(all, s.name)
		}
	}
	slices.Sort(all)
	return all
}

// leaves sends all of them and returns the names of those that come out at eth0.
func (h host) leaves() []string {
	h.t.Helper()
	c := h.capture("eth0-peer")
	defer c.close()
	for _, s := range sendings {
		if err := s.send(h, s.name); err != nil && !errors.Is(err, unix.EPERM) {
			h.t.Errorf("%s: %v", s.name, err)
		}
	}
	// What is behind it in the queue was sent before.
	if err := datagram("192.0.2.9", 9, 0, tunnelMark, "", "<the last>"); err != nil {
		h.t.Error(err)
	}
	found := c.until("<the last>", names(sendings, func(sending) bool { return true })...)
	slices.Sort(found)
	return found
}

func TestAKillSwitchLetsNothingPassButWhatItSays(t *testing.T) {
	needNFT(t)
	inNamespace(t, func(h host) {
		h.online()
		if got, want := h.leaves(), names(sendings, func(sending) bool { return true }); !slices.Equal(got, want) {
			t.Errorf("without a kill switch there leave\n%q, want\n%q", got, want)
		}
		before := h.ruleset()
		j := h.NewJournal("tun0")
		if err := j.Do(context.Background(), testKillSwitch()); err != nil {
			t.Error(err)
			return
		}
		if got, want := h.leaves(), names(sendings, func(s sending) bool { return s.passes }); !slices.Equal(got, want) {
			t.Errorf("with a kill switch there leave\n%q, want\n%q\nby\n%s", got, want, h.ruleset())
		}
		if err := j.Undo(); err != nil {
			t.Error(err)
		}
		if after := h.ruleset(); after != before {
			t.Errorf("left behind\n%s", after)
		}
		if got, want := h.leaves(), names(sendings, func(sending) bool { return true }); !slices.Equal(got, want) {
			t.Errorf("after it there leave\n%q, want\n%q", got, want)
		}
	})
}

func TestAKillSwitchAllowsPrefixesAndPrivateNetworks(t *testing.T) {
	needNFT(t)
	inNamespace(t, func(h host) {
		h.online()
		k := testKillSwitch()
		k.Allow = prefixes("198.51.100.0/24", "2001:db8:5::5/128")
		j := h.NewJournal("tun0")
		defer j.Undo()
		if err := j.Do(context.Background(), k); err != nil {
			t.Error(err)
			return
		}
		allowed := []string{"<udp4>", "<udp6>", "<another mark>", "<echo with the mark>", "<bound to eth0>", "<from port 68>", "<to port 67>", "<DHCPv6 far away>", "<report far away>", "<forwarded>"}
		want := names(sendings, func(s sending) bool { return s.passes || slices.Contains(allowed, s.name) })
		if got := h.leaves(); !slices.Equal(got, want) {
			t.Errorf("with two prefixes allowed there leave\n%q, want\n%q", got, want)
		}

		lan := testKillSwitch()
		lan.LAN = true
		h.took(address("tun0", "10.77.0.1/24"))
		h.took(&Up{Interface: "tun0"})
		if err := j.Do(context.Background(), lan); err != nil {
			t.Error(err)
			return
		}
		if want := prefixes("10.1.0.0/24", "fe80::/64"); !slices.Equal(lan.Networks, want) {
			t.Errorf("the local networks are %v, want %v", lan.Networks, want)
		}
		if want := prefixes("192.0.2.0/24", "2001:db8::/64"); !slices.Equal(lan.Foreign, want) {
			t.Errorf("left out are %v, want %v", lan.Foreign, want)
		}
		want = names(sendings, func(s sending) bool { return s.passes || s.name == "<multicast>" || s.name == "<broadcast>" })
		if got := h.leaves(); !slices.Equal(got, want) {
			t.Errorf("with lan allowed there leave\n%q, want\n%q", got, want)
		}
	})
}

func TestAConnectionFromBeforeAKillSwitchIsNotExempt(t *testing.T) {
	inNamespace(t, func(h host) {
		h.online()
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		h.must(nil, err)
		defer unix.Close(s)
		h.must(nil, unix.Connect(s, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 9}, Port: 7}))
		_, err = unix.Write(s, []byte("before"))
		h.must(nil, err)
		k := testKillSwitch()
		h.must(nil, k.Make(h.Handle))
		if _, err := unix.Write(s, []byte("after")); !errors.Is(err, unix.EPERM) {
			t.Errorf("the kernel says %v, want %v", err, unix.EPERM)
		}
		h.must(nil, k.Undo(h.Handle))
	})
}

func TestAKillSwitchIsReplacedWithoutAGap(t *testing.T) {
	inNamespace(t, func(h host) {
		h.online()
		k := testKillSwitch()
		h.must(nil, k.Make(h.Handle))
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		h.must(nil, err)
		defer unix.Close(s)
		var tries, sent atomic.Int64
		ended := make(chan struct{})
		var sender sync.WaitGroup
		sender.Go(func() {
			for to := (&unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 9}, Port: 7}); ; tries.Add(1) {
				select {
				case <-ended:
					return
				default:
				}
				if unix.Sendto(s, []byte("leak"), 0, to) == nil {
					sent.Add(1)
				}
			}
		})
		for i := 0; i < 100 || tries.Load() < 10_000; i++ {
			k.Allow = prefixes("10.0.0.0/8")[:i%2]
			h.must(nil, k.Make(h.Handle))
		}
		close(ended)
		sender.Wait()
		if sent.Load() > 0 {
			t.Errorf("%d of %d packets got through while it was replaced", sent.Load(), tries.Load())
		}
		h.must(nil, k.Undo(h.Handle))
		h.must(nil, unix.Sendto(s, []byte("free"), 0, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 9}, Port: 7}))
	})
}

func TestKillSwitchesAreFoundAndLiftedByName(t *testing.T) {
	needNFT(t)
	inNamespace(t, func(h host) {
		before := h.ruleset()
		if was, err := h.LiftKillSwitch("tun0"); was || err != nil {
			t.Errorf("lifted one where none was: %v, %v", was, err)
		}
		for _, name := range []string{"tun0", "wg=+._-0"} {
			k := testKillSwitch()
			k.Interface = name
			h.must(nil, k.Make(h.Handle))
		}
		found, err := h.KillSwitches()
		slices.Sort(found)
		if err != nil || !slices.Equal(found, []string{"tun0", "wg=+._-0"}) {
			t.Errorf("found %q, %v", found, err)
		}
		for _, name := range found {
			if was, err := h.LiftKillSwitch(name); !was || err != nil {
				t.Errorf("%s: lifted %v, %v", name, was, err)
			}
		}
		if after := h.ruleset(); after != before {
			t.Errorf("left behind\n%s", after)
		}
		if err := testKillSwitch().Undo(h.Handle); err != nil {
			t.Errorf("to lift what was lifted already: %v", err)
		}
	})
}

func TestTablesThatAFirewallHasFlushedComeBackButNotAKillSwitchThatWasLifted(t *testing.T) {
	needNFT(t)
	inNamespace(t, func(h host) {
		k, g := testKillSwitch(), &Gateway{Interface: "tun0", Masquerade: true}
		tables := []Tabled{k, g}
		restored := func(when string, want ...string) {
			t.Helper()
			made, err := h.RestoreTables(tables)
			var names []string
			for _, s := range made {
				names = append(names, s.Table())
			}
			if err != nil || !slices.Equal(names, want) {
				t.Errorf("%s: put back are %q, want %q (%v)", when, names, want, err)
			}
		}
		before := h.ruleset()
		h.must(nil, errors.Join(k.Make(h.Handle), g.Make(h.Handle)))
		with := h.ruleset()
		restored("with all there")
		h.run("", "nft", "flush", "ruleset")
		restored("after a flush", k.Table(), g.Table())
		if now := h.ruleset(); now != with {
			t.Errorf("after a flush there is\n%s\nand was\n%s", now, with)
		}
		if was, err := h.LiftKillSwitch("tun0"); !was || err != nil {
			t.Errorf("lifted %v, %v", was, err)
		}
		restored("after it was lifted")
		h.must(nil, k.Make(h.Handle)) // by the next up
		h.run("", "nft", "flush", "ruleset")
		restored("when it was made anew", k.Table(), g.Table())
		_, err := h.LiftKillSwitch("tun0")
		h.must(nil, errors.Join(err, k.Undo(h.Handle), g.Undo(h.Handle)))
		if after := h.ruleset(); after != before {
			t.Errorf("left behind\n%s", after)
		}
		if lifted, err := h.claimed(lifted("tun0")); lifted || err != nil {
			t.Errorf("that it was lifted is still noted (%v)", err)
		}
	})
}
