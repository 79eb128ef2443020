package transport_test

import (
	"sync/atomic"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/test/memnet/packet"
	"stunnel/transport"
)

func TestOnlyTheInitiatorRenewsASessionEvery120Seconds(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.couple()
		a.say(b, "first")
		w.pass(time.Second)
		b.mustHear("first")
		const interval = 250 * time.Millisecond
		sent, atA, atB := w.chat(a, b, interval, 2*time.Hour)
		if atA != sent || atB != sent {
			t.Errorf("of %d packets each way, %d and %d arrived", sent, atA, atB)
		}
		if n := len(w.sightings(0, "b", crypto.TypeInitiation)); n != 0 {
			t.Errorf("the responder initiated %d times", n)
		}
		all := w.sightings(0, "a", crypto.TypeInitiation)
		if len(all) < 59 || len(all) > 61 {
			t.Errorf("%d initiations in two hours", len(all))
		}
		for i := 1; i < len(all); i++ {
			// A session's age counts from its derivation, a round trip after the initiation.
			if gap := all[i].at - all[i-1].at; gap < 120*time.Second || gap > 120*time.Second+interval+slack {
				t.Errorf("initiation %d came %v after the one before", i, gap)
			}
		}
	})
}

func TestAnInitiatorThatOnlyHearsKeepalivesRenewsTheSessionAfter165Seconds(t *testing.T) {
	inWorld(t, func(w *world) {
		const interval = 4 * time.Second
		a, b := w.acquainted()
		b.change(transport.PeerConfig{PublicKey: a.public, PersistentKeepalive: ptr(interval)})
		w.pass(time.Hour)
		all := w.sightings(0, "", crypto.TypeInitiation)
		if len(all) < 3600/170 {
			t.Errorf("initiations:%s", story(all))
		}
		for i := 1; i < len(all); i++ {
			if gap := all[i].at - all[i-1].at; all[i].sender != "a" || gap < 165*time.Second || gap > 165*time.Second+interval+slack {
				t.Errorf("%s initiated %v after the initiation before", all[i].sender, gap)
			}
		}
	})
}

func TestAnInitiatorThatHearsDataButCannotRenewAsksOnceBySession(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.stop(b, crypto.TypeResponse)
		b.change(transport.PeerConfig{PublicKey: a.public, PersistentKeepalive: ptr(time.Second)})
		w.pass(175*time.Second - w.now())
		again := w.sightings(10*time.Second, "a", crypto.TypeInitiation)
		for i := 1; i < len(again); i++ {
			if gap := again[i].at - again[i-1].at; gap < 5*time.Second {
				t.Errorf("two initiations %v apart", gap)
			}
		}
		if len(again) < 1 || len(again) > 3 {
			t.Errorf("initiations:%s", story(again))
		}
	})
}

func TestASessionIsNotUsedAfter180Seconds(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.stop(a, crypto.TypeInitiation) // no new session from here on
		w.stop(b, crypto.TypeInitiation)
		var kept []sighting
		keep := func(d time.Duration, text string) {
			w.pass(d - w.now())
			release := w.stop(a, crypto.TypeTransport)
			a.say(b, text)
			w.settle()
			sent := w.sightings(d, "a", crypto.TypeTransport)
			if len(sent) != 1 {
				t.Fatalf("at %v sent:%s", d, story(sent))
			}
			kept = append(kept, sent[0])
			release()
		}
		keep(100*time.Second, "kept for 79 s")
		keep(101*time.Second, "kept for 80 s")

		w.pass(179*time.Second - w.now())
		a.say(b, "at 179 s")
		w.pass(2 * latency)
		b.mustHear("at 179 s")
		w.network.Inject(a.outer, b.outer, kept[0].data)
		b.mustHear("kept for 79 s")

		w.pass(181*time.Second - w.now())
		at := w.now()
		before := b.drops()
		w.network.Inject(a.outer, b.outer, kept[1].data)
		b.mustHear()
		if b.drops() == before {
			t.Error("the message for a session of 181 s was not counted as dropped")
		}
		a.say(b, "at 181 s from a")
		b.say(a, "at 181 s from b")
		w.pass(4 * time.Second)
		b.mustHear()
		a.mustHear()
		if got := w.sightings(at, "", crypto.TypeTransport); len(got) != 0 {
			t.Errorf("sent with a session of 181 s:%s", story(got))
		}
	})
}

func TestASessionWithoutAnAnswerIsRenewedAfter15Seconds(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.stop(b)
		at := w.now()
		a.say(b, "x")
		w.pass(5 * time.Second)
		a.say(b, "y") // does not put it off
		w.pass(15 * time.Second)
		all := w.sightings(at, "a", crypto.TypeInitiation)
		if len(all) != 1 && len(all) != 2 || all[0].at < at+15*time.Second || all[0].at > at+15*time.Second+retryJitter+slack {
			t.Errorf("initiations after data at %v:%s", at, story(all))
		}
	})
}

func TestAnyAnswerKeepsTheSession(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		at := w.now()
		a.say(b, "x") // b's keepalive after 10 s is answer enough
		w.pass(time.Minute)
		if all := w.sightings(at, "", crypto.TypeInitiation); len(all) != 0 {
			t.Errorf("initiations:%s", story(all))
		}
	})
}

