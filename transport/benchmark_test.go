package transport

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"stunnel/crypto"
	"stunnel/test/bench/allowed"
	"stunnel/transport/socket"
)

// nowhere is a Queue that forgets what is written, and counts it.
type nowhere struct {
	stack
	packets int
}

func (q *nowhere) Write(packets [][]byte, _ []bool) error {
	q.packets += len(packets)
	return nil
}

// BenchmarkInbound is a burst's way from the socket to the queue: opening,
// replay decision, source check. It includes the copy that brings the
// ciphertext back, and a new replay window for each burst.
func BenchmarkInbound(b *testing.B) {
	for _, n := range []int{1, 46} {
		b.Run(fmt.Sprintf("train=%d", n), func(b *testing.B) {
			from, to, clock := shook(b)
			var packets [][]byte
			for range n {
				packets = append(packets, packet("10.0.0.1", "10.0.0.2", 1420))
			}
			first, rest, partial := split(packets...)
			from.lanes[0].outbound(first, rest, partial, *clock)
			if len(from.wire.sent) != n {
				b.Fatalf("%d messages, want %d", len(from.wire.sent), n)
			}
			sealed, burst := make([][]byte, n), make([]socket.Datagram, n)
			for i, msg := range from.wire.sent {
				sealed[i] = bytes.Clone(msg)
				burst[i] = socket.Datagram{Data: msg, Path: socket.Path{Remote: from.addr}}
			}
			s := to.indices.lookup(crypto.Receiver(sealed[0])).session
			queue := new(nowhere)
			to.lanes[0].queue = queue
			b.SetBytes(int64(n) * 1420)
			b.ReportAllocs()
			for b.Loop() {
				for i, msg := range sealed {
					copy(burst[i].Data, msg)
				}
				s.replay = replayWindow{}
				to.lanes[0].in.inbound(burst, *clock)
			}
			if queue.packets != b.N*n {
				b.Fatalf("%d packets of %d arrived", queue.packets, b.N*n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/packet")
		})
	}
}

// BenchmarkAllowedIPs looks up random addresses out of all prefixes of sets of
// several sizes. The table of wireguard-go is asked the same in
// test/interop's benchmark of this name.
func BenchmarkAllowedIPs(b *testing.B) {
	for set := range allowed.Sets {
		b.Run(set.Name, func(b *testing.B) {
			owners := make([]int, allowed.Owners(len(set.Prefixes)))
			before := inUse()
			routes := new(allowedIPs[*int])
			for i, p := range set.Prefixes {
				routes.Insert(p, &owners[allowed.Owner(i)])
			}
			routes.Publish()
			used := inUse() - before
			lookup := func(at int) bool {
				if set.Size == 4 {
					_, ok := routes.Lookup4((*[4]byte)(set.Addresses[at:]))
					return ok
				}
				_, ok := routes.Lookup6((*[16]byte)(set.Addresses[at:]))
				return ok
			}
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
