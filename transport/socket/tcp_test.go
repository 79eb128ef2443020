package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenTCP opens a port that is closed with the test.
func listenTCP(t testing.TB, o Options) *Listener {
	t.Helper()
	l, err := ListenTCP(0, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func (l *Listener) at(addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), l.Port())
}

// dial connects, and ends the connection with the test.
func dial(t testing.TB, remote netip.AddrPort, o Options) *TCP {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := Dial(ctx, remote, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// accept takes the next connection.
func accept(t testing.TB, l *Listener) *TCP {
	t.Helper()
	timer := time.AfterFunc(10*time.Second, func() { l.Close() })
	defer timer.Stop()
	s, err := l.Accept()
	if err != nil {
		t.Fatalf("no connection came: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*TCP)
}

// connected is a connection from both sides, admitted.
func connected(t testing.TB, addr string) (dialled, taken *TCP) {
	t.Helper()
	l := listenTCP(t, Options{})
	dialled = dial(t, l.at(addr), Options{})
	first := bytes.Repeat([]byte("hello"), 10)
	if err := dialled.Send(first, len(first)); err != nil {
		t.Fatal(err)
	}
	taken = accept(t, l)
	if got, err := taken.First(); err != nil || !bytes.Equal(got.Data, first) {
		t.Fatalf("first came %q, %v", got.Data, err)
	}
	taken.Admit()
	dialled.patience, taken.patience = 5*time.Second, 5*time.Second // a machine that is busy is not to fail the tests
	return dialled, taken
}

// collectFrom takes n messages, and fails if they do not come.
func collectFrom(t testing.TB, c *TCP, n int) (all []received) {
	t.Helper()
	timer := time.AfterFunc(10*time.Second, func() { c.Close() })
	defer timer.Stop()
	for len(all) < n {
		burst, err := c.Receive()
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(all), n, err)
		}
		for _, d := range burst {
			all = append(all, received{string(d.Data), d.Path})
		}
	}
	return all
}

func TestMessagesCrossAConnectionBothWays(t *testing.T) {
	inNetworkNamespace(t)
	for _, addr := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		dialled, taken := connected(t, addr)
		for _, way := range []struct{ from, to *TCP }{{dialled, taken}, {taken, dialled}} {
			for _, c := range []struct{ n, size int }{{1, 35}, {1, 1452}, {45, 1452}, {64, 1000}, {65, 100}, {300, 40}, {1, maxMessage}, {3, 60_000}} {
				all, want := train(c.n, c.size)
				if err := way.from.Send(all, c.size); err != nil {
					t.Fatalf("%s: %d messages of %d bytes: %v", addr, c.n, c.size, err)
				}
				got := collectFrom(t, way.to, c.n)
				expect(t, got, want)
				if got[0].path != way.to.Path() {
					t.Errorf("%s: it came by %+v, not %+v", addr, got[0].path, way.to.Path())
				}
			}
		}
		a, b := dialled.Path(), taken.Path()
		plain := netip.MustParseAddr(addr).Unmap()
		if a.Stream != Stream(dialled) || b.Stream != Stream(taken) || a.Remote.Addr() != plain || b.Remote.Addr() != plain || a.Local != plain || b.Local != plain {
			t.Errorf("%s: the paths are %+v and %+v", addr, a, b)
		}
	}
}

func TestAConnectionIsTunedHoweverItCameAbout(t *testing.T) {
	inNetworkNamespace(t)
	l := listenTCP(t, Options{Mark: 7, Device: "lo"})
	dialled := dial(t, l.at("::1"), Options{Mark: 7, Device: "lo"})
	if err := dialled.Send(make([]byte, 100), 100); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*TCP{"dialled": dialled, "taken": accept(t, l)} {
		get := func(level, option int) (value int) {
			_ = c.raw.Control(func(fd uintptr) { value, _ = unix.GetsockoptInt(int(fd), level, option) })
			return value
		}
		for what, v := range map[string][2]int{
			"TCP_NODELAY":       {get(unix.IPPROTO_TCP, unix.TCP_NODELAY), 1},
			"TCP_NOTSENT_LOWAT": {get(unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT), fastBacklog},
			"TCP_USER_TIMEOUT":  {get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT), 15000},
			"SO_KEEPALIVE":      {get(unix.SOL_SOCKET, unix.SO_KEEPALIVE), 1},
			"TCP_KEEPIDLE":      {get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE), 15},
			"TCP_KEEPINTVL":     {get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL), 5},
			"SO_MARK":           {get(unix.SOL_SOCKET, unix.SO_MARK), 7},
			"SO_BINDTOIFINDEX":  {get(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX), 1},
		} {
			if v[0] != v[1] {
				t.Errorf("%s: %s is %d, not %d", name, what, v[0], v[1])
			}
		}
		if got := get(unix.IPPROTO_TCP, unix.TCP_MAXSEG); got < 1000 || got > segment {
			t.Errorf("%s: a packet carries %d bytes, which is not at most %d", name, got, segment)
		}
		_ = c.raw.Control(func(fd uintptr) {
			got, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
			if available, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control"); !strings.Contains(string(available), congestion) {
				t.Logf("SKIPPED: this kernel has no %s", congestion)
			} else if strings.TrimRight(got, "\x00") != congestion {
				t.Errorf("%s: the congestion control is %q (%v)", name, got, err)
			}
		})
	}
}

