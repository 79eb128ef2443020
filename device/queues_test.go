package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func TestAsManyQueuesAsThereCanBe(t *testing.T) {
	privateNetwork(t)
	const plain = unix.IFF_TUN | unix.IFF_NO_PI
	persistent(t, "one", plain, 0)
	persistent(t, "many", plain|unix.IFF_MULTI_QUEUE, 0)
	for _, c := range []struct {
		name string
		ask  int
		want int
	}{
		{"new", 0, 1}, {"new", 1, 1}, {"new", 2, 2}, {"new", 64, 64},
		{"one", 1, 1}, {"one", 4, 1}, {"many", 1, 1}, {"many", 4, 4},
	} {
		for _, offload := range []bool{false, true} {
			before := ""
			if c.name != "new" {
				before = shown(t, c.name)
			}
			tun := openTUN(t, Options{Name: c.name, Queues: c.ask, Offload: offload})
			if got := len(tun.Queues()); got != c.want {
				t.Errorf("%s: %d queues, asked for %d, want %d", c.name, got, c.ask, c.want)
			}
			if c.name != "one" && c.ask > 1 {
				_, err := Open(Options{Name: c.name, Queues: c.ask})
				wantError(t, err, unix.EBUSY, "another process")
			}
			// In any order, and the last one leaves the interface as it was.
			for i := range tun.Queues() {
				q := tun.Queues()[(i+1)%c.want]
				if tun.Name() != c.name {
					t.Errorf("%s is now %q", c.name, tun.Name())
				}
				must(t, q.Close())
			}
			must(t, tun.Close())
			if before != "" && shown(t, c.name) != before {
				t.Errorf("%s: it was %s\nand is now %s", c.name, before, shown(t, c.name))
			}
		}
	}
	if _, err := netlink.LinkByName("new"); err == nil {
		t.Error("an interface of many queues is still there")
	}
}

// arrival is one packet that a queue gave.
type arrival struct {
	queue int
	flow  uint16 // the local port, or 0 for a fragment that has none
	count uint32
}

// listenQueues reads all queues until the TUN is closed, and answers each packet
// by writing it, mirrored, to the queue behind: so the kernel would learn of the
// flow that it has moved.
func listenQueues(t testing.TB, tun *TUN) <-chan arrival {
	arrivals := make(chan arrival, 1<<16)
	var readers sync.WaitGroup
	room, front := 0, 0
	if tun.ethernet {
		room, front = FrameRoom, frameAddresses+etherTypeSize
	}
	for i, q := range tun.Queues() {
		other := tun.Queues()[(i+1)%len(tun.Queues())]
		readers.Go(func() {
			for {
				first, rest, partial, err := q.Read()
				if err != nil {
					return
				}
				for j := range first {
					whole := join(first, rest, j)[room:]
					if tun.ethernet && plainNetwork(whole) != front {
						continue // ARP
					}
					p := whole[front:]
					at, length, protocol := 40, 16, p[6]
					if p[0]>>4 == 4 {
						at, length, protocol = 20, 4, p[9]
					}
					source, destination := p[at-2*length:at-length], p[at-length:at]
					a := arrival{queue: i}
					if udp := p[at:]; protocol == unix.IPPROTO_UDP && len(udp) >= 12 && (p[0]>>4 == 6 || binary.BigEndian.Uint16(p[6:])&0x3fff == 0) {
						a.flow, a.count = binary.BigEndian.Uint16(udp), binary.BigEndian.Uint32(udp[8:])
						kept := make([]byte, length)
						copy(kept, source)
						copy(source, destination)
						copy(destination, kept)
						udp[0], udp[1], udp[2], udp[3] = udp[2], udp[3], udp[0], udp[1]
						if tun.ethernet {
							copy(whole, slices.Concat(whole[6:12], whole[:6]))
						}
						if err := other.Write([][]byte{whole}, partial[j:j+1]); err != nil {
							return
						}
					}
					arrivals <- a
				}
			}
		})
	}
	t.Cleanup(func() {
		_ = tun.Close()
		readers.Wait()
	})
	return arrivals
}

