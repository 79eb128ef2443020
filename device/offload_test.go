package device

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestStreamsArriveWholeWithOffloads(t *testing.T) {
	for _, ethernet := range []bool{false, true} {
		for _, trusting := range []bool{false, true} {
			t.Run(fmt.Sprintf("ethernet=%v,trusting=%v", ethernet, trusting), func(t *testing.T) { checkStreams(t, ethernet, trusting) })
		}
	}
}

func checkStreams(t *testing.T, ethernet, trusting bool) {
	p := newPair(t, Options{Offload: true, Ethernet: ethernet})
	p.trusting.Store(trusting)
	t.Log(p.here.Features())
	for _, to := range []string{"10.9.8.2:80", "[fd98::2]:80"} {
		begin := time.Now()
		p.transfer(t, to, 32<<20)
		t.Logf("%s: %.2f Gb/s, %d packets, longest train %d", to, 32<<23/1e9/time.Since(begin).Seconds(), p.packets.Load(), p.longest.Load())
	}
	if n := p.sumErrors(t); n != 0 {
		t.Errorf("%d wrong checksums", n)
	}
	for _, tun := range []*TUN{p.here, p.there} {
		if d := tun.Drops(); len(d) != 0 {
			t.Errorf("drops %v", d)
		}
	}
	if merged := mergedTCP(p.there); strings.Contains(p.here.Features(), "tso4") && (p.longest.Load() < 20 || !merged) {
		t.Errorf("longest train %d, TCP merged %v: offloads did nothing", p.longest.Load(), merged)
	}
	if n := p.partial.Load(); trusting && n < p.packets.Load()*9/10 || !trusting && n != 0 {
		t.Errorf("%d of %d packets were partial", n, p.packets.Load())
	}
}

// mergedTCP: its first queue has written merged packets of TCP.
func mergedTCP(t *TUN) bool {
	q := t.Queues()[0]
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.merged[0]
}

func TestStreamsArriveWholeWithoutSomeOffloads(t *testing.T) {
	for _, c := range []struct {
		features string
		refused  int // TUNSETOFFLOAD with any of these bits is EINVAL
	}{
		{"vnet_hdr csum tso4 tso6", unix.TUN_F_USO4},
		{"vnet_hdr csum", unix.TUN_F_TSO4},
		{"vnet_hdr", unix.TUN_F_CSUM},
	} {
		for _, ethernet := range []bool{false, true} {
			// A namespace and a locked thread of its own for each.
			t.Run(fmt.Sprintf("%s,ethernet=%v", c.features, ethernet), func(t *testing.T) {
				p := newPair(t, Options{Offload: true, Ethernet: ethernet, setOffload: func(fd, flags int) error {
					if flags&c.refused != 0 {
						return unix.EINVAL
					}
					return setOffload(fd, flags)
				}})
				if p.here.Features() != c.features {
					t.Errorf("features %q", p.here.Features())
				}
				for _, trusting := range []bool{false, true} {
					p.trusting.Store(trusting)
					p.transfer(t, "10.9.8.2:80", 4<<20)
					p.transfer(t, "[fd98::2]:80", 4<<20)
				}
				if n := p.sumErrors(t); n != 0 {
					t.Errorf("%d wrong checksums", n)
				}
			})
		}
	}
}

