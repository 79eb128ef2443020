package socket

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// train is n datagrams of size bytes, the last one shorter, each with a number at its beginning.
func train(n, size int) (all []byte, single []string) {
	r := rand.New(rand.NewPCG(uint64(n), uint64(size)))
	for i := range n {
		d := make([]byte, size)
		for j := range d {
			d[j] = byte(r.Uint32())
		}
		copy(d, fmt.Sprintf("%04d", i))
		if i == n-1 && size > 8 {
			d = d[:size-3]
		}
		all = append(all, d...)
		single = append(single, string(d))
	}
	return all, single
}

func expect(t *testing.T, got []received, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d datagrams came, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].data != want[i] {
			t.Fatalf("datagram %d is %.20q (%d bytes), want %.20q (%d bytes)", i, got[i].data, len(got[i].data), want[i], len(want[i]))
		}
	}
}

func TestTrainsArriveWholeAndInOrder(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	t.Logf("%+v", a.Features())
	for _, c := range []struct{ n, size int }{{1, 1}, {1, 65507}, {2, 1400}, {45, 1452}, {64, 32}, {65, 100}, {300, 1400}, {3, 40_000}, {700, 96}} {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			all, want := train(c.n, c.size)
			if err := a.Send(all, c.size, to(addr, b)); err != nil {
				t.Fatalf("%d datagrams of %d bytes to %s: %v", c.n, c.size, addr, err)
			}
			expect(t, collect(t, b, c.n), want)
		}
	}
	if f := a.Features(); !f.GSO || !f.GRO || f.Truncated+f.ReceiveErrors+f.RefusedLocal+f.Unsegmented != 0 {
		t.Errorf("after plain sailing: %+v", f)
	}
}

