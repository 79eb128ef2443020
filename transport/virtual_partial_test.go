package transport_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stunnel/test/memnet/packet"
)

// What the local stack has left unsummed arrives summed where nothing else was
// agreed, whether it waited for a session or not.
func TestPartialPacketsArriveCompleteAtAPeerThatHasAgreedToNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		var want [][]byte
		for size := 60; size < 1420; size += 97 {
			want = append(want, packet.Sized(to(a.inner), to(b.inner), size, "text"))
		}
		for range 2 { // without a session, and with one
			a.device.InjectPartial(want...)
			w.pass(time.Second)
			if got := b.device.Drain(); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%d packets of %d came, or differ", len(got), len(want))
			}
		}
		if n := b.device.Partial(); n != 0 {
			t.Errorf("%d packets came partial", n)
		}
	})
}

func TestARefusalQuotesThePacketThatWouldHaveBeenSent(t *testing.T) {
	inWorld(t, func(w *world) {
		a, _ := w.couple()
		nobody := packet.Sized(to(a.inner), to(netip.MustParseAddr("10.99.0.1")), 100, "text")
		a.device.InjectPartial(nobody)
		w.pass(time.Second)
		got := a.device.Drain()
		if len(got) != 1 || !bytes.HasSuffix(got[0], nobody) {
			t.Errorf("%x does not quote %x", got, nobody)
		}
	})
}
