package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func narrowLoopback(t testing.TB, mtu int) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMTU(lo, mtu); err != nil {
		t.Fatal(err)
	}
}

// refuse makes the sends fail for which script gives an error; those are not made. It counts the sends that are.
func refuse(u *UDP, script func(attempt int, segmented bool, local bool) syscall.Errno) (attempts *int) {
	attempts = new(int)
	real := u.sendmsg
	u.sendmsg = func(fd int, msg *unix.Msghdr) syscall.Errno {
		*attempts++
		segmented, local := false, false
		for at := 0; at < int(msg.Controllen); {
			c := new(control)
			copy(c.bytes()[:], unsafeBytes(msg.Control, int(msg.Controllen)))
			h := c.header(at)
			segmented = segmented || h.Type == unix.UDP_SEGMENT && h.Level == unix.IPPROTO_UDP
			local = local || h.Type == unix.IPV6_PKTINFO && h.Level == unix.IPPROTO_IPV6
			at += unix.CmsgSpace(int(h.Len) - unix.CmsgLen(0))
		}
		if errno := script(*attempts, segmented, local); errno != 0 {
			return errno
		}
		return real(fd, msg)
	}
	return attempts
}

func TestWhatIsInHandWhenSegmentationFailsIsSentSingly(t *testing.T) {
	inNetworkNamespace(t)
	for _, c := range []struct {
		name      string
		errno     syscall.Errno
		size      int
		from      int // the first attempt that fails
		stillGSO  bool
		datagrams int
	}{
		{"EIO at once", unix.EIO, 1400, 1, false, 200},
		{"EIO in mid-train", unix.EIO, 1400, 3, false, 200},
		{"EIO at the last part", unix.EIO, 1400, 5, false, 200},
		{"EINVAL for datagrams that must fit", unix.EINVAL, 1000, 2, false, 200},
		{"EINVAL for large datagrams", unix.EINVAL, 1400, 2, true, 200},
		{"EMSGSIZE", unix.EMSGSIZE, 1400, 2, true, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			inNetworkNamespace(t)
			a, b := pair(t)
			attempts := refuse(a, func(attempt int, segmented, _ bool) syscall.Errno {
				if segmented && attempt >= c.from {
					return c.errno
				}
				return 0
			})
			all, want := train(c.datagrams, c.size)
			kept := string(all)
			if err := a.Send(all, c.size, to("::1", b)); err != nil {
				t.Fatal(err)
			}
			expect(t, collect(t, b, c.datagrams), want)
			if string(all) != kept {
				t.Error("the train was changed")
			}
			if f := a.Features(); f.GSO != c.stillGSO || f.GSO == (f.NoGSO != "") || f.Unsegmented != 1 {
				t.Errorf("%+v", f)
			}
			*attempts = 1000
			if err := a.Send(all[:10*c.size], c.size, to("::1", b)); err != nil {
				t.Fatal(err)
			}
			expect(t, collect(t, b, 10), want[:10])
			if tried := *attempts - 1000; !c.stillGSO && tried != 10 || c.stillGSO && tried != 11 {
				t.Errorf("the next ten datagrams took %d attempts", tried)
			}
		})
	}
}

func TestSegmentationThatIsRefusedAgainAndAgainIsTriedRarely(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	refused := 0
	refuse(a, func(_ int, segmented, _ bool) syscall.Errno {
		if segmented {
			refused++
			return unix.EMSGSIZE
		}
		return 0
	})
	all, want := train(2, 1400)
	for range 200 {
		if err := a.Send(all, 1400, to("::1", b)); err != nil {
			t.Fatal(err)
		}
		expect(t, collect(t, b, 2), want)
	}
	if refused != refusalsBeforePause {
		t.Errorf("of 200 trains %d were tried", refused)
	}
}