// Who receives is to deal with a train before the next one has a turn, and with small ones at once.
func TestABurstIsAboutATrain(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	for _, c := range []struct {
		trains, n, size int
		want            []int // datagrams by burst
	}{
		{3, 45, 1452, []int{45, 45, 45}},
		{3, 20, 1452, []int{40, 20}},
		{trains, 64, 96, []int{trains * 64}},
		{trains + 1, 1, 1000, []int{trains, 1}},
	} {
		all, _ := train(c.n, c.size)
		for range c.trains {
			if err := a.Send(all, c.size, to("127.0.0.1", b)); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range c.want {
			burst, err := b.Receive()
			if err != nil || len(burst) != want {
				t.Errorf("%d trains of %d times %d bytes: burst %d has %d datagrams (%v), want %d", c.trains, c.n, c.size, i, len(burst), err, want)
			}
		}
	}
}

func TestADatagramKnowsItsPath(t *testing.T) {
	inNetworkNamespace(t)
	addAddresses(t, "10.7.0.1/32", "fd07::1/128", "fe80::7/64")
	a, b := pair(t)
	for _, c := range []struct{ remote, seen, local string }{
		{"127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"10.7.0.1", "10.7.0.1", "10.7.0.1"},
		{"::ffff:10.7.0.1", "10.7.0.1", "10.7.0.1"},
		{"::1", "::1", "::1"},
		{"fd07::1", "fd07::1", "fd07::1"},
		{"fe80::7%lo", "fe80::7%1", "fe80::7"},
		{"fe80::7%1", "fe80::7%1", "fe80::7"},
	} {
		if err := a.Send([]byte("x"), 1, to(c.remote, b)); err != nil {
			t.Errorf("to %s: %v", c.remote, err)
			continue
		}
		got := collect(t, b, 1)[0].path
		if got.Remote != netip.AddrPortFrom(netip.MustParseAddr(c.seen), a.Port()) || got.Local != netip.MustParseAddr(c.local) || got.Interface == 0 {
			t.Errorf("to %s: it came by %+v", c.remote, got)
		}
		// And the way back is the same way.
		if err := b.Send([]byte("y"), 1, got); err != nil {
			t.Errorf("back to %s: %v", c.remote, err)
			continue
		}
		if back := collect(t, a, 1)[0].path; back.Remote.Port() != b.Port() || back.Remote.Addr() != netip.MustParseAddr(c.seen) {
			t.Errorf("back to %s: it came by %+v", c.remote, back)
		}
	}
}

func TestATrainComesFromTheLocalAddressThatItWasSentFrom(t *testing.T) {
	inNetworkNamespace(t)
	addAddresses(t, "10.7.0.1/32", "10.7.0.2/32", "fd07::1/128", "fd07::2/128")
	a, b := pair(t)
	for _, c := range []struct{ remote, local string }{{"10.7.0.1", "10.7.0.2"}, {"fd07::1", "fd07::2"}, {"127.0.0.1", "10.7.0.2"}, {"::1", "fd07::2"}} {
		path := to(c.remote, b)
		path.Local = netip.MustParseAddr(c.local)
		path.Interface = 4711 // is of no account here
		all, want := train(70, 1000)
		if err := a.Send(all, 1000, path); err != nil {
			t.Errorf("from %s: %v", c.local, err)
			continue
		}
		got := collect(t, b, 70)
		expect(t, got, want)
		if got[69].path.Remote.Addr() != path.Local {
			t.Errorf("from %s: it came from %v", c.local, got[69].path.Remote)
		}
	}
}

func TestATrainWhoseLocalAddressIsGoneIsSentFromAnother(t *testing.T) {
	inNetworkNamespace(t)
	addAddresses(t, "10.7.0.1/32", "10.7.0.2/32", "fd07::1/128", "fd07::2/128")
	a, b := pair(t)
	deleteAddress(t, "lo", "10.7.0.2/32")
	deleteAddress(t, "lo", "fd07::2/128")
	for _, c := range []struct{ remote, local string }{{"10.7.0.1", "10.7.0.2"}, {"fd07::1", "fd07::2"}, {"10.7.0.1", "fd07::1"}, {"fd07::1", "10.7.0.1"}} {
		path := to(c.remote, b)
		path.Local = netip.MustParseAddr(c.local)
		all, want := train(130, 1000)
		if err := a.Send(all, 1000, path); !errors.Is(err, ErrLocalGone) {
			t.Errorf("from %s to %s: %v", c.local, c.remote, err)
		}
		expect(t, collect(t, b, 130), want)
	}
	if f := a.Features(); !f.GSO || f.RefusedLocal != 4 {
		t.Errorf("%+v", f)
	}
	// Where nothing can be sent at all the address may still be good.
	path := Path{Remote: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddr("10.7.0.1")}
	if err := a.Send([]byte("x"), 1, path); !errors.Is(err, unix.ENETUNREACH) || errors.Is(err, ErrLocalGone) {
		t.Errorf("without a route: %v", err)
	}
}

func TestDatagramsLargerThanThePathAreFragmented(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	narrowLoopback(t, 1300)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		all, want := train(40, 1400)
		if err := a.Send(all, 1400, to(addr, b)); err != nil {
			t.Fatal(err)
		}
		expect(t, collect(t, b, 40), want)
	}
	if f := a.Features(); !f.GSO || f.Unsegmented != 2 {
		t.Errorf("one narrow path has switched segmentation off for all: %+v", f)
	}
	all, want := train(40, 1200)
	if err := a.Send(all, 1200, to("127.0.0.1", b)); err != nil {
		t.Fatal(err)
	}
	expect(t, collect(t, b, 40), want)
	if f := a.Features(); f.Unsegmented != 2 {
		t.Errorf("what fits was not segmented: %+v", f)
	}
}

func TestReceiveAndSendEndWithClose(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	done := make(chan error)
	go func() {
		_, err := a.Receive()
		done <- err
	}()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for _, err := range []error{<-done, a.Send([]byte("x"), 1, to("::1", b)), a.SetMark(1), a.Close()} {
		if !errors.Is(err, net.ErrClosed) || !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestAPortThatIsTakenIsAnError(t *testing.T) {
	inNetworkNamespace(t)
	for _, n := range []int{1, 3} {
		sockets := listenOn(t, 0, n, Options{})
		for _, again := range []int{1, 3} {
			if more, err := Listen(sockets[0].Port(), again, Options{}); !errors.Is(err, unix.EADDRINUSE) || more != nil {
				t.Errorf("%d sockets on the port of %d: %v", again, n, err)
			}
		}
	}
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := Listen(uint16(taken.LocalAddr().(*net.UDPAddr).Port), 1, Options{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("on a port that IPv4 alone has taken: %v", err)
	}
}

func TestSeveralSocketsShareAPort(t *testing.T) {
	inNetworkNamespace(t)
	sockets := listenOn(t, 0, 3, Options{})
	got := make(chan int)
	for i, u := range sockets {
		if u.Port() != sockets[0].Port() {
			t.Fatalf("socket %d has port %d, the first %d", i, u.Port(), sockets[0].Port())
		}
		go func() {
			for {
				burst, err := u.Receive()
				if err != nil {
					return
				}
				for range burst {
					got <- i
				}
			}
		}()
	}
	used := map[int]int{}
	for range 64 { // each from a port of its own
		from := listenOn(t, 0, 1, Options{})[0]
		if err := from.Send([]byte("x"), 1, to("127.0.0.1", sockets[0])); err != nil {
			t.Fatal(err)
		}
		select {
		case i := <-got:
			used[i]++
		case <-time.After(10 * time.Second):
			t.Fatal("a datagram came to none of the sockets")
		}
	}
	if len(used) != 3 {
		t.Errorf("the datagrams of 64 senders went to %v", used)
	}
}

func TestAHostWithoutIPv6SpeaksIPv4(t *testing.T) {
	inNetworkNamespace(t)
	without := func(family, kind, protocol int) (int, error) {
		if family == unix.AF_INET6 {
			return -1, unix.EAFNOSUPPORT
		}
		return unix.Socket(family, kind, protocol)
	}
	addAddresses(t, "10.7.0.1/32", "10.7.0.2/32")
	sockets, err := listen(0, 2, Options{Mark: 3}, without)
	if err != nil {
		t.Fatal(err)
	}
	a, b := sockets[0], listenOn(t, 0, 1, Options{})[0]
	defer a.Close()
	sockets[1].Close()
	if f := a.Features(); f.IPv6 {
		t.Errorf("%+v", f)
	}
	path := to("10.7.0.1", b)
	path.Local = netip.MustParseAddr("10.7.0.2")
	all, want := train(100, 500)
	if err := a.Send(all, 500, path); err != nil {
		t.Fatal(err)
	}
	got := collect(t, b, 100)
	expect(t, got, want)
	if err := b.Send(all, 500, got[0].path); err != nil {
		t.Fatal(err)
	}
	back := collect(t, a, 100)
	expect(t, back, want)
	if p := back[0].path; p.Local != path.Local || p.Remote.Addr() != netip.MustParseAddr("10.7.0.1") || p.Interface == 0 {
		t.Errorf("it came by %+v", p)
	}
	if err := a.Send(all, 500, to("::1", b)); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("to an IPv6 address: %v", err)
	}
}

func TestAnIPv6OnlyHostIsServed(t *testing.T) {
	inNetworkNamespace(t)
	deleteAddress(t, "lo", "127.0.0.1/8")
	a, b := pair(t)
	if err := a.Send([]byte("x"), 1, to("::1", b)); err != nil {
		t.Fatal(err)
	}
	expect(t, collect(t, b, 1), []string{"x"})
	if err := a.Send([]byte("x"), 1, Path{Remote: netip.MustParseAddrPort("192.0.2.1:1")}); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("to an IPv4 address: %v", err)
	}
}

func TestTheMarkIsSetAtOnceAndLater(t *testing.T) {
	inNetworkNamespace(t)
	u := listenOn(t, 0, 1, Options{Mark: 0xca6c})[0]
	if got := u.getsockopt(unix.SOL_SOCKET, unix.SO_MARK); got != 0xca6c {
		t.Errorf("the mark is %#x", got)
	}
	if err := u.SetMark(0x80000001); err != nil {
		t.Fatal(err)
	}
	if got := u.getsockopt(unix.SOL_SOCKET, unix.SO_MARK); uint32(got) != 0x80000001 {
		t.Errorf("the mark is %#x", got)
	}
}

func TestThePathIsNotProbedAndBuffersAreLarge(t *testing.T) {
	inNetworkNamespace(t)
	u := listenOn(t, 0, 1, Options{})[0]
	if v4, v6 := u.getsockopt(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER), u.getsockopt(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER); v4 != unix.IP_PMTUDISC_DONT || v6 != unix.IPV6_PMTUDISC_DONT {
		t.Errorf("path MTU discovery is %d for IPv4, %d for IPv6", v4, v6)
	}
	if f := u.Features(); f.ReceiveBuffer < receiveBuffer || f.SendBuffer < sendBuffer {
		t.Errorf("%+v", f)
	}
}

func TestADatagramThatDoesNotFitIsDroppedAndCounted(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	b.receiver.setBuffers(100)
	for _, n := range []int{100, 101, 65507, 99} {
		if err := a.Send(bytes.Repeat([]byte{byte(n)}, n), n, to("::1", b)); err != nil {
			t.Fatal(err)
		}
	}
	got := collect(t, b, 2)
	if len(got) != 2 || len(got[0].data) != 100 || len(got[1].data) != 99 || b.Features().Truncated != 2 {
		t.Errorf("%d came, %d were dropped", len(got), b.Features().Truncated)
	}
}

func TestTheDeadEndOfOnePeerDoesNotKillReceive(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	if err := a.setsockopt(unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil { // or the kernel swallows ICMP errors
		t.Fatal(err)
	}
	if err := a.setsockopt(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1); err != nil {
		t.Fatal(err)
	}
	closed := listenOn(t, 0, 1, Options{})[0]
	closed.Close()
	for range 3 {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			if err := a.Send([]byte("nobody"), 6, to(addr, closed)); err != nil {
				t.Errorf("an error about an earlier datagram was taken for one about this: %v", err)
			}
		}
	}
	if err := b.Send([]byte("x"), 1, to("127.0.0.1", a)); err != nil {
		t.Fatal(err)
	}
	expect(t, collect(t, a, 1), []string{"x"})
	if n := a.Features().ReceiveErrors; n == 0 {
		t.Error("no ICMP error came, so nothing was tested")
	}
}

func TestAnEmptyDatagramIsADatagram(t *testing.T) {
	inNetworkNamespace(t)
	b := listenOn(t, 0, 1, Options{})[0]
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", b.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(nil); err != nil {
		t.Fatal(err)
	}
	expect(t, collect(t, b, 1), []string{""})
}

func TestAnErrorSaysWhereTheTrainWasToGo(t *testing.T) {
	inNetworkNamespace(t)
	a := listenOn(t, 0, 1, Options{})[0]
	err := a.Send([]byte("x"), 1, Path{Remote: netip.MustParseAddrPort("[2001:db8::1]:7")})
	if !errors.Is(err, unix.ENETUNREACH) || !strings.Contains(err.Error(), "[2001:db8::1]:7") {
		t.Errorf("%v", err)
	}
	if err := a.Send([]byte("x"), 1, Path{}); !errors.Is(err, unix.EDESTADDRREQ) {
		t.Errorf("to nowhere: %v", err)
	}
	if err := a.Send([]byte("x"), 1, Path{Remote: netip.MustParseAddrPort("[fe80::1%none]:7")}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("by an interface that is not there: %v", err)
	}
	if err := a.Send(make([]byte, 70_000), 70_000, Path{Remote: netip.MustParseAddrPort("127.0.0.1:7")}); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("a datagram of 70,000 bytes: %v", err)
	}
}

func TestKernelVersionsAreCompared(t *testing.T) {
	for release, want := range map[string]bool{
		"5.12": true, "5.12.0-rc1": true, "5.11.22-generic": false, "6.1.0-13-amd64": true, "4.19.0": false, "10.0": true, "5.9": false, "6": true, "odd": false, "": false,
	} {
		if got := atLeast(release, 5, 12); got != want {
			t.Errorf("%q is at least 5.12: %t", release, got)
		}
	}
}

func TestSendAndReceiveDoNotAllocate(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		path := to(addr, b)
		path.Local = netip.MustParseAddr(addr)
		all, _ := train(40, 1400)
		allocs := testing.AllocsPerRun(200, func() {
			if err := a.Send(all, 1400, path); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < 40; {
				burst, err := b.Receive()
				if err != nil {
					t.Fatal(err)
				}
				n += len(burst)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: a train costs %v allocations", addr, allocs)
		}
	}
}
