package transport_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
)

// payloadFrom is a packet from a raw peer to an end.
func payloadFrom(r *raw, b *end, text string) []byte {
	return packet.UDP(to(r.inner), to(b.inner), []byte(text))
}

// sizeOnTheWire sends one inner packet of a size and returns the size of the
// transport message.
func sizeOnTheWire(w *world, a, b *end, size int) int {
	w.t.Helper()
	w.pass(latency)
	at := w.now()
	a.device.Inject(packet.Sized(to(a.inner), to(b.inner), size, fmt.Sprint(size)))
	sent := w.sightings(at, "a")
	if len(sent) != 1 {
		w.t.Fatalf("for a packet of %d bytes sent:%s", size, story(sent))
	}
	w.pass(2 * latency)
	got := b.device.Drain()
	if len(got) != 1 || len(got[0]) != size {
		w.t.Fatalf("of a packet of %d bytes %d packets came, drops %v", size, len(got), b.peer(a.public).Drops)
	}
	return len(sent[0].data)
}

func TestPacketsArePaddedTo16AndNeverBeyondTheMTU(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		for _, limit := range []int{1420, 1300, 1299, 1280, 1296} {
			a.tunnel.SetMTU(limit)
			sizes := []int{33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 1263, 1264, 1265, 1278, 1279, 1280}
			for size := limit - 33; size <= limit; size++ {
				sizes = append(sizes, size)
			}
			for _, size := range sizes {
				got := sizeOnTheWire(w, a, b, size) - crypto.TransportOverhead
				if aligned := (size + 15) &^ 15; aligned <= limit {
					if got != aligned {
						t.Errorf("MTU %d: %d bytes became %d, want %d", limit, size, got, aligned)
					}
				} else if got < size || got > limit {
					t.Errorf("MTU %d: %d bytes became %d", limit, size, got)
				}
			}
		}
	})
}

// A route can have a smaller MTU than the device, and who reads a TUN is not
// told. So a packet that cannot be aligned below the device's MTU may not be
// padded up to it: with an MTU of 1300 and a route of 1299, padding 1297 bytes
// to 1300 makes a datagram that does not fit (the kernel's netns.sh has this).
func TestPaddingStopsWhereARouteMayBeNarrowerThanTheDevice(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		a.tunnel.SetMTU(1300)
		if got := sizeOnTheWire(w, a, b, 1297) - crypto.TransportOverhead; got > 1299 {
			t.Errorf("1297 bytes became %d, more than a route of 1299 carries", got)
		}
	})
}

func TestPacketsAboveTheMTUArePaddedByWhatIsOver(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		a.tunnel.SetMTU(1280)
		for _, c := range []struct{ size, padded int }{{1281, 1296}, {1290, 1296}, {1296, 1296}, {1300, 1312}, {1500, 1504}} {
			if got := sizeOnTheWire(w, a, b, c.size) - crypto.TransportOverhead; got != c.padded {
				t.Errorf("%d bytes became %d, want %d", c.size, got, c.padded)
			}
		}
	})
}

func TestAPacketFromAnAddressThatIsNotThePeersIsDroppedAndCounted(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b, withAllowed("10.0.0.9/32", "10.5.0.0/16", "fd00::9/128"))
		w.known("other", 8, b, withAllowed("10.5.8.0/24"))
		pair := r.converse()
		b.heard()
		for _, c := range []struct {
			local, remote string
			allowed       bool
		}{
			{"10.0.0.9", "10.0.0.2", true},
			{"10.0.0.9", "10.77.0.1", true}, // where it goes to is the host's business
			{"10.5.1.1", "10.0.0.2", true},
			{"fd00::9", "fd00::2", true},
			{"10.0.0.8", "10.0.0.2", false},
			{"10.5.8.1", "10.0.0.2", false}, // the longer prefix is the other's
			{"10.0.0.2", "10.0.0.9", false}, // our own address
			{"127.0.0.1", "10.0.0.2", false},
			{"0.0.0.0", "10.0.0.2", false},
			{"fd00::8", "fd00::2", false},
			{"::1", "fd00::2", false},
			{"::ffff:10.0.0.9", "fd00::2", false},
		} {
			before := total(b.peer(r.public).Drops)
			p := packet.UDP(to(netip.MustParseAddr(c.local)), to(netip.MustParseAddr(c.remote)), []byte(c.local))
			r.send(r.seal(pair, p))
			w.pass(2 * latency)
			got := b.heard()
			dropped := total(b.peer(r.public).Drops) - before
			if c.allowed && (len(got) != 1 || got[0] != c.local || dropped != 0) {
				t.Errorf("%v -> %v: heard %q, %d dropped", c.local, c.remote, got, dropped)
			}
			if !c.allowed && (len(got) != 0 || dropped != 1) {
				t.Errorf("spoofed %v -> %v: heard %q, %d dropped", c.local, c.remote, got, dropped)
			}
		}
	})
}

