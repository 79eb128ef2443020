package chachapoly

import (
	"bytes"
	"fmt"
	"testing"
)

const headerSize = 16 // bytes of a message before what is sealed, in the tunnel

// benchmarkTrain is a train as the tunnel has it: first blocks aside, rests and
// sealed messages at their natural strides.
func benchmarkTrain(packets, size int) []Packet {
	train := make([]Packet, packets)
	first := make([]byte, packets*64)
	rest := make([]byte, packets*size)
	out := make([]byte, packets*(size+headerSize+TagSize))
	cut := min(64, size)
	for i := range train {
		train[i] = Packet{
			Counter: uint64(i),
			First:   first[i*64:][:cut],
			Rest:    rest[i*size:][:size-cut],
			Sealed:  out[i*(size+headerSize+TagSize)+headerSize:][:size+TagSize],
		}
	}
	return train
}

// BenchmarkTrain has every path for trains of several sizes, the time per packet
// beside that of the train: `benchstat -col /path`. Open's has the copy in it that
// brings the sealed messages back. Few packets go by lanes too here, which the tunnel
// has only where that is quicker.
func BenchmarkTrain(b *testing.B) {
	for _, what := range []string{"seal", "open"} {
		for _, size := range []int{16, 64, 96, 256, 576, 1420} {
			for _, packets := range []int{1, 2, 3, 4, 6, 8, 12, 16, 46} {
				for p := range paths {
					b.Run(fmt.Sprintf("op=%s/bytes=%d/packets=%d/path=%s", what, size, packets, p), func(b *testing.B) {
						needs(b, p)
						c := lanes([KeySize]byte{1}, p)
						train, ok := benchmarkTrain(packets, size), make([]bool, packets)
						c.Seal(train)
						whole := train[0].Sealed[:cap(train[0].Sealed)] // all messages
						sealed := bytes.Clone(whole)
						b.SetBytes(int64(packets * size))
						for b.Loop() {
							if what == "seal" {
								c.Seal(train)
							} else {
								copy(whole, sealed)
								c.Open(train, ok)
							}
						}
						if what == "open" && !ok[packets-1] {
							b.Fatal("did not open")
						}
						b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(packets), "ns/packet")
					})
				}
			}
		}
	}
}
