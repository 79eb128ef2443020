package transport

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"stunnel/transport/extension"
)

// road is a path in a test, and the search for what it carries. The test moves time from
// one moment to the next at which something happens.
type road struct {
	t *testing.T
	pathSearch
	now time.Duration

	carries   int           // the largest packet that passes; 0: none at all
	roundTrip time.Duration // of a probe and its reply
	loss      float64
	random    *rand.Rand
	large     bool // packets of more than the base are sent

	replies  []roadReply
	probes   int
	lostOf   map[int]int // probes in a row of each size that were not answered, since the last answer of one
	answered map[int]bool
	drawn    map[extension.Token]bool
	heardAt  time.Duration
	askedAt  time.Duration
}

type roadReply struct {
	at    time.Duration
	token extension.Token
	size  int
}

func newRoad(t *testing.T, limit, carries int) *road {
	r := &road{t: t, carries: carries, roundTrip: 20 * time.Millisecond, random: rand.New(rand.NewPCG(uint64(limit), uint64(carries))),
		large: true, lostOf: map[int]int{}, answered: map[int]bool{}, drawn: map[extension.Token]bool{}, now: time.Hour}
	r.begin(limit)
	return r
}

func (r *road) draw() extension.Token {
	t := extension.Token(r.random.Uint64() | 1)
	r.drawn[t] = true
	return t
}

// step does what comes next, if that is before until.
func (r *road) step(until time.Duration) bool {
	due := max(r.now, r.due(r.large))
	first := -1
	for i, reply := range r.replies {
		if reply.at <= due && (first < 0 || reply.at < r.replies[first].at) {
			first = i
		}
	}
	if first >= 0 {
		due = r.replies[first].at
	}
	if due > until {
		r.now = until
		return false
	}
	r.now = due
	if first >= 0 {
		reply := r.replies[first]
		r.replies = append(r.replies[:first], r.replies[first+1:]...)
		before := r.size
		taken := r.pathSearch.reply(reply.token, reply.size, r.now)
		if taken {
			r.answered[reply.size], r.lostOf[reply.size] = true, 0
		}
		if r.size != before && (!taken || r.size != reply.size || r.size < before) {
			r.t.Fatalf("at %v a reply of %d (taken: %v) has changed %d to %d", r.now, reply.size, taken, before, r.size)
		}
		r.heardAt = r.now
		return true
	}
	before, lost := r.size, r.lostOf[r.size]
	token, size := r.ask(r.now, r.large, r.heardAt > r.askedAt, r.draw)
	r.askedAt = r.now
	switch {
	case r.size > before:
		r.t.Fatalf("at %v it rose from %d to %d by itself", r.now, before, r.size)
	case r.size < before && (r.size != basePathMTU || lost < maxProbes):
		r.t.Fatalf("at %v it fell from %d to %d after %d lost probes", r.now, before, r.size, lost)
	case r.known && !r.answered[r.size]:
		r.t.Fatalf("at %v %d is known, and no probe of it was answered", r.now, r.size)
	}
	if size == 0 {
		if r.due(r.large) <= r.now {
			r.t.Fatalf("at %v nothing is asked, and that at once again: %+v", r.now, r.pathSearch)
		}
		return true
	}
	if !r.drawn[token] || size < min(basePathMTU, r.limit) || size > r.limit {
		r.t.Fatalf("at %v a probe of %d bytes with token %d, on a way of %d", r.now, size, token, r.limit)
	}
	r.probes++
	r.lostOf[size]++
	if size <= r.carries && r.random.Float64() >= r.loss {
		r.replies = append(r.replies, roadReply{r.now + r.roundTrip, token, size})
	}
	return true
}

func (r *road) pass(d time.Duration) {
	for until := r.now + d; r.step(until); {
	}
}

// mustUse fails the test unless what is in use is what the path carries, but for the grain.
func (r *road) mustUse(when string) {
	r.t.Helper()
	if most := min(r.carries, r.limit); !r.known || r.size > most || r.size <= most-grain {
		r.t.Errorf("%s: %d is in use (known: %v), the path carries %d: %+v", when, r.size, r.known, most, r.pathSearch)
	}
}

func TestTheSearchFindsWhatAPathCarries(t *testing.T) {
	for _, limit := range []int{1280, 1281, 1300, 1420, 1500, 9000, 65535} {
		for carries := basePathMTU; carries <= limit+10; carries += 1 + carries/400 {
			r := newRoad(t, limit, carries)
			if r.size != limit || r.known {
				t.Fatalf("it begins with %d (known: %v)", r.size, r.known)
			}
			r.pass(15 * time.Second)
			r.mustUse(fmt.Sprintf("15 s on a path of %d", carries))
			if carries >= limit && r.probes > 9 {
				t.Errorf("%d probes in 15 s on a path that carries all", r.probes)
			}
			if r.narrow {
				t.Error("the base does not pass")
			}
		}
	}
}

func TestAPathThatBecomesNarrowIsLeftWithinSecondsAndUsedAgainWhenItGrows(t *testing.T) {
	for _, c := range []struct{ limit, wide, narrow int }{
		{1500, 1500, 1280}, {1500, 1500, 1492}, {1500, 1420, 1400}, {1500, 1500, 1400}, {9000, 9000, 1500}, {9000, 3000, 1300},
	} {
		r := newRoad(t, c.limit, c.wide)
		r.pass(time.Minute)
		r.mustUse("at first")
		r.carries = c.narrow
		r.pass(confirmInterval + 2*maxProbes*leastTimeout) // twice: a larger size may be asked for just now
		if r.size > c.narrow {
			t.Errorf("%+v: after 4 s %d is still sent", c, r.size)
		}
		r.pass(30 * time.Second)
		r.mustUse("narrow")
		r.carries = c.wide
		r.pass(raiseInterval * 4)
		r.mustUse("wide again")
	}
}

