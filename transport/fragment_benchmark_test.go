package transport

import (
	"bytes"
	"fmt"
	"testing"

	"stunnel/crypto"
	"stunnel/transport/socket"
)

// Packets of 1500 bytes over a path that carries them, and over one that carries
// 1440: issue 4 lets cutting cost 1.6 times as much, at either end.
var paths = []struct {
	name  string
	limit int
}{{"whole", 0}, {"cut=2", 1440}}

func BenchmarkOutboundFragments(b *testing.B) {
	for _, path := range paths {
		b.Run(path.name, func(b *testing.B) {
			from, to, clock := shook(b)
			from.toward(to).carry(path.limit)
			packets := make([][]byte, 32)
			for i := range packets {
				packets[i] = packet("10.0.0.1", "10.0.0.2", 1500)
			}
			first, rest, partial := split(packets...)
			from.wire.recycle = true
			from.wire.sent, from.wire.sizes = make([][]byte, 0, 64), make([]int, 0, 64)
			b.SetBytes(int64(len(packets)) * 1500)
			b.ReportAllocs()
			for b.Loop() {
				from.wire.sent, from.wire.sizes = from.wire.sent[:0], from.wire.sizes[:0]
				from.lanes[0].outbound(first, rest, partial, *clock)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(packets)), "ns/packet")
		})
	}
}

// BenchmarkInboundFragments receives packets in one burst, and in one in which
// the first of each packet's two fragments come behind all of the second: none of
// them can be put together where it lies.
func BenchmarkInboundFragments(b *testing.B) {
	for _, path := range paths {
		for _, ordered := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/ordered=%v", path.name, ordered), func(b *testing.B) {
				from, to, clock := shook(b)
				from.toward(to).carry(path.limit)
				const n = maxOpenWholes
				packets := make([][]byte, n)
				for i := range packets {
					packets[i] = packet("10.0.0.1", "10.0.0.2", 1500)
				}
				first, rest, partial := split(packets...)
				from.lanes[0].outbound(first, rest, partial, *clock)
				var sealed [][]byte
				for i, msg := range from.wire.sent {
					if ordered || i%2 == 1 {
						sealed = append(sealed, bytes.Clone(msg))
					}
				}
				for i, msg := range from.wire.sent {
					if !ordered && i%2 == 0 {
						sealed = append(sealed, bytes.Clone(msg))
					}
				}
				burst := make([]socket.Datagram, len(sealed))
				for i, msg := range sealed {
					burst[i] = socket.Datagram{Data: bytes.Clone(msg), Path: socket.Path{Remote: from.addr}}
				}
				s := to.indices.lookup(crypto.Receiver(sealed[0])).session
				queue := new(nowhere)
				to.lanes[0].queue = queue
				b.SetBytes(n * 1500)
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
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/packet")
			})
		}
	}
}