func TestASpoofedPacketStillCountsAsASignOfLife(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		pair := r.converse()
		rx := b.peer(r.public).RxBytes
		msg := r.seal(pair, packet.UDP(to(netip.MustParseAddr("10.9.9.9")), to(b.inner), []byte("spoofed")))
		w.network.Inject(elsewhere, b.outer, msg)
		w.settle()
		if e := b.peer(r.public).Endpoint; e != elsewhere {
			t.Errorf("the packet was authenticated, but the endpoint is %v", e)
		}
		if got := b.peer(r.public).RxBytes - rx; got != uint64(len(msg)) {
			t.Errorf("counted %d bytes of a message of %d", got, len(msg))
		}
	})
}

func TestBrokenPacketsFromTheDeviceAreCountedAndNotSent(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		good := packet.UDP(to(a.inner), to(b.inner), []byte("x"))
		at, before := w.now(), a.drops()
		broken := [][]byte{
			good[:1], good[:19],
			append([]byte{0x55}, good[1:]...),
			append([]byte{0x05}, good[1:]...),
			append([]byte{0x65}, good[1:]...),
			packet.UDP(to(a.inner6), to(b.inner6), nil)[:39],
			make([]byte, 100),
		}
		a.device.Inject(broken...)
		w.pass(5 * time.Second)
		b.mustHear()
		if sent := w.sightings(at, "a"); len(sent) != 0 {
			t.Errorf("sent:%s", story(sent))
		}
		if n := a.drops() - before; n != uint64(len(broken)) {
			t.Errorf("%d of %d counted: %v", n, len(broken), a.tunnel.Status().Drops)
		}
	})
}

func TestBrokenPacketsFromAPeerAreCountedAndNotDelivered(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		pair := r.converse()
		v4 := func(change func([]byte)) []byte {
			p := payloadFrom(r, b, "some text")
			change(p)
			return p
		}
		v6 := func(change func([]byte)) []byte {
			p := packet.UDP(to(r.inner6), to(b.inner6), []byte("some text"))
			change(p)
			return p
		}
		for name, p := range map[string][]byte{
			"version 0":                     v4(func(p []byte) { p[0] = 0x05 }),
			"version 5":                     v4(func(p []byte) { p[0] = 0x55 }),
			"version 12":                    v4(func(p []byte) { p[0] = 0xc5 }),
			"version 15":                    v4(func(p []byte) { p[0] = 0xff }),
			"one byte":                      {0x45},
			"zeros":                         make([]byte, 64),
			"IPv4 shorter than its header":  v4(func(p []byte) {})[:16],
			"IPv4 total length too large":   v4(func(p []byte) { p[3]++ }),
			"IPv4 total length huge":        v4(func(p []byte) { p[2] = 0xff }),
			"IPv4 total length below 20":    v4(func(p []byte) { p[3] = 19 }),
			"IPv4 total length 0":           v4(func(p []byte) { p[3] = 0 }),
			"IPv6 shorter than its header":  v6(func(p []byte) {})[:32],
			"IPv6 payload length too large": v6(func(p []byte) { p[5]++ }),
			"IPv6 payload length huge":      v6(func(p []byte) { p[4] = 0xff }),
		} {
			before := total(b.peer(r.public).Drops)
			r.send(r.seal(pair, p))
			w.pass(2 * latency)
			if got := b.device.Drain(); len(got) != 0 {
				t.Errorf("%s: delivered %x", name, got[0])
			}
			if n := total(b.peer(r.public).Drops) - before; n != 1 {
				t.Errorf("%s: %d counted", name, n)
			}
		}
	})
}

func TestPaddingIsCutOffWhateverItsLengthAndContent(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		pair := r.converse()
		for _, pad := range []int{0, 1, 15, 16, 100, 1000} {
			for _, fill := range []byte{0, 0xff} {
				p := payloadFrom(r, b, "text")
				for range pad {
					p = append(p, fill)
				}
				r.send(r.seal(pair, p))
				w.pass(2 * latency)
				b.mustHear("text") // which checks that the packet has its own length
			}
		}
	})
}
