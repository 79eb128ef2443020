package transport_test

import (
	"fmt"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

func TestAnInitiatorGivesUpAfter20AttemptsAndDropsWhatWaited(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		b.shutDown()
		begin := w.now()
		for k := range 10 {
			a.say(b, fmt.Sprint("old ", k))
		}
		w.pass(3 * time.Hour)
		all := w.sightings(begin, "a")
		if len(all) != 20 {
			t.Fatalf("20 attempts were due, but on the wire:%s", story(all))
		}
		gaps := map[time.Duration]bool{}
		for i, s := range all {
			if s.kind != crypto.TypeInitiation {
				t.Errorf("a %v at %v", s.kind, s.at)
			}
			if i == 0 {
				if s.at != begin {
					t.Errorf("the first attempt came after %v", s.at-begin)
				}
				continue
			}
			gap := s.at - all[i-1].at
			if gap < 5*time.Second || gap > 5*time.Second+retryJitter {
				t.Errorf("attempt %d came %v after the one before", i, gap)
			}
			gaps[gap.Truncate(10*time.Millisecond)] = true
		}
		if len(gaps) < 5 {
			t.Errorf("the gaps have no jitter: %v", gaps)
		}
		if n := total(a.peer(b.public).Drops); n != 10 {
			t.Errorf("10 packets waited; drops are %v", a.peer(b.public).Drops)
		}
		again := w.now()
		a.say(b, "once more")
		w.pass(3 * time.Hour)
		if all := w.sightings(again, "a"); len(all) != 20 {
			t.Errorf("20 attempts were due again, but on the wire:%s", story(all))
		}
		b.start(1)
		a.say(b, "new")
		w.pass(4 * latency)
		b.mustHear("new")
	})
}

func TestPacketsThatWaitAreDroppedWhenTheLastAttemptFailed(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		b.shutDown()
		a.say(b, "x")
		w.pass(94 * time.Second)
		if n := total(a.peer(b.public).Drops); n != 0 {
			t.Errorf("dropped %v after 94 s", a.peer(b.public).Drops)
		}
		w.pass(107*time.Second - w.now())
		if n := total(a.peer(b.public).Drops); n != 1 {
			t.Errorf("dropped %v after 107 s", a.peer(b.public).Drops)
		}
	})
}

func TestEachAttemptIsANewHandshakeWithALaterTimestamp(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a)
		a.device.Inject(packet.UDP(to(a.inner), to(r.inner), []byte("x")))
		var last crypto.TAI64N
		ephemerals := map[string]bool{}
		for range 10 {
			msg, ok := r.next(6*time.Second, crypto.TypeInitiation)
			if !ok {
				t.Fatal("no initiation came")
			}
			responder, err := crypto.Accept(r.identity, msg, func(crypto.PublicKey) *crypto.Remote { return r.remote })
			if err != nil {
				t.Fatal(err)
			}
			if !responder.Timestamp().After(last) {
				t.Errorf("timestamp %x after %x", responder.Timestamp(), last)
			}
			if ns := responder.Timestamp(); ns[9]|ns[10]|ns[11] != 0 {
				t.Errorf("timestamp %x tells more than 2^24 ns of the clock", ns)
			}
			last = responder.Timestamp()
			ephemerals[string(msg[8:40])] = true
		}
		if len(ephemerals) != 10 {
			t.Errorf("%d ephemeral keys in 10 attempts", len(ephemerals))
		}
	})
}

func TestMoreDataDoesNotMakeAttemptsMoreFrequent(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		b.shutDown()
		for range 1000 {
			a.say(b, "x")
			w.pass(100 * time.Millisecond)
		}
		all := w.sightings(0, "a")
		for i := 1; i < len(all); i++ {
			if gap := all[i].at - all[i-1].at; gap < 5*time.Second || gap > 5*time.Second+retryJitter+slack {
				t.Errorf("two attempts %v apart", gap)
			}
		}
		if len(all) < 18 {
			t.Errorf("%d attempts in 100 s", len(all))
		}
	})
}

func TestAPeerIsReachedSoonAfterAnHourWithoutIt(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		b.shutDown()
		for begin := w.now(); w.now() < begin+time.Hour; {
			a.say(b, "x")
			w.pass(time.Second)
		}
		b.start(1)
		for range 7 {
			a.say(b, "y")
			w.pass(time.Second)
		}
		got := b.heard()
		if len(got) == 0 || got[len(got)-1] != "y" {
			t.Errorf("7 s after it came back it had heard %d packets", len(got))
		}
	})
}

func TestAnAttemptGoesToTheEndpointThatIsConfiguredNow(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		a.change(transport.PeerConfig{PublicKey: b.public, Endpoint: &elsewhere})
		a.say(b, "x")
		w.pass(time.Second)
		a.change(transport.PeerConfig{PublicKey: b.public, Endpoint: &b.outer})
		w.pass(5 * time.Second)
		b.mustHear("x")
		if all := w.sightings(0, "a", crypto.TypeInitiation); len(all) != 2 || all[0].to != elsewhere || all[1].to != b.outer {
			t.Errorf("initiations:%s", story(all))
		}
	})
}
