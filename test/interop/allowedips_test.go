package interop

import (
	"runtime"
	"testing"

	"golang.zx2c4.com/wireguard/device"

	"stunnel/test/bench/allowed"
)

// BenchmarkAllowedIPs asks wireguard-go's table what transport's benchmark of
// this name asks ours. benchstat compares their output, and `make bench` puts
// both into one table.
func BenchmarkAllowedIPs(b *testing.B) {
	for set := range allowed.Sets {
		b.Run(set.Name, func(b *testing.B) {
			owners := make([]device.Peer, allowed.Owners(len(set.Prefixes)))
			before := inUse()
			table := new(device.AllowedIPs)
			for i, p := range set.Prefixes {
				table.Insert(p, &owners[allowed.Owner(i)])
			}
			used := inUse() - before
			lookup := func(at int) bool { return table.Lookup(set.Addresses[at:at+set.Size]) != nil }
			for at := 0; at < len(set.Addresses); at += set.Size {
				if !lookup(at) {
					b.Fatalf("nobody owns % x", set.Addresses[at:at+set.Size])
				}
			}
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				lookup(at)
				if at += set.Size; at == len(set.Addresses) {
					at = 0
				}
			}
			b.ReportMetric(float64(used)/float64(len(set.Prefixes)), "B/prefix")
		})
	}
}

// inUse is the memory in use, garbage not counted.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
