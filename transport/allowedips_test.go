package transport

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func lookup(r *routes[int], a netip.Addr) (int, bool) {
	if a.Is4() {
		b := a.As4()
		return r.Lookup4(&b)
	}
	b := a.As16()
	return r.Lookup6(&b)
}

func table(pairs ...any) *allowedIPs[int] {
	t := new(allowedIPs[int])
	for i := 0; i < len(pairs); i += 2 {
		t.Insert(netip.MustParsePrefix(pairs[i].(string)), pairs[i+1].(int))
	}
	t.Publish()
	return t
}

func prefixes(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func TestTheLongestPrefixOwnsAnAddress(t *testing.T) {
	routes := table(
		"0.0.0.0/0", 1, "10.0.0.0/8", 2, "10.1.0.0/16", 3, "10.1.2.0/24", 4, "10.1.2.3/32", 5, "10.1.2.2/31", 6,
		"::/0", 7, "fd00::/8", 8, "fd00:1::/63", 9, "fd00:1::/64", 10, "fd00:1::/65", 11, "fd00:1::1/128", 12,
		"64.0.0.0/2", 13,
	).Snapshot()
	for addr, want := range map[string]int{
		"1.1.1.1": 1, "10.255.0.1": 2, "10.1.3.1": 3, "10.1.2.1": 4, "10.1.2.3": 5, "10.1.2.2": 6, "65.1.1.1": 13, "128.0.0.1": 1,
		"2001:db8::1": 7, "fdff::": 8, "fd00:1:0:1::": 9, "fd00:1::8000:0:0:0": 10, "fd00:1::2": 11, "fd00:1::1": 12,
	} {
		if got, ok := lookup(routes, netip.MustParseAddr(addr)); !ok || got != want {
			t.Errorf("%s belongs to %d, %t; want %d", addr, got, ok, want)
		}
	}
}

func TestAnAddressThatNoPrefixCoversHasNoOwner(t *testing.T) {
	routes := table("10.0.0.0/8", 1, "10.2.0.0/16", 2, "fd00::/64", 3).Snapshot()
	for _, addr := range []string{"11.0.0.0", "9.255.255.255", "0.0.0.0", "fd00:0:0:1::", "::", "::a00:1"} {
		if v, ok := lookup(routes, netip.MustParseAddr(addr)); ok {
			t.Errorf("%s belongs to %d", addr, v)
		}
	}
	if v, ok := lookup(new(allowedIPs[int]).Snapshot(), netip.IPv4Unspecified()); ok {
		t.Errorf("in an empty table 0.0.0.0 belongs to %d", v)
	}
}

func TestThePrefixOfAnotherPeerMoves(t *testing.T) {
	routes := table("10.0.0.0/8", 1, "10.0.0.0/9", 1, "10.0.0.99/8", 2)
	if v, _ := lookup(routes.Snapshot(), netip.MustParseAddr("10.200.0.1")); v != 2 {
		t.Errorf("a moved prefix belongs to %d", v)
	}
	if got := routes.Prefixes(1); !slices.Equal(got, prefixes("10.0.0.0/9")) {
		t.Errorf("the old owner has %v", got)
	}
	if got := routes.Prefixes(2); !slices.Equal(got, prefixes("10.0.0.0/8")) {
		t.Errorf("the new owner has %v", got)
	}
}

func TestOnlyTheOwnerCanRemoveAPrefix(t *testing.T) {
	routes := table("10.0.0.0/8", 1, "10.0.0.0/16", 2)
	for _, c := range []struct {
		p    string
		v    int
		want bool
	}{{"10.0.0.0/8", 2, false}, {"10.0.0.0/9", 1, false}, {"10.0.0.0/8", 1, true}, {"10.0.0.0/8", 1, false}} {
		if got := routes.Remove(netip.MustParsePrefix(c.p), c.v); got != c.want {
			t.Errorf("%d removes %s: %t", c.v, c.p, got)
		}
	}
	routes.Publish()
	if v, ok := lookup(routes.Snapshot(), netip.MustParseAddr("10.1.0.0")); ok {
		t.Errorf("a removed prefix still belongs to %d", v)
	}
	if v, _ := lookup(routes.Snapshot(), netip.MustParseAddr("10.0.1.0")); v != 2 {
		t.Errorf("the prefix below a removed one belongs to %d", v)
	}
}

func TestReadersSeeChangesAtPublishAndAllAtOnce(t *testing.T) {
	routes := table("10.0.0.0/8", 1)
	before := routes.Snapshot()
	routes.Insert(netip.MustParsePrefix("10.0.0.0/8"), 2)
	routes.Insert(netip.MustParsePrefix("10.1.0.0/16"), 3)
	a := netip.MustParseAddr("10.1.0.1")
	if v, _ := lookup(routes.Snapshot(), a); v != 1 {
		t.Errorf("before Publish readers see %d", v)
	}
	routes.Publish()
	if v, _ := lookup(routes.Snapshot(), a); v != 3 {
		t.Errorf("after Publish readers see %d", v)
	}
	routes.RemoveAll(3)
	routes.RemoveAll(2)
	routes.Publish()
	if v, _ := lookup(before, a); v != 1 {
		t.Errorf("an old snapshot changed to %d", v)
	}
	if _, ok := lookup(routes.Snapshot(), a); ok || len(routes.owners) != 0 {
		t.Errorf("something is left after all was removed: %v", routes.owners)
	}
}

func TestPrefixesAreListedInTheOrderOfInsertion(t *testing.T) {
	routes := table("10.9.0.0/16", 1, "fd00::/8", 1, "10.1.0.0/16", 1, "0.0.0.0/0", 1, "10.9.0.0/16", 1)
	if got, want := routes.Prefixes(1), prefixes("10.9.0.0/16", "fd00::/8", "10.1.0.0/16", "0.0.0.0/0"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	routes.Remove(netip.MustParsePrefix("fd00::/8"), 1)
	routes.Insert(netip.MustParsePrefix("fd00::/8"), 1)
	if got, want := routes.Prefixes(1), prefixes("10.9.0.0/16", "10.1.0.0/16", "0.0.0.0/0", "fd00::/8"); !slices.Equal(got, want) {
		t.Errorf("after one went and came again: %v, want %v", got, want)
	}
	if got := routes.Prefixes(2); got != nil {
		t.Errorf("a stranger has %v", got)
	}
}

// linear is the table as anyone would understand it.
type linear map[netip.Prefix]int

func (l linear) lookup(a netip.Addr) (v int, ok bool) {
	longest := -1
	for p, owner := range l {
		if p.Contains(a) && p.Bits() > longest {
			longest, v, ok = p.Bits(), owner, true
		}
	}
	return v, ok
}

// moment is a published state and what it must say for ever.
type moment struct {
	routes *routes[int]
	want   linear
}

func FuzzAllowedIPsAgreeWithALinearScan(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"))
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		b := make([]byte, 4000)
		for i := range b {
			b[i] = byte(r.Uint32())
			if i%8 > 2 && r.IntN(2) == 0 {
				b[i] = 0
			}
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		routes, want := new(allowedIPs[int]), linear{}
		var asked []netip.Addr
		var moments []moment
		for ; len(program) >= 8; program = program[8:] {
			op, owner, length, b := program[0]%8, int(program[1]%4), int(program[2]), program[3:8]
			var p netip.Prefix
			if op&1 == 0 {
				p = netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), length%33)
			} else {
				a := [16]byte{0: b[0], 1: b[1], 7: b[2], 8: b[3], 15: b[4]}
				p = netip.PrefixFrom(netip.AddrFrom16(a), length%129)
			}
			asked = append(asked, p.Addr(), p.Masked().Addr().Prev(), p.Addr().Next())
			p = p.Masked()
			switch old, ok := want[p]; {
			case op < 5:
				routes.Insert(p, owner)
				want[p] = owner
			case op < 7:
				if got := routes.Remove(p, owner); got != (ok && old == owner) {
					t.Fatalf("Remove(%v, %d) = %t", p, owner, got)
				}
				if ok && old == owner {
					delete(want, p)
				}
			case owner == 0 || len(moments) < 4:
				routes.Publish()
				moments = append(moments[:min(len(moments), 7)], moment{routes.Snapshot(), maps.Clone(want)})
			default:
				routes.RemoveAll(owner)
				for q, v := range want {
					if v == owner {
						delete(want, q)
					}
				}
			}
		}
		routes.Publish()
		for _, m := range append(moments, moment{routes.Snapshot(), want}) {
			for _, a := range asked {
				if !a.IsValid() {
					continue
				}
				got, ok := lookup(m.routes, a)
				if v, found := m.want.lookup(a); got != v || ok != found {
					t.Fatalf("%v: %d, %t; want %d, %t", a, got, ok, v, found)
				}
			}
		}
		listed := 0
		for owner := range 4 {
			for _, p := range routes.Prefixes(owner) {
				listed++
				if v, ok := want[p]; !ok || v != owner {
					t.Fatalf("%v is listed for %d", p, owner)
				}
			}
		}
		if listed != len(want) {
			t.Fatalf("%d prefixes are listed of %d", listed, len(want))
		}
		checkTrie(t, &routes.draft.v4)
		checkTrie(t, &routes.draft.v6)
	})
}

