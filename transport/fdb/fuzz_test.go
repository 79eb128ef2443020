package fdb

import (
	"slices"
	"testing"
	"time"

	"stunnel/transport/ethernet"
)

// model is the table as plainly as can be said.
type model struct {
	ageing   time.Duration
	limit    int
	secure   bool
	stations map[Station]*modelStation
	pins     map[ethernet.MAC]int
	fixed    [4]bool
	closed   [4]bool
}

type modelStation struct {
	port  int
	heard time.Duration
	moves []time.Duration // those that count against the next
}

func (m *model) behind(port int) (n int) {
	for _, s := range m.stations {
		if s.port == port {
			n++
		}
	}
	return n
}

func (m *model) lookup(s Station, now time.Duration) int {
	if e := m.stations[s]; e != nil && now-e.heard < m.ageing {
		return e.port
	}
	return -1
}

func (m *model) learn(s Station, port int, now time.Duration) Verdict {
	e := m.stations[s]
	fresh := e != nil && now-e.heard < m.ageing
	if fresh && e.port == port {
		if now-e.heard >= refreshAfter {
			e.heard = now
		}
		return Known
	}
	if owner, pinned := m.pins[s.MAC]; pinned && owner != port || !pinned && m.fixed[port] {
		return Claimed
	}
	if !fresh {
		delete(m.stations, s)
		if m.closed[port] || m.behind(port) >= m.limit {
			return Full
		}
		m.stations[s] = &modelStation{port: port, heard: now}
		return Learned
	}
	if m.secure && port != 0 {
		return Claimed
	}
	// A move costs moveInterval of a stock that is moveBurst of them.
	owed := time.Duration(0)
	for i, at := range e.moves {
		if i > 0 {
			owed = max(0, owed-(at-e.moves[i-1]))
		}
		owed += moveInterval
	}
	if len(e.moves) > 0 {
		owed = max(0, owed-(now-e.moves[len(e.moves)-1]))
	}
	if owed+moveInterval > moveBurst*moveInterval {
		return Flapping
	}
	e.moves = append(e.moves, now)
	if m.closed[port] || m.behind(port) >= m.limit {
		return Full
	}
	e.port, e.heard = port, now
	return Moved
}

func (m *model) drop(gone func(Station, *modelStation) bool) {
	for s, e := range m.stations {
		if gone(s, e) {
			delete(m.stations, s)
		}
	}
}

func (m *model) pin(port int, addresses []ethernet.MAC) {
	for a, owner := range m.pins {
		if owner == port {
			delete(m.pins, a)
		}
	}
	for _, a := range addresses {
		m.pins[a] = port
	}
	m.fixed[port] = len(addresses) > 0
	m.drop(func(s Station, e *modelStation) bool {
		owner, pinned := m.pins[s.MAC]
		return pinned && owner != e.port || !pinned && m.fixed[e.port]
	})
}

// Each three bytes are one thing that happens to the table and to the model.
func FuzzTheTableAgreesWithAPlainModel(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 1, 2, 1, 1, 0, 2, 255, 0, 0, 1, 1})
	f.Add([]byte{5, 3, 0, 0, 1, 1, 0, 2, 1, 0, 3, 1, 0, 4, 1, 3, 1, 0, 6, 1, 0, 0, 1, 2})
	f.Add([]byte{7, 1, 9, 0, 9, 1, 0, 9, 2, 0, 3, 1, 7, 1, 0, 8, 1, 0, 0, 1, 1, 4, 0, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 3*400 {
			return
		}
		table := New[int]()
		var ports [4]*Port[int]
		for i := range ports {
			ports[i] = &Port[int]{Owner: i, Trusted: i == 0}
		}
		m := &model{ageing: DefaultAgeing, limit: DefaultLimit, stations: map[Station]*modelStation{}, pins: map[ethernet.MAC]int{}}
		now := time.Duration(0)
		for ; len(steps) >= 3; steps = steps[3:] {
			a, b := int(steps[1]), int(steps[2])
			s, port := at(a%32), b%4
			s.VLAN.Outer = uint16(a / 128)
			switch steps[0] % 10 {
			case 0, 1:
				if got, want := table.Learn(s, ports[port], now), m.learn(s, port, now); got != want {
					t.Fatalf("at %v %v from %d: verdict %d, want %d", now, s, port, got, want)
				}
			case 2:
				now += time.Duration(a) * time.Second / 4
			case 3:
				table.Flush(ports[port])
				m.drop(func(_ Station, e *modelStation) bool { return e.port == port })
			case 4:
				table.Sweep(now)
				m.drop(func(_ Station, e *modelStation) bool { return now-e.heard >= m.ageing })
			case 5:
				m.limit = 1 + a%8
				table.SetLimit(m.limit)
			case 6:
				m.secure = a%2 == 1
				table.SetSecure(m.secure)
			case 7:
				var addresses []ethernet.MAC
				for i := range b / 4 % 4 {
					addresses = append(addresses, at((a+i)%32).MAC)
				}
				table.Pin(ports[port], addresses)
				m.pin(port, addresses)
			case 8:
				m.ageing = time.Duration(1+a) * time.Second
				table.SetAgeing(m.ageing)
			case 9:
				if a == 77 && port != 0 {
					m.closed[port] = true
					table.Close(ports[port])
					m.drop(func(_ Station, e *modelStation) bool { return e.port == port })
				}
			}
			known := 0
			for i := range 64 {
				s := at(i % 32)
				s.VLAN.Outer = uint16(i / 32)
				got := -1
				if p := table.Lookup(s, now); p != nil {
					got = p.Owner
					known++
				}
				if want := m.lookup(s, now); got != want {
					t.Fatalf("at %v %v is behind %d, want %d", now, s, got, want)
				}
			}
			all := table.All(now)
			if len(all) != known || !slices.IsSortedFunc(all, func(a, b Entry[int]) int { return a.Station.compare(b.Station) }) {
				t.Fatalf("%d stations listed, want %d in order", len(all), known)
			}
			for i, p := range ports {
				if p.Stations() != m.behind(i) {
					t.Fatalf("%d stations behind %d, want %d", p.Stations(), i, m.behind(i))
				}
			}
		}
	})
}
