package device

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func TestATAPHasTheAddressThatItIsGiven(t *testing.T) {
	privateNetwork(t)
	mac := net.HardwareAddr{0xfe, 1, 2, 3, 4, 5}
	openTUN(t, Options{Name: "t0", Ethernet: true, MAC: mac, MTU: 1400})
	if a := link(t, "t0").Attrs(); !bytes.Equal(a.HardwareAddr, mac) || a.MTU != 1400 {
		t.Errorf("address %s, MTU %d", a.HardwareAddr, a.MTU)
	}
	for _, bad := range []net.HardwareAddr{{1, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0}, {2, 0, 0, 0, 0, 0, 0}, {}} {
		_, err := Open(Options{Name: "t1", Ethernet: true, MAC: bad})
		wantError(t, err, unix.EINVAL, "address")
		if _, err := netlink.LinkByName("t1"); err == nil {
			t.Errorf("%s: an interface was left", bad)
		}
	}
}

// What was read with io_uring, singly or cut has the room in front, and is the
// frame that was sent.
func TestFramesComeWithRoomInFront(t *testing.T) {
	for _, offload := range []bool{false, true} {
		privateNetwork(t)
		mac := net.HardwareAddr{0xfe, 1, 2, 3, 4, 5}
		tun := openTUN(t, Options{Name: "t0", MTU: 1420, Offload: offload, Ethernet: true, MAC: mac})
		addressed(t, tun)
		neighbour(t, "t0", "10.9.8.2")
		c := sender(t, "10.9.8.2:9")
		sizes := []int{0, 17, 18, 19, 30, 82, 83, 1000, 1392}
		const n = 60
		for i := range n {
			_, err := c.Write(bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)]))
			must(t, err)
		}
		q := tun.Queues()[0]
		first, rest, partial, err := q.Read()
		must(t, err)
		if len(first) != n {
			t.Fatalf("%d frames, want %d", len(first), n)
		}
		want := slices.Concat([]byte{2, 0, 0, 0, 0, 2}, mac, []byte{8, 0, 0x45})
		for i := range first {
			copy(first[i], "\x02\xff\xff\xff")
			if partial[i] {
				q.Complete(first[i], rest[i])
			}
			frame, size := join(first, rest, i)[FrameRoom:], sizes[i%len(sizes)]
			if len(frame) != 14+28+size || !bytes.HasPrefix(frame, want) || !bytes.Equal(frame[42:], bytes.Repeat([]byte{byte(i)}, size)) {
				t.Fatalf("frame %d with %d bytes of payload: % x", i, size, frame)
			}
			if s := shapeOf(frame, 14, false); size > 0 && (s.version == 0 || !s.verified(frame, false)) {
				t.Errorf("frame %d has wrong sums: % x", i, frame)
			}
			if len(rest[i]) > 0 && len(first[i]) != firstSize && len(first[i]) != longFirst || cap(first[i]) > len(first[i]) && len(rest[i]) > 0 {
				t.Errorf("frame %d: a first part of %d bytes, capacity %d", i, len(first[i]), cap(first[i]))
			}
		}
	}
}

// A host in a switch is not the one that has the TAP: what it sends comes through
// a bridge, in super-packets too, and what is merged for it must pass the bridge.
func TestStreamsOfBridgedHostsArriveWhole(t *testing.T) {
	for _, trusting := range []bool{false, true} {
		p := newPair(t, Options{Offload: true, Ethernet: true})
		p.trusting.Store(trusting)
		home, err := netns.Get()
		must(t, err)
		defer func() { _ = home.Close() }()
		host := anotherNetwork(t)
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0", MTU: 1420}, PeerName: "eth0"}))
		must(t, netlink.LinkSetMTU(link(t, "eth0"), 1420))
		must(t, netlink.LinkSetNsFd(link(t, "eth0"), int(host)))
		for _, port := range []string{"v0", "here"} {
			must(t, netlink.LinkSetMaster(link(t, port), link(t, "br0")))
			must(t, netlink.LinkSetUp(link(t, port)))
		}
		must(t, netlink.LinkSetUp(link(t, "br0")))
		up(t, host, "eth0", "3")
		for _, to := range []string{"10.9.8.2:80", "[fd98::2]:80"} {
			p.longest.Store(0)
			transfer(t, host, p.ns, to, 8<<20, nil)
			if n := p.longest.Load(); strings.Contains(p.here.Features(), "tso4") && n < 20 {
				t.Errorf("%s: longest train %d: nothing came whole from the bridge", to, n)
			}
		}
		for _, to := range []string{"10.9.8.3:80", "[fd98::3]:80"} {
			transfer(t, p.ns, host, to, 8<<20, nil)
		}
		if n := p.sumErrors(t, host); n != 0 {
			t.Errorf("trusting %v: %d wrong checksums", trusting, n)
		}
		if !mergedTCP(p.here) {
			t.Error("nothing was merged")
		}
	}
}
