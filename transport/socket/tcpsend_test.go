package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// numbered is a train of n messages of size bytes, each with a number that goes up from first.
func numbered(first uint64, n, size int) []byte {
	all := make([]byte, n*size)
	for i := range n {
		m := all[i*size:][:size]
		binary.BigEndian.PutUint64(m, first+uint64(i))
		for j := 8; j < size; j++ {
			m[j] = byte(int(first) + i + j)
		}
	}
	return all
}

// number checks a message of such a train and returns its number.
func number(t *testing.T, message []byte) uint64 {
	t.Helper()
	n := binary.BigEndian.Uint64(message)
	if want := numbered(n, 1, len(message)); !bytes.Equal(message, want) {
		t.Fatalf("message %d is garbled", n)
	}
	return n
}

// known is the backlog of a connection whose rate is not measured any more.
func known(most int) backlog { return backlog{most: most, measured: time.Now().Add(time.Hour)} }

// fill sends until the connection has taken nothing more for a while, and returns how many messages were sent.
func fill(t *testing.T, c *TCP, n, size int) (sent uint64) {
	t.Helper()
	since := time.Now()
	for end := since.Add(10 * time.Second); time.Now().Before(end); sent += uint64(n) {
		switch err := c.Send(numbered(sent, n, size), size); {
		case err == nil:
			since = time.Now()
		case !errors.Is(err, ErrStalled):
			t.Fatal(err)
		case time.Since(since) > 300*time.Millisecond:
			return sent + uint64(n)
		}
	}
	t.Fatal("what nobody reads is taken without end")
	return 0
}

func TestAConnectionThatStandsStillDropsWholeMessages(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	dialled.out.backlog, dialled.patience = known(0), patience
	const n, size = 40, 1452
	sent := fill(t, dialled, n, size)
	train := numbered(sent, n, size)
	sent += n
	began := time.Now()
	for range 200 {
		if err := dialled.Send(train, size); !errors.Is(err, ErrStalled) {
			t.Fatalf("%v", err)
		}
	}
	if took := time.Since(began); took >= 200*patience {
		t.Errorf("200 sends on a connection that stands still took %v: each has waited", took)
	}
	if dialled.Offer(numbered(sent, 1, size)) {
		t.Error("a message was sent, and there is no room")
	}
	if !dialled.isFinishing() {
		t.Fatal("no message was cut, so nothing is tested")
	}
	drain(t, dialled, taken, sent, size)
}

// isFinishing says whether the rest of a message that was cut waits to be sent.
func (c *TCP) isFinishing() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.finishing
}

// drain receives all that a connection that stood still has taken of so many messages, and nothing else may come. The
// message that was cut comes to its end although nobody sends.
func drain(t *testing.T, dialled, taken *TCP, sent uint64, size int) {
	t.Helper()
	marker := sent + 1
	next, came, marked := uint64(0), uint64(0), false
	for {
		for _, m := range collectFrom(t, taken, 1) {
			switch number := number(t, []byte(m.data)); {
			case number == marker:
				if came == 0 || came >= sent {
					t.Errorf("%d messages came of %d, of which some were dropped", came, sent)
				}
				return
			case number < next || number >= sent || len(m.data) != size:
				t.Fatalf("%d comes after %d", number, next)
			default:
				next = number + 1
			}
			came++
		}
		if !dialled.isFinishing() && !marked {
			marked = dialled.Send(numbered(marker, 1, 50), 50) == nil // or there is more to come, and then room
		}
	}
}

func TestShortMessagesGetThroughWhereAnotherFillsTheConnection(t *testing.T) {
	inNetworkNamespace(t)
	for name, most := range map[string]int{"fast": 0, "slow": -1} {
		dialled, taken := connected(t, "127.0.0.1")
		dialled.out.backlog, dialled.patience = known(0), patience
		const n, size = 40, 1452
		first := fill(t, dialled, n, size)
		dialled.out.backlog = known(most)
		kept, next := 0, first
		for ; kept < 1000; kept++ {
			if err := dialled.Send(numbered(next, 1, 100), 100); errors.Is(err, ErrStalled) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			next++
		}
		if kept < keptMost/100 || kept == 1000 {
			t.Errorf("%s: %d short messages were kept", name, kept)
		}
		for expected := first; expected < next; {
			for _, m := range collectFrom(t, taken, 1) {
				if len(m.data) == size {
					continue
				}
				if got := number(t, []byte(m.data)); got != expected || len(m.data) != 100 {
					t.Fatalf("%s: %d comes, not %d", name, got, expected)
				}
				expected++
			}
		}
		dialled.out.mu.Lock()
		if dialled.out.kept != 0 || dialled.out.tail != nil {
			t.Errorf("%s: %d bytes are kept, and all have come", name, dialled.out.kept)
		}
		dialled.out.mu.Unlock()
	}
}