func TestNothingIsReadBehindTheFirstMessage(t *testing.T) {
	inNetworkNamespace(t)
	l := listenTCP(t, Options{})
	dialled := dial(t, l.at("127.0.0.1"), Options{})
	all, want := train(20, 200)
	if err := dialled.Send(all, 200); err != nil {
		t.Fatal(err)
	}
	taken := accept(t, l)
	first, err := taken.First()
	if err != nil || string(first.Data) != want[0] || first.Path != taken.Path() {
		t.Fatalf("first came %d bytes by %+v, %v", len(first.Data), first.Path, err)
	}
	waiting := 0
	_ = taken.raw.Control(func(fd uintptr) { waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if rest := len(all) - 200 + 19*lengthSize; err != nil || waiting != rest {
		t.Errorf("%d bytes have not been read (%v), not %d", waiting, err, rest)
	}
	taken.Admit()
	expect(t, collectFrom(t, taken, 19), want[1:])
}

func TestAFirstMessageThatIsNoneEndsTheConnectionWithoutAByte(t *testing.T) {
	inNetworkNamespace(t)
	for name, said := range map[string]string{
		"too long":            "\x08\x01" + strings.Repeat("x", 2049),
		"too short":           "\x00\x1f" + strings.Repeat("x", 31),
		"another protocol":    "GET / HTTP/1.1\r\n\r\n",
		"the end in mid-word": "\x00\x94 and no more",
	} {
		l := listenTCP(t, Options{})
		conn, err := net.Dial("tcp", l.at("127.0.0.1").String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		if name == "the end in mid-word" {
			conn.(*net.TCPConn).CloseWrite()
		}
		taken := accept(t, l)
		if first, err := taken.First(); err == nil {
			t.Errorf("%s: it was taken for %d bytes", name, len(first.Data))
		}
		// The connection was reset, which says less than an orderly end.
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: the answer is %d bytes, %v", name, n, err)
		}
		if l.Strangers() != 1 {
			t.Errorf("%s: %d strangers were counted", name, l.Strangers())
		}
	}
}

func TestAMessageOutOfRangeEndsTheConnectionBehindTheOnesBeforeIt(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	good := bytes.Repeat([]byte("good"), 10)
	if _, err := dialled.conn.Write(append(framed(good, good), 0, 31)); err != nil {
		t.Fatal(err)
	}
	expect(t, collectFrom(t, taken, 2), []string{string(good), string(good)})
	if burst, err := taken.Receive(); err == nil || !strings.Contains(err.Error(), "a message of 31 bytes") {
		t.Errorf("%d messages, %v", len(burst), err)
	}
	if err := taken.Send(good, len(good)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection goes on: %v", err)
	}
}

func TestTheEndOfTheOtherEndIsAnEnd(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "::1")
	last := bytes.Repeat([]byte("goodbye "), 5)
	if err := dialled.Send(last, len(last)); err != nil {
		t.Fatal(err)
	}
	if err := dialled.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, collectFrom(t, taken, 1), []string{string(last)})
	if _, err := taken.Receive(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	for _, err := range []error{dialled.Close(), dialled.Send(last, 1), errOf(dialled.Receive())} {
		if !errors.Is(err, net.ErrClosed) || !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if dialled.Offer(last) {
		t.Error("after Close something was sent")
	}
}

func errOf(_ []Datagram, err error) error { return err }

func TestCloseEndsReceive(t *testing.T) {
	inNetworkNamespace(t)
	_, taken := connected(t, "127.0.0.1")
	done := make(chan error)
	go func() {
		_, err := taken.Receive()
		done <- err
	}()
	if err := taken.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestAResetIsToldWithTheAddress(t *testing.T) {
	inNetworkNamespace(t)
	dialled, taken := connected(t, "127.0.0.1")
	_ = dialled.conn.SetLinger(0)
	dialled.Close()
	if _, err := taken.Receive(); !errors.Is(err, unix.ECONNRESET) || !strings.Contains(err.Error(), taken.Path().Remote.String()) {
		t.Errorf("%v", err)
	}
}

func TestDialFailsInWords(t *testing.T) {
	inNetworkNamespace(t)
	l := listenTCP(t, Options{})
	l.Close()
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx   context.Context
		to    string
		o     Options
		is    error
		words string
	}{
		"nobody listens":   {context.Background(), l.at("127.0.0.1").String(), Options{}, unix.ECONNREFUSED, "connect to 127.0.0.1:"},
		"no route":         {context.Background(), "192.0.2.1:443", Options{}, unix.ENETUNREACH, "192.0.2.1:443"},
		"no such address":  {context.Background(), "127.0.0.1:443", Options{Address: netip.MustParseAddr("192.0.2.7")}, unix.EADDRNOTAVAIL, "192.0.2.7 is no address of this host"},
		"no such device":   {context.Background(), "127.0.0.1:443", Options{Device: "eth77"}, unix.ENODEV, `no network device "eth77"`},
		"no time":          {cancelled, "127.0.0.1:443", Options{}, context.Canceled, "127.0.0.1:443"},
		"the other family": {context.Background(), "127.0.0.1:443", Options{Address: netip.MustParseAddr("::1")}, unix.EAFNOSUPPORT, "127.0.0.1:443 by TCP from ::1"},
	} {
		conn, err := Dial(c.ctx, netip.MustParseAddrPort(c.to), c.o)
		if err == nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, %v", name, conn, err)
		}
	}
}
