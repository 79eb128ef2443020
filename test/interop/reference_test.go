package interop

import (
	"testing"
	"time"

	"stunnel/crypto"
)

// alike compares what two ends have sent, as an observer of the wire sees it:
// kind, size, moment. It returns the number of the first that differs.
func alike(got, want []sighting, tolerance time.Duration) (int, bool) {
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if g.kind != w.kind || len(g.data) != len(w.data) || (g.at-w.at).Abs() > tolerance {
			return i, false
		}
	}
	return min(len(got), len(want)), len(got) == len(want)
}

// likeReference plays a scenario between two wireguard-go, and then in all
// mixed worlds, where each end must send the same datagrams (kinds and sizes,
// in the same order) at the same moments, give or take tolerance, for the
// jitter that some timers have. With extensions there are hellos besides, and
// what wireguard-go says to them: see mustAddOnlyHellos.
func likeReference(t *testing.T, tolerance time.Duration, scenario func(w *world, a, b *end)) {
	t.Helper()
	likeReferenceBut(t, tolerance, scenario, mustAddOnlyHellos)
}

// comparison compares what the two ends of an extended world have sent with
// what they did in the reference.
type comparison func(t *testing.T, sent, want map[string][]sighting, tolerance time.Duration)

// likeReferenceBut is likeReference with another comparison for extended worlds.
func likeReferenceBut(t *testing.T, tolerance time.Duration, scenario func(w *world, a, b *end), compare comparison) {
	t.Helper()
	var want map[string][]sighting
	play := func(t *testing.T, p pairing) (sent map[string][]sighting) {
		t.Helper()
		inWorld(t, p, func(w *world, a, b *end) {
			w.slowHandshakes = true
			scenario(w, a, b)
			sent = map[string][]sighting{"a": w.sightings(0, "a"), "b": w.sightings(0, "b")}
		})
		return sent
	}
	if !t.Run("reference", func(t *testing.T) { want = play(t, reference) }) {
		return
	}
	if len(want["a"]) == 0 {
		t.Fatal("the reference has sent nothing: this compares nothing")
	}
	for _, p := range mixed {
		t.Run(p.String(), func(t *testing.T) {
			sent := play(t, p)
			if p.extended() {
				compare(t, sent, want, tolerance)
				return
			}
			for name, got := range sent {
				mustBeAlike(t, name, got, want[name], tolerance)
			}
		})
	}
}

func mustBeAlike(t *testing.T, name string, got, want []sighting, tolerance time.Duration) {
	t.Helper()
	if i, same := alike(got, want, tolerance); !same {
		t.Errorf("%s sent %d datagrams, wireguard-go in its place %d; from number %d on%s\nand wireguard-go%s",
			name, len(got), len(want), i, story(got[max(0, i-3):]), story(want[max(0, i-3):]))
	}
}

func (p pairing) extended() bool { return p.a.name == extended.name || p.b.name == extended.name }

const (
	// longestVersion makes hellos as long as they get. Nothing else that the
	// scenarios send has their size.
	longestVersion = "0.0.0-of-interop"
	helloSize      = crypto.TransportOverhead + 64 // header and hello are 52 bytes, padded
	keepaliveSize  = crypto.TransportOverhead

	hellosASession = 5               // by themselves
	helloAgain     = 4 * time.Second // and with data as often as that
	plainSessions  = 3               // in a row until hellos become rare: a session an hour
)

// mustAddOnlyHellos holds a stunnel that tries wireguard-go for extensions to
// what two wireguard-go say to each other: the same handshakes and packets at
// the same moments. It may say hellos besides; and since a hello is data to
// wireguard-go, that may answer with a keepalive where it would not have.
func mustAddOnlyHellos(t *testing.T, sent, want map[string][]sighting, tolerance time.Duration) {
	t.Helper()
	hellos := 0
	told := make(map[crypto.Index]bool) // sessions with hellos
	wanted := 0                         // transport messages in the reference
	for name, got := range sent {
		rest, more := withoutHellos(got)
		like, none := withoutHellos(want[name])
		if len(none) > 0 {
			t.Fatalf("wireguard-go sends what is as long as a hello, so that this cannot tell them apart:%s", story(none))
		}
		for _, h := range more {
			told[crypto.Receiver(h.data)] = true
		}
		hellos += len(more)
		for _, s := range want[name] {
			if s.kind == crypto.TypeTransport {
				wanted++
			}
		}
		mustBeAlike(t, name+", keepalives and hellos apart,", rest, like, tolerance)
	}
	last := max(sent["a"][len(sent["a"])-1].at, sent["b"][len(sent["b"])-1].at)
	if most := plainSessions + int(last/time.Hour); (len(told) > 0) != (wanted > 0) || len(told) > most {
		t.Errorf("hellos were said in %d sessions, want at most %d, and one if there was a session (%d messages)", len(told), most, wanted)
	}
	if most := len(told)*hellosASession + int(last/helloAgain); hellos > most {
		t.Errorf("%d hellos were said in %d sessions, want at most %d", hellos, len(told), most)
	}
	for name, got := range sent {
		if n, most := keepalives(got), keepalives(want[name])+hellos; n > most {
			t.Errorf("%s sent %d keepalives, want at most the %d of wireguard-go in its place, and one for each of %d hellos",
				name, n, most-hellos, hellos)
		}
	}
}

// mustNotHandshakeMore is for ends with a persistent keepalive, which for
// wireguard-go goes by the last message of any kind: a hello, or a keepalive that
// answers one, puts off the next, and the handshake that the next would begin. So
// moments are later, and the number of handshakes is the same or one less.
func mustNotHandshakeMore(t *testing.T, sent, want map[string][]sighting, _ time.Duration) {
	t.Helper()
	for name, got := range sent {
		rest, _ := withoutHellos(got)
		like, _ := withoutHellos(want[name])
		if len(rest) > len(like) || len(rest) < len(like)-1 {
			t.Errorf("%s sent %d datagrams besides keepalives and hellos, wireguard-go in its place %d:%s\nand wireguard-go%s",
				name, len(rest), len(like), story(rest), story(like))
		}
	}
}

// withoutHellos sorts out hellos; keepalives are in neither part.
func withoutHellos(all []sighting) (rest, hellos []sighting) {
	for _, s := range all {
		switch {
		case s.kind == crypto.TypeTransport && len(s.data) == helloSize:
			hellos = append(hellos, s)
		case s.kind != crypto.TypeTransport || len(s.data) != keepaliveSize:
			rest = append(rest, s)
		}
	}
	return rest, hellos
}

func keepalives(all []sighting) (n int) {
	for _, s := range all {
		if s.kind == crypto.TypeTransport && len(s.data) == keepaliveSize {
			n++
		}
	}
	return n
}
