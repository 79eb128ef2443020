package device

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestEventsBeginWithTheStateAndFollowIt(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1400})
	events := tun.Events()
	expect(t, events, Event{Down: true, MTU: 1400})
	must(t, netlink.LinkSetUp(link(t, "t0")))
	expect(t, events, Event{Up: true})
	must(t, netlink.LinkSetMTU(link(t, "t0"), 1280))
	expect(t, events, Event{MTU: 1280})
	must(t, netlink.LinkSetDown(link(t, "t0")))
	expect(t, events, Event{Down: true})
	must(t, netlink.LinkSetName(link(t, "t0"), "t1"))
	must(t, netlink.LinkSetMTU(link(t, "t1"), 1300))
	expect(t, events, Event{MTU: 1300})
	if tun.Name() != "t1" {
		t.Errorf("name is %q after renaming", tun.Name())
	}
	must(t, netlink.LinkDel(link(t, "t1")))
	expect(t, events, Event{Gone: true})
	if _, more := <-events; more {
		t.Error("an event after Gone")
	}
	if tun.MTU() != 1300 || tun.Name() != "t1" {
		t.Errorf("what was known last is forgotten: %q, %d", tun.Name(), tun.MTU())
	}
}

func expect(t testing.TB, events <-chan Event, want Event) {
	t.Helper()
	if got := await(t, events); got != want {
		t.Fatalf("event %+v, want %+v", got, want)
	}
}

func TestEventsOfOthersAreNotOurs(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1400})
	other := openTUN(t, Options{Name: "t1"})
	events := tun.Events()
	expect(t, events, Event{Down: true, MTU: 1400})
	must(t, netlink.LinkSetUp(link(t, "t1")))
	must(t, netlink.LinkSetMTU(link(t, "t1"), 1300))
	must(t, other.Close())
	must(t, netlink.LinkSetMTU(link(t, "t0"), 1401))
	expect(t, events, Event{MTU: 1401})
}

func TestEventsFollowAMoveToAnotherNamespace(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1400})
	must(t, netlink.LinkSetUp(link(t, "t0")))
	events := tun.Events()
	expect(t, events, Event{Up: true, MTU: 1400})

	there := anotherNetwork(t)
	h, err := netlink.NewHandleAt(there)
	must(t, err)
	defer h.Close()
	must(t, netlink.LinkSetNsFd(link(t, "t0"), int(there)))
	expect(t, events, Event{Down: true})
	moved, err := h.LinkByName("t0")
	must(t, err)
	must(t, h.LinkSetUp(moved))
	expect(t, events, Event{Up: true})
	must(t, h.LinkSetMTU(moved, 1350))
	expect(t, events, Event{MTU: 1350})
	if tun.Index() != moved.Attrs().Index || tun.MTU() != 1350 {
		t.Errorf("index %d, MTU %d; want %d, 1350", tun.Index(), tun.MTU(), moved.Attrs().Index)
	}
	must(t, h.LinkDel(moved))
	expect(t, events, Event{Down: true}) // what is deleted is set down before
	expect(t, events, Event{Gone: true})
}

func TestIndexMayChangeWithAMove(t *testing.T) {
	privateNetwork(t)
	there := anotherNetwork(t)
	h, err := netlink.NewHandleAt(there)
	must(t, err)
	defer h.Close()
	tun := openTUN(t, Options{Name: "t0", MTU: 1400})
	events := tun.Events()
	expect(t, events, Event{Down: true, MTU: 1400})
	// Take our index there.
	inThere(t, there, func() error {
		fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETIFINDEX, tun.Index()); err != nil {
			return err
		}
		_, err = setInterface(fd, "taken", unix.IFF_TUN|unix.IFF_NO_PI)
		return err
	})
	before := tun.Index()
	must(t, netlink.LinkSetNsFd(link(t, "t0"), int(there)))
	moved, err := h.LinkByName("t0")
	must(t, err)
	must(t, h.LinkSetMTU(moved, 1350))
	expect(t, events, Event{MTU: 1350})
	if tun.Index() != moved.Attrs().Index || tun.Index() == before {
		t.Errorf("index %d, was %d, want %d", tun.Index(), before, moved.Attrs().Index)
	}
}

func TestEventsWhereWeMayNotListen(t *testing.T) {
	privateNetwork(t)
	tun := openTUN(t, Options{Name: "t0", MTU: 1400})
	tun.enter = func(int, func() error) error { return unix.EPERM }
	events := tun.Events()
	expect(t, events, Event{Down: true})
	must(t, netlink.LinkSetUp(link(t, "t0")))
	expect(t, events, Event{Up: true})
	must(t, netlink.LinkSetDown(link(t, "t0")))
	expect(t, events, Event{Down: true})
	must(t, netlink.LinkDel(link(t, "t0")))
	expect(t, events, Event{Gone: true})
}

func TestCloseEndsEvents(t *testing.T) {
	privateNetwork(t)
	for name, enter := range map[string]func(int, func() error) error{
		"listening": inNamespace,
		"blind":     func(int, func() error) error { return unix.EPERM },
	} {
		tun := openTUN(t, Options{MTU: 1400})
		tun.enter = enter
		events := tun.Events()
		await(t, events)
		must(t, tun.Close())
		within(t, name, func() {
			for e := range events {
				if e.Gone {
					t.Errorf("%s: Close is told as Gone", name)
				}
			}
		})
	}
}