func TestDatagramTrainsArriveWhole(t *testing.T) {
	const size, n = 1200, 40
	for _, to := range []string{"10.9.8.2:7", "[fd98::2]:7"} {
		for _, mode := range []int{0, 1, 2, 3} {
			gro, ethernet := mode&1, mode&2 != 0
			t.Run(fmt.Sprintf("%s,gro=%d,ethernet=%v", to, gro, ethernet), func(t *testing.T) {
				p := newPair(t, Options{Offload: true, Ethernet: ethernet})
				p.trusting.Store(gro == 1)
				if !strings.Contains(p.here.Features(), "uso4") {
					t.Skip("needs TUN_F_USO4: Linux 6.2")
				}
				var in *net.UDPConn
				inThere(t, p.ns, func() error {
					l, err := net.ListenPacket("udp", to)
					if err == nil {
						in = l.(*net.UDPConn)
						err = setUDP(in, unix.UDP_GRO, gro)
					}
					return err
				})
				defer func() { _ = in.Close() }()
				out := sender(t, to)
				must(t, setUDP(out, unix.UDP_SEGMENT, size))
				payload := noise(rand.New(rand.NewPCG(1, 1)), size*n-17)
				_, err := out.Write(payload)
				must(t, err)
				var got []byte
				b := make([]byte, 1<<16)
				reads := 0
				must(t, in.SetReadDeadline(time.Now().Add(10*time.Second)))
				for len(got) < len(payload) {
					k, err := in.Read(b)
					must(t, err)
					got = append(got, b[:k]...)
					reads++
				}
				if !bytes.Equal(got, payload) {
					t.Error("what arrived is not what was sent")
				}
				if gro == 0 && reads != n || gro == 1 && reads > 2 {
					t.Errorf("%d datagrams", reads)
				}
				if k := p.sumErrors(t); k != 0 {
					t.Errorf("%d wrong checksums", k)
				}
			})
		}
	}
}

// Multicast, ICMP, fragments: what is no TCP and no UDP must get through too.
func TestOtherPacketsPassUnchanged(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420, Offload: true})
	addressed(t, tun)
	c := sender(t, "10.9.8.2:9")
	payload := noise(rand.New(rand.NewPCG(1, 1)), 3000)
	_, err := c.Write(payload)
	must(t, err)
	first, rest, _, err := tun.Queues()[0].Read()
	must(t, err)
	var got []byte
	for i := range first {
		p := join(first, rest, i)
		if len(p) > 1420 || plainSum(p[:20]) != 0xffff {
			t.Errorf("fragment %d has %d bytes, header sum %#x", i, len(p), plainSum(p[:20]))
		}
		got = append(got, p[20:]...)
	}
	if len(first) != 3 || !bytes.Equal(got[8:], payload) {
		t.Errorf("%d fragments with %d bytes", len(first), len(got))
	}
}

func TestRefusedSuperPacketGoesOutSinglyAndUnchanged(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420, Offload: true})
	q := tun.Queues()[0]
	var wrote [][]byte
	refuse, merged := true, 0
	q.writev = func(_ uintptr, v []unix.Iovec) unix.Errno {
		if decodeVirtio(bytesOf(v[0])).gsoType != 0 {
			merged++
			if refuse {
				return unix.EINVAL
			}
			return 0
		}
		wrote = append(wrote, bytes.Clone(bytesOf(v[1])))
		return 0
	}
	train := stream{size: 100, payload: make([]byte, 800), flags: tcpACK | tcpPSH, ttl: 64}.packets()
	want := train
	for round := range 3 {
		wrote = nil
		must(t, q.Write(train, nil))
		if len(wrote) != len(want) {
			t.Fatalf("round %d: %d packets", round, len(wrote))
		}
		for i := range wrote {
			if d := difference(wrote[i], want[i]); d != "" {
				t.Errorf("round %d, packet %d: %s", round, i, d)
			}
		}
	}
	if merged != 1 {
		t.Errorf("%d tries with a kernel that refuses", merged)
	}
	// One that knows the kind and refuses one packet is tried again.
	q.mergeTCP, refuse, merged = true, false, 0
	must(t, q.Write(train, nil))
	refuse = true
	must(t, q.Write(train, nil))
	must(t, q.Write(train, nil))
	if merged != 3 {
		t.Errorf("%d tries with a kernel that knows merged packets", merged)
	}
}

func bytesOf(v unix.Iovec) []byte { return unsafe.Slice(v.Base, int(v.Len)) }

func TestPayloadsThatLieInARowAreOnePiece(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420, Offload: true})
	q := tun.Queues()[0]
	pieces, total := 0, 0
	q.writev = func(_ uintptr, v []unix.Iovec) unix.Errno {
		pieces, total = len(v), 0
		for i := range v {
			total += int(v[i].Len)
		}
		return 0
	}
	train := stream{size: 100, payload: make([]byte, 800), flags: tcpACK | tcpPSH, ttl: 64}.packets()
	must(t, q.Write(train, nil))
	if pieces != 9 || total != virtioSize+40+800 {
		t.Errorf("%d pieces, %d bytes", pieces, total)
	}
}

