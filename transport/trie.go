package transport

import (
	"math/bits"
	"slices"
)

// stride is how many bits of the address one node of the trie decides. Six, since the 63 prefixes of 0 to 5 bits and
// the 64 children then fit a machine word each.
const stride = 6

// node is one node of a persistent multibit trie with skipped levels. Depths are multiples of the stride, counted
// anew at bit 64, so that no node straddles the two halves of an IPv6 address.
//
// Within a node a prefix of l bits (0 to 5) with value b has the number 1<<l | b, as in a heap: the prefixes that cover
// a slot are the ancestors of the leaf 64 | slot, and a longer prefix has the larger number. So one AND finds all that
// match and the highest bit of it is the longest.
//
// A node owns its two slices if it was made or changed by the draft at hand, which era tells. Otherwise a published
// state may share them: they are copied before they are changed.
type node[V comparable] struct {
	key      key       // the bits on the way to this node, the first depth of them; the rest are zero
	prefixes uint64    // bit n: the prefix with number n is here
	slots    uint64    // bit s: there is a child for slot s
	values   []V       // one per bit of prefixes, in order
	children []node[V] // one per bit of slots, in order
	era      uint32
	depth    uint8 // how many bits were decided above
}

// ancestors has, for each slot, the bits of the prefixes that cover it.
var ancestors = func() (masks [64]uint64) {
	for slot := range masks {
		for number := (64 | slot) >> 1; number > 0; number >>= 1 {
			masks[slot] |= 1 << number
		}
	}
	return masks
}()

// rank is the number of bits set in word below bit.
func rank(word uint64, bit uint8) int { return bits.OnesCount64(word & (1<<(bit&63) - 1)) }

// number is the place of a prefix of so many bits in its home node, which has that depth.
func number(k key, length, depth uint8) uint8 {
	l := length - depth
	return 1<<l | k.slot(depth)>>(stride-l)
}

func (n *node[V]) empty() bool { return n.prefixes|n.slots == 0 }

// covers says whether k goes through n.
func (n *node[V]) covers(k key) bool {
	if n.depth < 64 {
		return covers(n.key.hi, k.hi, n.depth)
	}
	return n.key.hi == k.hi && covers(n.key.lo, k.lo, n.depth-64)
}

// covers says whether the first depth bits of a and b are equal, for depths of 0 to 63. (It is a shift by 64 - depth,
// but in a form that needs no branch for a shift by 64.)
func covers(a, b uint64, depth uint8) bool { return (a^b)>>1>>((63-depth)&63) == 0 }

// lookup finds the value of the longest prefix that covers k.
func (n *node[V]) lookup(k key) (v V, ok bool) {
	var best *node[V]
	var matches uint64
	for n.covers(k) {
		slot := k.slot(n.depth)
		if m := n.prefixes & ancestors[slot]; m != 0 {
			best, matches = n, m
		}
		if n.slots>>slot&1 == 0 {
			break
		}
		n = &n.children[rank(n.slots, slot)]
	}
	return best.longest(matches)
}

// lookup4 is lookup for IPv4, whose nodes all are in the first half of the key.
func (n *node[V]) lookup4(k uint64) (v V, ok bool) {
	var best *node[V]
	var matches uint64
	for covers(n.key.hi, k, n.depth) {
		slot := k << (n.depth & 63) >> 58
		if m := n.prefixes & ancestors[slot]; m != 0 {
			best, matches = n, m
		}
		if n.slots>>slot&1 == 0 {
			break
		}
		n = &n.children[rank(n.slots, uint8(slot))]
	}
	return best.longest(matches)
}

// longest is the value of the longest one of those prefixes of n; n is nil if there is none.
func (n *node[V]) longest(matches uint64) (v V, ok bool) {
	if n == nil {
		return v, false
	}
	return n.values[rank(n.prefixes, uint8(63-bits.LeadingZeros64(matches)))], true
}

