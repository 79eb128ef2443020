package transport_test

import (
	"sync/atomic"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport"
)

// The peer is removed at the very moment at which its keepalive is sent, when
// a timer of it has fired and is about to be armed again.
func TestAPeerRemovedWhileItsTimerFiresLeavesNoTimerBehind(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		looks := w.clocked(a)
		w.greet(a, b)
		a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(time.Second)})
		w.settle()
		var removed atomic.Bool
		w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
			if d.Sender == a.host && len(d.Data) == crypto.KeepaliveSize && removed.CompareAndSwap(false, true) {
				a.change(transport.PeerConfig{PublicKey: b.public, Remove: true})
			}
			return true
		})
		w.pass(20 * time.Second)
		if !removed.Load() {
			t.Fatal("no keepalive was sent")
		}
		before := looks.Load()
		w.pass(time.Hour)
		if n := looks.Load() - before; n > 1 {
			t.Errorf("a tunnel without any peer woke up %d times in an hour", n)
		}
	})
}

func TestWhatWaitsWhenTheTunnelGoesDownIsCountedAsDropped(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		w.stop(a)
		a.say(b, "one")
		a.say(b, "two")
		w.pass(time.Second)
		if err := a.tunnel.SetUp(false); err != nil {
			t.Fatal(err)
		}
		if n := a.drops(); n != 2 {
			t.Errorf("2 packets waited; drops are %v", a.peer(b.public).Drops)
		}
	})
}