// Whoever can inject packets must not be able to keep a dead session alive.
func TestForgeriesAndReplaysAreNoSignOfLife(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		old := w.sightings(0, "b", crypto.TypeTransport)
		w.stop(b)
		at := w.now()
		a.say(b, "x")
		for range 17 {
			w.pass(time.Second)
			for _, s := range old {
				w.network.Inject(b.outer, a.outer, s.data)
				forged := append([]byte(nil), s.data...)
				forged[12]++ // a counter never used
				w.network.Inject(b.outer, a.outer, forged)
			}
		}
		if all := w.sightings(at, "a", crypto.TypeInitiation); len(all) != 1 {
			t.Errorf("initiations:%s", story(all))
		}
	})
}

func TestUnansweredKeepalivesDoNotRenewTheSession(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.stop(b)
		at := w.now()
		a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(5 * time.Second)})
		w.pass(110*time.Second - w.now())
		if all := w.sightings(at, "", crypto.TypeInitiation); len(all) != 0 {
			t.Errorf("initiations:%s", story(all))
		}
		if n := len(w.sightings(at, "a", crypto.TypeTransport)); n < 15 {
			t.Errorf("%d keepalives", n)
		}
	})
}

// While a session's keys exist, a late message for it is a drop of its peer;
// afterwards nobody can tell whose its index was.
func TestAnUnusedSessionIsForgottenAfter540Seconds(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		began := w.sightings(0, "", crypto.TypeResponse)[0].at
		releaseA, releaseB := w.stop(a), w.stop(b)
		at := w.now()
		a.say(b, "late")
		b.say(a, "late")
		w.settle()
		late := map[*end]sighting{b: w.sightings(at, "a")[0], a: w.sightings(at, "b")[0]}
		other := map[*end]*end{a: b, b: a}
		w.pass(9 * time.Second)
		releaseA()
		releaseB()
		a.say(b, "life") // stops b's new-handshake timer
		b.say(a, "life")
		w.pass(time.Second)
		knows := func(e *end) bool {
			before := total(e.peer(other[e].public).Drops)
			w.network.Inject(other[e].outer, e.outer, late[e].data)
			w.settle()
			return total(e.peer(other[e].public).Drops) > before
		}
		w.pass(began + 535*time.Second - w.now())
		a.heard()
		b.heard()
		since := w.now()
		for _, e := range []*end{a, b} {
			if !knows(e) {
				t.Errorf("%s has forgotten the session after 535 s", e.name)
			}
		}
		w.pass(began + 541*time.Second - w.now())
		for _, e := range []*end{a, b} {
			if knows(e) {
				t.Errorf("%s remembers the session after 541 s", e.name)
			}
			e.mustHear()
		}
		w.pass(time.Minute)
		if got := w.sightings(since, ""); len(got) != 0 {
			t.Errorf("messages for a dead session had an answer:%s", story(got))
		}
		b.say(a, "again")
		w.pass(4 * latency)
		a.mustHear("again")
	})
}

func TestAResponseIsRefusedOnceTheHandshakeIsForgotten(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		r := w.known("r", 9, a)
		a.device.Inject(packet.UDP(to(a.inner), to(r.inner), []byte("x")))
		var last []byte
		for {
			msg, ok := r.next(time.Minute, crypto.TypeInitiation)
			if !ok {
				break
			}
			last = msg
		}
		w.pass(541 * time.Second)
		response, _ := r.respond(last)
		at := w.now()
		r.send(response)
		w.pass(time.Second)
		if got := w.sightings(at, "a"); len(got) != 0 {
			t.Errorf("answered a response of a handshake given up 10 minutes ago:%s", story(got))
		}
	})
}

func TestAnOldSessionStillOpensAfterTheNewOneIsThere(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		release := w.stop(a, crypto.TypeTransport)
		a.say(b, "delayed")
		w.settle()
		release()
		kept := w.sightings(11*time.Second, "a", crypto.TypeTransport)
		delayed := kept[len(kept)-1]
		w.pass(121*time.Second - w.now())
		a.say(b, "renews")
		w.pass(time.Second)
		b.mustHear("renews")
		a.say(b, "under the new one")
		w.pass(2 * latency)
		b.mustHear("under the new one")
		if last := w.sightings(122*time.Second, "a", crypto.TypeTransport); crypto.Receiver(last[0].data) == crypto.Receiver(delayed.data) {
			t.Fatal("the session was not renewed")
		}
		w.network.Inject(a.outer, b.outer, delayed.data)
		b.mustHear("delayed")
	})
}

func TestALossyRenewalLosesNoData(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		var lost atomic.Int32
		w.tap(func(d *memnet.Transit, kind crypto.MessageType) bool {
			if (kind == crypto.TypeInitiation || kind == crypto.TypeResponse) && lost.Load() < 8 {
				lost.Add(1)
				return false
			}
			return true
		})
		sent, atA, atB := w.chat(a, b, 500*time.Millisecond, 10*time.Minute)
		if atA != sent || atB != sent || lost.Load() != 8 {
			t.Errorf("of %d packets each way, %d and %d arrived; %d handshake messages were lost", sent, atA, atB, lost.Load())
		}
	})
}