func TestTryDoesNotWaitForRoom(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	dialled.out.backlog, dialled.patience = known(0), time.Hour // a fast connection, which Send waits for
	timer := time.AfterFunc(10*time.Second, func() { dialled.Close() })
	defer timer.Stop()
	const n, size = 40, 1452
	trains := uint64(0)
	for err := error(nil); err == nil; trains++ {
		if err = dialled.Try(numbered(trains*n, n, size), size); err != nil && !errors.Is(err, ErrStalled) {
			t.Fatal(err)
		}
	}
	for next := uint64(0); next < (trains-1)*n; {
		for _, m := range collectFrom(t, taken, 1) {
			if got := number(t, []byte(m.data)); got != next && next < (trains-1)*n {
				t.Fatalf("after %d messages comes number %d", next, got)
			}
			next++
		}
	}
}

func TestASlowConnectionTakesWhatItSendsInAMoment(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "::1")
	for _, c := range []struct{ most, n, size, taken int }{
		{20_000, 40, 1452, 14}, // the fourteenth begins before 20,000 bytes, the fifteenth does not
		{20_000, 13, 1452, 13},
		{1, 2, 1452, 1},
		{0, 40, 1452, 40},
	} {
		dialled.out.backlog = known(c.most)
		all := numbered(uint64(c.n)<<32, c.n, c.size)
		all = all[:len(all)-100] // the last is shorter, and the one that is taken last is not
		if err := dialled.Send(all, c.size); errors.Is(err, ErrStalled) != (c.taken < c.n) || err != nil && !errors.Is(err, ErrStalled) {
			t.Fatalf("%+v: %v", c, err)
		}
		var want []string
		for i := range c.taken {
			want = append(want, string(all[i*c.size:min((i+1)*c.size, len(all))]))
		}
		expect(t, collectFrom(t, taken, c.taken), want)
	}
	dialled.out.backlog = known(-1)
	long := make([]byte, shortMessage+1)
	began := time.Now()
	if dialled.Offer(long) || !errors.Is(dialled.Send(long, len(long)), ErrStalled) {
		t.Error("a message was taken, and there is no room")
	}
	if took := time.Since(began); took >= dialled.patience {
		t.Errorf("a slow connection was waited for, for %v", took)
	}
	for _, c := range []struct{ most, want int }{{20_000, mostBacklog}, {0, fastBacklog}, {400_000, mostBacklog}} {
		var got int
		_ = dialled.raw.Control(func(fd uintptr) {
			b := known(c.most)
			b.allow(fd)
			got, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		})
		if got != c.want {
			t.Errorf("where %d bytes may wait the kernel takes %d, not %d", c.most, got, c.want)
		}
	}
}

func TestTheBacklogIsTwentyMillisecondsLong(t *testing.T) {
	for _, c := range []struct {
		rate       uint64 // bytes per second
		appLimited bool
		want       int
	}{
		{0, false, 0}, {125_000, false, leastBacklog}, {1_250_000, false, 25_000}, {6_250_000, false, 125_000}, {12_500_000, false, 250_000}, {53_000_000, false, 0},
		{1_250_000, true, 0}, {1 << 40, false, 0},
	} {
		if got := backlogAt(c.rate, c.appLimited); got != c.want {
			t.Errorf("%d bytes per second (what was sent was all: %t): %d bytes may wait, not %d", c.rate, c.appLimited, got, c.want)
		}
	}
}

