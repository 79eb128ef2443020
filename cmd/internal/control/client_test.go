package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"stunnel/transport"
)

func TestClientReadsWhatTheServerWrites(t *testing.T) {
	want := fullStatus()
	got, err := readStatus(bufio.NewReader(bytes.NewReader(appendErrno(appendStatus(nil, &want), 0))))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestClientReadsOtherPrograms(t *testing.T) {
	// As wireguard-go answers, and with keys of the future.
	text := "private_key=" + privateKey(1).Hex() + "\nlisten_port=12912\nfuture=1=2\npublic_key=" + publicKey(2).Hex() +
		"\npreshared_key=" + strings.Repeat("0", 64) + "\nprotocol_version=1\nendpoint=[::ffff:10.0.0.1]:5\nlast_handshake_time_sec=0\n" +
		"last_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\nallowed_ip=10.0.0.0/8\nfuture=x\nerrno=0\n\n"
	s, err := readStatus(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Peers[0]
	if s.PublicKey != privateKey(1).Public() || s.ListenPort != 12912 || s.MTU != 0 || p.Endpoint.String() != "10.0.0.1:5" ||
		!p.LastHandshake.IsZero() || len(p.AllowedIPs) != 1 || !p.PresharedKey.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestClientRefusesFaultyExtensions(t *testing.T) {
	for _, line := range []string{
		"extensions=", "extensions=Off", "extensions=\x1b[m", "software=%1b[31m", "software=" + strings.Repeat("x", 256), "software=%e2%80%ae",
		"announced=", "announced=,", "announced=echo,", "announced=echo, fragments", "announced=Echo", "announced=a%20b", "announced=caf\u00e9",
		"refused=%ff", "refused=%", "refused=" + strings.Repeat("%41", 256), "downgrades=-1", "downgrades=", "downgrades=18446744073709551616",
		"goodbye_time_sec=999999999999999", "goodbye_time_sec=-1", "goodbye_time_nsec=2000000000", "round_trip_nsec=9223372036854775808",
		"round_trip_nsec=-5", "round_trip_nsec=1.5", "echoes_sent=2147483648", "echoes_sent=-1", "echoes_lost=2147483648", "echoes_lost=x",
	} {
		text := "public_key=" + publicKey(1).Hex() + "\n" + line + "\nerrno=0\n\n"
		if s, err := readStatus(bufio.NewReaderSize(strings.NewReader(text), maxLine)); err == nil {
			t.Errorf("%.80q became %+v", line, s)
		}
	}
	text := "trusted_checksums=perhaps\nerrno=0\n\n"
	if s, err := readStatus(bufio.NewReaderSize(strings.NewReader(text), maxLine)); err == nil {
		t.Errorf("%q became %+v", text, s)
	}
}

func TestServerTellsNoWordThatIsNone(t *testing.T) {
	s := transport.Status{Peers: []transport.PeerStatus{
		{Announced: []string{"", "a=b", "echo", "a,b", "two words", "fragments", "\x1b"}, Software: "a=b\n", Goodbye: time.Unix(-1, 0), EchoesSent: -1, RoundTrip: -1},
		{Announced: []string{"="}},
	}}
	text := string(appendStatus(nil, &s))
	if strings.Count(text, "announced=") != 1 || !strings.Contains(text, "\nsoftware=a%3db%0a\nannounced=echo,fragments\n") {
		t.Errorf("%s", text)
	}
	for _, key := range []string{"goodbye_", "echoes_", "round_trip_", "extensions="} {
		if strings.Contains(text, key) {
			t.Errorf("%s is told, of nothing:\n%s", key, text)
		}
	}
}

func TestClientRefusesFaultyAnswers(t *testing.T) {
	for _, text := range []string{
		"", "\n", "listen_port=1\n\n", "errno=0\n", "errno=0", "listen_port\nerrno=0\n\n", "errno=x\n\n", "errno=\n\n", "listen_port=-1\nerrno=0\n\n",
		"public_key=zz\nerrno=0\n\n", "public_key=" + publicKey(1).Hex() + "\nname=%1b\nerrno=0\n\n", "public_key=" + publicKey(1).Hex() + "\nendpoint=[::1%\x1b[m]:5\nerrno=0\n\n",
		"public_key=" + publicKey(1).Hex() + "\nlast_handshake_time_sec=999999999999999\nerrno=0\n\n", "mtu=" + strings.Repeat("1", maxLine) + "\nerrno=0\n\n",
	} {
		if s, err := readStatus(bufio.NewReaderSize(strings.NewReader(text), maxLine)); err == nil {
			t.Errorf("%.80q became %+v", text, s)
		}
	}
	for text, want := range map[string]syscall.Errno{"errno=-1\n\n": syscall.EPERM, "listen_port=1\nerrno=22\n\n": syscall.EINVAL} {
		if _, err := readStatus(bufio.NewReader(strings.NewReader(text))); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// served runs a server for d in a directory of its own and returns a client.
func served(t *testing.T, d Device, stop func()) *Client {
	t.Helper()
	dir := socketDir(t)
	l, err := listen(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, d, stop)
	c, err := dial(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serving runs Serve until the test ends.
func serving(t *testing.T, l net.Listener, d Device, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, d, stop) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestClientConfiguresAndSeesIt(t *testing.T) {
	d := &fakeDevice{}
	c := served(t, d, nil)
	if c.PID() != os.Getpid() || c.Name() != "peer" {
		t.Errorf("pid %d, name %s", c.PID(), c.Name())
	}
	want := transport.Config{ListenPort: to(uint16(7)), Peers: []transport.PeerConfig{{PublicKey: publicKey(1), Name: to("a b"), Extensions: to(transport.ExtensionsRequired)}}, TrustedChecksums: to(true)}
	if err := c.Configure(want); err != nil {
		t.Fatal(err)
	}
	if got := d.configs(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("configured: %+v", got)
	}
	s, err := c.Status()
	if err != nil || s.ListenPort != 7 || len(s.Peers) != 1 || s.Peers[0].Name != "a b" || s.Peers[0].Extensions != transport.ExtensionsRequired || !s.TrustedChecksums {
		t.Errorf("%+v, %v", s, err)
	}
	d.mu.Lock()
	d.refuse = syscall.EADDRINUSE
	d.mu.Unlock()
	if err := c.Configure(want); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the refusal became %v", err)
	}
}

func TestStopIsAnsweredBeforeItHappens(t *testing.T) {
	stopped := make(chan struct{})
	c := served(t, &fakeDevice{}, func() { close(stopped) })
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	<-stopped
}

func TestStopOfAnotherProgramIsForeign(t *testing.T) {
	c := served(t, &fakeDevice{}, nil) // answers EINVAL, as one that does not know the key
	if err := c.Stop(); !errors.Is(err, ErrForeign) {
		t.Errorf("%v", err)
	}
	if _, err := c.Status(); err != nil {
		t.Errorf("the connection is out of step: %v", err)
	}
}

func TestDialOfNothingIsNotRunning(t *testing.T) {
	dir := socketDir(t)
	if _, err := dial(dir, "peer"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	deadSocket(t, socketPath(dir, "peer"))
	if _, err := dial(dir, "peer"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dead socket: %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a b", "sixteen-letters-", "a\x1b"} {
		if _, err := dial(dir, name); err == nil || errors.Is(err, ErrNotRunning) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzClient(f *testing.F) {
	s := fullStatus()
	f.Add(appendErrno(appendStatus(nil, &s), 0))
	f.Add([]byte("errno=-22\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := readStatus(bufio.NewReaderSize(bytes.NewReader(text), maxLine))
		if err != nil {
			return
		}
		again, err := readStatus(bufio.NewReaderSize(bytes.NewReader(appendErrno(appendStatus(nil, &s), 0)), maxLine))
		for i := range s.Peers { // a nanosecond of 0 is written as 1, and before 1970 there is no handshake
			s.Peers[i].LastHandshake = again.Peers[i].LastHandshake
		}
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%q became %+v\nthen %+v, %v", text, s, again, err)
		}
	})
}
