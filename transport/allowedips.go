package transport

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync/atomic"
)

// allowedIPs says which V (a peer) owns an inner address: the longest prefix that covers it decides. It is
// WireGuard's cryptokey routing table, asked about the destination on the way out and about the source on the way in.
//
// Writers (Insert, Remove, RemoveAll, Prefixes) must hold the lock of whoever owns the table. Readers need none: they
// take a Snapshot, which never changes, and see what was there at the last Publish. The trie is persistent: a writer
// copies the few nodes between the root and its change, once per Publish, so that a million prefixes are never rebuilt
// because of one.
//
// The zero value is an empty table.
type allowedIPs[V comparable] struct {
	published atomic.Pointer[routes[V]]
	nothing   routes[V] // what readers see before the first Publish

	// Guarded by the caller's lock.
	draft  routes[V]
	owners map[V]*ownedPrefixes
	era    uint32 // of the draft, counts what was published
	dirty  bool
}

// routes is one immutable state of the table.
type routes[V comparable] struct {
	v4, v6 node[V]
}

// Insert gives p (masked first) to v, and takes it from its owner so far, if any. A prefix of an IPv4-mapped IPv6
// address is not IPv4. An invalid prefix is the caller's bug and panics.
func (t *allowedIPs[V]) Insert(p netip.Prefix, v V) {
	e := entryOf(p)
	root := t.root(e)
	old, moved := root.owner(e.key, e.bits)
	if moved && old == v {
		return
	}
	root.insert(e.key, e.bits, v, t.era)
	t.dirty = true
	if moved {
		t.disown(old)
	}
	if t.owners == nil {
		t.owners = make(map[V]*ownedPrefixes)
	}
	list := t.owners[v]
	if list == nil {
		list = new(ownedPrefixes)
		t.owners[v] = list
	}
	list.entries = append(list.entries, e)
}

// Remove takes p away from v. It says whether p was v's; where it was not, nothing changes.
func (t *allowedIPs[V]) Remove(p netip.Prefix, v V) bool {
	e := entryOf(p)
	root := t.root(e)
	if old, ok := root.owner(e.key, e.bits); !ok || old != v {
		return false
	}
	root.remove(e.key, e.bits, t.era)
	t.dirty = true
	t.disown(v)
	return true
}

// RemoveAll takes all of its prefixes away from v.
func (t *allowedIPs[V]) RemoveAll(v V) {
	list := t.owners[v]
	if list == nil {
		return
	}
	for _, e := range list.entries {
		root := t.root(e)
		if old, ok := root.owner(e.key, e.bits); ok && old == v {
			root.remove(e.key, e.bits, t.era)
			t.dirty = true
		}
	}
	delete(t.owners, v)
}

// Prefixes lists v's prefixes, published or not, in the order in which v got them, which is how wg shows them.
func (t *allowedIPs[V]) Prefixes(v V) []netip.Prefix {
	list := t.owners[v]
	if list == nil {
		return nil
	}
	t.compact(v, list)
	prefixes := make([]netip.Prefix, len(list.entries))
	for i, e := range list.entries {
		prefixes[i] = e.prefix()
	}
	return prefixes
}

// Publish shows to the readers all that was changed since the last Publish, at once.
func (t *allowedIPs[V]) Publish() {
	if t.dirty {
		t.dirty = false
		state := t.draft
		t.published.Store(&state)
		t.era++ // what the draft owned so far is shared from now on
	}
}

// Snapshot is the state of the last Publish. Hot loops take one per burst. It is never nil, and lookups on it are
// safe for any number of callers, for as long as they like.
func (t *allowedIPs[V]) Snapshot() *routes[V] {
	if state := t.published.Load(); state != nil {
		return state
	}
	return &t.nothing
}

// Lookup4 is Snapshot().Lookup4.
func (t *allowedIPs[V]) Lookup4(addr *[4]byte) (V, bool) { return t.Snapshot().Lookup4(addr) }

// Lookup6 is Snapshot().Lookup6.
func (t *allowedIPs[V]) Lookup6(addr *[16]byte) (V, bool) { return t.Snapshot().Lookup6(addr) }

