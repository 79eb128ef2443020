package transport_test

import (
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

func keepalives(all []sighting) (found []sighting) {
	for _, s := range all {
		if s.kind == crypto.TypeTransport && len(s.data) == crypto.KeepaliveSize {
			found = append(found, s)
		}
	}
	return found
}

func TestDataThatIsNotAnsweredIsAcknowledgedByAKeepaliveAfter10Seconds(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		at := w.now()
		a.say(b, "x")
		w.pass(time.Minute)
		got := keepalives(w.sightings(at, ""))
		due := at + latency + 10*time.Second
		if len(got) != 1 || got[0].sender != "b" || got[0].at < due || got[0].at > due+slack {
			t.Errorf("one keepalive from b was due at %v; keepalives:%s", due, story(got))
		}
	})
}

func TestAnAnswerTakesThePlaceOfTheKeepalive(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		at := w.now()
		a.say(b, "x")
		w.pass(9 * time.Second)
		b.say(a, "y")
		w.pass(9 * time.Second)
		a.say(b, "z")
		w.pass(5 * time.Second)
		if got := keepalives(w.sightings(at, "")); len(got) != 0 {
			t.Errorf("keepalives:%s", story(got))
		}
	})
}

func TestALongOneWayStreamIsAcknowledgedEvery10Seconds(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		at := w.now()
		for w.now() < at+time.Hour {
			a.say(b, "x")
			w.pass(time.Second)
		}
		if got := b.heard(); len(got) != 3600 {
			t.Errorf("%d of 3600 arrived", len(got))
		}
		got := keepalives(w.sightings(at, "b"))
		if len(got) < 3600/11-35 || len(got) > 361 {
			t.Errorf("%d keepalives in an hour", len(got))
		}
		for i := 1; i < len(got); i++ {
			gap := got[i].at - got[i-1].at
			// A response to a's renewal is something that b sent as well.
			if gap < 10*time.Second || gap > 22*time.Second {
				t.Errorf("two keepalives %v apart", gap)
			}
		}
		if n := len(keepalives(w.sightings(at, "a"))); n > 31 {
			t.Errorf("the sender of data sent %d keepalives", n)
		}
	})
}

// A keepalive is not data: if it were answered by a keepalive, two idle ends
// would talk for ever.
func TestIdleEndsAreSilentForHours(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.couple()
		a.say(b, "x")
		w.pass(5 * time.Hour)
		b.mustHear("x")
		all := w.sightings(0, "")
		if len(all) != 4 || len(keepalives(all)) != 1 {
			t.Errorf("initiation, response, data and one keepalive were due; on the wire:%s", story(all))
		}
	})
}

func TestEndsWithoutTrafficSendNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.couple()
		w.pass(5 * time.Hour)
		if all := w.sightings(0, ""); len(all) != 0 {
			t.Errorf("on the wire:%s", story(all))
		}
	})
}

func TestPersistentKeepalivesKeepTheirInterval(t *testing.T) {
	inWorld(t, func(w *world) {
		const interval = 25 * time.Second
		a, b := w.end("a", 1), w.end("b", 2)
		a.meet(b, withKeepalive(interval))
		b.meet(a)
		w.pass(4 * time.Hour)
		all := w.sightings(0, "")
		if len(all) == 0 || all[0].kind != crypto.TypeInitiation || all[0].at > slack {
			t.Fatalf("a keepalive makes a session at once; on the wire:%s", story(all))
		}
		for _, s := range keepalives(all) {
			if s.sender != "a" {
				t.Errorf("a keepalive from b at %v", s.at)
			}
		}
		for i := 1; i < len(all); i++ {
			gap := all[i].at - all[i-1].at
			if gap > interval+slack {
				t.Errorf("silence for %v at %v", gap, all[i].at)
			}
			if len(all[i].data) == crypto.KeepaliveSize && all[i-1].kind != crypto.TypeResponse && all[i-1].kind != crypto.TypeInitiation && gap < interval {
				t.Errorf("a keepalive only %v after the last message, at %v", gap, all[i].at)
			}
		}
		// Every 120 s or a little later the session is renewed, by its age when a
		// keepalive is sent; each renewal brings its own confirmation.
		hours := 4 * time.Hour
		if n, most := len(keepalives(all)), int(hours/interval+hours/(120*time.Second))+2; n < int(hours/interval)-100 || n > most {
			t.Errorf("%d keepalives in %v", n, hours)
		}
		if n := len(w.sightings(0, "", crypto.TypeInitiation)); n < int(hours/(150*time.Second)) || n > int(hours/(120*time.Second))+1 {
			t.Errorf("%d initiations in %v", n, hours)
		}
	})
}

func TestDataPutsThePersistentKeepaliveOff(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: ptr(5 * time.Second)})
		w.pass(time.Second)
		at := w.now()
		for w.now() < at+80*time.Second {
			b.say(a, "x") // received traffic counts as well
			w.pass(4 * time.Second)
		}
		// The 10 s keepalive for received data comes on its own account.
		got := keepalives(w.sightings(at, "a"))
		for i := 1; i < len(got); i++ {
			if gap := got[i].at - got[i-1].at; gap < 10*time.Second {
				t.Errorf("two keepalives %v apart", gap)
			}
		}
		if len(got) > 8 {
			t.Errorf("%d keepalives in 80 s with traffic every 4 s", len(got))
		}
	})
}

func TestSwitchingThePersistentKeepaliveOnSendsOneAtOnceAndOffEndsThem(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		set := func(d time.Duration) {
			a.change(transport.PeerConfig{PublicKey: b.public, PersistentKeepalive: &d})
		}
		at := w.now()
		set(20 * time.Second)
		w.settle()
		if got := keepalives(w.sightings(at, "a")); len(got) != 1 {
			t.Errorf("switched on at %v; keepalives:%s", at, story(got))
		}
		w.pass(time.Second)
		set(20 * time.Second) // no change
		w.pass(10 * time.Second)
		if got := keepalives(w.sightings(at, "a")); len(got) != 1 {
			t.Errorf("set to what it was; keepalives:%s", story(got))
		}
		set(0)
		w.pass(3 * time.Hour)
		if got := w.sightings(at, ""); len(got) != 1 {
			t.Errorf("switched off; on the wire:%s", story(got))
		}
	})
}

func TestAPersistentKeepaliveKeepsTryingAPeerThatIsAway(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		b.meet(a, withoutEndpoint)
		b.shutDown()
		a.meet(b, withKeepalive(25*time.Second))
		w.pass(6 * time.Hour)
		b.start(1)
		w.pass(2 * time.Minute)
		if age := time.Since(a.peer(b.public).LastHandshake); age > 2*time.Minute {
			t.Errorf("two minutes after the peer came back, the last handshake is %v old", age)
		}
		b.say(a, "reached through the endpoint that b learned")
		w.pass(4 * latency)
		a.mustHear("reached through the endpoint that b learned")
	})
}

func TestAPersistentKeepaliveWaitsForAnEndpoint(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.end("a", 1), w.end("b", 2)
		b.meet(a)
		a.meet(b, withoutEndpoint, withKeepalive(25*time.Second))
		w.pass(time.Hour)
		if all := w.sightings(0, ""); len(all) != 0 {
			t.Fatalf("on the wire:%s", story(all))
		}
		at := w.now()
		a.change(transport.PeerConfig{PublicKey: b.public, Endpoint: &b.outer})
		w.pass(26 * time.Second)
		if all := w.sightings(at, "a", crypto.TypeTransport); len(all) == 0 {
			t.Errorf("26 s after there is an endpoint, on the wire:%s", story(w.sightings(at, "")))
		}
	})
}
