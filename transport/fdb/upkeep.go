package fdb

import (
	"maps"
	"slices"
	"time"

	"stunnel/transport/ethernet"
)

// Entry is what a table knows of one station.
type Entry[T any] struct {
	Station
	Port *Port[T]
	Age  time.Duration // since it was heard, exact to a second
}

// Sweep forgets the stations that are too old, and returns how many stay.
func (t *Table[T]) Sweep(now time.Duration) (left int) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		sh.removeIf(func(e *entry[T]) bool { return t.isOld(e, now) })
		if len(*sh.buckets.Load()) > max(leastBuckets, 4*sh.n) {
			sh.resize(t.hash)
		}
		left += sh.n
		sh.mu.Unlock()
	}
	return left
}

// Flush forgets all stations behind p.
func (t *Table[T]) Flush(p *Port[T]) {
	if p.stations.Load() > 0 {
		t.removeIf(func(e *entry[T]) bool { return e.port.Load() == p })
	}
}

// Close is Flush for a port that is no more: nothing is learned from it from now on.
func (t *Table[T]) Close(p *Port[T]) {
	p.closed.Store(true)
	t.Flush(p)
}

func (t *Table[T]) removeIf(gone func(*entry[T]) bool) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		sh.removeIf(gone)
		sh.mu.Unlock()
	}
}

// Pin gives addresses, in all VLANs, to p alone, and takes back those that it was given
// before: nobody else may have them, and p has no others. With none p is as it was at
// first. What contradicts that is forgotten. One caller at a time.
func (t *Table[T]) Pin(p *Port[T], addresses []ethernet.MAC) {
	pins := make(map[ethernet.MAC]*Port[T])
	if old := t.pins.Load(); old != nil {
		maps.Copy(pins, *old)
		maps.DeleteFunc(pins, func(_ ethernet.MAC, owner *Port[T]) bool { return owner == p })
	}
	for _, a := range addresses {
		pins[a] = p
	}
	p.fixed.Store(len(addresses) > 0)
	t.pins.Store(&pins)
	t.removeIf(func(e *entry[T]) bool {
		owner, port := pins[e.station.MAC], e.port.Load()
		return owner != port && (owner != nil || port.fixed.Load())
	})
}

// Pinned returns the port that alone has an address; nil: any may.
func (t *Table[T]) Pinned(address ethernet.MAC) *Port[T] {
	if pins := t.pins.Load(); pins != nil {
		return (*pins)[address]
	}
	return nil
}

// Stations is how many there are, those included that are too old and were not swept yet.
func (t *Table[T]) Stations() (n int) {
	for i := range t.shards {
		t.shards[i].mu.Lock()
		n += t.shards[i].n
		t.shards[i].mu.Unlock()
	}
	return n
}

// All lists the stations that are known, by VLAN and address.
func (t *Table[T]) All(now time.Duration) []Entry[T] {
	var all []Entry[T]
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for b := range *sh.buckets.Load() {
			for e := (*sh.buckets.Load())[b].Load(); e != nil; e = e.next.Load() {
				if !t.isOld(e, now) {
					all = append(all, Entry[T]{e.station, e.port.Load(), max(now-time.Duration(e.heard.Load()), 0)})
				}
			}
		}
		sh.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Entry[T]) int { return a.Station.compare(b.Station) })
	return all
}
