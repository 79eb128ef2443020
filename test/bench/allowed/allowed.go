// Package allowed makes the tables of AllowedIPs that benchmarks look
// addresses up in, the same ones for every implementation.
package allowed

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// Set is prefixes, all different, and addresses that they cover.
type Set struct {
	Name     string // "IPv4/10"
	Prefixes []netip.Prefix
	// Addresses are in network byte order, Size (4 or 16) bytes each, back to
	// back: each is a random address of a random one of the prefixes.
	Addresses []byte
	Size      int
}

// addresses is how many: as many as the largest set has prefixes, so that no
// set's addresses are nearer to the processor than another's.
const addresses = 1 << 20

// Sets are those that are measured: 10, 10,000 and 1,000,000 prefixes of IPv4
// and of IPv6.
func Sets(yield func(Set) bool) {
	for _, family := range []struct {
		name string
		make func(n int) Set
	}{{"IPv4", Four}, {"IPv6", Six}} {
		for _, size := range []struct {
			name string
			n    int
		}{{"10", 10}, {"10k", 10_000}, {"1M", 1_000_000}} {
			s := family.make(size.n)
			s.Name = family.name + "/" + size.name
			if !yield(s) {
				return
			}
		}
	}
}

// Four is n IPv4 prefixes from all over the address space: three quarters of
// them are hosts, the others have 24 to 31 bits.
func Four(n int) Set {
	r := rand.New(rand.NewPCG(4, uint64(n)))
	s := Set{Size: 4}
	seen := make(map[netip.Prefix]bool, n)
	for len(s.Prefixes) < n {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], r.Uint32())
		bits := 32
		if r.IntN(4) == 0 {
			bits = 24 + r.IntN(8)
		}
		s.add(netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked(), seen)
	}
	for range addresses {
		p := s.Prefixes[r.IntN(n)]
		a := p.Addr().As4()
		host := uint32(uint64(1)<<(32-p.Bits()) - 1)
		s.Addresses = binary.BigEndian.AppendUint32(s.Addresses, binary.BigEndian.Uint32(a[:])|r.Uint32()&host)
	}
	return s
}

// Six is n IPv6 prefixes within one /32, as a provider has it: half of them
// are networks of 64 bits, half are hosts.
func Six(n int) Set {
	r := rand.New(rand.NewPCG(6, uint64(n)))
	s := Set{Size: 16}
	seen := make(map[netip.Prefix]bool, n)
	for len(s.Prefixes) < n {
		a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		binary.BigEndian.PutUint32(a[4:], r.Uint32())
		binary.BigEndian.PutUint64(a[8:], r.Uint64())
		s.add(netip.PrefixFrom(netip.AddrFrom16(a), 64<<r.IntN(2)).Masked(), seen)
	}
	for range addresses {
		p := s.Prefixes[r.IntN(n)]
		a := p.Addr().As16()
		if p.Bits() == 64 {
			binary.BigEndian.PutUint64(a[8:], r.Uint64())
		}
		s.Addresses = append(s.Addresses, a[:]...)
	}
	return s
}

func (s *Set) add(p netip.Prefix, seen map[netip.Prefix]bool) {
	if !seen[p] {
		seen[p] = true
		s.Prefixes = append(s.Prefixes, p)
	}
}

// Owner is the number of the owner of the i-th prefix: ten in a row share one.
func Owner(i int) int { return i / 10 }

// Owners is how many owners n prefixes have.
func Owners(n int) int { return (n + 9) / 10 }
