package transport

import (
	"math/bits"
	"slices"
)

// stride is how many bits of the address one node of the trie decides. Six, since the 63 prefixes of 0 to 5 bits and
// the 64 children then fit a machine word each.
const stride = 6

// node is one node of a persistent multibit trie with skipped levels. Depths are multiples of the stride, counted
// anew at bit 64, so that no node straddles the two halves of an IPv6 address. A node that is part of a published
// state is never changed: with and without return changed copies.
//
// Within a node a prefix of l bits (0 to 5) with value b has the number 1<<l | b, as in a heap: the prefixes that cover
// a slot are the ancestors of the leaf 64 | slot, and a longer prefix has the larger number. So one AND finds all that
// match and the highest bit of it is the longest.
type node[V comparable] struct {
	key      key       // the bits on the way to this node, the first depth of them; the rest are zero
	depth    uint8     // how many bits were decided above
	prefixes uint64    // bit n: the prefix with number n is here
	slots    uint64    // bit s: there is a child for slot s
	values   []V       // one per bit of prefixes, in order
	children []node[V] // one per bit of slots, in order
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
func rank(word uint64, bit uint8) int { return bits.OnesCount64(word & (1<<bit - 1)) }

// number is the place of a prefix of so many bits in its home node, which has that depth.
func number(k key, length, depth uint8) uint8 {
	l := length - depth
	return 1<<l | k.slot(depth)>>(stride-l)
}

func (n *node[V]) empty() bool { return n.prefixes|n.slots == 0 }

// covers says whether k goes through n.
func (n *node[V]) covers(k key) bool {
	if n.depth <= 64 {
		return (n.key.hi^k.hi)>>(64-n.depth) == 0
	}
	return n.key.hi == k.hi && (n.key.lo^k.lo)>>(128-n.depth) == 0
}

// lookup finds the value of the longest prefix that covers k.
func (n *node[V]) lookup(k key) (v V, ok bool) {
	var best *node[V]
	var matches uint64
	for n.covers(k) {
		slot := k.slot(n.depth)
		if m := n.prefixes & ancestors[slot&63]; m != 0 {
			best, matches = n, m
		}
		if n.slots>>(slot&63)&1 == 0 {
			break
		}
		n = &n.children[rank(n.slots, slot&63)]
	}
	if best == nil {
		return v, false
	}
	longest := uint8(63 - bits.LeadingZeros64(matches))
	return best.values[rank(best.prefixes, longest)], true
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

// with returns n with one prefix more, or with another value for it.
func (n *node[V]) with(k key, length uint8, v V) node[V] {
	depth := home(length)
	if n.empty() {
		return leaf(k, length, v)
	}
	common := k.common(n.key, min(depth, n.depth))
	switch {
	case common == n.depth && n.depth == depth: // it is at home here
		c := *n
		num := number(k, length, depth)
		at := rank(n.prefixes, num)
		if n.prefixes>>num&1 == 1 {
			c.values = slices.Clone(n.values)
			c.values[at] = v
		} else {
			c.prefixes |= 1 << num
			c.values = inserted(n.values, at, v)
		}
		return c
	case common == n.depth: // further down
		c := *n
		slot := k.slot(n.depth)
		at := rank(n.slots, slot)
		if n.slots>>slot&1 == 1 {
			c.children = slices.Clone(n.children)
			c.children[at] = n.children[at].with(k, length, v)
		} else {
			c.slots |= 1 << slot
			c.children = inserted(n.children, at, leaf(k, length, v))
		}
		return c
	case common == depth: // on the way to n
		c := leaf(k, length, v)
		c.slots = 1 << n.key.slot(depth)
		c.children = []node[V]{*n}
		return c
	default: // the ways part
		fork := home(common)
		c := node[V]{key: k.first(fork), depth: fork}
		other := leaf(k, length, v)
		mine, its := n.key.slot(fork), k.slot(fork)
		c.slots = 1<<mine | 1<<its
		if mine < its {
			c.children = []node[V]{*n, other}
		} else {
			c.children = []node[V]{other, *n}
		}
		return c
	}
}

// without returns n without a prefix that it has (owner said so). A node that is left with nothing is empty, and one
// that is left with nothing but a child becomes that child.
func (n *node[V]) without(k key, length uint8) node[V] {
	c := *n
	if depth := home(length); n.depth == depth {
		num := number(k, length, depth)
		c.values = deleted(n.values, rank(n.prefixes, num))
		c.prefixes &^= 1 << num
	} else {
		slot := k.slot(n.depth)
		at := rank(n.slots, slot)
		if child := n.children[at].without(k, length); child.empty() {
			c.children = deleted(n.children, at)
			c.slots &^= 1 << slot
		} else {
			c.children = slices.Clone(n.children)
			c.children[at] = child
		}
	}
	switch {
	case c.empty():
		return node[V]{}
	case c.prefixes == 0 && len(c.children) == 1:
		return c.children[0]
	}
	return c
}

func leaf[V comparable](k key, length uint8, v V) node[V] {
	depth := home(length)
	return node[V]{key: k.first(depth), depth: depth, prefixes: 1 << number(k, length, depth), values: []V{v}}
}

// first is k with only its first n bits.
func (k key) first(n uint8) key {
	if n <= 64 {
		return key{hi: k.hi &^ (^uint64(0) >> n)}
	}
	return key{hi: k.hi, lo: k.lo &^ (^uint64(0) >> (n - 64))}
}

// inserted and deleted are slices.Insert and slices.Delete on a copy that is as large as it must be.
func inserted[S any](s []S, at int, v S) []S {
	c := make([]S, len(s)+1)
	copy(c, s[:at])
	c[at] = v
	copy(c[at+1:], s[at:])
	return c
}

func deleted[S any](s []S, at int) []S {
	if len(s) == 1 {
		return nil
	}
	c := make([]S, len(s)-1)
	copy(c, s[:at])
	copy(c[at:], s[at+1:])
	return c
}
