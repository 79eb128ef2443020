package capture

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// cable makes two interfaces joined to each other, in a network namespace that is the test's own, and captures at both. Frames
// may be written to one at once; of the other, which is set up while its cable is still dead, the kernel drops without
// a word what it gets before it has noticed, some time later, that it has a carrier.
func cable(t *testing.T) (one, two *Capture) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace: sudo make test")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and its namespace too
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs a network namespace: run the test with CAP_SYS_ADMIN (%v)", err)
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	if err := nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one"}, PeerName: "two"}); err != nil {
		t.Fatal(err)
	}
	captures := make(map[string]*Capture)
	for _, name := range []string{"two", "one"} { // in this order: see above
		l, err := nl.LinkByName(name)
		if err == nil {
			err = nl.LinkSetUp(l)
		}
		if err == nil {
			captures[name], err = Open(name)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { captures[name].Close() })
	}
	return captures["one"], captures["two"]
}

// next is the next frame of an EtherType for experiments, which the kernel says nothing under.
func next(t *testing.T, c *Capture) Frame {
	t.Helper()
	for {
		f, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(f.Data, []byte{0x88, 0xb5}) {
			return f
		}
	}
}

func TestAFrameIsCapturedAsItWasSentAtBothEndsOfACable(t *testing.T) {
	writer, two := cable(t)
	one, err := Open("one")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	for name, text := range map[string]string{
		"without a tag":                  "0200000000020200000000018" + "8b50102030405",
		"802.1Q":                         "02000000000202000000000181000064" + "88b50102030405",
		"802.1Q with a priority":         "0200000000020200000000018100e064" + "88b50102030405",
		"priority alone, VLAN 0":         "02000000000202000000000181002000" + "88b50102030405",
		"802.1ad and 802.1Q":             "02000000000202000000000188a800c881000064" + "88b50102030405",
		"to all":                         "ffffffffffff020000000001" + "88b50102030405",
		"from a station, to another one": "0200000000990200000000aa" + "88b50102030405",
	} {
		frame, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := writer.Write(frame); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sent, came := next(t, one), next(t, two)
		if !sent.Sent || came.Sent {
			t.Errorf("%s: sent by the one that sent it %v, by the one that got it %v", name, sent.Sent, came.Sent)
		}
		for _, f := range []Frame{sent, came} {
			if !bytes.Equal(f.Data, frame) || f.Cut != 0 {
				t.Errorf("%s: captured %x, want %x", name, f.Data, frame)
			}
			if d := f.At.Sub(start); d < -time.Minute || d > time.Minute {
				t.Errorf("%s: captured %v after it was sent", name, d)
			}
		}
	}
}

func TestCloseEndsAReadThatWaits(t *testing.T) {
	one, _ := cable(t)
	ended := make(chan error)
	go func() {
		for {
			if _, err := one.Read(); err != nil {
				ended <- err
				return
			}
		}
	}()
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the read ended with %v", err)
	}
}

func TestThereIsNothingToCaptureWithoutTheInterface(t *testing.T) {
	cable(t)
	if c, err := Open("three"); err == nil {
		c.Close()
		t.Error("an interface that is not there was opened")
	}
}

func TestARecordingKeepsWhatHasPassedAndGivesWhatIsWaitedFor(t *testing.T) {
	writer, two := cable(t)
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Record("two")
	if err != nil {
		t.Fatal(err)
	}
	frame := func(last byte) []byte { return append(bytes.Repeat([]byte{2}, 12), 0x88, 0xb5, last) }
	is := func(last byte) func(Frame) bool {
		return func(f Frame) bool { return bytes.Equal(f.Data, frame(last)) }
	}
	for _, last := range []byte{1, 2, 3, 2} {
		if err := writer.Write(frame(last)); err != nil {
			t.Fatal(err)
		}
	}
	for _, last := range []byte{3, 1} { // what is not there yet, and what has passed before
		if f, err := r.Await(t.Context(), is(last)); err != nil || !bytes.Equal(f.Data, frame(last)) {
			t.Errorf("waited for %d: %x, %v", last, f.Data, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Await(ended, is(9)); !errors.Is(err, context.Canceled) {
		t.Errorf("waited for what does not come: %v", err)
	}
	if _, err := r.Await(t.Context(), func(Frame) bool { return len(r.Frames(is(2))) == 2 }); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Await(t.Context(), is(9)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("waited after the end: %v", err)
	}
	if n := len(r.Frames(is(2))); n != 2 {
		t.Errorf("%d frames are kept, want 2", n)
	}
}
