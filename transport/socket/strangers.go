package socket

import (
	"net/netip"
	"slices"
)

// How many connections there may be that have proved nothing, and how many of one remote host.
const (
	maxStrangers   = 256
	maxFromOneHost = 8
	hostPrefixIPv6 = 64 // what one customer of a provider has at the least
)

// strangers are the connections that have proved nothing, the oldest first. When there are too many the oldest has to go:
// one that means well has proved itself by then.
type strangers []*TCP

// sourceOf is what counts as one remote host.
func sourceOf(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = hostPrefixIPv6
	}
	prefix, _ := addr.WithZone("").Prefix(bits)
	return prefix
}

func (s strangers) oldest() *TCP {
	if len(s) == 0 {
		return nil
	}
	return s[0]
}

// crowding is the one that has to go before another from a source is added, nil if there is room. full: there is room for
// no more connections at all.
func (s strangers) crowding(source netip.Prefix, full bool) *TCP {
	var first *TCP
	n := 0
	for _, c := range s {
		if c.source == source {
			if n++; first == nil {
				first = c
			}
		}
	}
	switch {
	case n >= maxFromOneHost:
		return first
	case full || len(s) >= maxStrangers:
		return s.oldest()
	}
	return nil
}

func (s *strangers) add(c *TCP) { *s = append(*s, c) }

// remove takes c out, if it is in.
func (s *strangers) remove(c *TCP) {
	if i := slices.Index(*s, c); i >= 0 {
		*s = slices.Delete(*s, i, i+1)
	}
}
