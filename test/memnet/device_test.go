package memnet_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stunnel/test/memnet"
	"stunnel/test/memnet/packet"
)

func flowOf(k int) []byte {
	return packet.UDP(netip.AddrPortFrom(addressA, 1000),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(k)}), 2000), make([]byte, 200))
}

func TestReadCutsPacketsBehindTheFirst64Bytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := memnet.NewDevice(1)
		long, short := flowOf(1), flowOf(1)[:40]
		d.Inject(long, short)
		first, rest, _, err := d.Queues()[0].Read()
		if err != nil || len(first) != 2 || len(rest) != 2 {
			t.Fatalf("Read: %d, %d, %v", len(first), len(rest), err)
		}
		if len(first[0]) != 64 || !bytes.Equal(append(bytes.Clone(first[0]), rest[0]...), long) {
			t.Errorf("cut at %d of %d", len(first[0]), len(long))
		}
		if !bytes.Equal(first[1], short) || len(rest[1]) != 0 {
			t.Errorf("a short packet has %d + %d bytes", len(first[1]), len(rest[1]))
		}
		kept := first[0]
		d.Inject(long)
		if _, _, _, err := d.Queues()[0].Read(); err != nil || kept[0] != memnet.Poison {
			t.Errorf("the old packet still reads %x, %v", kept[:4], err)
		}
	})
}

func TestAFlowStaysOnItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := memnet.NewDevice(2)
		for k := range 64 {
			d.Inject(flowOf(k), flowOf(k))
		}
		for i, q := range d.Queues() {
			first, _, _, err := q.Read()
			if err != nil || len(first)%2 != 0 || len(first) == 0 {
				t.Fatalf("queue %d: %d packets, %v", i, len(first), err)
			}
			for k := 0; k < len(first); k += 2 {
				if !bytes.Equal(first[k], first[k+1]) {
					t.Error("a flow was split")
				}
			}
		}
	})
}

func TestWriteIsDeliveredAndPoisonsWhatItWasGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := memnet.NewDevice(1)
		p := flowOf(1)
		want := bytes.Clone(p)
		go func() {
			time.Sleep(time.Minute)
			if err := d.Queues()[0].Write([][]byte{p}, nil); err != nil {
				t.Error(err)
			}
		}()
		got, ok := d.Next(time.Hour)
		if !ok || !bytes.Equal(got, want) {
			t.Fatalf("received %x, %v", got, ok)
		}
		if p[0] != memnet.Poison {
			t.Error("the writer's buffer was left as it was")
		}
		if _, ok := d.Next(time.Hour); ok || len(d.Drain()) != 0 {
			t.Error("one packet came twice")
		}
	})
}

func TestPartialPacketsHaveGarbageForASumUntilTheyAreCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := memnet.NewDevice(1)
		q, want := d.Queues()[0], flowOf(1)
		d.InjectPartial(want)
		d.Inject(want)
		first, rest, partial, err := q.Read()
		if err != nil || !slices.Equal(partial, []bool{true, false}) {
			t.Fatalf("Read: %v, %v", partial, err)
		}
		if bytes.Equal(first[0], first[1]) {
			t.Error("a partial packet has its sum")
		}
		garbled := slices.Concat(first[0], rest[0])
		q.Complete(first[0], rest[0])
		if got := slices.Concat(first[0], rest[0]); !bytes.Equal(got, want) {
			t.Errorf("completed: %x, want %x", got, want)
		}
		if err := q.Write([][]byte{garbled, bytes.Clone(want), bytes.Clone(want)[:100]}, []bool{true, false, true}); err != nil {
			t.Fatal(err)
		}
		if got := d.Drain(); d.Partial() != 1 || len(got) != 2 || !bytes.Equal(got[0], want) || !bytes.Equal(got[1], want) {
			t.Errorf("%d came, of them %d partial: %x", len(got), d.Partial(), got)
		}
	})
}

func TestAQueueEndsWithItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		d := memnet.NewDevice(2)
		ended := make(chan error, 1)
		go func() {
			_, _, _, err := d.Queues()[0].Read()
			ended <- err
		}()
		synctest.Wait()
		if err := d.Queues()[1].Close(); err != nil {
			t.Fatal(err)
		}
		d.Break(gone)
		if err := <-ended; !errors.Is(err, gone) {
			t.Errorf("a broken queue's Read: %v", err)
		}
		if _, _, _, err := d.Queues()[1].Read(); !errors.Is(err, os.ErrClosed) || !d.Queues()[1].Closed() {
			t.Errorf("a closed queue's Read: %v", err)
		}
		if err := d.Queues()[1].Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
	})
}