// Lookup4 returns the owner of the longest prefix that covers addr (network byte order, as in a packet).
func (r *routes[V]) Lookup4(addr *[4]byte) (V, bool) {
	return r.v4.lookup4(uint64(binary.BigEndian.Uint32(addr[:])) << 32)
}

// Lookup6 is the same for IPv6.
func (r *routes[V]) Lookup6(addr *[16]byte) (V, bool) {
	return r.v6.lookup(key{hi: binary.BigEndian.Uint64(addr[:8]), lo: binary.BigEndian.Uint64(addr[8:])})
}

func (t *allowedIPs[V]) root(e entry) *node[V] {
	if e.is6 {
		return &t.draft.v6
	}
	return &t.draft.v4
}

// ownedPrefixes remembers what one owner was given. The trie is the authority: entries that it no longer confirms are
// stale, and are swept out when they are more than half, so that each change costs the same on average.
type ownedPrefixes struct {
	entries []entry
	stale   int
}

func (t *allowedIPs[V]) disown(v V) {
	list := t.owners[v]
	list.stale++
	switch {
	case list.stale == len(list.entries):
		delete(t.owners, v)
	case list.stale > len(list.entries)/2:
		t.compact(v, list)
	}
}

// compact drops the stale entries of v. A prefix that went and came again counts where it came last.
func (t *allowedIPs[V]) compact(v V, list *ownedPrefixes) {
	if list.stale == 0 {
		return
	}
	seen := make(map[entry]struct{}, len(list.entries))
	keep := len(list.entries)
	for i := len(list.entries) - 1; i >= 0; i-- {
		e := list.entries[i]
		if _, twice := seen[e]; twice {
			continue
		}
		seen[e] = struct{}{}
		if owner, ok := t.root(e).owner(e.key, e.bits); ok && owner == v {
			keep--
			list.entries[keep] = e
		}
	}
	list.entries = append(make([]entry, 0, len(list.entries)-keep), list.entries[keep:]...)
	list.stale = 0
}

// entry is a masked prefix in the form the trie uses.
type entry struct {
	key
	bits uint8
	is6  bool
}

func entryOf(p netip.Prefix) entry {
	if !p.IsValid() {
		panic("transport: invalid prefix in AllowedIPs")
	}
	p = p.Masked()
	e := entry{bits: uint8(p.Bits()), is6: p.Addr().Is6()}
	if e.is6 {
		a := p.Addr().As16()
		e.key = key{hi: binary.BigEndian.Uint64(a[:8]), lo: binary.BigEndian.Uint64(a[8:])}
	} else {
		a := p.Addr().As4()
		e.key = key{hi: uint64(binary.BigEndian.Uint32(a[:])) << 32}
	}
	return e
}

func (e entry) prefix() netip.Prefix {
	if e.is6 {
		var a [16]byte
		binary.BigEndian.PutUint64(a[:8], e.hi)
		binary.BigEndian.PutUint64(a[8:], e.lo)
		return netip.PrefixFrom(netip.AddrFrom16(a), int(e.bits))
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(e.hi>>32))
	return netip.PrefixFrom(netip.AddrFrom4(a), int(e.bits))
}

// key is an address as one string of 128 bits, the first one on top of hi. IPv4 fills the first 32.
type key struct{ hi, lo uint64 }

// common is the number of leading bits that k and o share, at most limit.
func (k key) common(o key, limit uint8) uint8 {
	n := uint8(bits.LeadingZeros64(k.hi ^ o.hi))
	if n == 64 {
		n += uint8(bits.LeadingZeros64(k.lo ^ o.lo))
	}
	return min(n, limit)
}

// slot is the 6 bits of k behind the first depth, padded with zeros where the 64-bit word ends.
func (k key) slot(depth uint8) uint8 {
	if depth < 64 {
		return uint8(k.hi << depth >> 58)
	}
	return uint8(k.lo << (depth - 64) >> 58)
}

// home is the depth of the node that holds prefixes of that many bits.
func home(bits uint8) uint8 {
	if bits < 64 {
		return bits - bits%stride
	}
	return bits - (bits-64)%stride
}
