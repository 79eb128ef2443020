package socket

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wire is a link of which we have both ends, with an address and a neighbour at one of them, and what is sent to the
// neighbour comes out at the other.
type wire struct{ fd int }

func newWire(t *testing.T, mtu int, addr, neighbour string) wire {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0", MTU: mtu}, PeerName: "v1"}); err != nil {
		t.Fatal(err)
	}
	changes, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	defer close(done)
	if err := netlink.LinkSubscribe(changes, done); err != nil {
		t.Fatal(err)
	}
	var links [2]netlink.Link
	for i, name := range []string{"v0", "v1"} {
		var err error
		if links[i], err = netlink.LinkByName(name); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(links[i]); err != nil {
			t.Fatal(err)
		}
	}
	// What is sent before the kernel has noticed the carrier is lost.
	for up, timeout := map[string]bool{}, time.After(10*time.Second); len(up) < 2; {
		select {
		case c := <-changes:
			if a := c.Link.Attrs(); a.OperState == netlink.OperUp && a.Name != "lo" {
				up[a.Name] = true
			}
		case <-timeout:
			t.Fatal("the wire has no carrier")
		}
	}
	prefix, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	prefix.Flags = unix.IFA_F_NODAD
	if err := netlink.AddrAdd(links[0], prefix); err != nil {
		t.Fatal(err)
	}
	if err := netlink.NeighAdd(&netlink.Neigh{LinkIndex: links[0].Attrs().Index, IP: net.ParseIP(neighbour), State: netlink.NUD_PERMANENT,
		HardwareAddr: links[1].Attrs().HardwareAddr}); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	all := uint16(unix.ETH_P_ALL)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(all), Ifindex: links[1].Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	return wire{fd}
}

// packet waits for the next one of UDP, or a fragment of one.
func (w wire) packet(t *testing.T) (packet []byte, mayBeCut, fragment bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		b := make([]byte, 1<<16)
		n, _, err := unix.Recvfrom(w.fd, b, 0)
		if err != nil {
			t.Fatalf("nothing came out of the wire: %v", err)
		}
		b = b[:n]
		switch {
		case b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
			word := binary.BigEndian.Uint16(b[6:])
			return b, word&0x4000 == 0, word&0x3fff != 0
		case b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
			return b, false, false
		case b[0]>>4 == 6 && b[6] == unix.IPPROTO_FRAGMENT:
			return b, false, true
		}
	}
	t.Fatal("only other packets came out of the wire")
	return nil, false, false
}

// forge has the kernel believe that a router said: a packet of u to a remote end is longer than mtu.
func forge(t *testing.T, u *UDP, local, remote netip.AddrPort, mtu int) {
	t.Helper()
	udp := binary.BigEndian.AppendUint16(nil, u.Port())
	udp = binary.BigEndian.AppendUint16(udp, remote.Port())
	udp = append(udp, 0, 100, 0, 0)
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	var icmp []byte
	var to unix.Sockaddr
	if local.Addr().Is4() {
		icmp = append([]byte{3, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, 0x45, 0, 5, 0, 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0)
		icmp = append(append(icmp, local.Addr().AsSlice()...), remote.Addr().AsSlice()...)
		icmp = append(icmp, udp...)
		sum := uint32(0)
		for i := 0; i < len(icmp); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(icmp[i:]))
		}
		for sum>>16 != 0 {
			sum = sum&0xffff + sum>>16
		}
		binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
		to = &unix.SockaddrInet4{Addr: local.Addr().As4()}
	} else {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
		icmp = append([]byte{2, 0, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, 0x60, 0, 0, 0, 5, 0, unix.IPPROTO_UDP, 64)
		icmp = append(append(icmp, local.Addr().AsSlice()...), remote.Addr().AsSlice()...)
		icmp = append(icmp, udp...)
		to = &unix.SockaddrInet6{Addr: local.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, icmp, 0, to); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWholeIsNotCutWhateverWasForged(t *testing.T) {
	for _, c := range []struct{ prefix, local, remote string }{
		{"10.9.0.1/24", "10.9.0.1", "10.9.0.2"},
		{"fd09::1/64", "fd09::1", "fd09::2"},
	} {
		t.Run(c.local, func(t *testing.T) {
			inNetworkNamespace(t)
			w := newWire(t, 1500, c.prefix, c.remote)
			u := listenOn(t, 0, 1, Options{})[0]
			local, remote := netip.AddrPortFrom(netip.MustParseAddr(c.local), u.Port()), netip.AddrPortFrom(netip.MustParseAddr(c.remote), 4711)
			whole, cut := Path{Remote: remote, Whole: true}, Path{Remote: remote}
			learned := func() bool { // the kernel's answer to a question is all that tells
				routes, err := netlink.RouteGet(net.ParseIP(c.remote))
				return err == nil && len(routes) == 1 && routes[0].MTU == 1280
			}
			send := func(size int, path Path, mayBeCut, fragment bool) {
				t.Helper()
				if err := u.Send(make([]byte, size), size, path); err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				if _, may, is := w.packet(t); may != mayBeCut && c.local == "10.9.0.1" || is != fragment {
					t.Errorf("%d bytes by %+v: the packet may be cut: %t, is a fragment: %t", size, path, may, is)
				}
			}
			send(1400, whole, false, false)
			send(1400, cut, true, false)
			for deadline := time.Now().Add(10 * time.Second); !learned(); { // our own address is of use only after a moment
				forge(t, u, local, remote, 1280)
				if time.Now().After(deadline) {
					t.Fatal("the kernel does not believe what was forged, so nothing is tested")
				}
			}
			send(1400, cut, true, true)
			w.packet(t) // the other fragment
			for range 3 {
				send(1400, whole, false, false)
				send(1200, cut, true, false)
			}
		})
	}
}

func TestWhatIsWholeAndTooLongIsAnErrorOfItsOwn(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	narrowLoopback(t, 1400)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		path := to(addr, b)
		path.Whole = true
		for _, n := range []int{1, 2, 40, 70} {
			all, _ := train(n, 1500)
			if err := a.Send(all, 1500, path); !errors.Is(err, ErrTooLong) {
				t.Errorf("%s: %d whole datagrams that are too long: %v", addr, n, err)
			}
			fits, want := train(n, 1300)
			if err := a.Send(fits, 1300, path); err != nil {
				t.Fatal(err)
			}
			expect(t, collect(t, b, n), want)
			path.Whole = false // and the same to somebody who takes fragments
			all, want = train(n, 1500)
			if err := a.Send(all, 1500, path); err != nil {
				t.Fatal(err)
			}
			expect(t, collect(t, b, n), want)
			path.Whole = true
		}
	}
	if f := a.Features(); !f.GSO {
		t.Errorf("segmentation was given up: %+v", f)
	}
}
