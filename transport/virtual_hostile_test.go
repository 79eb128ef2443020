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

// flood throws n initiations with a right MAC1 and nothing behind it at an
// end: all that a stranger who knows the public key can make.
func (w *world) flood(r *raw, b *end, n, sources int) {
	msg, _ := r.initiation()
	for k := range n {
		forged := append([]byte(nil), msg...)
		binary.LittleEndian.PutUint32(forged[4:], uint32(k))
		forged[10] ^= byte(k)
		forged[11] ^= byte(k >> 8)
		crypto.NewCookieJar(r.remote).Stamp(forged, w.now())
		w.network.Inject(attacker(k%sources), b.outer, forged)
	}
}

func TestAFloodOfInitiationsIsAnsweredByCookiesNeverLargerThanWhatCame(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.raw("stranger", 9, b)
		const n = 4000
		w.flood(r, b, n, n)
		w.pass(time.Second)
		sent := w.sightings(0, "b")
		if len(sent) == 0 || len(sent) > n {
			t.Fatalf("%d answers to %d initiations; drops are %v", len(sent), n, b.tunnel.Status().Drops)
		}
		answered := map[netip.AddrPort]int{}
		for _, s := range sent {
			answered[s.to]++
			if s.kind != crypto.TypeCookieReply || len(s.data) > crypto.InitiationSize {
				t.Fatalf("answered with:%s", story([]sighting{s}))
			}
		}
		for to, count := range answered {
			if count > 1 {
				t.Errorf("%d answers to %v, which sent one initiation", count, to)
			}
		}
	})
}

func TestAFloodWithoutMAC1GetsNoAnswerAndMakesNoLoad(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		msg := make([]byte, crypto.InitiationSize)
		msg[0] = 1
		for k := range 20000 {
			binary.LittleEndian.PutUint32(msg[4:], uint32(k))
			w.network.Inject(attacker(k), b.outer, msg)
		}
		initiation, _ := r.initiation()
		w.network.Inject(r.outer, b.outer, initiation)
		w.pass(time.Second)
		sent := w.sightings(0, "b")
		if len(sent) != 1 || sent[0].kind != crypto.TypeResponse {
			t.Errorf("one response was due; sent:%s", story(sent))
		}
	})
}

func TestAKnownPeerGetsThroughAFloodWithItsCookie(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		stranger := w.raw("stranger", 8, b)
		r := w.known("r", 9, b)
		flood := func() { w.flood(stranger, b, 3000, 500) }
		flood()
		first, _ := r.initiation()
		w.network.Inject(r.outer, b.outer, first)
		reply, ok := r.next(time.Second, crypto.TypeCookieReply)
		if !ok {
			t.Fatalf("no cookie under load; drops are %v", b.tunnel.Status().Drops)
		}
		if !r.jar.Consume(reply, w.now()) {
			t.Fatal("the cookie reply does not open")
		}
		w.pass(5 * time.Second)
		flood()
		second, pending := r.initiation()
		w.network.Inject(r.outer, b.outer, second)
		response, ok := r.next(time.Second, crypto.TypeResponse)
		if !ok {
			t.Fatalf("an initiation with a cookie was not answered; drops are %v", b.tunnel.Status().Drops)
		}
		if _, err := pending.Finish(response, r.psk); err != nil {
			t.Error(err)
		}
	})
}

func TestACookieIsWorthNothingFromAnotherAddress(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		stranger := w.raw("stranger", 8, b)
		r := w.known("r", 9, b)
		w.flood(stranger, b, 3000, 500)
		first, _ := r.initiation()
		w.network.Inject(r.outer, b.outer, first)
		reply, ok := r.next(time.Second, crypto.TypeCookieReply)
		if !ok || !r.jar.Consume(reply, w.now()) {
			t.Fatal("no cookie under load")
		}
		w.pass(5 * time.Second)
		w.flood(stranger, b, 3000, 500)
		at := w.now()
		second, _ := r.initiation()
		w.network.Inject(netip.AddrPortFrom(r.outer.Addr(), r.outer.Port()+1), b.outer, second)
		w.pass(time.Second)
		for _, s := range w.sightings(at, "b") {
			if s.kind != crypto.TypeCookieReply {
				t.Errorf("answered with:%s", story([]sighting{s}))
			}
		}
	})
}

