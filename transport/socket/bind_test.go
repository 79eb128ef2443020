package socket

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOneAddressIsListenedOnAndSentFrom(t *testing.T) {
	inNetworkNamespace(t)
	addAddresses(t, "10.7.0.1/32", "10.7.0.2/32", "fd07::1/128", "fd07::2/128", "fe80::7/64")
	for _, c := range []struct{ ours, other, remote string }{
		{"10.7.0.1", "10.7.0.2", "127.0.0.1"},
		{"::ffff:10.7.0.1", "10.7.0.2", "127.0.0.1"},
		{"fd07::1", "fd07::2", "::1"},
		{"fe80::7%lo", "fd07::2", "fe80::7%lo"},
	} {
		ours := netip.MustParseAddr(c.ours)
		sockets := listenOn(t, 0, 2, Options{Address: ours})
		b := listenOn(t, 0, 1, Options{})[0]
		all, want := train(70, 1000)
		if err := sockets[1].Send(all, 1000, to(c.remote, b)); err != nil {
			t.Fatalf("%s: %v", c.ours, err)
		}
		got := collect(t, b, 70)
		expect(t, got, want)
		if from := got[0].path.Remote; from.Addr().WithZone("") != ours.Unmap().WithZone("") || from.Port() != sockets[0].Port() {
			t.Errorf("%s: it came from %v", c.ours, from)
		}
		// The way back, with a Local, works; another address of ours on the same port is free, for UDP and for TCP.
		if err := b.Send(all, 1000, got[0].path); err != nil {
			t.Errorf("back to %s: %v", c.ours, err)
		}
		listenOn(t, sockets[0].Port(), 1, Options{Address: netip.MustParseAddr(c.other)})
		l := listenTCP(t, Options{Address: ours})
		more, err := ListenTCP(l.Port(), Options{Address: netip.MustParseAddr(c.other)})
		if err != nil {
			t.Fatal(err)
		}
		more.Close()
		if got := dial(t, l.at(c.ours), Options{Address: ours}).Path(); got.Local != ours.Unmap().WithZone("") {
			t.Errorf("%s: a connection has the path %+v", c.ours, got)
		}
	}
}

func TestOneDeviceIsUsed(t *testing.T) {
	inNetworkNamespace(t)
	w := newWire(t, 1500, "10.9.0.1/24", "10.9.0.2")
	a, b := listenOn(t, 0, 2, Options{Device: "lo"}), listenOn(t, 0, 1, Options{})[0]
	if err := a[1].Send([]byte("x"), 1, to("127.0.0.1", b)); err != nil {
		t.Fatal(err)
	}
	expect(t, collect(t, b, 1), []string{"x"})
	for _, u := range a {
		if got := u.getsockopt(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); got != 1 {
			t.Errorf("a socket is bound to device %d", got)
		}
	}
	// The route to there is by another device: nothing comes out of that.
	there := Path{Remote: netip.MustParseAddrPort("10.9.0.2:7")}
	for i, u := range []*UDP{a[0], b} {
		if err := u.Send([]byte{byte(i)}, 1, there); err != nil {
			t.Fatal(err)
		}
	}
	if packet, _, _ := w.packet(t); packet[28] != 1 {
		t.Error("it left by another device")
	}
}

func TestWhatCannotBeBoundToIsToldInWords(t *testing.T) {
	inNetworkNamespace(t)
	for _, c := range []struct {
		o     Options
		is    error
		words string
	}{
		{Options{Address: netip.MustParseAddr("192.0.2.7")}, unix.EADDRNOTAVAIL, "listen on UDP port 4711: 192.0.2.7 is no address of this host"},
		{Options{Address: netip.MustParseAddr("2001:db8::7")}, unix.EADDRNOTAVAIL, "2001:db8::7 is no address of this host"},
		{Options{Device: "eth77"}, unix.ENODEV, `there is no network device "eth77"`},
		{Options{Address: netip.MustParseAddr("fe80::7%eth77")}, unix.ENODEV, "listen on UDP port 4711"},
	} {
		if sockets, err := Listen(4711, 2, c.o); sockets != nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	taken := listenOn(t, 0, 1, Options{})[0]
	if _, err := Listen(taken.Port(), 1, Options{}); err == nil || !strings.Contains(err.Error(), "the port is used by another program") {
		t.Errorf("%v", err)
	}
}
