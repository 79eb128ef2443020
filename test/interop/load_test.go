package interop

import (
	"testing"
	"time"

	"stunnel/crypto"
)

const (
	floodSize  = 400                    // initiations at once, each from an address of its own
	floodKeys  = 50                     // that they are from
	floodEvery = 400 * time.Millisecond // under load lasts a second
)

// flood sends initiations with a right MAC1, of keys that nobody knows, to an
// end, in bursts until the returned function is called: that end is under load
// all the time.
func (w *world) flood(target *end) (stop func()) {
	w.t.Helper()
	messages := make([][]byte, floodKeys)
	for i := range messages {
		id, err := crypto.NewIdentity(crypto.NewPrivateKey())
		if err != nil {
			w.t.Fatal(err)
		}
		remote, err := crypto.NewRemote(id, target.public)
		if err != nil {
			w.t.Fatal(err)
		}
		msg, _, err := crypto.Initiate(id, remote, crypto.PresharedKey{}, crypto.Index(i), crypto.TAI64NFrom(time.Now()))
		if err != nil {
			w.t.Fatal(err)
		}
		crypto.NewCookieJar(remote).Stamp(msg, 0)
		messages[i] = msg
	}
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			for i := range floodSize {
				w.network.Inject(numberedAddress(i), target.outer, messages[i%floodKeys])
			}
			select {
			case <-stopping:
				return
			case <-time.After(floodEvery):
			}
		}
	}()
	w.pass(4 * floodEvery)
	w.mustBeUnderLoad(target)
	return func() {
		close(stopping)
		<-stopped
	}
}

// mustBeUnderLoad ends the test unless target has sent cookies to the flood a
// moment ago.
func (w *world) mustBeUnderLoad(target *end) {
	w.t.Helper()
	for _, s := range w.sightings(w.now()-2*floodEvery, target.name, crypto.TypeCookieReply) {
		if s.to.Addr() == numberedAddress(0).Addr() {
			return
		}
	}
	w.t.Fatalf("%s (%s) is not under load; this would prove nothing", target.name, target.maker.name)
}

// between returns what an end has sent to the other one, of a kind.
func (w *world) between(from, to *end, kind crypto.MessageType) (found []sighting) {
	for _, s := range w.sightings(0, from.name, kind) {
		if s.to == to.outer {
			found = append(found, s)
		}
	}
	return found
}

// b is under load: a's first initiation gets it a cookie, its second carries
// MAC2 and is answered, while those without one are not.
func TestAnInitiatorGetsThroughToAnEndUnderLoadByItsCookie(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		defer w.flood(b)()
		a.say(b, "let me in")
		w.pass(6 * time.Second)
		w.mustBeUnderLoad(b)
		b.mustHear("let me in")

		initiations := w.between(a, b, crypto.TypeInitiation)
		cookies := w.between(b, a, crypto.TypeCookieReply)
		if len(initiations) != 2 || initiations[0].hasMAC2() || !initiations[1].hasMAC2() || len(cookies) != 1 {
			w.t.Errorf("a sent%s\nand b%s", story(initiations), story(cookies))
		}
		b.say(a, "welcome")
		w.pass(2 * latency)
		a.mustHear("welcome")
	})
}

// A cookie holds for two minutes: the next handshake in that time needs no
// other one.
func TestACookieHoldsForTheNextHandshake(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		stop := w.flood(b)
		a.say(b, "let me in")
		w.pass(6 * time.Second)
		b.mustHear("let me in")
		stop()

		again := w.now()
		resume := w.stop("b", crypto.TypeTransport)
		a.say(b, "is anybody there?") // a begins anew 15 s later
		w.pass(12 * time.Second)
		defer w.flood(b)()
		w.pass(2 * time.Second)
		w.mustBeUnderLoad(b)
		resume()
		b.say(a, "I am here")
		w.pass(2 * latency)
		a.mustHear("I am here")
		initiations, cookies := w.between(a, b, crypto.TypeInitiation), w.between(b, a, crypto.TypeCookieReply)
		if last := initiations[len(initiations)-1]; len(initiations) != 3 || last.at < again || !last.hasMAC2() || len(cookies) != 1 {
			w.t.Errorf("a sent%s\nand b%s", story(initiations), story(cookies))
		}
		if s := w.between(b, a, crypto.TypeResponse); len(s) != 2 {
			w.t.Errorf("b answered by%s", story(s))
		}
	})
}

func TestAnOldCookieIsRenewedWhenASessionIsRekeyedUnderLoad(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		stop := w.flood(b)
		a.say(b, "let me in")
		w.pass(6 * time.Second)
		b.mustHear("let me in")
		stop()
		w.traffic(a, b, 500*time.Millisecond, 116*time.Second)
		defer w.flood(b)()
		w.traffic(a, b, 500*time.Millisecond, 9*time.Second)
		w.mustBeUnderLoad(b)
		initiations := w.between(a, b, crypto.TypeInitiation)
		if len(initiations) != 4 || initiations[2].hasMAC2() || !initiations[3].hasMAC2() {
			w.t.Errorf("a sent%s", story(initiations))
		}
		if s := w.between(b, a, crypto.TypeResponse); len(s) != 2 {
			w.t.Errorf("b answered by%s", story(s))
		}
	})
}

// a is under load and begins all the same: b's response gets it a cookie, and
// its second response carries MAC2.
func TestAResponderGetsThroughToAnEndUnderLoadByItsCookie(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		defer w.flood(a)()
		a.say(b, "I am busy, but")
		w.pass(6 * time.Second)
		w.mustBeUnderLoad(a)
		b.mustHear("I am busy, but")

		responses := w.between(b, a, crypto.TypeResponse)
		cookies := w.between(a, b, crypto.TypeCookieReply)
		if len(responses) != 2 || responses[0].hasMAC2() || !responses[1].hasMAC2() || len(cookies) != 1 {
			w.t.Errorf("b sent%s\nand a%s", story(responses), story(cookies))
		}
		b.say(a, "never mind")
		w.pass(2 * latency)
		a.mustHear("never mind")
	})
}

// A session that is there does not suffer from a flood of handshakes.
func TestDataFlowsThroughAnEndUnderLoad(t *testing.T) {
	inMixedWorlds(t, func(w *world, a, b *end) {
		w.greet(a, b)
		defer w.flood(b)()
		w.traffic(a, b, 50*time.Millisecond, 5*time.Second)
		w.mustBeUnderLoad(b)
	})
}
