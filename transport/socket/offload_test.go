package socket

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOffloadsSwitchedOffAreNotUsed(t *testing.T) {
	inNetworkNamespace(t)
	sockets, err := Listen(0, 1, Options{NoOffload: true})
	if err != nil {
		t.Fatal(err)
	}
	u := sockets[0]
	t.Cleanup(func() { u.Close() })
	if o := u.Offloads(); o["gso"] != switchedOff || o["gro"] != switchedOff {
		t.Errorf("offloads %v", o)
	}
	_, b := pair(t)
	refuse(u, func(_ int, segmented, _ bool) syscall.Errno {
		if segmented {
			t.Error("a train went out by UDP_SEGMENT")
		}
		return 0
	})
	all, want := train(100, 1200)
	if err := u.Send(all, 1200, to("::1", b)); err != nil {
		t.Fatal(err)
	}
	expect(t, collect(t, b, 100), want)
}

func TestALostOffloadIsToldOnce(t *testing.T) {
	inNetworkNamespace(t)
	var lost []string
	sockets, err := Listen(0, 1, Options{Lost: func(offload, why string) { lost = append(lost, offload+" "+why) }})
	if err != nil {
		t.Fatal(err)
	}
	a := sockets[0]
	t.Cleanup(func() { a.Close() })
	_, b := pair(t)
	refuse(a, func(_ int, segmented, _ bool) syscall.Errno {
		if segmented {
			return unix.EIO
		}
		return 0
	})
	all, want := train(20, 1200)
	for range 2 {
		if err := a.Send(all, 1200, to("::1", b)); err != nil {
			t.Fatal(err)
		}
		expect(t, collect(t, b, 20), want)
	}
	if len(lost) != 1 || lost[0] != "gso "+a.Offloads()["gso"] {
		t.Errorf("told %q, and %v", lost, a.Offloads())
	}
}
