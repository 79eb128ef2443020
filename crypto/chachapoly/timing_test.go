package chachapoly

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// BenchmarkTiming asks, as dudect does, whether time tells what must stay secret: it
// takes trains of one of two classes, by lot, and reports their mean times in ns and
// Welch's t of the difference. Beyond about 4.5, with many thousand rounds on a quiet
// machine, there is one; a t that grows with the root of the rounds is real. A report,
// not a test: `go test -run '^$' -bench Timing -benchtime 100000x ./crypto/chachapoly`.
//
// That a tag is bad is no secret, and what is not authentic is not deciphered, so that
// the last comparison is expected to show a difference, and that the tool can see one.
func BenchmarkTiming(b *testing.B) {
	const packets, size = 16, 96
	flip := func(at int, bits byte) func(sealed []byte, r *rand.Rand) {
		return func(sealed []byte, r *rand.Rand) { sealed[len(sealed)-TagSize+at] ^= bits }
	}
	good := func([]byte, *rand.Rand) {}
	zeros := func(plain []byte, r *rand.Rand) { clear(plain) }
	noise := func(plain []byte, r *rand.Rand) {
		for i := range plain {
			plain[i] = byte(r.Uint32())
		}
	}
	for _, c := range []struct {
		name    string
		open    bool
		classes [2]func(b []byte, r *rand.Rand) // what is done to each ciphertext, or plaintext
	}{
		{"seal=zeros,noise", false, [2]func([]byte, *rand.Rand){zeros, noise}},
		{"forged=first,last", true, [2]func([]byte, *rand.Rand){flip(0, 1), flip(TagSize-1, 1)}},
		{"forged=bit,byte", true, [2]func([]byte, *rand.Rand){flip(7, 1), flip(7, 0xff)}},
		{"open=good,forged", true, [2]func([]byte, *rand.Rand){good, flip(0, 1)}},
	} {
		for p := range paths {
			b.Run(fmt.Sprintf("%s/path=%s", c.name, p), func(b *testing.B) {
				needs(b, p)
				r := random(1)
				cipher := lanes([KeySize]byte{1}, p)
				train, ok := benchmarkTrain(packets, size), make([]bool, packets)
				cipher.Seal(train)
				whole := train[0].Sealed[:cap(train[0].Sealed)]
				sealed := bytes.Clone(whole)
				var times [2][]float64
				for range b.N {
					class := r.IntN(2)
					if c.open {
						copy(whole, sealed)
					}
					for i := range train {
						if c.open {
							c.classes[class](train[i].Sealed, r)
						} else {
							c.classes[class](train[i].First, r)
							c.classes[class](train[i].Rest, r)
						}
					}
					start := time.Now()
					if c.open {
						cipher.Open(train, ok)
					} else {
						cipher.Seal(train)
					}
					times[class] = append(times[class], float64(time.Since(start)))
				}
				mean0, mean1, t := welch(times)
				b.ReportMetric(mean0, "ns/first")
				b.ReportMetric(mean1, "ns/second")
				b.ReportMetric(t, "t")
			})
		}
	}
}

// welch compares two samples, without the slowest twentieth of both together, which is
// interrupts.
func welch(samples [2][]float64) (mean0, mean1, t float64) {
	all := slices.Sorted(slices.Values(slices.Concat(samples[0], samples[1])))
	limit := all[(len(all)-1)*19/20]
	var mean, variance [2]float64
	for i, sample := range samples {
		var n, sum, squares float64
		for _, x := range sample {
			if x <= limit {
				n, sum, squares = n+1, sum+x, squares+x*x
			}
		}
		mean[i] = sum / n
		variance[i] = (squares/n - mean[i]*mean[i]) / n
	}
	return mean[0], mean[1], (mean[0] - mean[1]) / math.Sqrt(variance[0]+variance[1])
}
