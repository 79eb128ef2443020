package e2e

import (
	endian "encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/test/lab"
)

// sendFrames is tool-frames INTERFACE FRAME...: sends them, given in hexadecimal.
func sendFrames(args []string) error {
	device, err := net.InterfaceByName(args[0])
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for _, text := range args[1:] {
		frame, err := hex.DecodeString(text)
		if err != nil {
			return err
		}
		if err := unix.Sendto(s, frame, 0, &unix.SockaddrLinklayer{Ifindex: device.Index}); err != nil {
			return err
		}
	}
	return nil
}

// hearFrames is tool-hear INTERFACE SOURCE: says "hearing", and prints each frame that
// comes in from that address, in hexadecimal, until it is ended.
func hearFrames(args []string) error {
	device, err := net.InterfaceByName(args[0])
	if err != nil {
		return err
	}
	source, err := net.ParseMAC(args[1])
	if err != nil {
		return err
	}
	all := endian.BigEndian.Uint16(endian.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// The kernel takes the outer VLAN tag off, and tells it beside the frame.
	if err := unix.SetsockoptInt(s, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return err
	}
	if err := unix.Bind(s, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}); err != nil {
		return err
	}
	fmt.Println("hearing")
	b, beside := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, m, _, from, err := unix.Recvmsg(s, b, beside, 0)
		if err != nil {
			return err
		}
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING || n < 14 || !slices.Equal(b[6:12], source) {
			continue
		}
		frame := slices.Clone(b[:n])
		messages, err := unix.ParseSocketControlMessage(beside[:m])
		if err != nil {
			return err
		}
		for _, c := range messages {
			// struct tpacket_auxdata: status, three lengths, two offsets, then the tag.
			if d := c.Data; len(d) >= 20 && endian.NativeEndian.Uint32(d)&unix.TP_STATUS_VLAN_VALID != 0 {
				tag := endian.BigEndian.AppendUint16(nil, endian.NativeEndian.Uint16(d[18:]))
				tag = endian.BigEndian.AppendUint16(tag, endian.NativeEndian.Uint16(d[16:]))
				frame = slices.Insert(frame, 12, tag...)
			}
		}
		fmt.Printf("%x\n", frame)
	}
}

// frame is one from a station to another, or to all, filled up to size bytes.
func frame(to, from, behind string, size int) string {
	text := strings.ReplaceAll(to+from, ":", "") + behind
	for i := len(text) / 2; i < size; i++ {
		text += fmt.Sprintf("%02x", byte(i*7))
	}
	return text
}

func TestFramesOfAllKindsCrossATunnelUnchanged(t *testing.T) {
	t.Parallel()
	s := newSites(t, 2, fullMesh, nothing)
	s.reachEachOther(t)
	const from, all, group = "02:aa:00:00:00:01", "ff:ff:ff:ff:ff:ff", "33:33:00:00:01:02"
	to := mac(s.host[1])
	var sent []string
	for _, f := range []struct {
		kind, behind string
		size         int
	}{
		{"no IP", "88b6", 60},
		{"with a length for a type (802.3)", "002e" + "aaaa03", 60},
		{"802.1Q", "8100" + "0064" + "88b6", 64},
		{"802.1Q with a priority", "8100" + "e064" + "88b6", 64},
		{"QinQ", "88a8" + "0064" + "8100" + "0007" + "88b6", 68},
		{"a full one", "88b6", 1514},
		{"a full one, 802.1Q", "8100" + "0064" + "88b6", 1518},
		{"the longest that a packet socket takes, QinQ", "88a8" + "0064" + "8100" + "0007" + "88b6", 1514},
	} {
		for _, d := range []string{to, all, group} {
			sent = append(sent, frame(d, from, f.behind, f.size))
		}
	}
	heard := s.host[1].Start(tool("tool-hear", "lan", from)...)
	heard.Await("hearing")
	s.host[0].Run(tool(append([]string{"tool-frames", "lan"}, sent...)...)...)
	heard.Await(sent[len(sent)-1])
	got := strings.Fields(heard.Output())[1:]
	for i := range min(len(got), len(sent)) {
		if got[i] != sent[i] {
			t.Errorf("frame %d came as %.80s, sent was %.80s", i, got[i], sent[i])
		}
	}
	if len(got) != len(sent) {
		t.Errorf("%d frames came, want %d", len(got), len(sent))
	}
}

func TestSpanningTreeOverTheTunnelBreaksALoop(t *testing.T) {
	t.Parallel()
	s := newSites(t, 2, fullMesh, func(int) string { return "LinkLocalFrames = pass\n" })
	s.reachEachOther(t)
	for _, vpn := range s.vpn { // as fast as the standard allows
		vpn.Run("ip", "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200", "hello_time", "100", "max_age", "600")
	}
	s.Link("cable", s.vpn[0], nil, s.vpn[1], nil)
	for _, vpn := range s.vpn {
		vpn.Run("ip", "link", "set", "cable", "master", "br0")
	}
	var states []string
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if states = portStates(s.vpn); slices.Index(states, "blocking") >= 0 && !slices.ContainsFunc(states, isPassing) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the ports of the two bridges are %q", states)
		}
	}
	ping(t, s.host[0], innerOf(1), 3)
	for i, vpn := range s.vpn {
		if seen := showSwitch(t, vpn).Interfaces[0]; seen.Peers[0].Port.Loop || seen.Ethernet.Local.Loop {
			t.Errorf("vpn%d sees a loop where spanning tree has broken it", i)
		}
	}
}

// isPassing says whether a port is on its way to another state.
func isPassing(state string) bool { return state == "listening" || state == "learning" }

// portStates are those of the cable and the TAP on each bridge.
func portStates(vpn []*lab.Host) (states []string) {
	for _, h := range vpn {
		for line := range strings.Lines(h.Run("bridge", "link", "show")) {
			words := strings.Fields(line)
			if i := slices.Index(words, "state"); i >= 0 && (strings.Contains(line, " cable") || strings.Contains(line, " tun0")) {
				states = append(states, words[i+1])
			}
		}
	}
	return states
}
