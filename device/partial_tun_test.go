package device

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newTrustingPair is a pair between which packets stay partial, and the
// namespace of its nearer end.
func newTrustingPair(t *testing.T) (p *pair, home netns.NsHandle) {
	p = newPair(t, Options{Offload: true})
	p.trusting.Store(true)
	if !strings.Contains(p.here.Features(), "csum") {
		t.Skip("SKIPPED: needs TUN_F_CSUM")
	}
	home, err := netns.Get()
	must(t, err)
	t.Cleanup(func() { _ = home.Close() })
	return p, home
}

// sound fails if a host has seen a wrong checksum or a queue has dropped one.
func (p *pair) sound(t *testing.T, others ...netns.NsHandle) {
	t.Helper()
	if n := p.sumErrors(t, others...) - p.unheard; n != 0 {
		t.Errorf("%d wrong checksums", n)
	}
	for _, tun := range []*TUN{p.here, p.there} {
		for reason, n := range tun.Drops() {
			if reason != "device_full" {
				t.Errorf("%d drops: %s", n, reason)
			}
		}
	}
}

// What is inside a tunnel made on this host has a sum that only this host can
// complete: at an inner header, or at both.
func TestTunnelsMadeOnThisHostCarryStreamsWhole(t *testing.T) {
	here4, there4 := net.ParseIP("10.9.8.1"), net.ParseIP("10.9.8.2")
	here6, there6 := net.ParseIP("fd98::1"), net.ParseIP("fd98::2")
	vxlan := func(local, remote net.IP, sum bool) netlink.Link {
		return &netlink.Vxlan{VxlanId: 7, SrcAddr: local, Group: remote, Port: 4789, UDPCSum: sum, UDP6ZeroCSumTx: !sum, UDP6ZeroCSumRx: !sum}
	}
	for _, c := range []struct {
		name string
		make func(local, remote net.IP) netlink.Link
		v6   bool
	}{
		{"VXLAN", func(l, r net.IP) netlink.Link { return vxlan(l, r, false) }, false},
		{"VXLAN with sums", func(l, r net.IP) netlink.Link { return vxlan(l, r, true) }, false},
		{"VXLAN over IPv6", func(l, r net.IP) netlink.Link { return vxlan(l, r, false) }, true},
		{"VXLAN over IPv6 with sums", func(l, r net.IP) netlink.Link { return vxlan(l, r, true) }, true},
		{"IPIP", func(l, r net.IP) netlink.Link { return &netlink.Iptun{Local: l, Remote: r} }, false},
		{"GRE", func(l, r net.IP) netlink.Link { return &netlink.Gretun{Local: l, Remote: r} }, false},
		{"GRE with sums", func(l, r net.IP) netlink.Link {
			return &netlink.Gretun{Local: l, Remote: r, IFlags: greSum, OFlags: greSum}
		}, false},
		{"SIT", func(l, r net.IP) netlink.Link { return &netlink.Sittun{Local: l, Remote: r} }, false},
		{"IPv4 in IPv6", func(l, r net.IP) netlink.Link {
			return &netlink.Ip6tnl{Local: l, Remote: r, Proto: unix.IPPROTO_IPIP}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, home := newTrustingPair(t)
			local, remote := here4, there4
			if c.v6 {
				local, remote = here6, there6
			}
			for i, ns := range []netns.NsHandle{home, p.ns} {
				h, err := netlink.NewHandleAt(ns)
				must(t, err)
				defer h.Close()
				l := c.make(local, remote)
				*l.Attrs() = netlink.LinkAttrs{Name: "inner", MTU: 1300}
				if err := h.LinkAdd(l); err != nil {
					t.Skipf("SKIPPED: this kernel makes no such interface: %v", err)
				}
				host := string(rune('1' + i))
				a := address(t, "fd31::"+host+"/64")
				a.Flags = unix.IFA_F_NODAD
				must(t, h.AddrAdd(l, address(t, "172.31.0."+host+"/24")))
				must(t, h.AddrAdd(l, a))
				must(t, h.LinkSetUp(l))
				local, remote = remote, local
			}
			// VXLAN without sums, over IPv6: what one end's interface has said before the
			// other end's was up found no socket there, and so counts as a wrong sum.
			if c.name == "VXLAN over IPv6" {
				p.unheard = p.sumErrors(t)
			}
			to := []string{"172.31.0.2:80", "[fd31::2]:80"}
			switch {
			case c.name == "SIT":
				to = to[1:]
			case !strings.HasPrefix(c.name, "VXLAN"):
				to = to[:1]
			}
			for _, to := range to {
				before := p.partial.Load()
				transfer(t, home, p.ns, to, 8<<20, nil)
				// The kernel speaks of neighbours beside the stream, no more.
				if n := p.partial.Load() - before; n > 20 {
					t.Errorf("%s: %d packets were partial", to, n)
				}
			}
			p.sound(t)
		})
	}
}

