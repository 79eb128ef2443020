package transport

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// wires are what ways are on: a network by which a peer answers, or not.
type wires struct {
	*rig
	udp   bool // UDP gets through
	data  bool // so do messages of sessions by UDP, not handshakes alone
	tcp   bool // so does TCP
	queue []errand
	talks bool // there is traffic all the time
	looks time.Duration
}

// errand is what is under way.
type errand struct {
	at time.Duration
	do func()
}

const roundTrip = 40 * time.Millisecond

func newWires(t *testing.T, c circumstances) *wires {
	n := &wires{rig: newRig(t, c), udp: true, data: true, tcp: true, talks: true}
	n.rig.answer = n.answer
	return n
}

func (n *wires) soon(do func()) { n.queue = append(n.queue, errand{n.now + roundTrip, do}) }

// answer has what the ways do come to something.
func (n *wires) answer(a act) {
	w := &n.w
	works := func() bool { return w.on == TransportUDP && n.udp && n.data || w.on == TransportTCP && n.tcp }
	switch a.do {
	case doDial:
		if n.tcp {
			n.soon(func() {
				if i := slices.Index(n.flights, a.to); i >= 0 {
					n.flights = slices.Delete(n.flights, i, i+1)
					n.connected = w.dialled(n.now, a.to)
				}
			})
		}
	case doInitiate:
		if by := a.by; by == TransportUDP && n.udp || by == TransportTCP && n.tcp {
			n.soon(func() {
				if n.pending[by] {
					_, happen := n.event(4 + int(by))
					happen()
				}
			})
		}
	case doEcho, doEchoFull:
		if works() {
			n.soon(func() { n.heard, w.answered = n.now, n.now })
		}
	case doProbe:
		if n.udp && n.data {
			n.soon(func() { w.probed(n.now) })
		}
	}
}

// run lets d go by.
func (n *wires) run(d time.Duration) {
	n.t.Helper()
	for end := n.now + d; ; {
		at := min(end, n.w.next())
		for _, e := range n.queue {
			at = min(at, e.at)
		}
		if n.talks {
			at = min(at, n.looks)
		}
		n.now = max(n.now, at)
		if n.now >= end {
			return
		}
		if n.talks && n.looks <= n.now {
			n.looks = n.now + 500*time.Millisecond
			w := &n.w
			switch {
			case !w.linked:
				w.want(n.now)
				n.waits = w.goal == goalReach
			case w.on == TransportUDP && n.udp && n.data || w.on == TransportTCP && n.tcp:
				n.heard = n.now
				w.traffic(n.now, n.heard)
			default:
				w.traffic(n.now, n.heard)
			}
		}
		for i := 0; i < len(n.queue); i++ {
			if e := n.queue[i]; e.at <= n.now {
				n.queue = slices.Delete(n.queue, i, i+1)
				i--
				e.do()
			}
		}
		n.do()
	}
}

// until runs till what is true, and says how long that took.
func (n *wires) until(what func() bool) (took time.Duration) {
	n.t.Helper()
	for begin := n.now; ; {
		if what() {
			return n.now - begin
		}
		if n.now-begin > time.Hour {
			n.fail("an hour, and it has not come about")
		}
		n.run(10 * time.Millisecond)
	}
}

func (n *wires) is(c Transport) func() bool {
	return func() bool { return n.w.linked && n.w.on == c }
}

var stunnels = circumstances{transport: TransportAuto, addresses: 1, parallel: true, probes: true}

func TestWhereUDPIsDroppedFromTheStartTCPIsThereSoonAfterASecond(t *testing.T) {
	for _, parallel := range []bool{false, true} {
		n := newWires(t, circumstances{transport: TransportAuto, addresses: 1, parallel: parallel})
		n.udp = false
		if took := n.until(n.is(TransportTCP)); took > 1200*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	}
}

