package fdb

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"

	"stunnel/transport/ethernet"
)

// Defaults of a table.
const (
	// DefaultAgeing is that of IEEE 802.1Q: longer than any station is silent that is
	// talked to (an ARP entry is renewed in less), short enough for one that was
	// carried away without a word.
	DefaultAgeing = 300 * time.Second

	// DefaultLimit of stations behind one port: more than a large site has (a /20), and
	// less than 400 KiB. Common access switches have as many for all of their ports.
	DefaultLimit = 4096
)

const (
	// refreshAfter is how old the word of a station is before a newer one is written
	// down: so busy stations do not have all lanes write to one cache line.
	refreshAfter = time.Second

	// A station moves moveBurst times at once, and once in moveInterval in the long run.
	// People and virtual machines move less often; loops, and two stations with one
	// address, a thousand times a second.
	moveBurst    = 5
	moveInterval = 10 * time.Second
)

// A Station is an address in a VLAN.
type Station struct {
	MAC  ethernet.MAC
	VLAN ethernet.VLAN
}

func (s Station) compare(o Station) int {
	return cmp.Or(cmp.Compare(s.VLAN.Outer, o.VLAN.Outer), cmp.Compare(s.VLAN.Inner, o.VLAN.Inner), bytes.Compare(s.MAC[:], o.MAC[:]))
}

// A Verdict is what Learn has done.
type Verdict uint8

// The verdicts. After the last three the table is as it was.
const (
	Known    Verdict = iota // the station was there, and is
	Learned                 // it is new, or was too old
	Moved                   // it was behind another port
	Flapping                // it moves too often: it stays where it was for a while
	Full                    // the port has as many stations as it may
	Claimed                 // the address is another port's, or the port may not have it
)

// Table maps stations to ports. Safe for concurrent use. New makes one.
type Table[T any] struct {
	seed   maphash.Seed
	ageing atomic.Int64
	limit  atomic.Int64 // stations of one port
	secure atomic.Bool
	pins   atomic.Pointer[map[ethernet.MAC]*Port[T]] // never changed once it is here

	shards [shards]shard[T]
}

// New returns an empty table with the default ageing and limit.
func New[T any]() *Table[T] {
	t := &Table[T]{seed: maphash.MakeSeed()}
	t.ageing.Store(int64(DefaultAgeing))
	t.limit.Store(DefaultLimit)
	for i := range t.shards {
		none := make(buckets[T], leastBuckets)
		t.shards[i].buckets.Store(&none)
	}
	return t
}

// SetAgeing sets after how long without a word a station is forgotten.
func (t *Table[T]) SetAgeing(d time.Duration) { t.ageing.Store(int64(d)) }

// Ageing is after how long without a word a station is forgotten.
func (t *Table[T]) Ageing() time.Duration { return time.Duration(t.ageing.Load()) }

// SetLimit sets how many stations may be behind one port. Those beyond it that are there
// stay until they are too old.
func (t *Table[T]) SetLimit(n int) { t.limit.Store(int64(n)) }

// SetSecure says whether a port that is not Trusted is kept from taking over the stations
// of others for as long as those are heard.
func (t *Table[T]) SetSecure(on bool) { t.secure.Store(on) }

// hash also picks the shard. The seed is secret: nobody can choose addresses that make
// long chains.
func (t *Table[T]) hash(s *Station) uint64 {
	var b [10]byte
	copy(b[:], s.MAC[:])
	binary.NativeEndian.PutUint16(b[6:], s.VLAN.Outer)
	binary.NativeEndian.PutUint16(b[8:], s.VLAN.Inner)
	return maphash.Bytes(t.seed, b[:])
}

// Lookup returns the port behind which s was last heard; nil: it is not known.
func (t *Table[T]) Lookup(s Station, now time.Duration) *Port[T] {
	hash := t.hash(&s)
	e := t.shards[hash%shards].find(hash, &s)
	if e == nil || t.isOld(e, now) {
		return nil
	}
	return e.port.Load()
}

func (t *Table[T]) isOld(e *entry[T], now time.Duration) bool {
	return int64(now)-e.heard.Load() >= t.ageing.Load()
}

// Learn enters that s was heard behind p. What no single station can have (IsStation) is
// not to be learned, and panics.
func (t *Table[T]) Learn(s Station, p *Port[T], now time.Duration) Verdict {
	hash := t.hash(&s)
	sh := &t.shards[hash%shards]
	if e := sh.find(hash, &s); e != nil && e.port.Load() == p && !t.isOld(e, now) {
		if int64(now)-e.heard.Load() >= int64(refreshAfter) {
			e.heard.Store(int64(now))
		}
		return Known
	}
	if !s.MAC.IsStation() {
		panic("fdb: address of no station")
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return t.learn(sh, hash, &s, p, now)
}

// learn is Learn where something changes. sh.mu is held.
func (t *Table[T]) learn(sh *shard[T], hash uint64, s *Station, p *Port[T], now time.Duration) Verdict {
	if pins := t.pins.Load(); pins != nil {
		if owner := (*pins)[s.MAC]; owner != p && (owner != nil || p.fixed.Load()) {
			return Claimed
		}
	}
	e := sh.find(hash, s)
	if e != nil && t.isOld(e, now) {
		sh.remove(hash, e)
		e = nil
	}
	if e == nil {
		if !p.take(t.limit.Load()) {
			return Full
		}
		t.insert(sh, hash, s, p, now)
		return Learned
	}
	owner := e.port.Load()
	switch {
	case owner == p: // another lane was here first
		e.heard.Store(int64(now))
		return Known
	case t.secure.Load() && !p.Trusted:
		return Claimed
	case !e.mayMove(now):
		return Flapping
	case !p.take(t.limit.Load()):
		return Full
	}
	owner.give()
	e.port.Store(p)
	e.heard.Store(int64(now))
	return Moved
}

// insert enters a station that is not there. sh.mu is held.
func (t *Table[T]) insert(sh *shard[T], hash uint64, s *Station, p *Port[T], now time.Duration) {
	e := &entry[T]{station: *s}
	e.port.Store(p)
	e.heard.Store(int64(now))
	sh.insert(hash, e)
	if sh.n > len(*sh.buckets.Load()) {
		sh.resize(t.hash)
	}
}
