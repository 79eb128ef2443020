package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stunnel/transport"
)

var update = flag.Bool("update", false, "write the golden files anew")

// exchange writes a request and returns the reply up to and with its empty line.
func exchange(t *testing.T, c net.Conn, br *bufio.Reader, request string) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return answer(t, br)
}

func answer(t *testing.T, br *bufio.Reader) string {
	t.Helper()
	var reply strings.Builder
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", reply.String(), err)
		}
		reply.WriteString(line)
		if line == "\n" {
			return reply.String()
		}
	}
}

func connect(t *testing.T, path string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

// start serves d and returns the path of the socket.
func start(t *testing.T, d Device, stop func()) string {
	t.Helper()
	dir := socketDir(t)
	l, err := listen(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, d, stop)
	return socketPath(dir, "peer")
}

func TestGetTellsAll(t *testing.T) {
	c, br := connect(t, start(t, &fakeDevice{status: fullStatus()}, nil))
	got := exchange(t, c, br, "get=1\n\n")
	const golden = "testdata/get.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for line := range strings.Lines(got) {
		if line != "\n" && strings.Count(line, "=") != 1 {
			t.Errorf("wgctrl cannot read %q", line)
		}
	}
}

func TestAnEmptyDeviceTellsNoKey(t *testing.T) {
	c, br := connect(t, start(t, &fakeDevice{}, nil))
	if got := exchange(t, c, br, "get=1\n\n"); got != "listen_port=0\nup=false\nmtu=0\ntrusted_checksums=false\nerrno=0\n\n" {
		t.Errorf("%q", got)
	}
}

func TestManyOperationsOnOneConnection(t *testing.T) {
	d := &fakeDevice{}
	c, br := connect(t, start(t, d, nil))
	for i, step := range []struct{ request, reply string }{
		{"set=1\nlisten_port=1\n\n", "errno=0\n\n"},
		{"set=1\nlisten_port=x\nfwmark=7\n\n", "errno=-22\n\n"},
		{"set=1\nlisten_port\n\n", "errno=-71\n\n"},
		{"get=1\n\n", "listen_port=1\nup=false\nmtu=0\ntrusted_checksums=false\nerrno=0\n\n"},
		{"get=1\nmore=1\n\n", "errno=22\n\n"},
		{"set=1\n\n", "errno=0\n\n"},
		{"set=1\nfwmark=9\n\nget=1\n\n", "errno=0\n\n"},
		{"", "listen_port=1\nfwmark=9\nup=false\nmtu=0\ntrusted_checksums=false\nerrno=0\n\n"},
	} {
		if got := exchange(t, c, br, step.request); got != step.reply {
			t.Errorf("%d: %q: %q, want %q", i, step.request, got, step.reply)
		}
	}
	if got := exchange(t, c, br, "hello=1\n"); got != "errno=-71\n\n" {
		t.Errorf("%q", got)
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("out of step, and then %v", err)
	}
}

func TestErrnoOfConfigureIsPassedOn(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("listening: %w", syscall.EADDRINUSE), "errno=-98\n\n"},
		{errors.New("something"), "errno=-5\n\n"},
	} {
		c, br := connect(t, start(t, &fakeDevice{refuse: test.err}, nil))
		if got := exchange(t, c, br, "set=1\nlisten_port=1\n\n"); got != test.want {
			t.Errorf("%v: %q", test.err, got)
		}
	}
}

func TestOwnKeyAsPeerIsPassedOver(t *testing.T) {
	own, other := privateKey(1), publicKey(9)
	peers := "public_key=" + own.Public().Hex() + "\nallowed_ip=10.0.0.0/8\nendpoint=192.0.2.1:1\npublic_key=" + other.Hex() + "\nallowed_ip=11.0.0.0/8\n\n"
	d := &fakeDevice{status: transport.Status{PrivateKey: own, PublicKey: own.Public()}}
	c, br := connect(t, start(t, d, nil))
	exchange(t, c, br, "set=1\n"+peers)
	exchange(t, c, br, "set=1\nprivate_key="+privateKey(2).Hex()+"\n"+peers)
	exchange(t, c, br, "set=1\nprivate_key="+own.Hex()+"\n"+peers)
	got := d.configs()
	for i, want := range []int{1, 2, 1} {
		if n := len(got[i].Peers); n != want || got[i].Peers[n-1].PublicKey != other {
			t.Errorf("set %d reached the device with %+v", i, got[i].Peers)
		}
	}
}

func TestAnUnfinishedSetIsNotApplied(t *testing.T) {
	d := &fakeDevice{}
	path := start(t, d, nil)
	c, br := connect(t, path)
	io.WriteString(c, "set=1\nlisten_port=1\n")
	c.(*net.UnixConn).CloseWrite()
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("answered: %v", err)
	}
	if got := d.configs(); len(got) != 0 {
		t.Errorf("applied: %+v", got)
	}
}

// A client that writes a large set meets the error in its answer, not a SIGPIPE.
func TestAFaultAtTheBeginningIsAnsweredAtTheEnd(t *testing.T) {
	c, br := connect(t, start(t, &fakeDevice{}, nil))
	var b strings.Builder
	b.WriteString("set=1\nnonsense=1\n")
	for range 50_000 {
		b.WriteString("public_key=" + publicKey(1).Hex() + "\n")
	}
	if got := exchange(t, c, br, b.String()+"\n"); got != "errno=-22\n\n" {
		t.Errorf("%q", got)
	}
}