func TestAFlowKeepsToItsQueueAndItsOrder(t *testing.T) {
	for mode := range 4 {
		offload, ethernet := mode&1 != 0, mode&2 != 0
		for _, family := range []string{"10.9.8.2:9", "[fd98::2]:9"} {
			to, _, _ := net.SplitHostPort(family)
			t.Run(fmt.Sprintf("%s,offload=%v,ethernet=%v", family, offload, ethernet), func(t *testing.T) {
				privateNetwork(t)
				tun := openTUN(t, Options{Name: "t0", MTU: 1420, Queues: 4, Offload: offload, Ethernet: ethernet})
				if !tun.steered {
					t.Skip("needs the right to give the TUN a program: run it as root on Linux 4.16 or later")
				}
				const flows, rounds = 32, 100
				if family[0] == '[' {
					home, err := netns.Get()
					must(t, err)
					defer func() { _ = home.Close() }()
					must(t, os.WriteFile("/proc/sys/net/ipv6/conf/t0/disable_ipv6", []byte("0"), 0o644))
					up(t, home, "t0", "1")
				} else {
					addressed(t, tun)
				}
				if ethernet {
					neighbour(t, "t0", to)
				}
				arrivals := listenQueues(t, tun)
				var senders []*net.UDPConn // on this thread, which is in the namespace
				for range flows {
					senders = append(senders, sender(t, family))
				}
				queue, next := make(map[uint16]int), make(map[uint16]uint32)
				used := make(map[int]bool)
				for round := range uint32(rounds) {
					for _, c := range senders {
						_, err := c.Write(binary.BigEndian.AppendUint32(nil, round))
						must(t, err)
					}
					for n := 0; n < flows; {
						var a arrival
						select {
						case a = <-arrivals:
						case <-time.After(10 * time.Second):
							t.Fatalf("round %d: only %d of %d packets came", round, n, flows)
						}
						if a.flow < 1024 { // the kernel's own
							continue
						}
						n++
						if was, known := queue[a.flow]; known && was != a.queue {
							t.Fatalf("flow %d came by queue %d, and by %d before", a.flow, a.queue, was)
						}
						if a.count != next[a.flow] {
							t.Fatalf("flow %d: packet %d, want %d", a.flow, a.count, next[a.flow])
						}
						queue[a.flow], used[a.queue] = a.queue, true
						next[a.flow]++
					}
				}
				if len(queue) != flows || len(used) != 4 {
					t.Errorf("%d flows by %d queues, want %d by 4", len(queue), len(used), flows)
				}
			})
		}
	}
}

func TestFragmentsOfAFlowKeepTogether(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1420, Queues: 4})
	if !tun.steered {
		t.Skip("needs the right to give the TUN a program: run it as root on Linux 4.16 or later")
	}
	addressed(t, tun)
	arrivals := listenQueues(t, tun)
	c := sender(t, "10.9.8.2:9")
	for range 20 {
		_, err := c.Write(make([]byte, 5000))
		must(t, err)
	}
	queue := -1
	for range 20 * 4 {
		select {
		case a := <-arrivals:
			if queue >= 0 && a.queue != queue {
				t.Fatalf("fragments by the queues %d and %d", queue, a.queue)
			}
			queue = a.queue
		case <-time.After(10 * time.Second):
			t.Fatal("not all fragments came")
		}
	}
}

func TestAnInterfaceOfManyQueuesThatIsDeletedIsGoneForAll(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", Queues: 4})
	addressed(t, tun)
	ended := make(chan error, 4)
	for _, q := range tun.Queues() {
		go func() {
			_, _, _, err := q.Read()
			ended <- err
		}()
	}
	must(t, netlink.LinkDel(link(t, "t0")))
	within(t, "reading", func() {
		for range 4 {
			if err := <-ended; !errors.Is(err, ErrGone) {
				t.Errorf("Read ends with %v", err)
			}
		}
	})
}