func TestBigSuperPacketIsReadInSeveralTrains(t *testing.T) {
	for _, long := range []bool{false, true} {
		s := stream{v6: true, size: 200, payload: noise(rand.New(rand.NewPCG(1, 1)), 200*300), flags: tcpACK | tcpPSH, ttl: 64}
		if long {
			s.extension = make([]byte, 128)
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		must(t, err)
		q := newQueue(os.NewFile(uintptr(fds[0]), "fake"), true, true, 0)
		must(t, unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20))
		h, p := s.whole()
		b := make([]byte, virtioSize)
		h.encode(b)
		want := s.packets()
		for range 2 {
			_, err = unix.Write(fds[1], append(b, p...))
			must(t, err)
		}
		must(t, unix.Close(fds[1]))
		n := 0
		for {
			first, rest, partial, err := q.Read()
			if err == io.EOF {
				break
			}
			must(t, err)
			if len(first) > maxTrain || long && len(first) > 1 {
				t.Fatalf("%d packets at once", len(first))
			}
			for i := range first {
				if partial[i] == long {
					t.Fatalf("packet %d is partial: %v", n, partial[i])
				}
				if partial[i] {
					q.Complete(first[i], rest[i])
				}
				p := join(first, rest, i)
				if d := difference(p, want[n%len(want)]); d != "" {
					t.Fatalf("packet %d: %s", n, d)
				}
				clear(first[i]) // the caller may
				clear(rest[i])
				n++
			}
		}
		if n != 2*len(want) {
			t.Errorf("long %v: %d packets, want %d", long, n, 2*len(want))
		}
		must(t, q.Close())
	}
}

func TestOffloadedReadAndWriteDoNotAllocate(t *testing.T) {
	for _, ethernet := range []bool{false, true} {
		t.Run(fmt.Sprintf("ethernet=%v", ethernet), func(t *testing.T) { checkAllocations(t, ethernet) })
	}
}

func checkAllocations(t *testing.T, ethernet bool) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420, Offload: true, Ethernet: ethernet})
	addressed(t, tun)
	var front []byte
	if ethernet {
		neighbour(t, "t0", "10.9.8.2")
		front = slices.Concat(link(t, "t0").Attrs().HardwareAddr, []byte{2, 0, 0, 0, 0, 2, 8, 0})
	}
	q := tun.Queues()[0]
	c := sender(t, "10.9.8.2:9")
	if err := setUDP(c, unix.UDP_SEGMENT, 1000); err != nil {
		t.Skipf("needs UDP_SEGMENT: Linux 4.18 (%v)", err)
	}
	raw, err := c.SyscallConn()
	must(t, err)
	payload := make([]byte, 30000)
	send := func(fd uintptr) bool {
		_, _ = unix.Write(int(fd), payload)
		return true
	}
	var out [][]byte
	for _, p := range (stream{size: 1300, payload: make([]byte, 39000), flags: tcpACK, ttl: 64}.packets()) {
		p[19] = 99 // no host, which answers nothing
		repair(p)
		out = append(out, slices.Concat(front, p))
	}
	for _, trusting := range []bool{false, true} {
		writing := slices.Repeat([]bool{trusting}, len(out))
		n := testing.AllocsPerRun(200, func() {
			_ = raw.Write(send)
			first, rest, partial, err := q.Read()
			if err != nil || len(first) != 30 || !partial[0] {
				t.Fatal(len(first), partial, err)
			}
			if !trusting {
				for i := range first {
					q.Complete(first[i], rest[i])
				}
			}
			if err := q.Write(out, writing); err != nil {
				t.Fatal(err)
			}
			if err := q.Write(out[:1], writing); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("trusting %v: %v allocations per train", trusting, n)
		}
	}
}
