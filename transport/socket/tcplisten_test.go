package socket

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var hello = bytes.Repeat([]byte("hello"), 10)

// knock connects from an address, says hello, and is what came in.
func knock(t testing.TB, l *Listener, from, to string) (dialled, taken *TCP) {
	t.Helper()
	dialled = dial(t, l.at(to), Options{Address: netip.MustParseAddr(from)})
	if err := dialled.Send(hello, len(hello)); err != nil {
		t.Fatal(err)
	}
	return dialled, accept(t, l)
}

// alive says whether a connection that has not been admitted is still open.
func alive(c *TCP) bool { return !c.closed.Load() }

func TestOneHostHasEightConnectionsThatHaveProvedNothing(t *testing.T) {
	inNetworkNamespace(t)
	addAddresses(t, "fd07::1/64", "fd07::2/64", "fd07:0:0:1::1/64")
	for _, c := range []struct{ to, same, other string }{
		{"127.0.0.1", "127.0.0.1", "127.0.0.2"},
		{"fd07::1", "fd07::2", "fd07:0:0:1::1"},
	} {
		l := listenTCP(t, Options{})
		var taken []*TCP
		for range maxFromOneHost {
			_, in := knock(t, l, c.to, c.to)
			taken = append(taken, in)
		}
		_, other := knock(t, l, c.other, c.to)
		taken[0].Admit() // that one does not count any more
		_, one := knock(t, l, c.same, c.to)
		if l.Strangers() != 0 {
			t.Fatalf("%s: %d of eight and of another host were closed", c.to, l.Strangers())
		}
		_, another := knock(t, l, c.same, c.to)
		for i, in := range append(taken, other, one, another) {
			if want := i != 1; alive(in) != want {
				t.Errorf("%s: connection %d is open: %t", c.to, i, !want)
			}
		}
		if l.Strangers() != 1 {
			t.Errorf("%s: %d strangers were counted", c.to, l.Strangers())
		}
		if _, err := taken[1].First(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: what was closed gives %v", c.to, err)
		}
	}
}

