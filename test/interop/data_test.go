package interop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
)

// protocolOfTests is of RFC 3692: for experiments.
const protocolOfTests = 253

// packetsOfEverySize are packets from one address to another with random
// content, from a bare header up to the MTU.
func packetsOfEverySize(local, remote netip.Addr, random *rand.ChaCha8) (all [][]byte) {
	header := 20
	if local.Is6() {
		header = 40
	}
	for size := header; size <= mtu; size++ {
		payload := make([]byte, size-header)
		random.Read(payload)
		all = append(all, packet.Bare(local, remote, protocolOfTests, payload))
	}
	return all
}

func TestPacketsOfEverySizeArriveAsTheyWereSent(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		random := rand.NewChaCha8([32]byte{1})
		w.greet(a, b)
		w.pass(5 * time.Second) // no hello is repeated any more: all that goes now are packets
		for _, d := range []struct {
			from, to *end
			packets  [][]byte
		}{
			{a, b, packetsOfEverySize(a.inner, b.inner, random)},
			{b, a, packetsOfEverySize(b.inner, a.inner, random)},
			{a, b, packetsOfEverySize(a.inner6, b.inner6, random)},
			{b, a, packetsOfEverySize(b.inner6, a.inner6, random)},
		} {
			begin := w.now()
			for burst := range slices.Chunk(d.packets, 50) {
				d.from.device.Inject(burst...)
				w.pass(time.Millisecond)
			}
			w.pass(2 * latency)
			got := d.to.device.Drain()
			if len(got) != len(d.packets) {
				w.t.Fatalf("%s heard %d packets of %d", d.to.name, len(got), len(d.packets))
			}
			for i, p := range d.packets {
				if !bytes.Equal(got[i], p) {
					w.t.Fatalf("%s was given %d bytes %x..., sent were %d bytes %x...", d.to.name, len(got[i]), got[i][:20], len(p), p[:20])
				}
			}
			w.mustHaveSize(d.from, w.sightings(begin, d.from.name, crypto.TypeTransport), d.packets)
		}
	})
}

// mustHaveSize checks the lengths of the datagrams that an end has sent: 32
// bytes around what is padded to a multiple of 16. 1420 is none: what would
// pass the MTU wireguard-go pads up to it, and we do not pad at all.
func (w *world) mustHaveSize(from *end, sent []sighting, packets [][]byte) {
	w.t.Helper()
	if len(sent) != len(packets) {
		w.t.Fatalf("%d datagrams for %d packets", len(sent), len(packets))
	}
	for i, p := range packets {
		want := (len(p) + 15) &^ 15
		if want > mtu {
			want = mtu
			if from.maker.name != wireguardGo.name {
				want = len(p)
			}
		}
		if got := len(sent[i].data) - crypto.TransportOverhead; got != want {
			w.t.Fatalf("%s padded a packet of %d bytes to %d, want %d", from.maker.name, len(p), got, want)
		}
	}
}

func TestEmptyPayloadsArrive(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		a.say(b, "")
		b.say6(a, "")
		w.pass(2 * latency)
		a.mustHear("")
		b.mustHear("")
	})
}

// What waits for a handshake arrives, whole and in order, once there is one.
func TestPacketsThatWaitForTheHandshakeArrive(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint("early ", i))
			a.say(b, want[i])
		}
		w.pass(4 * latency)
		b.mustHear(want...)
	})
}

func TestASourceThatIsNotThePeersIsDropped(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		for _, e := range [][2]*end{{a, b}, {b, a}} {
			for _, forged := range []netip.Addr{e[1].inner, outerAddress(9)} {
				e[0].device.Inject(packet.UDP(to(forged), to(e[1].inner), []byte("from somebody else")))
			}
		}
		w.pass(2 * latency)
		w.greet(a, b) // hears nothing else
	})
}

func TestBurstsOfManySizesArriveInOrder(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		random := rand.New(rand.NewPCG(1, 2))
		w.greet(a, b)
		for round := range 20 {
			var want, back []string
			for i := range 1 + random.IntN(300) {
				text := fmt.Sprintf("%d.%d %s", round, i, bytes.Repeat([]byte{'.'}, random.IntN(1300)))
				want, back = append(want, text), append(back, text+" back")
				a.say(b, text)
				b.say(a, text+" back")
			}
			w.pass(2 * latency)
			w.mustBeSame("b", b.heard(), want)
			w.mustBeSame("a", a.heard(), back)
		}
	})
}
