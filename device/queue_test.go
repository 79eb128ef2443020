package device

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sender is a UDP socket of the host behind the interface, towards the other end.
func sender(t testing.TB, to string) *net.UDPConn {
	t.Helper()
	c, err := net.Dial("udp", to)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.UDPConn)
}

// join is packet i of a train, whole.
func join(first, rest [][]byte, i int) []byte {
	return append(append([]byte(nil), first[i]...), rest[i]...)
}

func TestBurstComesAsOneTrain(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420})
	addressed(t, tun)
	c := sender(t, "10.9.8.2:9")
	sizes := []int{0, 1, 36, 37, 1000, 1392}
	const n = 60
	for i := range n {
		payload := bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)])
		_, err := c.Write(payload)
		must(t, err)
	}
	first, rest, _, err := tun.Queues()[0].Read()
	must(t, err)
	if len(first) != n || len(rest) != n {
		t.Fatalf("%d and %d parts, want %d packets", len(first), len(rest), n)
	}
	for i := range n {
		size := sizes[i%len(sizes)]
		p := join(first, rest, i)
		if len(p) != 28+size || p[0] != 0x45 || !bytes.Equal(p[28:], bytes.Repeat([]byte{byte(i)}, size)) {
			t.Fatalf("packet %d is not what was sent: % x", i, p)
		}
		if want := min(64, len(p)); len(first[i]) != want {
			t.Errorf("packet %d of %d bytes: first has %d", i, len(p), len(first[i]))
		}
		if cap(first[i]) > len(first[i]) && len(rest[i]) > 0 {
			t.Errorf("packet %d: appending to first would overwrite rest", i)
		}
	}
}

func TestTrainIsBounded(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420})
	addressed(t, tun)
	c := sender(t, "10.9.8.2:9")
	var seq [2]byte
	for i := range 300 {
		binary.BigEndian.PutUint16(seq[:], uint16(i))
		_, err := c.Write(seq[:])
		must(t, err)
	}
	for got := 0; got < 300; {
		first, rest, _, err := tun.Queues()[0].Read()
		must(t, err)
		if len(first) > maxTrain {
			t.Fatalf("%d packets at once", len(first))
		}
		for i := range first {
			p := join(first, rest, i)
			if int(binary.BigEndian.Uint16(p[28:])) != got {
				t.Fatalf("packet %d came as number %d", binary.BigEndian.Uint16(p[28:]), got)
			}
			got++
		}
	}
}

func TestLargestPacketFits(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 65535})
	addressed(t, tun)
	c := sender(t, "10.9.8.2:9")
	const size = 65535 - 28
	for range 4 {
		_, err := c.Write(make([]byte, size))
		must(t, err)
	}
	for n := 0; n < 4; {
		first, rest, _, err := tun.Queues()[0].Read()
		must(t, err)
		for i := range first {
			if got := len(first[i]) + len(rest[i]); got != 65535 {
				t.Fatalf("packet of %d bytes", got)
			}
			n++
		}
	}
}

func TestWrittenPacketsArriveInOrder(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420})
	addressed(t, tun)
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 9, 8, 1), Port: 7})
	must(t, err)
	defer func() { _ = c.Close() }()
	var packets [][]byte
	for i := range 50 {
		packets = append(packets, udp4("10.9.8.2", "10.9.8.1", 1000, 7, []byte{byte(i)}))
	}
	must(t, tun.Queues()[0].Write(packets, nil))
	b := make([]byte, 100)
	for i := range packets {
		n, _, err := c.ReadFromUDP(b)
		must(t, err)
		if n != 1 || b[0] != byte(i) {
			t.Fatalf("datagram %d is % x", i, b[:n])
		}
	}
}

// udp4 builds a packet without a UDP sum.
func udp4(local, remote string, from, to uint16, payload []byte) []byte {
	p := make([]byte, 28+len(payload))
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], net.ParseIP(local).To4())
	copy(p[16:], net.ParseIP(remote).To4())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(p[20:], from)
	binary.BigEndian.PutUint16(p[22:], to)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(payload)))
	copy(p[28:], payload)
	return p
}

