package device

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// trunk is a host with a cable to the bridge br0, of which the TAP t0 is the other
// port. What the host sends and hears there are frames with tags, as an AF_PACKET
// socket with virtio headers has them.
type trunk struct {
	t      *testing.T
	queue  *Queue
	mac    net.HardwareAddr // of the host
	socket int
}

func newTrunk(t *testing.T) *trunk {
	privateNetwork(t)
	k := &trunk{t: t, queue: openTUN(t, Options{Name: "t0", MTU: 1500, Offload: true, Ethernet: true}).Queues()[0]}
	host := anotherNetwork(t)
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0"}, PeerName: "eth0"}))
	k.mac = link(t, "eth0").Attrs().HardwareAddr
	must(t, netlink.LinkSetNsFd(link(t, "eth0"), int(host)))
	inThere(t, host, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		l, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := h.LinkSetUp(l); err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)
		if k.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(k.socket) })
		must(t, unix.SetsockoptInt(k.socket, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
		must(t, unix.SetsockoptInt(k.socket, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
		must(t, unix.SetsockoptTimeval(k.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
		return unix.Bind(k.socket, &unix.SockaddrLinklayer{Protocol: all>>8 | all<<8, Ifindex: l.Attrs().Index})
	})
	must(t, netlink.LinkSetUp(link(t, "br0")))
	for _, port := range []string{"v0", "t0"} {
		must(t, netlink.LinkSetMaster(link(t, port), link(t, "br0")))
		upAndRunning(t, port)
	}
	return k
}

// upAndRunning sets an interface up and returns when the kernel has seen its
// carrier: before that a bridge forwards nothing to it.
func upAndRunning(t *testing.T, name string) {
	t.Helper()
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	must(t, netlink.LinkSubscribe(updates, done))
	must(t, netlink.LinkSetUp(link(t, name)))
	within(t, "waiting for a carrier", func() {
		for u := range updates {
			// A TAP's state is unknown, which is as good as up.
			if a := u.Attrs(); a.Name == name && a.RawFlags&unix.IFF_RUNNING != 0 && (a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown) {
				return
			}
		}
	})
	close(done)
	for range updates {
	}
}

// front is that of frames to or from the host, with these tags.
func (k *trunk) front(toHost bool, tags ...uint16) []byte {
	front := slices.Concat([]byte{2, 0, 0, 0, 0, 9}, k.mac)
	if toHost {
		front = slices.Concat(k.mac, []byte{2, 0, 0, 0, 0, 9})
	}
	for i, tag := range tags {
		front = binary.BigEndian.AppendUint16(front, tag)
		front = binary.BigEndian.AppendUint16(front, uint16(100+i))
	}
	return binary.BigEndian.AppendUint16(front, unix.ETH_P_IP)
}

// read gives the frames of our making that come out of the TAP, n of them,
// completed.
func (k *trunk) read(n int) (frames [][]byte) {
	k.t.Helper()
	within(k.t, "reading", func() {
		for len(frames) < n {
			first, rest, partial, err := k.queue.Read()
			if err != nil {
				k.t.Error(err)
				return
			}
			for i := range first {
				if partial[i] {
					k.queue.Complete(first[i], rest[i])
				}
				if f := join(first, rest, i)[FrameRoom:]; bytes.HasPrefix(f, []byte{2, 0, 0, 0, 0, 9}) {
					frames = append(frames, f)
				}
			}
		}
	})
	return frames
}

// hear gives the next frame of our making that the host receives, with its header
// and the tag that the kernel has taken out of it, 0 for none.
func (k *trunk) hear() (h virtioHeader, frame []byte, tag uint16) {
	k.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		b, control := make([]byte, 1<<17), make([]byte, 128)
		n, m, _, _, err := unix.Recvmsg(k.socket, b, control, 0)
		must(k.t, err)
		frame = b[virtioSize:n]
		if !bytes.HasPrefix(frame, k.front(true)[:12]) {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(control[:m])
		must(k.t, err)
		for _, c := range messages {
			if c.Header.Type == unix.PACKET_AUXDATA { // struct tpacket_auxdata
				if status := binary.NativeEndian.Uint32(c.Data); status&unix.TP_STATUS_VLAN_VALID != 0 {
					tag = binary.NativeEndian.Uint16(c.Data[16:])
				}
			}
		}
		return decodeVirtio(b), frame, tag
	}
	k.t.Fatal("the host hears nothing")
	return h, nil, 0
}

func TestTaggedSuperPacketsPassATrunkBothWays(t *testing.T) {
	s := stream{size: 1400, payload: noise(rand.New(rand.NewPCG(1, 1)), 1400*20), flags: tcpACK | tcpPSH, ttl: 64}
	for _, tags := range tagsOf {
		k := newTrunk(t)
		h, super := s.whole()
		h, super = inFrame(k.front(false, tags...), h, super)
		b := make([]byte, virtioSize)
		h.encode(b)
		_, err := unix.Write(k.socket, append(b, super...))
		must(t, err)
		want := inFrames(k.front(false, tags...), s.packets())
		for i, f := range k.read(len(want)) {
			if d := difference(f, want[i]); d != "" {
				t.Fatalf("%d tags: frame %d from the trunk: %s", len(tags), i, d)
			}
		}

		must(t, k.queue.Write(inFrames(k.front(true, tags...), s.packets()), nil))
		payload := 0
		for frames := 0; payload < len(s.payload); frames++ {
			h, f, tag := k.hear()
			if len(tags) > 0 != (tag == 100) {
				t.Errorf("%d tags: the outer one is %d", len(tags), tag)
			}
			// Of two tags the inner one is still there.
			inner := bytes.Clone(f[:12])
			if len(tags) == 2 {
				inner = append(inner, f[12:16]...)
				if !bytes.Equal(f[12:16], []byte{0x81, 0, 0, 101}) {
					t.Errorf("the inner tag is % x", f[12:16])
				}
			}
			ip := f[len(inner)+2:]
			payload += len(ip) - 40
			if frames == 0 && len(tags) < 2 && (h.gsoType != unix.VIRTIO_NET_HDR_GSO_TCPV4 || payload != len(s.payload)) {
				t.Errorf("%d tags: the first frame has %d bytes of payload, header %+v", len(tags), payload, h)
			}
		}
		if d := k.queue.Drops(); len(d) > 0 {
			t.Errorf("%d tags: drops %v", len(tags), d)
		}
	}
}
