package device

import (
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sealed is what a packet of an MTU grows to, and largest what one send takes.
const sealed, largest = 32, 65507

// trainOf is how many packets of the MTU one send takes.
func trainOf(mtu int) int { return max(1, min(64, largest/(mtu+sealed))) }

// TCP's arithmetic, for every reserve that a kernel may have.
func TestBurstsHaveAsManySegmentsAsASendTakes(t *testing.T) {
	for mtu := 576; mtu <= 65535; mtu++ {
		n := trainOf(mtu)
		b := burstsOf(n, mtu)
		for _, c := range []struct {
			size    uint32
			headers int
		}{{b.size4, 40}, {b.size4, 52}, {b.size, 60}, {b.size, 72}} {
			for reserve := 192; reserve <= 320; reserve += 64 {
				segments := min((int(c.size)-1-reserve)/(mtu-c.headers), int(b.segments))
				if mtu > 32000 {
					// One packet is half of what a burst can be: all is well if it is not less.
					if segments < 1 && c.size != largestBurst {
						t.Fatalf("MTU %d, %d bytes of headers: no segment fits %d", mtu, c.headers, c.size)
					}
					continue
				}
				// Time stamps are the rule. A segment less is no harm where there are
				// none, one more would cost a second send.
				if segments > n || segments < n-1 || segments < n && reserve == 320 && c.size != largestBurst {
					t.Fatalf("MTU %d, %d bytes of headers, reserve %d: %d segments, want %d", mtu, c.headers, reserve, segments, n)
				}
			}
		}
	}
}

func TestStreamsComeInBurstsOfOneSend(t *testing.T) {
	for _, ethernet := range []bool{false, true} {
		t.Run(fmt.Sprintf("ethernet=%v", ethernet), func(t *testing.T) { checkBursts(t, ethernet) })
	}
}

func checkBursts(t *testing.T, ethernet bool) {
	p := newPair(t, Options{Offload: true, Ethernet: ethernet})
	n := trainOf(1420)
	must(t, p.here.LimitBursts(n, 1420))
	must(t, p.here.LimitBursts(n, 1420)) // twice is as once
	longest := sniff(t, "here", 1420)
	for _, to := range []string{"10.9.8.2:80", "[fd98::2]:80"} {
		p.transfer(t, to, 16<<20)
	}
	for family, got := range longest() {
		// How soon TCP fills them depends on the machine.
		if got > n || got < n/2 {
			t.Errorf("IPv%d: super-packets of up to %d segments, want %d", family, got, n)
		}
	}
}

// sniff watches what the stack sends through an interface, until the function is
// called that it returns: the most TCP segments of one packet, by IP version.
func sniff(t testing.TB, name string, mtu int) (longest func() map[int]int) {
	t.Helper()
	all := uint16(unix.ETH_P_ALL)
	all = all>>8 | all<<8
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	must(t, err)
	must(t, unix.Bind(s, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link(t, name).Attrs().Index}))
	must(t, unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	found, stop, stopped := map[int]int{4: 0, 6: 0}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		b := make([]byte, 1<<17)
		for {
			n, from, err := unix.Recvfrom(s, b, 0)
			if err != nil {
				select {
				case <-stop:
					return
				default:
					continue
				}
			}
			if l := from.(*unix.SockaddrLinklayer); l.Pkttype != unix.PACKET_OUTGOING || n < 60 {
				continue
			}
			headers := 40
			if b[0]>>4 == 4 {
				headers = 20
			}
			if headers += int(b[headers+12]>>4) * 4; n > headers {
				segments := (n - headers + mtu - headers - 1) / (mtu - headers)
				found[int(b[0]>>4)] = max(found[int(b[0]>>4)], segments)
			}
		}
	}()
	return func() map[int]int {
		close(stop)
		<-stopped
		_ = unix.Close(s)
		return found
	}
}

func TestBoundsOfAnotherInterfaceAreGivenBack(t *testing.T) {
	privateNetwork(t)
	bounds := func() bursts {
		a := link(t, "old").Attrs()
		return bursts{a.GSOMaxSize, a.GSOIPv4MaxSize, a.GSOMaxSegs}
	}
	persistent(t, "old", unix.IFF_TUN|unix.IFF_NO_PI, 0)
	must(t, netlink.LinkSetGSOMaxSize(link(t, "old"), 50000))
	must(t, netlink.LinkSetGSOMaxSegs(link(t, "old"), 50))
	before := bounds()
	tun := openTUN(t, Options{Name: "old", Offload: true})
	for _, mtu := range []int{1420, 9000} { // what is found the second time is ours
		must(t, tun.LimitBursts(trainOf(mtu), mtu))
		if got, want := bounds(), burstsOf(trainOf(mtu), mtu); got != want {
			t.Errorf("MTU %d: %+v, want %+v", mtu, got, want)
		}
	}
	must(t, tun.Close())
	if got := bounds(); got != before {
		t.Errorf("it had %+v and has now %+v", before, got)
	}

	// What somebody else has set meanwhile is his.
	tun = openTUN(t, Options{Name: "old", Offload: true})
	must(t, tun.LimitBursts(45, 1420))
	must(t, netlink.LinkSetGSOMaxSize(link(t, "old"), 40000))
	before = bounds()
	must(t, tun.Close())
	if got := bounds(); got != before {
		t.Errorf("somebody set %+v and it is now %+v", before, got)
	}

	// Without offloads there is nothing to bound.
	tun = openTUN(t, Options{Name: "old"})
	must(t, tun.LimitBursts(45, 1420))
	if got := bounds(); got != before {
		t.Errorf("it was %+v and is now %+v", before, got)
	}
	must(t, tun.Close())
	if err := tun.LimitBursts(45, 1420); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestBurstsAreBoundedWhereverTheInterfaceIs(t *testing.T) {
	privateNetwork(t)
	there := anotherNetwork(t)
	h, err := netlink.NewHandleAt(there)
	must(t, err)
	defer h.Close()
	tun := openTUN(t, Options{Name: "t0", Offload: true})
	must(t, netlink.LinkSetNsFd(link(t, "t0"), int(there)))
	must(t, tun.LimitBursts(45, 1420))
	moved, err := h.LinkByName("t0")
	must(t, err)
	if got := moved.Attrs().GSOMaxSegs; got != mostSegments {
		t.Errorf("%d segments, want %d", got, mostSegments)
	}
}
