package fdb

import (
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"time"

	"stunnel/transport/ethernet"
)

// at is station number n.
func at(n int) Station {
	s := Station{MAC: ethernet.MAC{2}}
	binary.BigEndian.PutUint32(s.MAC[2:], uint32(n))
	return s
}

// mustFind fails the test unless s is behind p.
func mustFind(t *testing.T, table *Table[string], s Station, now time.Duration, p *Port[string]) {
	t.Helper()
	got := table.Lookup(s, now)
	name := func(p *Port[string]) string {
		if p == nil {
			return "none"
		}
		return p.Owner
	}
	if got != p {
		t.Errorf("at %v %v is behind port %s, want %s", now, s, name(got), name(p))
	}
}

func ports() (table *Table[string], a, b *Port[string]) {
	return New[string](), &Port[string]{Owner: "a"}, &Port[string]{Owner: "b"}
}

func TestAStationIsWhereItWasHeardLastUntilItIsTooOld(t *testing.T) {
	table, a, b := ports()
	mustFind(t, table, at(1), 0, nil)
	for i, step := range []struct {
		p    *Port[string]
		now  time.Duration
		want Verdict
	}{
		{a, 0, Learned}, {a, 1, Known}, {b, 2, Moved}, {b, 200 * time.Second, Known}, {b, 499 * time.Second, Known},
		{a, 900 * time.Second, Learned},
	} {
		if got := table.Learn(at(1), step.p, step.now); got != step.want {
			t.Errorf("step %d: verdict %d, want %d", i, got, step.want)
		}
		mustFind(t, table, at(1), step.now, step.p)
	}
	mustFind(t, table, at(1), 1199*time.Second, a)
	mustFind(t, table, at(1), 1200*time.Second, nil)
	if a.Stations() != 1 || b.Stations() != 0 {
		t.Errorf("%d and %d stations", a.Stations(), b.Stations())
	}
	if left := table.Sweep(1200 * time.Second); left != 0 || a.Stations() != 0 {
		t.Errorf("%d stations left, %d behind a", left, a.Stations())
	}
}

func TestAPortHasNoMoreThanItsLimitAndTheOthersKeepTheirs(t *testing.T) {
	table, a, b := ports()
	table.SetLimit(100)
	for i := range 100 {
		table.Learn(at(i), a, 0)
	}
	for i := range 10_000 {
		want := Learned
		if i >= 100 {
			want = Full
		}
		if got := table.Learn(at(1000+i), b, 1); got != want {
			t.Fatalf("address %d: verdict %d, want %d", i, got, want)
		}
	}
	if v := table.Learn(at(5), b, 2); v != Full {
		t.Errorf("a full port takes over a station: verdict %d", v)
	}
	for i := range 100 {
		mustFind(t, table, at(i), 2, a)
	}
	if v := table.Learn(at(50_000), b, table.Ageing()+2); v != Full {
		t.Errorf("verdict %d, want %d: nobody has swept", v, Full)
	}
	table.Sweep(table.Ageing() + 2)
	if v := table.Learn(at(50_000), b, table.Ageing()+2); v != Learned {
		t.Errorf("verdict %d, want %d", v, Learned)
	}
}

func TestAStationThatMovesTooOftenIsHeldForAWhile(t *testing.T) {
	table, a, b := ports()
	table.Learn(at(1), a, 0)
	now, moves := time.Duration(0), 0
	for i := range 1000 {
		now += 10 * time.Millisecond
		switch p := []*Port[string]{b, a}[i%2]; table.Learn(at(1), p, now) {
		case Moved:
			moves++
			mustFind(t, table, at(1), now, p)
		}
	}
	if moves < moveBurst || moves > moveBurst+2 {
		t.Errorf("%d moves in 10 s, want %d", moves, moveBurst)
	}
	for range 5 { // a person walks about
		now += time.Minute
		for _, p := range []*Port[string]{a, b} {
			table.Learn(at(1), p, now)
			mustFind(t, table, at(1), now, p)
		}
	}
}

func TestASecureTableGivesNobodyWhatAnotherHas(t *testing.T) {
	table, a, b := ports()
	own := &Port[string]{Owner: "own", Trusted: true}
	table.SetSecure(true)
	table.Learn(at(1), a, 0)
	if v := table.Learn(at(1), b, 1); v != Claimed {
		t.Errorf("verdict %d, want %d", v, Claimed)
	}
	if v := table.Learn(at(1), own, 2); v != Moved {
		t.Errorf("a trusted port: verdict %d, want %d", v, Moved)
	}
	if v := table.Learn(at(1), a, 3); v != Claimed {
		t.Errorf("verdict %d, want %d", v, Claimed)
	}
	table.Flush(own)
	if v := table.Learn(at(1), b, 4); v != Learned {
		t.Errorf("after a flush: verdict %d, want %d", v, Learned)
	}
	if v := table.Learn(at(1), a, 4+table.Ageing()); v != Learned {
		t.Errorf("when it is too old: verdict %d, want %d", v, Learned)
	}
}