func TestRefusedPacketsAreCountedAndTheOthersArrive(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420})
	good := udp4("10.9.8.2", "10.9.8.1", 1000, 7, []byte("x"))
	must(t, tun.Queues()[0].Write([][]byte{good, good}, nil))
	if got := tun.Drops(); got["device_down"] != 2 || len(got) != 1 {
		t.Errorf("while down: %v", got)
	}
	addressed(t, tun)
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 9, 8, 1), Port: 7})
	must(t, err)
	defer func() { _ = c.Close() }()
	must(t, tun.Queues()[0].Write([][]byte{{}, {0xff, 0, 0, 0}, make([]byte, 100), good}, nil))
	_, _, err = c.ReadFromUDP(make([]byte, 100))
	must(t, err)
	if got := tun.Drops(); got["device_refused"] != 3 {
		t.Errorf("drops %v, want 3 refused", got)
	}
}

func TestCloseEndsARead(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{})
	result := make(chan error)
	go func() {
		_, _, _, err := tun.Queues()[0].Read()
		result <- err
	}()
	must(t, tun.Close())
	within(t, "Read", func() {
		if err := <-result; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Read says %v", err)
		}
	})
	if _, _, _, err := tun.Queues()[0].Read(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the next Read says %v", err)
	}
	if err := tun.Queues()[0].Write([][]byte{{0x45}}, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write says %v", err)
	}
}

func TestDeletedInterfaceEndsReadAndWrite(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0"})
	result := make(chan error)
	go func() {
		for {
			if _, _, _, err := tun.Queues()[0].Read(); err != nil {
				result <- err
				return
			}
		}
	}()
	must(t, netlink.LinkDel(link(t, "t0")))
	within(t, "Read", func() {
		if err := <-result; !errors.Is(err, ErrGone) {
			t.Errorf("Read says %v", err)
		}
	})
	if _, _, _, err := tun.Queues()[0].Read(); !errors.Is(err, ErrGone) {
		t.Errorf("the next Read says %v", err)
	}
	if err := tun.Queues()[0].Write([][]byte{udp4("10.9.8.2", "10.9.8.1", 1, 7, nil)}, nil); !errors.Is(err, ErrGone) {
		t.Errorf("Write says %v", err)
	}
}

func TestReadWaitsThroughDownAndMove(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420})
	addressed(t, tun)
	type packet struct {
		b   []byte
		err error
	}
	packets := make(chan packet)
	go func() {
		for {
			first, rest, _, err := tun.Queues()[0].Read()
			if err != nil {
				packets <- packet{err: err}
				return
			}
			for i := range first {
				packets <- packet{b: join(first, rest, i)}
			}
		}
	}()
	want := func(c *net.UDPConn, payload string) {
		t.Helper()
		_, err := c.Write([]byte(payload))
		must(t, err)
		within(t, "Read", func() {
			if p := <-packets; p.err != nil || !bytes.HasSuffix(p.b, []byte(payload)) {
				t.Errorf("Read gives % x, %v", p.b, p.err)
			}
		})
	}
	want(sender(t, "10.9.8.2:9"), "before")
	must(t, netlink.LinkSetDown(link(t, "t0")))
	must(t, netlink.LinkSetUp(link(t, "t0")))
	want(sender(t, "10.9.8.2:9"), "up again")

	there := anotherNetwork(t)
	must(t, netlink.LinkSetNsFd(link(t, "t0"), int(there)))
	must(t, unix.Setns(int(there), unix.CLONE_NEWNET)) // this thread ends with the test
	addressed(t, tun)
	want(sender(t, "10.9.8.2:9"), "in another namespace")
}

func TestReadAndWriteDoNotAllocate(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420})
	addressed(t, tun)
	q := tun.Queues()[0]
	c := sender(t, "10.9.8.2:9")
	raw, err := c.SyscallConn()
	must(t, err)
	payload := make([]byte, 1000)
	send := func(fd uintptr) bool {
		for range 8 {
			_, _ = unix.Write(int(fd), payload)
		}
		return true
	}
	var out [][]byte
	for range 8 {
		out = append(out, udp4("10.9.8.2", "10.9.8.99", 1000, 7, payload))
	}
	n := testing.AllocsPerRun(200, func() {
		_ = raw.Write(send)
		if _, _, _, err := q.Read(); err != nil {
			t.Fatal(err)
		}
		if err := q.Write(out, nil); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per train", n)
	}
}