// owner finds the value of exactly this prefix.
func (n *node[V]) owner(k key, length uint8) (v V, ok bool) {
	depth := home(length)
	for n.depth < depth && n.covers(k) {
		slot := k.slot(n.depth)
		if n.slots>>slot&1 == 0 {
			return v, false
		}
		n = &n.children[rank(n.slots, slot)]
	}
	if n.depth != depth || !n.covers(k) {
		return v, false
	}
	num := number(k, length, depth)
	if n.prefixes>>num&1 == 0 {
		return v, false
	}
	return n.values[rank(n.prefixes, num)], true
}

// insert adds a prefix, or gives it another value. The caller owns the memory that n itself lies in.
func (n *node[V]) insert(k key, length uint8, v V, era uint32) {
	if n.empty() {
		*n = leaf(k, length, v, era)
		return
	}
	depth := home(length)
	common := k.common(n.key, min(depth, n.depth))
	switch {
	case common == n.depth && n.depth == depth: // it is at home here
		n.own(era)
		num := number(k, length, depth)
		at := rank(n.prefixes, num)
		if n.prefixes>>num&1 == 1 {
			n.values[at] = v
		} else {
			n.prefixes |= 1 << num
			n.values = inserted(n.values, at, v)
		}
	case common == n.depth: // further down
		n.own(era)
		slot := k.slot(n.depth)
		at := rank(n.slots, slot)
		if n.slots>>slot&1 == 1 {
			n.children[at].insert(k, length, v, era)
		} else {
			n.slots |= 1 << slot
			n.children = inserted(n.children, at, leaf(k, length, v, era))
		}
	case common == depth: // on the way to n
		above := leaf(k, length, v, era)
		above.slots = 1 << n.key.slot(depth)
		above.children = []node[V]{*n}
		*n = above
	default: // the ways part
		fork := home(common)
		above := node[V]{key: k.first(fork), depth: fork, era: era}
		other := leaf(k, length, v, era)
		mine, its := n.key.slot(fork), k.slot(fork)
		above.slots = 1<<mine | 1<<its
		if mine < its {
			above.children = []node[V]{*n, other}
		} else {
			above.children = []node[V]{other, *n}
		}
		*n = above
	}
}

// remove takes away a prefix that n has (owner said so). A node that is left with nothing is empty, and one that is
// left with nothing but a child becomes that child. The caller owns the memory that n itself lies in.
func (n *node[V]) remove(k key, length uint8, era uint32) {
	n.own(era)
	if depth := home(length); n.depth == depth {
		num := number(k, length, depth)
		n.values = slices.Delete(n.values, rank(n.prefixes, num), rank(n.prefixes, num)+1)
		n.prefixes &^= 1 << num
	} else {
		slot := k.slot(n.depth)
		at := rank(n.slots, slot)
		n.children[at].remove(k, length, era)
		if n.children[at].empty() {
			n.children = slices.Delete(n.children, at, at+1)
			n.slots &^= 1 << slot
		}
	}
	switch {
	case n.empty():
		*n = node[V]{}
	case n.prefixes == 0 && len(n.children) == 1:
		*n = n.children[0]
	}
}

// own makes sure that no published state shares the slices of n.
func (n *node[V]) own(era uint32) {
	if n.era != era {
		n.era = era
		n.values = append([]V(nil), n.values...)
		n.children = append([]node[V](nil), n.children...)
	}
}

func leaf[V comparable](k key, length uint8, v V, era uint32) node[V] {
	depth := home(length)
	return node[V]{key: k.first(depth), depth: depth, era: era, prefixes: 1 << number(k, length, depth), values: []V{v}}
}

// first is k with only its first n bits.
func (k key) first(n uint8) key {
	if n <= 64 {
		return key{hi: k.hi &^ (^uint64(0) >> n)}
	}
	return key{hi: k.hi, lo: k.lo &^ (^uint64(0) >> (n - 64))}
}

// inserted is slices.Insert for slices of which most stay short for ever and none gets longer than 64.
func inserted[S any](s []S, at int, v S) []S {
	if len(s) == cap(s) {
		room := len(s) + 1
		if room > 4 {
			room = min(2*len(s), 64)
		}
		s = append(make([]S, 0, room), s...)
	}
	return slices.Insert(s, at, v)
}
