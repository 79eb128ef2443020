package netconf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wait asks until ok says yes, for what the kernel does in its own time.
func (h host) wait(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Errorf("after 10 s: %s", what)
			runtime.Goexit()
		}
	}
}

// run runs a command in the namespace, as this thread is in it, and returns what it prints. A test without the command
// is skipped by need.
func (h host) run(stdin string, args ...string) string {
	h.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		runtime.Goexit()
	}
	return string(out)
}

func (h host) ruleset() string { return h.run("", "nft", "list", "ruleset") }

func (h host) index(name string) int {
	h.t.Helper()
	l, err := h.link(name)
	h.must(nil, err)
	return l.Attrs().Index
}

// wire sets name and its peer up without asking anybody for permission: no duplicate address detection.
func (h host) wire(name string) {
	h.t.Helper()
	for _, n := range []string{name, name + "-peer"} {
		h.must(nil, (&Sysctl{Key: "net/ipv6/conf/" + n + "/accept_dad", Value: "0"}).set("0"))
		h.took(&Up{Interface: n})
	}
	h.wait("no link-local address on "+name, func() bool { return strings.Contains(h.state(), "address fe80:") })
}

// neighbor makes an address reachable through the interface, at its peer, without resolution.
func (h host) neighbor(name, address string) {
	h.t.Helper()
	peer, err := h.link(name + "-peer")
	h.must(nil, err)
	h.must(nil, h.nl.NeighSet(&netlink.Neigh{LinkIndex: h.index(name), IP: net.ParseIP(address), HardwareAddr: peer.Attrs().HardwareAddr,
		State: netlink.NUD_PERMANENT}))
}

// capture is an AF_PACKET socket on an interface.
type capture struct {
	h  host
	fd int
}

func (h host) capture(name string) capture {
	h.t.Helper()
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	h.must(nil, err)
	h.must(nil, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: h.index(name)}))
	h.must(nil, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return capture{h, fd}
}

// until reads until a frame has the text last, and returns those of the texts that were in frames before.
func (c capture) until(last string, texts ...string) (found []string) {
	c.h.t.Helper()
	b := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(c.fd, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			c.h.t.Errorf("no frame with %q in 10 s: %v", last, err)
			return found
		}
		for _, t := range texts {
			if bytes.Contains(b[:n], []byte(t)) && !slices.Contains(found, t) {
				found = append(found, t)
			}
		}
		if bytes.Contains(b[:n], []byte(last)) {
			return found
		}
	}
}

func (c capture) close() { unix.Close(c.fd) }

// datagram sends text by UDP, from port (0: any), with a mark, and returns what the kernel says.
func datagram(to string, toPort, port int, mark uint32, device, text string) error {
	addr := netip.MustParseAddr(to)
	s, err := unix.Socket(family(addr), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return err
	}
	if device != "" {
		if err := unix.BindToDevice(s, device); err != nil {
			return err
		}
	}
	if addr.Is4() {
		if err := unix.Bind(s, &unix.SockaddrInet4{Port: port}); err != nil {
			return err
		}
		return unix.Sendto(s, []byte(text), 0, &unix.SockaddrInet4{Addr: addr.As4(), Port: toPort})
	}
	if err := unix.Bind(s, &unix.SockaddrInet6{Port: port}); err != nil {
		return err
	}
	return unix.Sendto(s, []byte(text), 0, &unix.SockaddrInet6{Addr: addr.As16(), Port: toPort})
}

// echo sends an ICMP echo request with this mark and text, as ping -m does.
func echo(to string, mark uint32, text string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return err
	}
	return unix.Sendto(s, append([]byte{8, 0, 0, 0, 0, 0, 0, 0}, text...), 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(to).As4()})
}

// icmp6 sends an ICMPv6 message of a type, with text in it, with a hop limit, by an interface.
func (h host) icmp6(to string, kind byte, hops int, device, text string) error {
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	err = errors.Join(unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops),
		unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hops),
		unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, h.index(device)))
	if err != nil {
		return err
	}
	return unix.Sendto(s, append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, text...), 0,
		&unix.SockaddrInet6{Addr: netip.MustParseAddr(to).As16(), ZoneId: uint32(h.index(device))})
}

// inject lets a frame with this packet come in by the interface, as if its neighbour had sent it.
func (h host) inject(name string, etherType uint16, packet []byte) {
	h.t.Helper()
	l, err := h.link(name)
	h.must(nil, err)
	frame := append(slices.Clone([]byte(l.Attrs().HardwareAddr)), 2, 0, 0, 0, 0, 9)
	frame = append(binary.BigEndian.AppendUint16(frame, etherType), packet...)
	c := h.capture(name + "-peer")
	defer c.close()
	_, err = unix.Write(c.fd, frame)
	h.must(nil, err)
}

// udp4 is an IPv4 packet with a UDP datagram without a checksum.
func udp4(from, to, text string) []byte {
	p := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	p = append(append(p, netip.MustParseAddr(from).AsSlice()...), netip.MustParseAddr(to).AsSlice()...)
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(text)))
	binary.BigEndian.PutUint16(p[10:], ^sum(p, 0))
	p = append(p, 0x10, 0, 0x20, 0)
	p = binary.BigEndian.AppendUint16(p, uint16(8+len(text)))
	return append(append(p, 0, 0), text...)
}

// sum is the sum of RFC 1071.
func sum(b []byte, begin uint32) uint16 {
	s := begin
	for len(b) > 1 {
		s += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// routerAdvertisement is that of a router fe80::9 for an hour, without prefixes (RFC 4861, section 4.2).
func routerAdvertisement() []byte {
	message := []byte{134, 0, 0, 0, 64, 0, 0x0e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}
	p := []byte{0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255}
	addresses := append(netip.MustParseAddr("fe80::9").AsSlice(), netip.MustParseAddr("ff02::1").AsSlice()...)
	begin := uint32(sum(addresses, uint32(len(message))+unix.IPPROTO_ICMPV6))
	binary.BigEndian.PutUint16(message[2:], ^sum(message, begin))
	return append(append(p, addresses...), message...)
}