func TestThereAre256ConnectionsThatHaveProvedNothing(t *testing.T) {
	inNetworkNamespace(t)
	l := listenTCP(t, Options{})
	var taken []*TCP
	for i := range maxStrangers + 3 {
		_, in := knock(t, l, fmt.Sprintf("127.0.1.%d", 1+i/maxFromOneHost), "127.0.0.1")
		taken = append(taken, in)
	}
	for i, in := range taken {
		if want := i >= 3; alive(in) != want {
			t.Errorf("connection %d is open: %t", i, !want)
		}
	}
	if l.Strangers() != 3 {
		t.Errorf("%d strangers were counted", l.Strangers())
	}
	// One that has proved itself stays, whoever comes.
	last := taken[len(taken)-1]
	if _, err := last.First(); err != nil {
		t.Fatal(err)
	}
	last.Admit()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for i, in := range taken {
		if want := in == last; alive(in) != want {
			t.Errorf("after Close connection %d is open: %t", i, !want)
		}
	}
	if err := last.Send(hello, len(hello)); err != nil {
		t.Errorf("after Close the admitted connection does not send: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) || l.Close() == nil {
		t.Errorf("after Close: %v", err)
	}
}

// drip writes bytes one by one, until that fails, and says how it failed.
func drip(conn net.Conn, bytes []byte) <-chan error {
	failed := make(chan error, 1)
	go func() {
		for _, b := range bytes {
			if _, err := conn.Write([]byte{b}); err != nil {
				failed <- err
				return
			}
			time.Sleep(5 * time.Millisecond) // it is slow on purpose
		}
		failed <- nil
	}()
	return failed
}

func TestWhoIsSlowWithTheFirstMessageIsNotWaitedFor(t *testing.T) {
	inNetworkNamespace(t)
	l := listenTCP(t, Options{})
	l.first = 100 * time.Millisecond
	conn, err := net.Dial("tcp", l.at("127.0.0.1").String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	failed := drip(conn, framed(make([]byte, 2000)))
	taken := accept(t, l)
	if _, err := taken.First(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := <-failed; err == nil {
		t.Error("all bytes could be sent")
	}
}

func TestAMessageThatDoesNotComeToItsEndEndsTheConnection(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	taken.complete = 200 * time.Millisecond
	go func() {
		for range 10 { // slow, but each is whole at once
			_ = dialled.Send(hello, len(hello))
			time.Sleep(50 * time.Millisecond)
		}
		dialled.conn.Write(framed(make([]byte, 1000))[:500])
	}()
	expect(t, collectFrom(t, taken, 10), slices.Repeat([]string{string(hello)}, 10))
	if _, err := taken.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}

	dialled, taken = connected(t, "127.0.0.1")
	taken.complete = 100 * time.Millisecond
	failed := drip(dialled.conn, framed(make([]byte, 5000)))
	if _, err := taken.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := <-failed; err == nil {
		t.Error("all bytes could be sent")
	}
}

func TestSilenceIsNoReasonToEndAConnection(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	taken.complete = 50 * time.Millisecond
	if _, err := dialled.conn.Write(framed(hello, hello)[:60]); err != nil { // the second one has begun
		t.Fatal(err)
	}
	expect(t, collectFrom(t, taken, 1), []string{string(hello)})
	if _, err := dialled.conn.Write(framed(hello, hello)[60:]); err != nil {
		t.Fatal(err)
	}
	expect(t, collectFrom(t, taken, 1), []string{string(hello)})
	time.AfterFunc(4*taken.complete, func() { _ = dialled.Send(hello, len(hello)) })
	expect(t, collectFrom(t, taken, 1), []string{string(hello)})
}

func TestWithoutFilesTheOldestStrangerMakesRoomAndThenAcceptWaits(t *testing.T) {
	inNetworkNamespace(t)
	var full atomic.Int64
	told := make(chan error, 1)
	l := listenTCP(t, Options{Full: func(why error) {
		full.Add(1)
		select {
		case told <- why:
		default:
		}
	}})
	_, oldest := knock(t, l, "127.0.0.1", "127.0.0.1")
	_, admitted := knock(t, l, "127.0.0.1", "127.0.0.1")
	admitted.Admit()
	for range 2 { // these are in the kernel's queue
		if err := dial(t, l.at("127.0.0.1"), Options{}).Send(hello, len(hello)); err != nil {
			t.Fatal(err)
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	// The next one is the lowest that is free, so all below it are in use.
	next, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	few := limit
	few.Cur = uint64(next)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	second := accept(t, l)
	if alive(oldest) || !alive(admitted) {
		t.Errorf("open are the oldest stranger (%t) and the admitted one (%t)", alive(oldest), alive(admitted))
	}
	second.Admit()
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	if why := <-told; !errors.Is(why, unix.EMFILE) {
		t.Errorf("full: %v", why)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Errorf("when there are files again: %v", err)
	}
	if n := full.Load(); n > 20 {
		t.Errorf("it was tried %d times", n)
	}
}

func TestAStrangerThatIsJustClosingKeepsNoOtherOpen(t *testing.T) {
	inNetworkNamespace(t)
	l := listenTCP(t, Options{})
	var taken []*TCP
	for range 3 {
		if err := dial(t, l.at("127.0.0.1"), Options{}).Send(make([]byte, 100), 100); err != nil {
			t.Fatal(err)
		}
		taken = append(taken, accept(t, l))
	}
	taken[0].closed.Store(true) // it has come as far as that in Close
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for i, c := range taken[1:] {
		if !c.closed.Load() {
			t.Errorf("stranger %d is left open", i+1)
		}
	}
	taken[0].closed.Store(false)
}

func TestConnectionsAreNotAllThatAProcessMayHave(t *testing.T) {
	inNetworkNamespace(t)
	told := make(chan error, 1)
	l := listenTCP(t, Options{Full: func(why error) { told <- why }})
	if l.most < 64 || l.most > 1<<31 {
		t.Errorf("there may be %d connections", l.most)
	}
	l.most = 3
	var taken []*TCP
	for range 4 {
		_, in := knock(t, l, "127.0.0.1", "127.0.0.1")
		taken = append(taken, in)
	}
	if alive(taken[0]) || !alive(taken[1]) {
		t.Error("the fourth connection of three did not replace the oldest stranger")
	}
	for _, in := range taken[1:] {
		in.Admit()
	}
	// One more is refused, and there is room again when one ends.
	refused := dial(t, l.at("127.0.0.1"), Options{})
	if err := refused.Send(hello, len(hello)); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	if _, err := refused.Receive(); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the one that is too many: %v", err)
	}
	if why := <-told; !errors.Is(why, errTooMany) {
		t.Errorf("it was told: %v", why)
	}
	taken[1].Close()
	if err := dial(t, l.at("127.0.0.1"), Options{}).Send(hello, len(hello)); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}

func TestListenTCPFailsInWords(t *testing.T) {
	inNetworkNamespace(t)
	taken := listenTCP(t, Options{})
	for name, c := range map[string]struct {
		port  uint16
		o     Options
		is    error
		words string
	}{
		"the port is taken":       {taken.Port(), Options{}, unix.EADDRINUSE, fmt.Sprintf("listen on TCP port %d: the port is used by another program", taken.Port())},
		"the address is not ours": {4711, Options{Address: netip.MustParseAddr("192.0.2.7")}, unix.EADDRNOTAVAIL, "192.0.2.7 is no address of this host"},
		"nor is that of IPv6":     {4711, Options{Address: netip.MustParseAddr("2001:db8::7")}, unix.EADDRNOTAVAIL, "2001:db8::7 is no address of this host"},
		"there is no such device": {4711, Options{Device: "eth77"}, unix.ENODEV, `no network device "eth77"`},
	} {
		l, err := ListenTCP(c.port, c.o)
		if l != nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

// An idle connection is most of what a server with many clients has.
func TestAnIdleConnectionCostsAFewKilobytes(t *testing.T) {
	inNetworkNamespace(t)
	l := listenTCP(t, Options{})
	const n = 200
	inUse := func() (heap, stacks uint64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what was in a pool goes with the second one
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.StackInuse
	}
	clients := make([]net.Conn, n)
	for i := range clients {
		var err error
		if clients[i], err = net.Dial("tcp", l.at("127.0.0.1").String()); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
	}
	heap, stacks := inUse()
	ended := make(chan error)
	came := make(chan bool)
	for _, client := range clients {
		if _, err := client.Write(framed(hello, hello)); err != nil {
			t.Fatal(err)
		}
		taken := accept(t, l)
		if _, err := taken.First(); err != nil {
			t.Fatal(err)
		}
		taken.Admit()
		go func() {
			for {
				if _, err := taken.Receive(); err != nil {
					ended <- err
					return
				}
				came <- true
			}
		}()
		<-came
	}
	heap2, stacks2 := inUse()
	each := (heap2 - heap + stacks2 - stacks) / n
	t.Logf("%d bytes each: %d of heap, %d of stacks", each, (heap2-heap)/n, (stacks2-stacks)/n)
	if each > 16<<10 {
		t.Errorf("an idle connection costs %d bytes", each)
	}
	for _, client := range clients {
		client.Close()
	}
	for range clients {
		<-ended
	}
}
