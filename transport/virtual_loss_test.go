package transport_test

import (
	"fmt"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet"
)

// bad is a link with so much loss, and with a bit of everything else.
func bad(loss float64) memnet.Impairment {
	return memnet.Impairment{
		Loss: loss, Duplicate: 0.05, Reorder: 0.1, Corrupt: 0.01,
		Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond, ReorderBy: 2 * time.Second,
	}
}

func TestABadLinkCostsWhatItLosesAndNoMoreForHours(t *testing.T) {
	t.Parallel()
	for _, loss := range []float64{0.01, 0.1, 0.3} {
		t.Run(fmt.Sprintf("%.0f%%", loss*100), func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.couple()
				w.network.Impair(bad(loss))
				sent, atA, atB := w.chat(a, b, 500*time.Millisecond, 3*time.Hour)
				// 1 % is corrupted on top, and another percent is grace.
				least := int(float64(sent) * (1 - loss - 0.01 - 0.01))
				if atA < least || atB < least {
					t.Errorf("of %d packets each way %d and %d arrived, at least %d should have", sent, atA, atB, least)
				}
				// Each renewal takes as many attempts as the loss makes it.
				attempts := 1 / ((1 - loss) * (1 - loss))
				most := int(3*3600/120*attempts*1.5) + 5
				if n := len(w.sightings(0, "", crypto.TypeInitiation)); n > most {
					t.Errorf("%d initiations, more than %d", n, most)
				}
			})
		})
	}
}

func TestPacketsFarOutOfOrderAreDeliveredOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		w.network.Impair(memnet.Impairment{Duplicate: 0.5, Jitter: 3 * time.Second})
		seen := map[string]bool{}
		for k := range 5000 {
			a.say(b, fmt.Sprint(k))
			w.pass(time.Millisecond)
		}
		w.pass(5 * time.Second)
		for _, text := range b.heard() {
			if seen[text] {
				t.Errorf("%s was delivered twice", text)
			}
			seen[text] = true
		}
		// 3000 packets overtake one another at the most: less than the window.
		if len(seen) != 5000 {
			t.Errorf("%d of 5000 were delivered", len(seen))
		}
	})
}

func TestTheReplayWindowIs8128Wide(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		pair := r.converse()
		say := func(counter crypto.Counter) bool {
			w.network.Inject(r.outer, b.outer, sealAt(pair, counter, payloadFrom(r, b, "x")))
			return len(b.heard()) == 1
		}
		const top = 100_000
		for _, c := range []struct {
			counter crypto.Counter
			want    bool
		}{
			{top, true}, {top, false},
			{top - 1, true}, {top - 1, false},
			{top - 8127, true}, {top - 8127, false},
			{top - 8193, false},
			{5, false},
			{top + 1, true},
			{1 << 40, true},
			{top + 2, false},
			{1<<40 - 1, true},
			{crypto.RejectAfterMessages - 1, true},
			{crypto.RejectAfterMessages - 1, false},
		} {
			if got := say(c.counter); got != c.want {
				t.Errorf("counter %d: delivered %v, want %v", c.counter, got, c.want)
			}
		}
	})
}

func TestABurstLargerThanAnyBufferArrivesInOrder(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		for k := range 3000 {
			a.say(b, fmt.Sprint(k))
		}
		w.pass(2 * latency)
		got := b.heard()
		if len(got) != 3000 {
			t.Fatalf("%d of 3000 arrived", len(got))
		}
		for k, text := range got {
			if text != fmt.Sprint(k) {
				t.Fatalf("packet %d is %q", k, text)
			}
		}
	})
}