func TestPinnedAddressesAreTheirPortsAndItHasNoOthers(t *testing.T) {
	table, a, b := ports()
	table.Learn(at(1), b, 0)
	table.Learn(at(2), a, 0)
	tagged := at(1)
	tagged.VLAN.Outer = 9
	table.Pin(a, []ethernet.MAC{at(1).MAC})
	mustFind(t, table, at(1), 0, nil)
	mustFind(t, table, at(2), 0, nil)
	for _, c := range []struct {
		s    Station
		p    *Port[string]
		want Verdict
	}{
		{at(1), b, Claimed}, {tagged, b, Claimed}, {at(1), a, Learned}, {tagged, a, Learned}, {at(2), a, Claimed}, {at(2), b, Learned},
	} {
		if got := table.Learn(c.s, c.p, 1); got != c.want {
			t.Errorf("%v from %s: verdict %d, want %d", c.s, c.p.Owner, got, c.want)
		}
	}
	if table.Pinned(at(1).MAC) != a || table.Pinned(at(2).MAC) != nil {
		t.Error("the table says of other ports that they have them")
	}
	table.Pin(a, nil)
	if v := table.Learn(at(1), b, 2); v != Moved {
		t.Errorf("when the pin is gone: verdict %d, want %d", v, Moved)
	}
	if v := table.Learn(at(3), a, 2); v != Learned {
		t.Errorf("when the pin is gone: verdict %d, want %d", v, Learned)
	}
}

func TestAClosedPortLearnsNothingMore(t *testing.T) {
	table, a, b := ports()
	var learning sync.WaitGroup
	for lane := range 4 {
		learning.Go(func() {
			for i := range 2000 {
				table.Learn(at(10_000*lane+i), a, 0)
			}
		})
	}
	table.Close(a)
	learning.Wait()
	if n := a.Stations(); n != 0 || table.Stations() != 0 {
		t.Errorf("%d stations behind it, %d in all", n, table.Stations())
	}
	if v := table.Learn(at(1), b, 0); v != Learned {
		t.Errorf("another port: verdict %d", v)
	}
}

// Readers walk chains while they are changed: what is there all the time must be found all
// the time, at the port that it never left.
func TestReadersNeverMissAStationThatStays(t *testing.T) {
	table, a, b := ports()
	table.SetLimit(1 << 20)
	const staying = 500
	for i := range staying {
		table.Learn(at(i), a, 0)
	}
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for i := range staying {
					if table.Lookup(at(i), 1) != a {
						t.Errorf("station %d is missed", i)
						return
					}
				}
			}
		})
	}
	for lane := range 2 {
		writing.Go(func() {
			for round := range 20 {
				for i := range 2000 {
					table.Learn(at(1_000_000*(lane+1)+i), b, 0)
				}
				if round%2 == 1 {
					table.Flush(b)
					table.Sweep(1)
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
}

func TestLookupAndLearnDoNotAllocate(t *testing.T) {
	table, a, _ := ports()
	table.Learn(at(1), a, 0)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += time.Second
		table.Learn(at(1), a, now)
		table.Lookup(at(1), now)
		table.Lookup(at(2), now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAHundredThousandStationsTakeLessThan16MiB(t *testing.T) {
	const stations = 100_000
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	table, a, _ := ports()
	table.SetLimit(stations)
	for i := range stations {
		table.Learn(at(i), a, 0)
	}
	bytes := used() - before
	t.Logf("%d stations: %d bytes, %d for each", stations, bytes, bytes/stations)
	if bytes > 16<<20 {
		t.Errorf("%d bytes", bytes)
	}
	table.Sweep(table.Ageing())
	if left := used() - before; left > 256<<10 {
		t.Errorf("%d bytes are kept when all are gone", left)
	}
	runtime.KeepAlive(table)
}

func BenchmarkLookup(b *testing.B) {
	table, a, _ := ports()
	table.SetLimit(1 << 20)
	for i := range 1000 {
		table.Learn(at(i), a, 0)
	}
	i := 0
	for b.Loop() {
		table.Lookup(at(i%1000), 0)
		i++
	}
}
