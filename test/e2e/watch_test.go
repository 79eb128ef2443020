package e2e

import (
	endian "encoding/binary" // binary is the program
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"stunnel/test/lab"
)

func bytesPointer(b []byte) unsafe.Pointer { return unsafe.Pointer(&b[0]) }

// watched counts what came in by an interface, as an AF_PACKET socket there sees
// it. Super-packets, which the kernel has not cut yet, count once.
type watched struct {
	Whole     int      // TCP and UDP packets whose checksum is right
	Partial   int      // whose checksum is begun rightly (the pseudo header's) and marked as not complete
	Lone      int      // of the partial ones, those that are no super-packets, which are always partial
	Wrong     []string // the first of all other TCP and UDP
	Fragments int      // of IP
	Datagrams int      // of UDP, super-packets as what they will be cut into
	Longest   int      // of those, the longest in bytes with its IP header
}

// watch is tool-watch INTERFACE [PORT]: says "watching", and when it is ended
// (SIGTERM) prints what it has watched: TCP and UDP, or UDP to PORT only.
func watch(args []string) error {
	device, err := net.InterfaceByName(args[0])
	if err != nil {
		return err
	}
	all := endian.BigEndian.Uint16(endian.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptInt(s, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.Bind(s, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}))
	if err != nil {
		return err
	}
	// The signal, as something that poll waits for.
	ended, end, err := os.Pipe()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	go func() {
		<-signals
		end.Close()
	}()
	fmt.Println("watching")
	var w watched
	port := strings.Join(args[1:], "")
	b := make([]byte, 1<<17)
	for over := false; ; {
		n, from, err := unix.Recvfrom(s, b, unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			if l := from.(*unix.SockaddrLinklayer); l.Pkttype != unix.PACKET_OUTGOING {
				w.see(b[:n], l.Hatype == unix.ARPHRD_ETHER, port)
			}
		case !errors.Is(err, unix.EAGAIN):
			return err
		case over: // all that came before the end has been read
			return json.NewEncoder(os.Stdout).Encode(w)
		default:
			fds := []unix.PollFd{{Fd: int32(s), Events: unix.POLLIN}, {Fd: int32(ended.Fd()), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			over = fds[1].Revents != 0
		}
	}
}

// The fields of a struct virtio_net_hdr that see reads.
const (
	virtioLength     = 10
	virtioNeedsCsum  = 1 // in byte 0
	virtioGSOType    = 1 // its index; 0: no super-packet
	virtioGSOSize    = 4 // its index
	virtioCsumStart  = 6 // its index
	virtioCsumOffset = 8 // its index
)

// see looks at a packet behind its virtio header and, if there is one, its
// Ethernet header.
func (w *watched) see(b []byte, ethernet bool, port string) {
	header, p := b[:virtioLength], b[virtioLength:]
	begin := 0
	if ethernet {
		begin = 14
	}
	ip := p[begin:]
	protocol, at, pseudo, fragment := parseIP(ip)
	if fragment {
		w.Fragments++
	}
	if protocol == 0 || fragment {
		return
	}
	segment := ip[at:]
	field := map[byte]int{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6}[protocol]
	if port != "" && (protocol != unix.IPPROTO_UDP || fmt.Sprint(endian.BigEndian.Uint16(segment[2:])) != port) {
		return
	}
	super := header[virtioGSOType] != 0
	if protocol == unix.IPPROTO_UDP {
		n, longest := 1, len(ip)
		if size := int(endian.NativeEndian.Uint16(header[virtioGSOSize:])); super {
			n, longest = (len(segment)-8+size-1)/size, at+8+size
		}
		w.Datagrams += n
		w.Longest = max(w.Longest, longest)
	}
	begun := endian.BigEndian.Uint16(segment[field:])
	start, offset := int(endian.NativeEndian.Uint16(header[virtioCsumStart:])), int(endian.NativeEndian.Uint16(header[virtioCsumOffset:]))
	switch partial := header[0]&virtioNeedsCsum != 0; {
	case partial && begun == fold(pseudo) && start == begin+at && offset == field:
		w.Partial++
		if !super {
			w.Lone++
		}
	case !partial && fold(pseudo+sum(segment)) == 0xffff:
		w.Whole++
	case len(w.Wrong) < 5: // which are enough to find out why
		w.Wrong = append(w.Wrong, fmt.Sprintf("virtio header %x, packet of %d bytes %x", header, len(ip), ip[:min(len(ip), at+20)]))
	}
}

// parseIP finds TCP or UDP in a whole packet: where it begins, and the sum of its
// pseudo header. protocol is 0 for everything else, and for IP headers that are
// not right.
func parseIP(b []byte) (protocol byte, at int, pseudo uint32, fragment bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		at, protocol = int(b[0]&15)*4, b[9]
		fragment = endian.BigEndian.Uint16(b[6:])&0x3fff != 0
		if int(endian.BigEndian.Uint16(b[2:])) != len(b) || fold(sum(b[:at])) != 0xffff {
			return 0, 0, 0, fragment
		}
		pseudo = sum(b[12:20])
	case len(b) >= 40 && b[0]>>4 == 6:
		at, protocol = 40, b[6]
		for protocol == unix.IPPROTO_DSTOPTS || protocol == unix.IPPROTO_HOPOPTS {
			protocol, at = b[at], at+8+8*int(b[at+1])
		}
		fragment = protocol == unix.IPPROTO_FRAGMENT
		pseudo = sum(b[8:40])
	}
	if protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_UDP {
		return 0, 0, 0, fragment
	}
	return protocol, at, pseudo + uint32(protocol) + uint32(len(b)-at), fragment
}

// sum adds 16-bit words, an odd byte being the upper half of one.
func sum(b []byte) (s uint32) {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(endian.BigEndian.Uint16(b))
	}
	if len(b) > 0 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s&0xffff)
}

// beginWatch starts to watch an interface; what it returns ends that and tells
// what came.
func beginWatch(t *testing.T, h *lab.Host, args ...string) (end func() watched) {
	t.Helper()
	p := h.Start(tool(append([]string{"tool-watch"}, args...)...)...)
	p.Await("watching")
	return func() (w watched) {
		t.Helper()
		if status := p.Stop(); status != 0 {
			t.Fatalf("%s: tool-watch ended with %d: %s", h.Name, status, p.Output())
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(p.Output(), "watching\n")), &w); err != nil {
			t.Fatalf("%s: tool-watch said %s: %v", h.Name, p.Output(), err)
		}
		return w
	}
}

// counters are those of the host's network stack (as nstat has them) that are not
// zero and whose names end so.
func counters(h *lab.Host, endings ...string) map[string]string {
	found := make(map[string]string)
	note := func(name, value string) {
		for _, e := range endings {
			if strings.HasSuffix(name, e) && value != "0" {
				found[name] = value
			}
		}
	}
	// Pairs of lines: "Tcp: InSegs InCsumErrors", "Tcp: 12 0".
	lines := strings.Split(h.Run("cat", "/proc/net/snmp"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j := 1; j < len(names); j++ {
			note(strings.TrimSuffix(names[0], ":")+names[j], values[j])
		}
	}
	for line := range strings.Lines(h.Run("cat", "/proc/net/snmp6")) {
		words := strings.Fields(line)
		note(words[0], words[1])
	}
	return found
}
