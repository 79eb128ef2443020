package device

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// plainRule says once more, from the text of the rule, which packets may be
// partial: where their sum begins and where it goes.
func plainRule(p []byte) (start, field int, ok bool) {
	protocol := 0
	switch {
	case len(p) >= 20 && p[0] == 0x45 && int(p[2])<<8+int(p[3]) == len(p) && p[6]&0x3f == 0 && p[7] == 0:
		start, protocol = 20, int(p[9])
	case len(p) >= 40 && p[0]>>4 == 6 && int(p[4])<<8+int(p[5]) == len(p)-40:
		start, protocol = 40, int(p[6])
	default:
		return 0, 0, false
	}
	switch rest := len(p) - start; {
	case protocol == 6 && rest >= 20:
		return start, start + 16, true
	case protocol == 17 && rest >= 8 && int(p[start+4])<<8+int(p[start+5]) == rest:
		return start, start + 6, true
	}
	return 0, 0, false
}

// plainComplete writes such a packet's sum, and nothing else.
func plainComplete(p []byte, start, field int) {
	whole := bytes.Clone(p)
	seal(whole, start, field-start == 6, true)
	copy(p[field:field+2], whole[field:])
}

func FuzzPartialPacketsAreMergedToWhatASplitGivesBack(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		for i := range uint64(5) {
			checkPartialMerge(t, rand.New(rand.NewPCG(seed, i)))
		}
	})
}

// checkPartialMerge damages and shuffles streams of which some packets are
// partial. What is merged, split again and completed, must be the very same
// packets: complete ones untouched, wrong sums and all, partial ones with the
// right sum, and those left out that can't be partial.
func checkPartialMerge(t *testing.T, r *rand.Rand) {
	train := damagedTrain(r)
	partial, want := carriedPackets.marked(r, train)
	carriedPackets.checkRoundTrip(t, train, partial, want)
}

func FuzzAPacketIsPartialByTheRuleOrNotAtAll(f *testing.F) {
	for _, s := range kinds() {
		h, p := s.single()
		b := make([]byte, virtioSize)
		h.encode(b)
		f.Add(append(b, p...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= virtioSize || len(b) > maxRead {
			return
		}
		h, p := decodeVirtio(b), b[virtioSize:]

		// Read: the kernel's header must say the same, and the sum be begun.
		h.gsoType = 0
		want := readsPartial(h, p, 0)
		if got, partial, q := take(h, p); partial != want {
			t.Fatalf("read: partial %v, want %v: %+v, % x", partial, want, h, p)
		} else if partial {
			first, rest := q.first[0], q.rest[0]
			q.Complete(first, rest)
			start, field, _ := plainRule(p)
			plainComplete(got, start, field)
			if d := difference(join(q.first, q.rest, 0), got); d != "" {
				t.Fatalf("completed: %s", d)
			}
		}
		checkPartialWrite(t, packetQueue(), p, 0)
	})
}

func TestRunsOfPartialPacketsAreMergedWithoutTheirSums(t *testing.T) {
	for name, s := range kinds() {
		s.size = 50
		h, whole := s.whole()
		train := s.packets()
		partial := slices.Repeat([]bool{true}, len(train))
		for i, p := range train {
			copy(p[h.csumStart+h.csumOffset:], "\x00\x00") // of UDP: not "no sum"
			p[len(p)-1] ^= byte(i)                         // which no sum would allow
		}
		headers, merged := mergeSome(train, partial)
		if len(merged) != 1 || headers[0] != h || len(merged[0]) != len(whole) {
			t.Errorf("%s: %d packets, first with %+v, want one with %+v", name, len(merged), headers[0], h)
		}
		if !s.v6 {
			train[3][10] ^= 1 // the IPv4 header's sum is not trusted
			if headers, merged = mergeSome(train, partial); len(merged) != 3 || headers[1].gsoType != 0 || !bytes.Equal(merged[1], train[3]) {
				t.Errorf("%s: a wrong IPv4 sum came out among %d packets", name, len(merged))
			}
		}
	}
}

func TestPartialAndCompletePacketsAreNotMergedWithEachOther(t *testing.T) {
	for name, s := range kinds() {
		s.size = 50
		for mask := range 1 << 7 {
			train, partial, runs := s.packets(), make([]bool, 7), 1
			for i := range train {
				partial[i] = mask>>i&1 != 0
				if i > 0 && partial[i] != partial[i-1] {
					runs++
				}
			}
			if headers, _ := mergeSome(train, partial); len(headers) != runs {
				t.Errorf("%s, %07b: %d packets, want %d", name, mask, len(headers), runs)
			}
		}
	}
}

func TestARefusedSuperPacketOfPartialPacketsGoesOutSinglyAndPartial(t *testing.T) {
	for name, s := range kinds() {
		q, wrote := capture(t, true, true)
		keep := q.writev
		q.writev = func(fd uintptr, v []unix.Iovec) unix.Errno {
			if decodeVirtio(bytesOf(v[0])).gsoType != 0 {
				return unix.EINVAL
			}
			return keep(fd, v)
		}
		s.size = 50
		train := s.packets()
		must(t, q.Write(train, slices.Repeat([]bool{true}, len(train))))
		if len(*wrote) != len(train) {
			t.Fatalf("%s: %d packets of %d", name, len(*wrote), len(train))
		}
		for i, w := range *wrote {
			if !w.h.staysPartial(w.p, 0) || w.h.gsoType != 0 {
				t.Errorf("%s: packet %d was written with %+v", name, i, w.h)
			}
		}
	}
}

func BenchmarkComplete(b *testing.B) {
	for _, size := range []int{64, 1420} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := stream{payload: make([]byte, size-40), size: size, flags: tcpACK, ttl: 64}.packets()[0]
			q := new(Queue)
			b.SetBytes(int64(size))
			for b.Loop() {
				q.Complete(p[:firstSize], p[firstSize:])
			}
		})
	}
}
