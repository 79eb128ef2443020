package transport_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"stunnel/transport"
)

// inLAN is inWorld with ends in tap mode. The n sites that test gets all know each other.
func inLAN(t *testing.T, n int, test func(w *world, sites []*end)) {
	t.Helper()
	inWorld(t, func(w *world) {
		w.ethernet, w.extensions = true, transport.ExtensionsRequired
		var sites []*end
		for i := range n {
			sites = append(sites, w.end(string(rune('a'+i)), 1+i))
		}
		for _, a := range sites {
			for _, b := range sites {
				if a != b {
					a.meet(b)
				}
			}
		}
		test(w, sites)
	})
}

var everybody = transport.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// station is one with a number.
func station(n int) transport.MAC {
	return transport.MAC{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
}

// The EtherTypes of what stations say in these tests, and of the loop guard's probes.
const (
	sayingType = 0x88b6
	probeType  = 0x88b5
)

// ethernetFrame is one with a text in it, and with tags of these VLANs, the outer first.
func ethernetFrame(from, to transport.MAC, text string, vlans ...uint16) []byte {
	b := slices.Concat(to[:], from[:])
	for _, v := range vlans {
		b = binary.BigEndian.AppendUint16(b, 0x8100)
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = binary.BigEndian.AppendUint16(b, sayingType)
	b = append(append(b, byte(len(text)>>8), byte(len(text))), text...)
	return append(b, make([]byte, max(0, 60-len(b)))...)
}

// tells gives a frame of a station on e's side to its device.
func (e *end) tells(from, to transport.MAC, text string, vlans ...uint16) {
	e.device.Inject(ethernetFrame(from, to, text, vlans...))
}

// told are the texts of frames that came out of e's device since last asked, probes left out.
func (e *end) told() (texts []string) {
	e.w.t.Helper()
	e.w.settle()
	for _, b := range e.device.Drain() {
		at := 12
		for len(b) > at+4 && b[at] == 0x81 && b[at+1] == 0 {
			at += 4
		}
		if len(b) < at+4 {
			e.w.t.Errorf("%s was given %x", e.name, b)
			continue
		}
		switch kind := binary.BigEndian.Uint16(b[at:]); kind {
		case probeType:
		case sayingType:
			n := int(binary.BigEndian.Uint16(b[at+2:]))
			texts = append(texts, string(b[at+4:at+4+n]))
		default:
			e.w.t.Errorf("%s was given a frame of type %04x", e.name, kind)
		}
	}
	return texts
}

// mustBeTold fails the test at once unless exactly these texts came.
func (e *end) mustBeTold(want ...string) {
	e.w.t.Helper()
	if got := e.told(); !slices.Equal(got, want) {
		e.w.t.Fatalf("at %v %s was told %q, want %q; drops: %v", e.w.now(), e.name, got, want, e.allDrops())
	}
}

// allDrops are e's, those of a peer and those of none.
func (e *end) allDrops() map[string]uint64 {
	all := make(map[string]uint64)
	s := e.tunnel.Status()
	for _, p := range append(s.Peers, transport.PeerStatus{Drops: s.Drops}) {
		for reason, n := range p.Drops {
			all[reason] += n
		}
	}
	return all
}

// acquaint has all sites know each other, with station n on the side of site n; station 0
// is on that of the first.
func acquaint(w *world, sites []*end) {
	w.t.Helper()
	for i, e := range sites {
		e.tells(station(i), everybody, "I am here")
		w.pass(6 * latency)
		for j, o := range sites {
			if i != j {
				o.mustBeTold("I am here")
			}
		}
	}
}

func TestTheFirstBroadcastWaitsForTheHandshakesAndReachesAll(t *testing.T) {
	inLAN(t, 3, func(w *world, s []*end) {
		s[0].tells(station(0), everybody, "who is there?")
		w.pass(6 * latency)
		s[1].mustBeTold("who is there?")
		s[2].mustBeTold("who is there?")
		if n := s[0].drops() + s[1].drops() + s[2].drops(); n > 0 {
			t.Errorf("%d frames dropped", n)
		}
	})
}

func TestUnicastGoesWhereTheStationWasHeardAndElseToAll(t *testing.T) {
	inLAN(t, 3, func(w *world, s []*end) {
		acquaint(w, s)
		s[0].tells(station(0), station(1), "for one")
		w.pass(2 * latency)
		s[1].mustBeTold("for one")
		s[2].mustBeTold()
		s[0].tells(station(0), station(77), "for a stranger")
		w.pass(2 * latency)
		s[1].mustBeTold("for a stranger")
		s[2].mustBeTold("for a stranger")
	})
}

func TestAStationThatMovesIsFollowedAtOnce(t *testing.T) {
	inLAN(t, 3, func(w *world, s []*end) {
		acquaint(w, s)
		s[2].tells(station(1), everybody, "I have moved")
		w.pass(2 * latency)
		s[0].mustBeTold("I have moved")
		s[1].mustBeTold("I have moved")
		s[0].tells(station(0), station(1), "to the new place")
		w.pass(2 * latency)
		s[2].mustBeTold("to the new place")
		s[1].mustBeTold()
	})
}

func TestAStationInAnotherVLANIsAnotherStation(t *testing.T) {
	inLAN(t, 3, func(w *world, s []*end) {
		acquaint(w, s)
		s[2].tells(station(1), everybody, "in VLAN 7", 7)
		s[1].tells(station(1), everybody, "in VLAN 7.8", 7, 8)
		w.pass(2 * latency)
		s[0].told()
		s[1].told()
		s[2].told()
		s[0].tells(station(0), station(1), "none")
		s[0].tells(station(0), station(1), "priority", 0)
		s[0].tells(station(0), station(1), "seven", 7)
		s[0].tells(station(0), station(1), "eight", 7, 8)
		w.pass(2 * latency)
		s[1].mustBeTold("none", "priority", "eight")
		s[2].mustBeTold("seven")
	})
}

func TestAStationIsForgottenWhenItIsSilent(t *testing.T) {
	for _, ageing := range []time.Duration{0, 20 * time.Second} {
		inLAN(t, 3, func(w *world, s []*end) {
			patience := transport.DefaultMACAgeing
			if ageing > 0 {
				patience = ageing
				for _, e := range s {
					e.configure(transport.Config{MACAgeing: &ageing})
				}
			}
			acquaint(w, s)
			w.pass(patience - time.Second)
			s[0].tells(station(0), station(1), "still known")
			w.pass(time.Second)
			s[0].tells(station(0), station(1), "for all")
			w.pass(6 * latency)
			s[1].mustBeTold("still known", "for all")
			s[2].mustBeTold("for all")
			w.pass(2 * patience)
			if n := stations(s[0]); n != 0 {
				t.Errorf("%d stations known after all that time", n)
			}
		})
	}
}

// stations is how many e shows.
func stations(e *end) int {
	s := e.tunnel.Status()
	n := len(s.Ethernet.Local.Stations)
	for _, p := range s.Peers {
		n += len(p.Port.Stations)
	}
	return n
}

func TestStationsOfAPeerThatGoesAreForgotten(t *testing.T) {
	for name, leave := range map[string]func(a, b *end){
		"removed": func(at, b *end) { at.change(transport.PeerConfig{PublicKey: b.public, Remove: true}) },
		"goodbye": func(_, b *end) { b.shutDown() },
	} {
		inLAN(t, 3, func(w *world, s []*end) {
			acquaint(w, s)
			before := stations(s[0])
			leave(s[0], s[1])
			leave(s[2], s[1])
			w.pass(2 * latency)
			if n := stations(s[0]); before != 3 || n != 2 {
				t.Errorf("%s: %d stations, before there were %d; want 2 and 3", name, n, before)
			}
			s[0].tells(station(0), station(1), "for all")
			w.pass(2 * latency)
			s[2].mustBeTold("for all")
		})
	}
}

func TestWhatIsForOurOwnSideGoesNowhere(t *testing.T) {
	inLAN(t, 2, func(w *world, s []*end) {
		acquaint(w, s)
		s[0].tells(station(10), everybody, "a neighbour")
		s[0].tells(station(0), station(10), "for the neighbour")
		w.pass(2 * latency)
		s[1].mustBeTold("a neighbour")
		if n := s[0].tunnel.Status().Drops["elsewhere"]; n != 1 {
			t.Errorf("%d frames counted, want 1", n)
		}
	})
}

// hub makes a star: the first site knows all others, and they know only it.
func hub(t *testing.T, n int, forward bool, test func(w *world, hub *end, sites []*end)) {
	inWorld(t, func(w *world) {
		w.ethernet, w.extensions = true, transport.ExtensionsRequired
		h := w.end("hub", 1)
		h.configure(transport.Config{Forward: &forward})
		var sites []*end
		for i := range n {
			e := w.end(string(rune('a'+i)), 2+i)
			h.meet(e)
			e.meet(h)
			sites = append(sites, e)
		}
		for i, e := range sites {
			e.tells(station(i), everybody, fmt.Sprint("from ", i))
			w.pass(10 * latency)
		}
		want := []string{"from 0", "from 1", "from 2"}[:n]
		h.mustBeTold(want...)
		test(w, h, sites)
	})
}

func TestWhatCameFromAPeerGoesToNoOther(t *testing.T) {
	hub(t, 3, false, func(w *world, h *end, s []*end) {
		for _, e := range s {
			e.mustBeTold()
		}
		s[0].tells(station(0), station(1), "for another peer's side")
		w.pass(4 * latency)
		s[1].mustBeTold()
		h.mustBeTold()
		if n := h.peer(s[0].public).Drops["elsewhere"]; n != 1 {
			t.Errorf("%d frames counted, want 1", n)
		}
	})
}

func TestAHubForwardsBetweenItsPeers(t *testing.T) {
	hub(t, 3, true, func(w *world, h *end, s []*end) {
		s[0].mustBeTold("from 1", "from 2")
		s[1].mustBeTold("from 0", "from 2")
		s[2].mustBeTold("from 0", "from 1")
		for range 3 {
			s[0].tells(station(0), station(1), "for one")
		}
		s[0].tells(station(0), everybody, "for all")
		w.pass(4 * latency)
		s[1].mustBeTold("for one", "for one", "for one", "for all")
		s[2].mustBeTold("for all")
		h.mustBeTold("for all")
		s[0].mustBeTold()
	})
}

func TestAHubForwardsFramesThatComeInFragments(t *testing.T) {
	hub(t, 2, true, func(w *world, h *end, s []*end) {
		s[0].told()
		s[1].told()
		text := strings.Repeat("long ", 1800)
		for range 20 {
			s[0].tells(station(0), station(1), text)
		}
		w.pass(4 * latency)
		if got := s[1].told(); len(got) != 20 || got[19] != text {
			t.Errorf("%d frames came, drops %v", len(got), h.allDrops())
		}
	})
}

func TestFramesOfAllSizesArriveUnchanged(t *testing.T) {
	inLAN(t, 2, func(w *world, s []*end) {
		acquaint(w, s)
		for _, size := range []int{14, 15, 42, 59, 60, 61, 64, 124, 125, 1400, 1435, 1436, 1437, 1440, 1514, 1518, 1522, 9018, 11000} {
			f := slices.Concat(everybody[:], ethernetFrame(station(0), everybody, "")[6:14], make([]byte, max(0, size-14)))
			for i := 14; i < len(f); i++ {
				f[i] = byte(i * 7)
			}
			since := w.now()
			s[0].device.Inject(f)
			w.pass(2 * latency)
			var got [][]byte
			for _, b := range s[1].device.Drain() {
				if binary.BigEndian.Uint16(b[12:]) != probeType {
					got = append(got, b)
				}
			}
			if len(got) != 1 || !bytes.Equal(got[0], f) {
				t.Errorf("a frame of %d bytes: %d came, or it has changed; drops %v %v", size, len(got), s[0].allDrops(), s[1].allDrops())
			}
			for _, m := range w.sightings(since, "a") {
				if len(m.data) > 1500-20-8 {
					t.Errorf("a frame of %d bytes left in a datagram of %d", size, len(m.data))
				}
			}
		}
	})
}

// Stations talk over a hub by many flows, so that all lanes of all ends switch at the same
// time, out, in and between peers.
func TestSeveralLanesShareOneTable(t *testing.T) {
	hub(t, 2, true, func(w *world, h *end, s []*end) {
		none, forward := 0, true
		for _, e := range []*end{h, s[0], s[1]} {
			e.shutDown()
			e.start(4)
			e.configure(transport.Config{StormLimit: &none, Forward: &forward})
		}
		const stations, rounds = 50, 20
		for side, e := range s {
			for i := range stations {
				e.tells(station(1000*side+i), everybody, "I am here")
			}
			w.pass(6 * time.Second)
			for _, o := range []*end{h, s[0], s[1]} {
				o.told()
			}
		}
		for round := range rounds {
			for i := range stations {
				s[0].tells(station(i), station(1000+i), fmt.Sprint(round, i))
				s[1].tells(station(1000+i), station(i), fmt.Sprint(round, i))
			}
			if round%5 == 0 {
				h.tells(station(2000), everybody, "from the hub")
			}
			w.pass(4 * latency)
		}
		h.mustBeTold()
		for _, e := range s {
			heard := make(map[string]int)
			for _, text := range e.told() {
				heard[text]++
			}
			if n := heard["from the hub"]; n != rounds/5 {
				t.Errorf("%s was told %d times of the hub, want %d", e.name, n, rounds/5)
			}
			delete(heard, "from the hub")
			for text, n := range heard {
				if n != 1 {
					t.Errorf("%s was told %q %d times", e.name, text, n)
				}
			}
			if len(heard) != stations*rounds {
				t.Errorf("%s was told %d of %d texts; drops %v, of the hub %v", e.name, len(heard), stations*rounds, e.allDrops(), h.allDrops())
			}
		}
	})
}