func TestWhatOperationsHoldIsGivenBack(t *testing.T) {
	s := &server{device: &fakeDevice{status: fullStatus()}, conns: make(map[*conn]struct{})}
	local, remote := net.Pipe()
	s.accept(remote)
	br := bufio.NewReader(local)
	for _, request := range []string{"set=1\nlisten_port=1\n\n", "set=1\nx=1\n\n", "get=1\n\n"} {
		exchange(t, local, br, request)
	}
	s.held.Add(maxHeld)
	if got := exchange(t, local, br, "get=1\n\n"); got != "errno=12\n\n" {
		t.Errorf("%.80q", got)
	}
	if got := exchange(t, local, br, "set=1\nfwmark=1\n\n"); got != "errno=-12\n\n" {
		t.Errorf("%q", got)
	}
	local.Close()
	s.running.Wait()
	if n := s.held.Load(); n != maxHeld {
		t.Errorf("%d bytes are held still", n-maxHeld)
	}
}

func TestTenThousandPeersWithManyAllowedIPs(t *testing.T) {
	const peers, ips = 10_000, 20
	d := &fakeDevice{}
	c, br := connect(t, start(t, d, nil))
	var b bytes.Buffer
	b.WriteString("set=1\n")
	for i := range peers {
		fmt.Fprintf(&b, "public_key=%064x\nreplace_allowed_ips=true\n", i+1)
		for j := range ips {
			fmt.Fprintf(&b, "allowed_ip=fd00:%x:%x::/64\n", i, j)
		}
	}
	b.WriteString("\n")
	c.SetDeadline(time.Now().Add(time.Minute))
	go c.Write(b.Bytes())
	if got := answer(t, br); got != "errno=0\n\n" {
		t.Fatalf("%q", got)
	}
	io.WriteString(c, "get=1\n\n")
	s, err := readStatus(br)
	if err != nil || len(s.Peers) != peers || len(s.Peers[peers-1].AllowedIPs) != ips {
		t.Errorf("%d peers, %v", len(s.Peers), err)
	}
}

func TestASlowClientHoldsUpNobody(t *testing.T) {
	d := &fakeDevice{status: fullStatus()}
	path := start(t, d, nil)
	slow, slowReader := connect(t, path)
	io.WriteString(slow, "set=1\nlisten_port=1\n") // half a request
	idle, idleReader := connect(t, path)
	c, br := connect(t, path)
	if got := exchange(t, c, br, "set=1\nfwmark=1\n\n"); got != "errno=0\n\n" {
		t.Errorf("%q", got)
	}
	if got := exchange(t, slow, slowReader, "\n"); got != "errno=0\n\n" {
		t.Errorf("%q", got)
	}
	if got := exchange(t, idle, idleReader, "set=1\n\n"); got != "errno=0\n\n" {
		t.Errorf("%q", got)
	}
}

func TestTheLongestRestingConnectionGivesWay(t *testing.T) {
	path := start(t, &fakeDevice{}, nil)
	busy, busyReader := connect(t, path)
	io.WriteString(busy, "set=1\n")
	first, firstReader := connect(t, path)
	exchange(t, first, firstReader, "set=1\n\n")
	var last net.Conn
	var lastReader *bufio.Reader
	for range maxConns - 1 {
		last, lastReader = connect(t, path)
		exchange(t, last, lastReader, "set=1\n\n")
	}
	first.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := firstReader.ReadByte(); err != io.EOF {
		t.Errorf("the first of %d connections: %v", maxConns+1, err)
	}
	if got := exchange(t, busy, busyReader, "\n"); got != "errno=0\n\n" {
		t.Errorf("the busy one: %q", got)
	}
	if got := exchange(t, last, lastReader, "set=1\n\n"); got != "errno=0\n\n" {
		t.Errorf("the last: %q", got)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	dir := socketDir(t)
	l, err := listen(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, &fakeDevice{}, nil) }()
	c, br := connect(t, socketPath(dir, "peer"))
	exchange(t, c, br, "set=1\n\n") // it is being served now, and rests
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("a resting client: %v", err)
	}
	if _, err := os.Lstat(socketPath(dir, "peer")); !os.IsNotExist(err) {
		t.Errorf("the socket file: %v", err)
	}
}

func TestServeSaysWhenItsListenerFails(t *testing.T) {
	l, err := listen(socketDir(t), "peer")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, &fakeDevice{}, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// wgctrl reads the answer to a set with one call.
func TestAReplyIsOneWrite(t *testing.T) {
	local, remote := net.Pipe()
	counted := &countedConn{Conn: remote}
	serving(t, &oneConn{closed: make(chan struct{}), first: counted}, &fakeDevice{status: fullStatus()}, nil)
	br := bufio.NewReader(local)
	for i, request := range []string{"set=1\n\n", "set=1\nx=1\n\n", "get=1\n\n"} {
		exchange(t, local, br, request)
		if n := counted.writes.Load(); n != int32(i+1) {
			t.Errorf("%q: %d writes so far", request, n)
		}
	}
}

type countedConn struct {
	net.Conn
	writes atomic.Int32
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// oneConn is a listener with one connection.
type oneConn struct {
	first  net.Conn
	closed chan struct{}
	shut   atomic.Bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.first; c != nil {
		l.first = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	if l.shut.CompareAndSwap(false, true) {
		close(l.closed)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
