package memnet_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"stunnel/test/memnet"
	"stunnel/transport/socket"
)

var (
	addressA = netip.MustParseAddr("192.0.2.1")
	addressB = netip.MustParseAddr("192.0.2.2")
	addressC = netip.MustParseAddr("192.0.2.3")
)

const port = 51820

func listen(t *testing.T, h *memnet.Host) *memnet.Socket {
	t.Helper()
	sockets, err := h.Listen(port, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return sockets[0]
}

func pair(t *testing.T, seed uint64) (n *memnet.Network, a, b *memnet.Host, sa, sb *memnet.Socket) {
	n = memnet.New(seed)
	a, b = n.Host("a", addressA), n.Host("b", addressB)
	return n, a, b, listen(t, a), listen(t, b)
}

func to(a netip.Addr) socket.Path { return socket.Path{Remote: netip.AddrPortFrom(a, port)} }

func send(t *testing.T, s *memnet.Socket, a netip.Addr, text string) {
	t.Helper()
	if err := s.Send([]byte(text), max(1, len(text)), to(a)); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, s *memnet.Socket, want string) socket.Datagram {
	t.Helper()
	d, ok := s.Next(time.Hour)
	if !ok || string(d.Data) != want {
		t.Fatalf("received %q (%v), want %q", d.Data, ok, want)
	}
	return d
}

func TestATrainArrivesAsDatagramsOfItsSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, _, sa, sb := pair(t, 1)
		if err := sa.Send([]byte("aaabbbc"), 3, to(addressB)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"aaa", "bbb", "c"} {
			d := expect(t, sb, want)
			if d.Path.Remote != netip.AddrPortFrom(addressA, port) || d.Path.Local != addressB {
				t.Errorf("came by %+v", d.Path)
			}
		}
	})
}

func TestABlockedReceiveLetsTimePassAndEndsWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, _, _, sb := pair(t, 1)
		ended := make(chan error)
		go func() {
			_, err := sb.Receive()
			ended <- err
		}()
		time.Sleep(time.Hour) // deadlocks the bubble if Receive does not wait durably
		if err := sb.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive ended with %v", err)
		}
		if err := sb.Send([]byte("x"), 1, to(addressA)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
	})
}

func TestABurstIsPoisonedByTheNextReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, _, sa, sb := pair(t, 1)
		send(t, sa, addressB, "first")
		burst, err := sb.Receive()
		if err != nil || len(burst) != 1 || string(burst[0].Data) != "first" {
			t.Fatalf("received %v, %v", burst, err)
		}
		kept := burst[0].Data
		send(t, sa, addressB, "second")
		if _, err := sb.Receive(); err != nil {
			t.Fatal(err)
		}
		if kept[0] != memnet.Poison {
			t.Errorf("the old burst still reads %q", kept)
		}
	})
}

func TestDelayIsVirtualAndKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b, sa, sb := pair(t, 1)
		n.Link(a, b, memnet.Impairment{Delay: time.Minute})
		begin := time.Now()
		for i := range 100 {
			send(t, sa, addressB, fmt.Sprint(i))
		}
		for i := range 100 {
			expect(t, sb, fmt.Sprint(i))
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("took %v", took)
		}
		send(t, sb, addressA, "back")
		expect(t, sa, "back")
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("the other direction is delayed too: %v", took)
		}
	})
}

// accidents sends 10000 datagrams over an impaired link and returns what
// arrived, in order.
func accidents(t *testing.T, seed uint64, i memnet.Impairment) (got []string, stats memnet.Stats) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b, sa, sb := pair(t, seed)
		n.Link(a, b, i)
		for k := range 10000 {
			send(t, sa, addressB, fmt.Sprintf("%05d", k))
			time.Sleep(time.Millisecond)
		}
		for {
			d, ok := sb.Next(time.Minute)
			if !ok {
				break
			}
			got = append(got, string(d.Data))
		}
		stats = n.Stats()
	})
	return got, stats
}

func TestLossAndDuplicationHaveTheirRates(t *testing.T) {
	_, s := accidents(t, 1, memnet.Impairment{Loss: 0.3, Duplicate: 0.1})
	if s.Lost < 2700 || s.Lost > 3300 {
		t.Errorf("lost %d of 10000 at 30 %%", s.Lost)
	}
	if s.Duplicated < 550 || s.Duplicated > 850 {
		t.Errorf("duplicated %d of 7000 at 10 %%", s.Duplicated)
	}
	if s.Sent+s.Duplicated != s.Delivered+s.Lost {
		t.Errorf("the books do not balance: %+v", s)
	}
}

func TestJitterAndReorderingReorder(t *testing.T) {
	for name, i := range map[string]memnet.Impairment{
		"jitter":  {Jitter: 20 * time.Millisecond},
		"reorder": {Reorder: 0.05, ReorderBy: 10 * time.Millisecond},
	} {
		got, _ := accidents(t, 1, i)
		late := 0
		for k := 1; k < len(got); k++ {
			if got[k] < got[k-1] {
				late++
			}
		}
		if len(got) != 10000 || late < 300 {
			t.Errorf("%s: %d of %d out of order", name, late, len(got))
		}
	}
}

func TestCorruptionFlipsOneBitOfACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b, sa, sb := pair(t, 1)
		n.Link(a, b, memnet.Impairment{Corrupt: 1})
		var tapped []byte
		n.Tap(func(d *memnet.Transit) bool { tapped = d.Data; return true })
		send(t, sa, addressB, "\x00\x00\x00\x00")
		d, _ := sb.Next(time.Second)
		ones := 0
		for _, c := range d.Data {
			for ; c != 0; c &= c - 1 {
				ones++
			}
		}
		if ones != 1 || string(tapped) != "\x00\x00\x00\x00" {
			t.Errorf("arrived %x, the tap kept %x", d.Data, tapped)
		}
	})
}

func TestOneSeedGivesOneSequenceOfAccidents(t *testing.T) {
	i := memnet.Impairment{Loss: 0.2, Duplicate: 0.2, Jitter: 5 * time.Millisecond}
	first, _ := accidents(t, 7, i)
	again, _ := accidents(t, 7, i)
	other, _ := accidents(t, 8, i)
	if fmt.Sprint(first) != fmt.Sprint(again) {
		t.Error("two runs with one seed differ")
	}
	if fmt.Sprint(first) == fmt.Sprint(other) {
		t.Error("two seeds do the same")
	}
}

func TestATapSeesChangesAndStopsDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, _, sa, sb := pair(t, 1)
		begin := time.Now()
		seen := 0
		remove := n.Tap(func(d *memnet.Transit) bool {
			seen++
			if d.Sender != a || d.At.Sub(begin) != time.Second {
				t.Errorf("seen %+v", d)
			}
			if string(d.Data) == "stop" {
				return false
			}
			d.Data = []byte("changed")
			d.From = netip.AddrPortFrom(addressC, 9)
			n.Inject(netip.AddrPortFrom(addressC, 10), d.To, []byte("injected"))
			return true
		})
		time.Sleep(time.Second)
		send(t, sa, addressB, "stop")
		send(t, sa, addressB, "go")
		if d := expect(t, sb, "injected"); d.Path.Remote != netip.AddrPortFrom(addressC, 10) {
			t.Errorf("injected from %v", d.Path.Remote)
		}
		if d := expect(t, sb, "changed"); d.Path.Remote != netip.AddrPortFrom(addressC, 9) {
			t.Errorf("changed to %v", d.Path.Remote)
		}
		remove()
		send(t, sa, addressB, "stop")
		expect(t, sb, "stop")
		if seen != 2 || n.Stats().Stopped != 1 {
			t.Errorf("%d seen, %+v", seen, n.Stats())
		}
	})
}

func TestAHostThatMovesLosesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, b, sa, sb := pair(t, 1)
		n.Impair(memnet.Impairment{Delay: time.Second})
		send(t, sa, addressB, "old address")
		b.SetAddresses(addressC)
		if d, ok := sb.Next(time.Minute); ok {
			t.Fatalf("received %q", d.Data)
		}
		send(t, sb, addressA, "moved")
		if d := expect(t, sa, "moved"); d.Path.Remote.Addr() != addressC {
			t.Errorf("came from %v", d.Path.Remote)
		}
		err := sb.Send([]byte("sticky"), 6, socket.Path{Remote: to(addressA).Remote, Local: addressB})
		if !errors.Is(err, socket.ErrLocalGone) {
			t.Errorf("sending from an address that is gone: %v", err)
		}
		expect(t, sa, "sticky")
	})
}

func TestANATGivesPortsAndForgetsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, _, sa, sb := pair(t, 1)
		public := netip.MustParseAddr("198.51.100.1")
		nat := n.NAT(public, a)
		send(t, sa, addressB, "out")
		first := expect(t, sb, "out").Path.Remote
		if first.Addr() != public || first.Port() == port {
			t.Fatalf("came from %v", first)
		}
		reply := func() {
			if err := sb.Send([]byte("in"), 2, socket.Path{Remote: first}); err != nil {
				t.Fatal(err)
			}
		}
		reply()
		if d := expect(t, sa, "in"); d.Path.Local != addressA {
			t.Errorf("reached %v", d.Path.Local)
		}
		send(t, sb, addressA, "direct")
		nat.Rebind()
		reply()
		if d, ok := sa.Next(time.Second); ok {
			t.Errorf("%q came through a NAT that knows no way", d.Data)
		}
		send(t, sa, addressB, "again")
		if second := expect(t, sb, "again").Path.Remote; second == first || second.Addr() != public {
			t.Errorf("came from %v, before it was %v", second, first)
		}
	})
}

func TestPortsAreSharedInOneGroupOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, _, sb := pair(t, 1)
		if _, err := b.Listen(port, 1, 0); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second Listen: %v", err)
		}
		if err := sb.Close(); err != nil {
			t.Fatal(err)
		}
		group, err := b.Listen(port, 4, 77)
		if err != nil || group[3].Mark() != 77 {
			t.Fatalf("Listen after Close: %v", err)
		}
		used := 0
		for k := range 64 {
			s, err := a.Listen(0, 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			send(t, s[0], addressB, fmt.Sprint(k))
		}
		total := 0
		for _, s := range group {
			before := total
			for {
				if _, ok := s.Next(0); !ok {
					break
				}
				total++
			}
			if total > before {
				used++
			}
		}
		if total != 64 || used < 2 {
			t.Errorf("%d of 64 arrived, at %d of 4 sockets", total, used)
		}
	})
}

func TestTheFamilyOfTheRemoteMustBeTheHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, _, sa, _ := pair(t, 1)
		err := sa.Send([]byte("x"), 1, to(netip.MustParseAddr("2001:db8::1")))
		if !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("IPv6 from an IPv4-only host: %v", err)
		}
	})
}