// checkTrie fails where a node should not be there or does not fit its words.
func checkTrie(t *testing.T, n *node[int]) {
	t.Helper()
	if n.empty() {
		return
	}
	if n.prefixes == 0 && len(n.children) < 2 || len(n.values) != rank(n.prefixes, 63)+int(n.prefixes>>63) {
		t.Fatalf("a node at depth %d has prefixes %x, slots %x", n.depth, n.prefixes, n.slots)
	}
	for i := range n.children {
		child := &n.children[i]
		if child.empty() || child.depth <= n.depth || !n.covers(child.key) || rank(n.slots, child.key.slot(n.depth)) != i {
			t.Fatalf("a child at depth %d does not belong under depth %d", child.depth, n.depth)
		}
		checkTrie(t, child)
	}
}

func TestManyChangesTakeNoTimeToSpeakOf(t *testing.T) {
	routes := new(allowedIPs[int])
	prefix := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	const n = 10_000
	start := time.Now()
	for i := range n {
		routes.Insert(prefix(i), 0)
	}
	for i := range n { // from one owner to many, one by one
		routes.Insert(prefix(i), 1+i)
	}
	for i := range n { // and away from each
		routes.RemoveAll(1 + i)
	}
	routes.Publish()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("%d changes took %v", 3*n, d)
	}
	if !routes.draft.v4.empty() || len(routes.owners) != 0 {
		t.Error("something is left")
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	routes := table("0.0.0.0/0", 1, "10.0.0.0/8", 2, "fd00::/8", 3)
	a4, a6 := [4]byte{10, 1, 2, 3}, [16]byte{0: 0xfd}
	if n := testing.AllocsPerRun(100, func() {
		routes.Lookup4(&a4)
		routes.Lookup6(&a6)
	}); n != 0 {
		t.Errorf("two lookups allocate %v times", n)
	}
}