func TestAWayThatIsCutIsLeftWithinFiveSeconds(t *testing.T) {
	cuts := map[string]func(n *wires){
		"UDP":              func(n *wires) { n.udp = false },
		"UDP for its data": func(n *wires) { n.data = false },
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			n := newWires(t, stunnels)
			n.until(n.is(TransportUDP))
			n.run(time.Minute)
			cut(n)
			if took := n.until(n.is(TransportTCP)); took > 4700*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			if n.w.why == "" {
				t.Error("nobody says why")
			}
			n.run(10 * time.Minute)
			if n.w.on != TransportTCP || n.changes != 1 {
				t.Errorf("%v, after %d changes", n.w.on, n.changes)
			}
		})
	}
	t.Run("TCP", func(t *testing.T) {
		n := newWires(t, stunnels)
		n.udp = false
		n.until(n.is(TransportTCP))
		n.run(time.Minute)
		n.udp, n.tcp = true, false
		if took := n.until(n.is(TransportUDP)); took > 4700*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestUDPIsGoneBackToWithinAMinute(t *testing.T) {
	for blocked := 10 * time.Second; blocked < 5*time.Minute; blocked += 7 * time.Second {
		n := newWires(t, stunnels)
		n.udp = false
		n.until(n.is(TransportTCP))
		n.run(blocked)
		n.udp = true
		took := n.until(n.is(TransportUDP))
		if took > 40*time.Second {
			t.Errorf("blocked for %v it took %v", blocked, took)
		}
		if n.w.why != whyReturned {
			t.Errorf("why: %s", n.w.why)
		}
	}
}

func TestWhereHandshakesPassAndDataDoesNotUDPIsNotGoneBackTo(t *testing.T) {
	n := newWires(t, stunnels)
	n.udp = false
	n.until(n.is(TransportTCP))
	n.udp, n.data = true, false
	n.run(time.Hour)
	if n.changes != 0 {
		t.Errorf("%d changes", n.changes)
	}
}

// UDP that works for 15 seconds and then does not, again and again.
func TestFlappingIsDamped(t *testing.T) {
	n := newWires(t, stunnels)
	n.until(n.is(TransportUDP))
	for begin := n.now; n.now < begin+4*time.Hour; {
		n.udp = !n.udp
		n.run(15 * time.Second)
	}
	// one change and one back in ten minutes, and some until it is so
	if n.changes > 2*4*6+12 {
		t.Errorf("%d changes in four hours", n.changes)
	}
	t.Logf("%d changes in four hours", n.changes)
}

// A way that is bad, where there is no other, is used as it is.
func TestWhereOnlyHandshakesGetThroughAndThereIsNoTCPUDPIsUsedAllTheSame(t *testing.T) {
	n := newWires(t, stunnels)
	n.tcp = false
	n.until(n.is(TransportUDP))
	n.data = false
	n.run(10 * time.Second)
	used := 0
	for range 600 {
		n.run(time.Second)
		if n.w.linked {
			used++
		}
	}
	if used < 450 {
		t.Errorf("used for %d of 600 s", used)
	}
	n.data = true
	n.run(time.Minute)
	if n.w.on != TransportUDP || !n.w.linked {
		t.Error("not on UDP when that works again")
	}
}

func TestANetworkThatChangedIsTriedAtOnce(t *testing.T) {
	t.Run("and UDP does not work on it", func(t *testing.T) {
		n := newWires(t, stunnels)
		n.until(n.is(TransportUDP))
		n.run(time.Minute)
		n.udp, n.talks = false, false
		n.w.networkChanged(n.now)
		if took := n.until(n.is(TransportTCP)); took > 1500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("and UDP works again on it", func(t *testing.T) {
		n := newWires(t, stunnels)
		n.udp = false
		n.until(n.is(TransportTCP))
		n.run(4 * time.Minute)
		n.udp = true
		n.w.networkChanged(n.now)
		if took := n.until(n.is(TransportUDP)); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("and nobody has answered on the one before", func(t *testing.T) {
		r := newRig(t, circumstances{transport: TransportUDP, addresses: 1})
		initiations := func(change bool) (n int) {
			for end := r.now + 10*time.Second; r.now < end; r.now += 10 * time.Millisecond {
				if change {
					r.w.networkChanged(r.now)
				}
				for r.w.next() <= r.now {
					for _, a := range r.w.step(r.now, r.heard) {
						if a.do == doInitiate {
							n++
						}
					}
				}
			}
			return n
		}
		r.w.want(r.now)
		if n := initiations(false); n != 2 {
			t.Errorf("%d initiations in 10 s", n)
		}
		if n := initiations(true); n != 10 {
			t.Errorf("%d initiations in 10 s in which the network changes all the time, want one a second", n)
		}
	})
	t.Run("and a swarm of changes is two", func(t *testing.T) {
		n := newWires(t, stunnels)
		n.until(n.is(TransportUDP))
		n.run(time.Minute)
		n.talks = false
		echoes := 0
		for range 50 {
			n.w.networkChanged(n.now)
			for n.w.next() <= n.now {
				for _, a := range n.w.step(n.now, n.heard) {
					if a.do == doEcho {
						echoes++
						n.heard, n.w.answered = n.now+1, n.now+1
					}
				}
			}
			n.now += 10 * time.Millisecond
		}
		if echoes != 1 {
			t.Errorf("%d echoes in half a second", echoes)
		}
	})
}

func TestFamiliesAreTriedInTurn(t *testing.T) {
	second6, third4 := first6, second4
	n := newRig(t, stunnels)
	n.w.configure(n.now, TransportAuto, []netip.AddrPort{first4, second4, first4, first6}, nil)
	if want := []netip.AddrPort{first4, second6, third4}; !slices.Equal(n.w.udp, want) {
		t.Errorf("%v, want %v", n.w.udp, want)
	}
}

// The first address is dead, the others answer to nothing but what has come to them.
func TestEachAddressIsTriedAQuarterOfASecondAfterTheOneBefore(t *testing.T) {
	r := newRig(t, circumstances{transport: TransportUDP, addresses: 3})
	r.w.want(r.now)
	var at []time.Duration
	var to []netip.AddrPort
	for begin := r.now; r.now < begin+6*time.Second; r.now = max(r.now+time.Millisecond, min(r.w.next(), begin+6*time.Second)) {
		for r.w.next() <= r.now {
			for _, a := range r.w.step(r.now, r.heard) {
				if a.do == doInitiate || a.do == doRepeat {
					at, to = append(at, r.now-begin), append(to, a.to)
				}
			}
		}
	}
	quarter := staggerAfter
	again := RekeyTimeout + r.w.jitter()
	wantAt := []time.Duration{0, quarter, 2 * quarter, again, again + quarter, again + 2*quarter}
	wantTo := []netip.AddrPort{first4, first6, second4, first6, second4, first4}
	if !slices.Equal(at, wantAt) || !slices.Equal(to, wantTo) {
		t.Errorf("%v\n%v\nwant %v\n%v", at, to, wantAt, wantTo)
	}
}
