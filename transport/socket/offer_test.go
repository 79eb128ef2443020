package socket

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestOfferArrives(t *testing.T) {
	inNetworkNamespace(t)
	a, b := pair(t)
	if !a.Offer([]byte("a cookie"), to("::1", b)) {
		t.Fatal("not sent, and nothing was in the way")
	}
	expect(t, collect(t, b, 1), []string{"a cookie"})
}

// Datagrams to neighbours that do not exist wait in the send buffer until the
// kernel gives up on them. What is offered must not fill it.
func TestOffersToNobodyLeaveRoomForWhatIsSent(t *testing.T) {
	inNetworkNamespace(t)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0"}, PeerName: "v1"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"v0", "v1"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "v0" {
			addr, _ := netlink.ParseAddr("10.9.0.1/16")
			if err := netlink.AddrAdd(link, addr); err != nil {
				t.Fatal(err)
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
	a, b := pair(t)
	refused := 0
	for n := range 50_000 { // nearly three times what fills the buffer
		nobody := netip.AddrFrom4([4]byte{10, 9, 0, byte(2 + n%200)})
		if !a.Offer(make([]byte, 64), Path{Remote: netip.AddrPortFrom(nobody, 1000)}) {
			refused++
		}
	}
	if refused == 0 {
		t.Fatal("every offer was taken, so nothing was tested")
	}
	full := false
	real := a.sendmsg
	a.sendmsg = func(fd int, msg *unix.Msghdr) syscall.Errno {
		e := real(fd, msg)
		full = full || e != 0
		return e
	}
	if err := a.Send([]byte("data"), 4, to("::1", b)); err != nil || full {
		t.Errorf("Send had to wait, or failed: %v", err)
	}
	expect(t, collect(t, b, 1), []string{"data"})
}
