package transport_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/test/memnet/packet"
)

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

func TestLoadBeginsLongBeforeTheQueueIsFull(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		w.flood(w.raw("stranger", 9, b), b, 700, 700)
		if n := len(w.sightings(0, "b", crypto.TypeCookieReply)); n == 0 {
			t.Errorf("700 initiations at once were no load; drops are %v", b.tunnel.Status().Drops)
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
		for range 24 {
			w.flood(stranger, b, 1200, 100)
			a.say(b, "x")
			w.pass(500 * time.Millisecond)
			b.mustHear("x")
		}
		if age := time.Since(b.peer(a.public).LastHandshake); age > 15*time.Second {
			t.Errorf("the session is %v old: the flood kept the peers from renewing it", age)
		}
	})
}

// MACs and cookies are for responses too: an initiator under load answers one
// without a cookie by a cookie reply, and takes it with one.
func TestAResponseNeedsACookieUnderLoad(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.end("a", 1)
		stranger := w.raw("stranger", 8, a)
		r := w.known("r", 9, a)
		a.device.Inject(packet.UDP(to(a.inner), to(r.inner), []byte("x")))
		first, ok := r.next(time.Second, crypto.TypeInitiation)
		if !ok {
			t.Fatal("no initiation came")
		}
		w.flood(stranger, a, 3000, 500)
		response, _ := r.respond(first)
		w.network.Inject(r.outer, a.outer, response)
		reply, ok := r.next(time.Second, crypto.TypeCookieReply)
		if !ok || !r.jar.Consume(reply, w.now()) {
			t.Fatalf("no cookie; drops are %v", a.tunnel.Status().Drops)
		}
		second, ok := r.next(6*time.Second, crypto.TypeInitiation)
		if !ok {
			t.Fatal("no second initiation came")
		}
		w.flood(stranger, a, 3000, 500)
		response, pair := r.respond(second)
		w.network.Inject(r.outer, a.outer, response)
		got, ok := r.next(time.Second, crypto.TypeTransport)
		if !ok || open(pair, got) == nil {
			t.Errorf("a response with a cookie was not taken; drops are %v", a.tunnel.Status().Drops)
		}
	})
}

func TestACookieForAResponseIsShownInTheNext(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		r := w.known("r", 9, b)
		checker := crypto.NewCookieChecker(r.identity)
		knock := func() []byte {
			msg, _ := r.initiation()
			r.send(msg)
			response, ok := r.next(time.Second, crypto.TypeResponse)
			if !ok {
				t.Fatal("no response came")
			}
			if !checker.CheckMAC1(response) {
				t.Fatal("a response with a wrong MAC1")
			}
			return response
		}
		r.send(checker.Reply(knock(), b.outer, w.now()))
		w.pass(time.Second)
		if !checker.CheckMAC2(knock(), b.outer, w.now()) {
			t.Error("the next response does not show the cookie")
		}
		w.pass(121 * time.Second)
		response := knock()
		for _, c := range response[76:] {
			if c != 0 {
				t.Fatal("the cookie is shown after two minutes still")
			}
		}
	})
}

func TestLoadIsOverASecondAfterTheFlood(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.end("b", 2)
		stranger := w.raw("stranger", 8, b)
		r := w.known("r", 9, b)
		w.flood(stranger, b, 3000, 500)
		w.pass(1500 * time.Millisecond)
		r.shake() // without a cookie
	})
}
