package fdb

import (
	"sync"
	"sync/atomic"
	"time"
)

// Writers of different shards do not wait for each other, and a sweep stops none of them
// for longer than a shard takes.
const (
	shards       = 64
	leastBuckets = 8 // of a shard; a power of two
)

// shard is a part of the table: buckets, each a chain of entries. Readers walk chains
// without the lock: whatever they meet leads on to all entries behind it that are still
// there. When the number of buckets changes, the entries in them are copies; what a reader
// then writes to the old one, that a station was heard, is lost once.
type shard[T any] struct {
	buckets atomic.Pointer[buckets[T]]

	mu sync.Mutex // guards what follows, and writes to buckets and chains
	n  int        // entries
}

// buckets are the beginnings of chains; their number is a power of two.
type buckets[T any] []atomic.Pointer[entry[T]]

// at is the bucket for a hash, of which the shard has used the lowest bits.
func (b buckets[T]) at(hash uint64) *atomic.Pointer[entry[T]] {
	return &b[hash/shards&uint64(len(b)-1)]
}

// entry is one station.
type entry[T any] struct {
	station Station // constant
	next    atomic.Pointer[entry[T]]
	port    atomic.Pointer[Port[T]]
	heard   atomic.Int64  // when, a time.Duration
	settled time.Duration // when it may move moveBurst times again; guarded by shard.mu
}

// mayMove takes one of the moves that a station has. mu is held.
func (e *entry[T]) mayMove(now time.Duration) bool {
	next := max(e.settled, now) + moveInterval
	if next-now > moveBurst*moveInterval {
		return false
	}
	e.settled = next
	return true
}

func (sh *shard[T]) find(hash uint64, s *Station) *entry[T] {
	e := sh.buckets.Load().at(hash).Load()
	for e != nil && e.station != *s {
		e = e.next.Load()
	}
	return e
}

// What follows is called with mu held.

// insert puts e in front of its chain.
func (sh *shard[T]) insert(hash uint64, e *entry[T]) {
	first := sh.buckets.Load().at(hash)
	e.next.Store(first.Load())
	first.Store(e)
	sh.n++
}

// remove takes out an entry that is there.
func (sh *shard[T]) remove(hash uint64, e *entry[T]) {
	link := sh.buckets.Load().at(hash)
	for link.Load() != e {
		link = &link.Load().next
	}
	link.Store(e.next.Load())
	e.port.Load().give()
	sh.n--
}

// removeIf takes out all entries that gone says are.
func (sh *shard[T]) removeIf(gone func(*entry[T]) bool) (removed int) {
	all := *sh.buckets.Load()
	for i := range all {
		link := &all[i]
		for e := link.Load(); e != nil; e = e.next.Load() {
			if !gone(e) {
				link = &e.next
				continue
			}
			link.Store(e.next.Load())
			e.port.Load().give()
			removed++
		}
	}
	sh.n -= removed
	return removed
}

// resize gives the shard as many buckets as fit its entries.
func (sh *shard[T]) resize(hash func(*Station) uint64) {
	size := leastBuckets
	for size < sh.n {
		size *= 2
	}
	old, more := *sh.buckets.Load(), make(buckets[T], size)
	for i := range old {
		for e := old[i].Load(); e != nil; e = e.next.Load() {
			first := more.at(hash(&e.station))
			c := &entry[T]{station: e.station, settled: e.settled}
			c.port.Store(e.port.Load())
			c.heard.Store(e.heard.Load())
			c.next.Store(first.Load())
			first.Store(c)
		}
	}
	sh.buckets.Store(&more)
}