func TestTheRateOfAConnectionIsThatOfTheWayOnlyIfItIsKeptBusy(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	rate := func() (rate uint64, appLimited bool) {
		var info unix.TCPInfo
		if dialled.raw.Control(func(fd uintptr) { tcpInfo(fd, &info) }) != nil || info.State != 1 { // TCP_ESTABLISHED
			t.Fatalf("%+v", info)
		}
		return info.Delivery_rate, isAppLimited(&info)
	}
	for range 20 {
		for _, way := range []struct{ from, to *TCP }{{dialled, taken}, {taken, dialled}} {
			if err := way.from.Send(hello, len(hello)); err != nil {
				t.Fatal(err)
			}
			collectFrom(t, way.to, 1)
		}
	}
	if r, limited := rate(); r == 0 || !limited {
		t.Errorf("after one message at a time the rate is %d, and what was sent was all: %t", r, limited)
	}
	go func() {
		for {
			if _, err := taken.Receive(); err != nil {
				return
			}
		}
	}()
	busy := false
	for deadline := time.Now().Add(10 * time.Second); !busy && time.Now().Before(deadline); {
		_ = dialled.Send(numbered(0, 40, 1452), 1452)
		_, limited := rate()
		busy = !limited
	}
	if !busy {
		t.Error("a connection that is kept busy does not show how fast the way is")
	}
}

func TestManyWhoSendDoNotTearEachOthersMessages(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "::1")
	dialled.patience = patience
	const senders = 4
	var group sync.WaitGroup
	for s := range senders {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(s), 0))
			for i := range 200 {
				size, n := 40+r.IntN(3000), 1+r.IntN(70)
				first := uint64(s)<<40 + uint64(i*100)
				if r.IntN(4) == 0 {
					dialled.Offer(numbered(first, 1, size))
				} else if err := dialled.Send(numbered(first, n, size), size); err != nil && !errors.Is(err, ErrStalled) {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		group.Wait()
		// Behind all else, however long that takes.
		for dialled.Send(numbered(99<<40, 1, 40), 40) != nil {
		}
	}()
	var last [senders]uint64
	r := rand.New(rand.NewPCG(99, 0))
	came := 0
	for {
		for _, m := range collectFrom(t, taken, 1) {
			n := number(t, []byte(m.data))
			if n == 99<<40 {
				t.Logf("%d messages came", came)
				return
			}
			came++
			if s := n >> 40; n < last[s] {
				t.Fatalf("of sender %d comes %d after %d", s, n, last[s])
			} else {
				last[s] = n
			}
		}
		if r.IntN(20) == 0 {
			time.Sleep(time.Millisecond) // not an event: a reader that is slow now and then
		}
	}
}

func TestAMessageThatHasNoLengthIsRefused(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	if err := dialled.Send(make([]byte, 70_000), 70_000); !errors.Is(err, ErrTooLong) {
		t.Errorf("%v", err)
	}
	if dialled.Offer(make([]byte, 70_000)) || dialled.Offer(nil) {
		t.Error("it was sent")
	}
	if !dialled.Offer(numbered(1, 1, 50)) {
		t.Error("nothing is in the way, and it was not sent")
	}
	expect(t, collectFrom(t, taken, 1), []string{string(numbered(1, 1, 50))})
}

func TestAConnectionThatIsClosedWhileItStandsStillLeavesNobodyBehind(t *testing.T) {
	inNetworkNamespace(t)
	dialled, _ := connected(t, "127.0.0.1")
	dialled.patience = patience
	fill(t, dialled, 3, 50_000)
	for range 10 {
		_ = dialled.Send(numbered(1<<40, 3, 50_000), 50_000)
	}
	if err := dialled.Close(); err != nil { // waits for those who use the connection
		t.Fatal(err)
	}
	if err := dialled.Send(numbered(0, 1, 50), 50); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestSendAndReceiveOnAConnectionDoNotAllocate(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("SKIPPED: with the race detector a sync.Pool forgets things at random")
	}
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	all, _ := train(40, 1452)
	one := numbered(0, 1, 100)
	allocs := testing.AllocsPerRun(500, func() {
		if err := dialled.Send(all, 1452); err != nil {
			t.Fatal(err)
		}
		if !dialled.Offer(one) {
			t.Fatal("an offer was not taken")
		}
		for n := 0; n < 41; {
			burst, err := taken.Receive()
			if err != nil {
				t.Fatal(err)
			}
			n += len(burst)
		}
	})
	if allocs != 0 {
		t.Errorf("a train costs %v allocations", allocs)
	}
}
