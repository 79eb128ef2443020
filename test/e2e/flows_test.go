package e2e

import (
	"crypto/sha256"
	endian "encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/test/lab"
)

// flows is tool-flows INTERFACE: says "watching", and when it is ended (SIGTERM)
// prints how many packets of each kind have passed there, either way: "udp
// 192.0.2.2 > 198.51.100.2:51820". Of what keeps a link alive (ARP, neighbour
// discovery, multicast listeners) it says nothing.
func flows(args []string) error {
	device, err := net.InterfaceByName(args[0])
	if err != nil {
		return err
	}
	all := endian.BigEndian.Uint16(endian.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20),
		unix.Bind(s, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}))
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	var over atomic.Bool
	go func() {
		<-signals
		over.Store(true)
	}()
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
		return err
	}
	fmt.Println("watching")
	seen := make(map[string]int)
	b := make([]byte, 1<<17)
	for {
		ended := over.Load() // before the look that finds nothing more
		n, _, err := unix.Recvfrom(s, b, 0)
		switch {
		case err == nil:
			if flow := flowOf(b[:n]); flow != "" {
				seen[flow]++
			}
		case errors.Is(err, unix.EAGAIN) && ended:
			lost, err := unix.GetsockoptTpacketStats(s, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			if err != nil || lost.Drops > 0 {
				return fmt.Errorf("%d packets were not seen: %w", lost.Drops, err)
			}
			return json.NewEncoder(os.Stdout).Encode(seen)
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// flowOf names the kind of an IP packet.
func flowOf(ip []byte) string {
	var protocol byte
	var from, to netip.Addr
	var rest []byte
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		from, to, protocol, rest = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])), ip[9], ip[4*int(ip[0]&15):]
		if endian.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
			return fmt.Sprintf("fragment %s > %s", from, to)
		}
	case len(ip) >= 40 && ip[0]>>4 == 6:
		from, to, protocol, rest = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])), ip[6], ip[40:]
	default:
		return "" // ARP
	}
	switch {
	case protocol == unix.IPPROTO_UDP && len(rest) >= 8:
		return fmt.Sprintf("udp %s > %s", from, netip.AddrPortFrom(to, endian.BigEndian.Uint16(rest[2:])))
	case protocol == unix.IPPROTO_TCP && len(rest) >= 20:
		return fmt.Sprintf("tcp %s > %s", from, netip.AddrPortFrom(to, endian.BigEndian.Uint16(rest[2:])))
	case protocol == unix.IPPROTO_ICMPV6 && len(rest) > 0 && rest[0] >= 130 && rest[0] <= 143, protocol == 0:
		return ""
	}
	return fmt.Sprintf("protocol %d %s > %s", protocol, from, to)
}

// beginFlows watches an interface of a host; what it returns ends that and tells
// what has passed.
func beginFlows(t *testing.T, h *lab.Host, device string) (end func() map[string]int) {
	t.Helper()
	p := h.Start(tool("tool-flows", device)...)
	p.Await("watching")
	return func() (seen map[string]int) {
		t.Helper()
		if status := p.Stop(); status != 0 {
			t.Fatalf("tool-flows: %s", p.Output())
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(p.Output(), "watching\n")), &seen); err != nil {
			t.Fatal(err)
		}
		return seen
	}
}

// pester is tool-pester ADDRESS...: sends a datagram to the UDP port of each,
// again and again, whatever the kernel says to it. It says "pestering" once all
// were tried, "enough" after enoughTries, and when it is ended (SIGTERM) how often
// it has tried.
func pester(args []string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	var to []netip.AddrPort
	for _, a := range args {
		p, err := netip.ParseAddrPort(a)
		if err != nil {
			return err
		}
		to = append(to, p)
	}
	four, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	six, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	tick := time.NewTicker(200 * time.Microsecond)
	for tries := 0; ; tries++ {
		for _, p := range to {
			if p.Addr().Is4() {
				_ = unix.Sendto(four, []byte("leak"), 0, &unix.SockaddrInet4{Addr: p.Addr().As4(), Port: int(p.Port())})
			} else {
				_ = unix.Sendto(six, []byte("leak"), 0, &unix.SockaddrInet6{Addr: p.Addr().As16(), Port: int(p.Port())})
			}
		}
		switch tries {
		case 0:
			fmt.Println("pestering")
		case enoughTries:
			fmt.Println("enough")
		}
		select {
		case <-signals:
			fmt.Println(tries)
			return nil
		case <-tick.C:
		}
	}
}

// enoughTries is how often a test that nothing leaves must have tried at least.
const enoughTries = 50

// beginPester lets a host send to these; what it returns ends that, after enough
// tries, and says how many there were.
func beginPester(t *testing.T, h *lab.Host, to ...string) (end func() int) {
	t.Helper()
	p := h.Start(tool(append([]string{"tool-pester"}, to...)...)...)
	p.Await("pestering")
	return func() int {
		t.Helper()
		p.Await("enough")
		if status := p.Stop(); status != 0 {
			t.Fatalf("tool-pester: %s", p.Output())
		}
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(p.Output(), "pestering\nenough\n")))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// web is tool-web LISTEN: an HTTP server that says "serving" and tells the
// address of who asks. It answers with that, or to /N with N bytes of content.
func web(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("serving")
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := netip.MustParseAddrPort(r.RemoteAddr).Addr().Unmap()
		fmt.Println("asked by", from)
		if n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")); err == nil {
			_, _ = io.CopyN(w, content(), int64(n))
			return
		}
		fmt.Fprintln(w, from)
	}))
}

// content is what the server gives away, without an end.
func content() io.Reader { return rand.NewChaCha8([32]byte{7}) }

// contentHash is the SHA-256 of its first n bytes.
func contentHash(n int) string {
	h := sha256.New()
	_, _ = io.CopyN(h, content(), int64(n))
	return hex.EncodeToString(h.Sum(nil))
}

// advertise is tool-advertise INTERFACE: says "advertising" and is a router
// there: it sends a router advertisement each second (RFC 4861).
func advertise(args []string) error {
	device, err := net.InterfaceByName(args[0])
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	err = errors.Join(unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, device.Index))
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet6{Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: uint32(device.Index)}
	for first := true; ; time.Sleep(time.Second) {
		if err := unix.Sendto(s, []byte{134, 0, 0, 0, 64, 0, 0x0e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}, 0, to); err != nil {
			return err
		}
		if first {
			fmt.Println("advertising")
			first = false
		}
	}
}

// others are the kinds of packets that are not among these.
func others(seen map[string]int, expected ...string) (left []string) {
	for flow, n := range seen {
		if !slices.Contains(expected, flow) {
			left = append(left, fmt.Sprintf("%s (%d)", flow, n))
		}
	}
	slices.Sort(left)
	return left
}
