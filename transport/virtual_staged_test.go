package transport_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
)

func TestAtMost128PacketsWaitAndTheOldestGoFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		resume := w.stop(a, crypto.TypeInitiation)
		for k := range 200 {
			a.say(b, fmt.Sprint(k))
		}
		w.pass(time.Second)
		if n := total(a.peer(b.public).Drops); n != 72 {
			t.Errorf("200 packets for 128 places; drops are %v", a.peer(b.public).Drops)
		}
		resume()
		w.pass(6 * time.Second)
		var want []string
		for k := 72; k < 200; k++ {
			want = append(want, fmt.Sprint(k))
		}
		if got := b.heard(); !slices.Equal(got, want) {
			t.Errorf("heard %d packets: %q", len(got), got)
		}
	})
}

func TestPacketsThatWaitAreBoundedInBytes(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		a.tunnel.SetMTU(65000)
		resume := w.stop(a, crypto.TypeInitiation)
		for range 128 {
			a.device.Inject(packet.Sized(to(a.inner), to(b.inner), 60000, "x"))
		}
		a.say(b, "last")
		w.pass(time.Second)
		dropped := total(a.peer(b.public).Drops)
		resume()
		w.pass(6 * time.Second)
		got := b.device.Drain()
		if uint64(len(got))+dropped != 129 || dropped < 2 || len(got) == 0 {
			t.Errorf("%d packets arrived, %d were dropped", len(got), dropped)
		}
	})
}

func TestWhatWaitedForANewSessionIsSentWithIt(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.pass(200 * time.Second)
		for k := range 5 {
			a.say(b, fmt.Sprint(k))
		}
		w.pass(4 * latency)
		b.mustHear("0", "1", "2", "3", "4")
	})
}