// A household of known peers behind one address is one source. Without load
// nobody counts; under load it gets 20 answers per second, after a burst of 5.
func TestOneSourceWithCookiesIsLimitedUnderLoad(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		stranger := w.raw("stranger", 8, b)
		household := []*raw{w.known("r", 9, b)}
		for k := range 99 {
			sibling := household[0].sibling(k)
			b.meetKey(sibling.public, sibling.outer, netip.AddrFrom4([4]byte{10, 0, 1, byte(k)}), netip.MustParseAddr("fd00::99"))
			household = append(household, sibling)
		}
		knock := func() (responses, cookies int) {
			at := w.now()
			bySender := map[crypto.Index]*raw{}
			for _, r := range household {
				msg, _ := r.initiation()
				bySender[crypto.Sender(msg)] = r
				w.network.Inject(r.outer, b.outer, msg)
			}
			w.pass(100 * time.Millisecond)
			for _, s := range w.sightings(at, "b") {
				switch {
				case s.to.Addr() != household[0].outer.Addr():
				case s.kind == crypto.TypeResponse:
					responses++
				case s.kind == crypto.TypeCookieReply && bySender[crypto.Receiver(s.data)].jar.Consume(s.data, w.now()):
					cookies++
				}
			}
			return responses, cookies
		}
		if responses, _ := knock(); responses != len(household) {
			t.Errorf("without load %d of %d were answered", responses, len(household))
		}
		w.pass(10 * time.Second)
		w.flood(stranger, b, 3000, 500)
		if _, cookies := knock(); cookies < len(household)*9/10 {
			t.Fatalf("%d of %d got cookies; drops are %v", cookies, len(household), b.tunnel.Status().Drops)
		}
		w.pass(5 * time.Second)
		w.flood(stranger, b, 3000, 500)
		if responses, _ := knock(); responses < 5 || responses > 10 {
			t.Errorf("under load %d of %d with cookies were answered; drops are %v", responses, len(household), b.tunnel.Status().Drops)
		}
	})
}

func TestDataFlowsDuringAFlood(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		stranger := w.raw("stranger", 9, b)
		for range 50 {
			w.flood(stranger, b, 400, 100)
			a.say(b, "through")
			w.pass(100 * time.Millisecond)
			b.mustHear("through")
		}
		for _, s := range w.sightings(0, "b") {
			if s.to.Addr() == elsewhere.Addr() && s.kind != crypto.TypeCookieReply {
				t.Errorf("answered with:%s", story([]sighting{s}))
			}
		}
	})
}

func TestARenewalGetsThroughAFlood(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.acquainted()
		stranger := w.raw("stranger", 9, b)
		w.pass(119*time.Second - w.now())
		for range 60 {
			w.flood(stranger, b, 2000, 100)
			a.say(b, "x")
			w.pass(500 * time.Millisecond)
			b.mustHear("x")
		}
		if age := time.Since(b.peer(a.public).LastHandshake); age > 35*time.Second {
			t.Errorf("the session is %v old: the flood kept the peers from renewing it", age)
		}
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
			switch kind, _ := crypto.Type(data); {
			case index == 0:
			case kind == crypto.TypeResponse:
				binary.LittleEndian.PutUint32(changed[8:], uint32(index))
			case kind == crypto.TypeTransport || kind == crypto.TypeCookieReply:
				binary.LittleEndian.PutUint32(changed[4:], uint32(index))
			}
			w.network.Inject(elsewhere, a.outer, changed)
			if kind, _ := crypto.Type(changed); kind == crypto.TypeInitiation || kind == crypto.TypeResponse {
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