const greSum = 0x80 // GRE_CSUM, in network order

func TestExtensionHeadersAreCompletedAndCarryStreamsWhole(t *testing.T) {
	p, home := newTrustingPair(t)
	options := []byte{0, 0, 1, 4, 0, 0, 0, 0} // PadN
	prepare := func(fd int) error {
		return unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, string(options))
	}
	const n = 4 << 20
	transfer(t, home, p.ns, "[fd98::2]:80", n, prepare)
	// The other direction has no such headers.
	if all, partial := p.packets.Load(), p.partial.Load(); all-partial < n/1420 || partial == 0 {
		t.Errorf("%d of %d packets were partial", partial, all)
	}
	p.sound(t)
}

// Behind each end lies a network of containers, whose packets come to the TUN
// as their stack left them, and go on from one to an interface that computes no
// sums: there the kernel completes what it was given.
func TestForwardedTrafficIsCarriedWhole(t *testing.T) {
	p, home := newTrustingPair(t)
	behindHere, behindThere := anotherNetwork(t), anotherNetwork(t)
	behind(t, home, behindHere, "1", "2", "here")
	behind(t, p.ns, behindThere, "2", "1", "there")
	for _, to := range []string{"10.7.2.9:80", "[fd72::9]:80"} {
		before := p.partial.Load()
		transfer(t, behindHere, behindThere, to, 16<<20, nil)
		if n := p.partial.Load() - before; n < 1000 {
			t.Errorf("%s: only %d packets were partial", to, n)
		}
	}
	transfer(t, behindThere, home, "10.9.8.1:81", 4<<20, nil)
	p.sound(t, behindHere, behindThere)
}

// behind makes a network 10.7.n.0/24 and fd7n::/64 behind one end of a pair,
// with a host .9 in a namespace of its own, and a route to that of the other end.
func behind(t *testing.T, end, host netns.NsHandle, n, other, tun string) {
	t.Helper()
	he, err := netlink.NewHandleAt(end)
	must(t, err)
	defer he.Close()
	hh, err := netlink.NewHandleAt(host)
	must(t, err)
	defer hh.Close()
	must(t, he.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth"}, PeerName: "eth", PeerNamespace: netlink.NsFd(host)}))
	add := func(h *netlink.Handle, name, last string) netlink.Link {
		l, err := h.LinkByName(name)
		must(t, err)
		for _, prefix := range []string{"10.7." + n + "." + last + "/24", "fd7" + n + "::" + last + "/64"} {
			a := address(t, prefix)
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			must(t, h.AddrAdd(l, a))
		}
		must(t, h.LinkSetUp(l))
		return l
	}
	add(he, "veth", "1")
	eth := add(hh, "eth", "9")
	route := func(h *netlink.Handle, l netlink.Link, destination, gateway string) {
		_, d, err := net.ParseCIDR(destination)
		must(t, err)
		must(t, h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: d, Gw: net.ParseIP(gateway)}))
	}
	route(hh, eth, "0.0.0.0/0", "10.7."+n+".1")
	route(hh, eth, "::/0", "fd7"+n+"::1")
	l, err := he.LinkByName(tun)
	must(t, err)
	route(he, l, "10.7."+other+".0/24", "")
	route(he, l, "fd7"+other+"::/64", "")
	inThere(t, end, func() error {
		must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644))
		return withoutSums("veth")
	})
}

