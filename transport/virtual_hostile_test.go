package transport_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
)

// stillWorks fails unless packets cross between two ends right now.
func (w *world) stillWorks(a, b *end) {
	w.t.Helper()
	w.pass(10 * time.Second)
	a.heard()
	b.heard()
	a.say(b, "still here")
	b.say(a, "me too")
	w.pass(4 * latency)
	b.mustHear("still here")
	a.mustHear("me too")
}

// unanswered fails if anything was sent to a port of the attacker's.
func (w *world) unanswered(since time.Duration) {
	w.t.Helper()
	for _, s := range w.sightings(since, "") {
		if s.to.Addr() == elsewhere.Addr() {
			w.t.Errorf("answered with:%s", story([]sighting{s}))
		}
	}
}

func attacker(k int) netip.AddrPort {
	return netip.AddrPortFrom(elsewhere.Addr(), uint16(1024+k%60000))
}

func TestMalformedDatagramsOfAnyLengthAndTypeGetNoAnswer(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		random := rand.New(rand.NewPCG(1, 2))
		at := w.now()
		for size := range 400 {
			for kind := range 7 {
				for _, reserved := range []byte{0, 1} {
					data := make([]byte, size)
					for i := range data {
						data[i] = byte(random.Uint32())
					}
					copy(data, []byte{byte(kind), 0, reserved, 0})
					w.network.Inject(attacker(size), b.outer, data)
				}
			}
			w.settle()
		}
		for _, size := range []int{1452, 1453, 1500, 9000, 65507} {
			for kind := range 7 {
				data := make([]byte, size)
				data[0] = byte(kind)
				w.network.Inject(attacker(size), b.outer, data)
			}
		}
		b.mustHear()
		w.unanswered(at)
		w.stillWorks(a, b)
	})
}

func TestDamagedCopiesOfTrueMessagesGetNoAnswer(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		random := rand.New(rand.NewPCG(3, 4))
		at := w.now()
		for _, s := range w.sightings(0, "a") {
			for size := range len(s.data) {
				w.network.Inject(attacker(size), b.outer, s.data[:size])
				w.network.Inject(attacker(size), b.outer, append(s.data[:len(s.data):len(s.data)], make([]byte, size+1)...))
				damaged := append([]byte(nil), s.data...)
				for range 1 + random.IntN(3) {
					damaged[random.IntN(len(damaged))] ^= 1 << random.IntN(8)
				}
				w.network.Inject(attacker(size), b.outer, damaged)
				w.settle()
			}
		}
		b.mustHear()
		w.unanswered(at)
		w.stillWorks(a, b)
	})
}

func TestDatagramsWithAKnownIndexAndNoKeyAreDropped(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		last := w.sightings(0, "a", crypto.TypeTransport)
		at := w.now()
		rx := b.peer(a.public).RxBytes
		for counter := uint64(0); counter < 5000; counter++ {
			forged := append([]byte(nil), last[0].data...)
			binary.LittleEndian.PutUint64(forged[8:], counter<<52|counter)
			w.network.Inject(a.outer, b.outer, forged)
		}
		b.mustHear()
		w.unanswered(at)
		if now := b.peer(a.public).RxBytes; now != rx {
			t.Errorf("%d forged bytes were counted as received", now-rx)
		}
		w.stillWorks(a, b) // the window has not moved
	})
}

// FuzzDatagram: whatever one datagram holds, from whomever, it neither crashes
// a tunnel nor is answered, and traffic goes on.
func FuzzDatagram(f *testing.F) {
	f.Add([]byte{})
	for kind, size := range []int{0, crypto.InitiationSize, crypto.ResponseSize, crypto.CookieReplySize, crypto.KeepaliveSize, 33, 1452} {
		data := make([]byte, size)
		if size > 0 {
			data[0] = byte(kind)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 65507 {
			return
		}
		synctest.Test(t, func(t *testing.T) { oneDatagram(t, data) })
	})
}

func oneDatagram(t *testing.T, data []byte) {
	w := newWorld(t)
	a := w.end("a", 1)
	r := w.known("r", 9, a)
	a.device.Inject(packet.UDP(to(a.inner), to(r.inner), []byte("x")))
	msg, ok := r.next(time.Second, crypto.TypeInitiation)
	if !ok {
		t.Fatal("no initiation came")
	}
	response, pair := r.respond(msg)
	send := func() {
		at := w.now()
		// Under an index that exists the datagram gets a little further.
		for _, index := range []crypto.Index{0, crypto.Sender(msg)} {
			changed := append([]byte(nil), data...)
			switch kind, ok := crypto.Type(data); {
			case !ok || index == 0:
			case kind == crypto.TypeResponse:
				binary.LittleEndian.PutUint32(changed[8:], uint32(index))
			case kind == crypto.TypeTransport || kind == crypto.TypeCookieReply:
				binary.LittleEndian.PutUint32(changed[4:], uint32(index))
			}
			w.network.Inject(elsewhere, a.outer, changed)
			if kind, ok := crypto.Type(changed); ok && (kind == crypto.TypeInitiation || kind == crypto.TypeResponse) {
				crypto.NewCookieJar(r.remote).Stamp(changed, w.now())
				w.network.Inject(elsewhere, a.outer, changed)
			}
		}
		a.mustHear()
		w.unanswered(at)
	}
	send() // while a handshake is pending
	r.send(response)
	w.pass(4 * latency)
	send() // while there is a session
	r.send(r.seal(pair, payloadFrom(r, a, "still here")))
	w.pass(2 * latency)
	a.mustHear("still here")
}