func TestAnAddressThatIsGoneIsNotBlamedOnSegmentation(t *testing.T) {
	inNetworkNamespace(t)
	for _, errno := range []syscall.Errno{unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENETUNREACH, unix.ENODEV} {
		a, b := pair(t)
		attempts := refuse(a, func(_ int, _, local bool) syscall.Errno {
			if local {
				return errno
			}
			return 0
		})
		path := to("::1", b)
		path.Local = netip.MustParseAddr("::1")
		all, want := train(64, 100)
		if err := a.Send(all, 100, path); !errors.Is(err, ErrLocalGone) {
			t.Errorf("%v: %v", errno, err)
		}
		expect(t, collect(t, b, 64), want)
		if f := a.Features(); !f.GSO || f.Unsegmented != 0 || *attempts > 3 {
			t.Errorf("%v: %d attempts, %+v", errno, *attempts, f)
		}
	}
}

func TestAFullQueueLosesOnePartAndNoOther(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	refuse(a, func(attempt int, _, _ bool) syscall.Errno {
		if attempt == 2 {
			return unix.ENOBUFS
		}
		return 0
	})
	all, want := train(150, 100) // 64, 64, 22
	if err := a.Send(all, 100, to("::1", b)); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("%v", err)
	}
	expect(t, collect(t, b, 86), append(want[:64:64], want[128:]...))
}

func TestAnErrorThatStaysEndsTheTrain(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	attempts := refuse(a, func(attempt int, _, _ bool) syscall.Errno {
		if attempt >= 2 {
			return unix.EPERM
		}
		return 0
	})
	all, want := train(150, 100)
	if err := a.Send(all, 100, to("::1", b)); !errors.Is(err, unix.EPERM) || *attempts != 3 {
		t.Errorf("%v after %d attempts", err, *attempts)
	}
	expect(t, collect(t, b, 64), want[:64])
}

func TestAnInterruptedSendIsMadeAgain(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	n := 0
	refuse(a, func(attempt int, _, _ bool) syscall.Errno {
		if n++; n%2 == 1 {
			return unix.EINTR
		}
		return 0
	})
	all, want := train(150, 100)
	if err := a.Send(all, 100, to("::1", b)); err != nil {
		t.Error(err)
	}
	expect(t, collect(t, b, 150), want)
}

func TestSendersDoNotMixTheirTrains(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	const senders, each = 4, 20
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for j := range each {
				size := 100 + i
				d := make([]byte, 50*size)
				for k := range d {
					d[k] = byte(i<<5 | j)
				}
				if err := a.Send(d, size, to("127.0.0.1", b)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for _, d := range collect(t, b, senders*each*50) {
		counts[fmt.Sprint(len(d.data), d.data[0], d.data[len(d.data)-1])]++
	}
	if len(counts) != senders*each {
		t.Errorf("there are %d kinds of datagrams", len(counts))
	}
	for kind, n := range counts {
		if n != 50 {
			t.Errorf("%s came %d times", kind, n)
		}
	}
}

func unsafeBytes(p *byte, n int) []byte { return unsafe.Slice(p, n) }

func TestSendWaitsForASlowLinkAndLosesNothing(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	// 40 Mbit/s, and a queue that is longer than what the socket may have under way.
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	slow := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       5_000_000, Buffer: 200_000, Limit: 10_000_000,
	}
	if err := netlink.QdiscAdd(slow); err != nil {
		t.Skipf("SKIPPED: no token bucket filter to slow a link down (modprobe sch_tbf): %v", err)
	}
	if err := a.setsockopt(unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 50_000); err != nil {
		t.Fatal(err)
	}
	full := 0
	real := a.sendmsg
	a.sendmsg = func(fd int, msg *unix.Msghdr) syscall.Errno {
		errno := real(fd, msg)
		if errno == unix.EAGAIN {
			full++
		}
		return errno
	}
	all, want := train(1000, 1000)
	if err := a.Send(all, 1000, to("::1", b)); err != nil {
		t.Fatal(err)
	}
	if full == 0 {
		t.Error("the buffer was never full, so nothing was tested")
	}
	expect(t, collect(t, b, 1000), want)
}
