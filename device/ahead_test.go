package device

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// packetPipe is a queue without an interface: what send gets, Read gives.
func packetPipe(t *testing.T) (q *Queue, send func([]byte)) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20))
	q = newQueue(os.NewFile(uintptr(fds[0]), "socketpair"), false, true, 0)
	t.Cleanup(func() {
		_ = q.Close()
		_ = unix.Close(fds[1])
	})
	return q, func(b []byte) {
		t.Helper()
		_, err := unix.Write(fds[1], b)
		must(t, err)
	}
}

// withRing skips where the kernel has no io_uring for us.
func withRing(t *testing.T, q *Queue) {
	t.Helper()
	if q.ahead.submit == nil {
		_, err := newRing()
		t.Skipf("NOT TESTED: reading ahead: %v", err)
	}
}

// Whatever becomes of a submission, each packet comes once, whole, in order.
func TestReadingAheadLosesAndReordersNothing(t *testing.T) {
	type submit = func(p *pace, fd uintptr, b []byte, n int) ([]int32, unix.Errno)
	var rng *rand.Rand
	for _, c := range []struct {
		name string
		wrap func(submit) submit
	}{
		{"as the kernel does", func(s submit) submit { return s }},
		{"not at all", func(submit) submit { return nil }},
		{"not such a descriptor", func(submit) submit {
			return func(_ *pace, _ uintptr, _ []byte, n int) ([]int32, unix.Errno) {
				results := make([]int32, n)
				for i := range results {
					results[i] = -int32(unix.EINVAL)
				}
				return results, 0
			}
		}},
		{"memory for some only", func(s submit) submit {
			return func(p *pace, fd uintptr, b []byte, n int) ([]int32, unix.Errno) {
				if n = rng.IntN(n + 1); n == 0 {
					return nil, unix.EAGAIN
				}
				return s(p, fd, b, n)
			}
		}},
		{"packets come meanwhile", func(s submit) submit {
			return func(p *pace, fd uintptr, b []byte, n int) ([]int32, unix.Errno) {
				hole := rng.IntN(n) // found nothing, those behind it did
				results, errno := s(p, fd, b[stride:], n-1)
				results = append(results[:len(results):len(results)], 0)
				copy(b[:hole*stride], b[stride:(hole+1)*stride])
				copy(results[hole+1:], results[hole:])
				results[hole] = -int32(unix.EAGAIN)
				return results, errno
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng = rand.New(rand.NewPCG(1, 2))
			q, send := packetPipe(t)
			if c.name != "not at all" {
				withRing(t, q)
			}
			q.ahead.submit = c.wrap(q.ahead.submit)
			for range 300 {
				var want [][]byte
				for bytes := 0; len(want) < 1+rng.IntN(200) && bytes < 200_000; {
					p := make([]byte, 1+rng.IntN(200))
					if rng.IntN(20) == 0 {
						p = make([]byte, 1+rng.IntN(60_000))
					}
					for i := range p {
						p[i] = byte(rng.Uint32())
					}
					send(p)
					want = append(want, p)
					bytes += len(p)
				}
				for len(want) > 0 {
					var first, rest [][]byte
					within(t, "Read", func() {
						var err error
						first, rest, _, err = q.Read()
						if err != nil {
							t.Error(err)
						}
					})
					if len(first) == 0 || len(first) > min(maxTrain, len(want)) {
						t.Fatalf("%d packets, of %d", len(first), len(want))
					}
					for i := range first {
						if !bytes.Equal(join(first, rest, i), want[i]) {
							t.Fatalf("packet %d of %d bytes is not what was sent", i, len(want[i]))
						}
					}
					want = want[len(first):]
				}
			}
		})
	}
}

func TestOneCallReadsManySmallPackets(t *testing.T) {
	q, send := packetPipe(t)
	withRing(t, q)
	var asked []int
	submit := q.ahead.submit
	q.ahead.submit = func(p *pace, fd uintptr, b []byte, n int) ([]int32, unix.Errno) {
		asked = append(asked, n)
		return submit(p, fd, b, n)
	}
	for range 100 {
		send([]byte("small"))
	}
	first, _, _, err := q.Read()
	must(t, err)
	if want := "[2 4 8 16 32 32 32]"; len(first) != 100 || fmt.Sprint(asked) != want {
		t.Errorf("%d packets, submissions of %v, want 100 and %s", len(first), asked, want)
	}
}

// What was read and did not fit is nothing that the poller would tell of.
func TestLookLeavesNothingThatWasReadAhead(t *testing.T) {
	q, send := packetPipe(t)
	withRing(t, q)
	for range 8 {
		send([]byte("small"))
	}
	for range 8 {
		send(make([]byte, 30_000)) // read by one call, and more than one burst
	}
	looks, found := 0, 0
	q.Look(func(first, _ [][]byte, _ []bool) { looks, found = looks+1, found+len(first) })
	if looks < 2 || found != 16 {
		t.Errorf("%d packets by %d looks, want 16 by at least 2", found, looks)
	}
}

func TestAQueueTellsWhetherItReadsAhead(t *testing.T) {
	p := newPair(t, Options{Offload: true})
	q := p.here.Queues()[0]
	if why, known := q.Offloads()["io_uring"]; !known || why != "" == (q.ahead.submit != nil) {
		t.Errorf("io_uring: %q, known %v, in use %v", why, known, q.ahead.submit != nil)
	}
	if q := newPair(t, Options{}).here.Queues()[0]; q.ahead.submit != nil {
		t.Error("without offloads it is used all the same")
	}
}
