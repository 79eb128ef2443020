package socket

import (
	"errors"
	"testing"
)

// How fast trains cross a connection from one goroutine to another.
func BenchmarkConnection(b *testing.B) {
	inNetworkNamespace(b)
	dialled, taken := connected(b, "127.0.0.1")
	const n, size = 44, 1452
	train := make([]byte, n*size)
	b.SetBytes(int64(len(train)))
	came := make(chan int)
	go func() {
		bytes := 0
		for {
			burst, err := taken.Receive()
			if err != nil {
				came <- bytes
				return
			}
			for _, d := range burst {
				bytes += len(d.Data)
			}
		}
	}()
	dropped := 0
	for b.Loop() {
		err := dialled.Send(train, size)
		if errors.Is(err, ErrStalled) {
			dropped++
		} else if err != nil {
			b.Fatal(err)
		}
	}
	dialled.Close()
	b.ReportMetric(float64(<-came)/float64(b.N*len(train)), "arrived/sent")
	b.ReportMetric(float64(dropped)/float64(b.N), "cut/train")
}