// A path on which nothing passes for a while, whatever its size, is no narrow one.
func TestAnOutageLeavesThePathAsItWas(t *testing.T) {
	for outage := time.Second; outage < time.Minute; outage *= 2 {
		r := newRoad(t, 1500, 1500)
		r.pass(10 * time.Second)
		r.carries = 0
		r.pass(outage)
		r.carries = 1500
		r.pass(mostTimeout + time.Second)
		r.mustUse(fmt.Sprint("after an outage of ", outage))
		if r.isBelow() || r.narrow {
			t.Errorf("an outage of %v, with nothing heard, is taken for a narrow path", outage)
		}
	}
}

func TestAPathThatDoesNotEvenCarryTheBaseIsToldFromADeadOne(t *testing.T) {
	for name, heard := range map[string]bool{"dead": false, "narrow": true} {
		r := newRoad(t, 1500, 1200)
		for range 100 {
			r.pass(100 * time.Millisecond)
			if heard {
				r.heardAt = r.now // something small has come
			}
		}
		if r.narrow != heard || r.size != basePathMTU || r.known {
			t.Errorf("%s: narrow is %v, %d is in use (known: %v)", name, r.narrow, r.size, r.known)
		}
		if r.probes > 20 {
			t.Errorf("%s: %d probes in 10 s", name, r.probes)
		}
		r.carries = 1400
		r.pass(20 * time.Second)
		r.mustUse(name + ", and then better")
	}
}

func TestASlowPathIsWaitedFor(t *testing.T) {
	for _, trip := range []time.Duration{time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second} {
		r := newRoad(t, 1500, 1500)
		r.roundTrip = trip
		r.pass(time.Minute)
		r.mustUse(fmt.Sprint("a round trip of ", trip))
	}
}

func TestTheRaiseTimerBacksOff(t *testing.T) {
	r := newRoad(t, 1500, 1400)
	r.large = false
	r.pass(15 * time.Second)
	before := r.probes
	r.pass(time.Hour)
	if n := r.probes - before; n < 30 || n > 300 {
		t.Errorf("%d probes in an hour on a path that carries no more than before", n)
	}
	r.large = true
	before = r.probes
	r.pass(time.Hour)
	if n := r.probes - before; n < 1790 || n > 2000 {
		t.Errorf("%d probes in an hour of large packets, want one in %v and a few", n, confirmInterval)
	}
}

func TestWhereNoLargePacketsAreSentAPathThatCarriesAllIsNotProbed(t *testing.T) {
	r := newRoad(t, 1500, 1500)
	r.large = false
	r.pass(time.Hour)
	if r.probes != 1 {
		t.Errorf("%d probes in an hour, want one", r.probes)
	}
}

func TestOnlyTheOutstandingProbesReplyCounts(t *testing.T) {
	r := newRoad(t, 1500, 0)
	token, size := r.ask(r.now, true, false, r.draw)
	for _, wrong := range []roadReply{{0, token ^ 1, size}, {0, token, size - 1}, {0, 0, size}} {
		if r.pathSearch.reply(wrong.token, wrong.size, r.now) || r.known {
			t.Fatalf("%+v is taken for the reply to %d of %d bytes", wrong, token, size)
		}
	}
	if !r.pathSearch.reply(token, size, r.now) || r.pathSearch.reply(token, size, r.now) {
		t.Error("the reply does not count just once")
	}
}

func TestTheKernelsWordAboutItsOwnLinkHoldsAtOnce(t *testing.T) {
	r := newRoad(t, 1500, 1500)
	r.pass(time.Second)
	r.refuse(1500, 1400)
	if r.size != 1400 || r.limit != 1400 {
		t.Errorf("the way takes 1400, %d of %d is in use", r.size, r.limit)
	}
	r.refuse(1400, 1400) // it does not say what it takes
	if r.size != basePathMTU || r.known {
		t.Errorf("a refusal without a reason leaves %d in use", r.size)
	}
	r.carries = 1350
	r.pass(20 * time.Second)
	r.mustUse("after that")
	r.follow(9000, r.now)
	r.carries = 9000
	r.pass(time.Second)
	r.mustUse("a second after the link has become larger")
	r.follow(1300, r.now)
	if r.size != 1300 || r.known {
		t.Errorf("%d (known: %v) is in use on a link of 1300", r.size, r.known)
	}
}

// Whatever happens, in any order: the rules of road.step hold, and once nothing happens
// any more the path is found.
func TestTheSearchSurvivesAnyOrderOfEvents(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 7))
		r := newRoad(t, 1500, 1500)
		r.random = random
		for range 60 {
			switch random.IntN(8) {
			case 0:
				r.carries = 1200 + random.IntN(400)
			case 1:
				r.carries = 0
			case 2:
				r.carries = r.limit
			case 3:
				r.large = !r.large
			case 4:
				r.loss = random.Float64() * 0.5
			case 5:
				r.roundTrip = time.Duration(random.IntN(2000)) * time.Millisecond
			case 6:
				r.follow(1280+random.IntN(400), r.now)
			case 7:
				if size := r.size; random.IntN(2) == 0 {
					r.refuse(size, max(basePathMTU, r.limit-random.IntN(3)))
				}
			}
			r.pass(time.Duration(random.IntN(5000)) * time.Millisecond)
		}
		r.loss, r.large, r.carries, r.roundTrip = 0, true, basePathMTU+random.IntN(300), 20*time.Millisecond
		r.pass(2 * mostRaiseInterval)
		r.mustUse(fmt.Sprint("seed ", seed, ": in the end"))
		if t.Failed() {
			return
		}
	}
}