// withoutSums has an interface of the calling thread's namespace compute no
// sums (ethtool -K name tx off).
func withoutSums(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	value := struct{ command, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// raw is a packet socket for IPv4 packets as they come, as DHCP programs have:
// nobody completes a sum for it.
func raw(t *testing.T, name string) int {
	t.Helper()
	ip := uint16(unix.ETH_P_IP)
	ip = ip>>8 | ip<<8
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(ip))
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(s) })
	must(t, unix.Bind(s, &unix.SockaddrLinklayer{Protocol: ip, Ifindex: link(t, name).Attrs().Index}))
	must(t, unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return s
}

// next is the next UDP packet that comes to a port.
func next(t *testing.T, s, port int) []byte {
	t.Helper()
	b := make([]byte, 2000)
	for {
		n, _, err := unix.Recvfrom(s, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue // by Go's own signals, which preempt
		}
		must(t, err)
		if p := b[:n]; n >= 28 && p[9] == unix.IPPROTO_UDP && int(binary.BigEndian.Uint16(p[22:])) == port {
			return p
		}
	}
}

func TestDHCPIsReadWithItsSum(t *testing.T) {
	p, _ := newTrustingPair(t)
	var reader int
	inThere(t, p.ns, func() error { reader = raw(t, "there"); return nil })
	payload := noise(rand.New(rand.NewPCG(1, 1)), 300)
	for _, c := range []struct {
		port    int
		partial bool
	}{{67, false}, {68, false}, {69, true}} {
		_, err := sender(t, (&net.UDPAddr{IP: net.IPv4(10, 9, 8, 2), Port: c.port}).String()).Write(payload)
		must(t, err)
		got := next(t, reader, c.port)
		if !bytes.Equal(got[28:], payload) {
			t.Fatalf("port %d: another datagram came", c.port)
		}
		if right := shapeOf(got, 0, false).verified(got, false); right == c.partial {
			t.Errorf("port %d: the sum that a packet socket sees is right: %v", c.port, right)
		}
	}

	// As a client sends that has no address yet: a packet of its own making.
	discover := stream{udp: true, payload: payload, size: len(payload), ttl: 64}.packets()[0]
	copy(discover[12:], []byte{0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67})
	repair(discover)
	writer := raw(t, "here")
	ip := uint16(unix.ETH_P_IP)
	must(t, unix.Sendto(writer, discover, 0, &unix.SockaddrLinklayer{Protocol: ip>>8 | ip<<8, Ifindex: link(t, "here").Attrs().Index}))
	before := p.partial.Load()
	if d := difference(next(t, reader, 67), discover); d != "" {
		t.Errorf("a packet made by its program: %s", d)
	}
	if n := p.partial.Load() - before; n != 0 {
		t.Errorf("%d packets were partial", n)
	}
}

// Single datagrams, of which each is partial on its own.
func TestDatagramsArriveWholeThoughPartial(t *testing.T) {
	p, _ := newTrustingPair(t)
	r := rand.New(rand.NewPCG(2, 2))
	for _, at := range []string{"10.9.8.2:9", "[fd98::2]:9"} {
		var in net.PacketConn
		inThere(t, p.ns, func() (err error) {
			in, err = net.ListenPacket("udp", at)
			return err
		})
		defer func() { _ = in.Close() }()
		must(t, in.SetReadDeadline(time.Now().Add(10*time.Second)))
		out, before := sender(t, at), p.partial.Load()
		b := make([]byte, 2000)
		for size := range 200 {
			payload := noise(r, size*7%1370)
			_, err := out.Write(payload)
			must(t, err)
			n, _, err := in.ReadFrom(b)
			must(t, err)
			if !bytes.Equal(b[:n], payload) {
				t.Fatalf("%s: %d bytes arrived as %d, or differ", at, len(payload), n)
			}
		}
		if n := p.partial.Load() - before; n < 200 {
			t.Errorf("%s: %d datagrams of 200 were partial", at, n)
		}
	}
	p.sound(t)
}
