package crypto

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestBothEndsOfAHandshakeGetEachOthersKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		psk  PresharedKey
	}{
		{"no preshared key", PresharedKey{}},
		{"preshared key", NewPresharedKey()},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			p.psk = c.psk
			alice, bob := p.keypairs(t)
			expectWorking(t, alice, bob)
			if alice.LocalIndex() != 0xa11ce || alice.RemoteIndex() != 0xb0b || bob.LocalIndex() != 0xb0b || bob.RemoteIndex() != 0xa11ce {
				t.Errorf("indices: alice %#x to %#x, bob %#x to %#x", alice.LocalIndex(), alice.RemoteIndex(), bob.LocalIndex(), bob.RemoteIndex())
			}
		})
	}
}

func TestTwoHandshakesOfTheSamePairShareNothing(t *testing.T) {
	p := newPair(t)
	a1, b1 := p.keypairs(t)
	a2, b2 := p.keypairs(t)
	if openOne(b2, sealOne(t, a1, []byte("first"))) != nil || openOne(a1, sealOne(t, b2, []byte("second"))) != nil {
		t.Fatal("a message opened under the keypair of another handshake")
	}
	expectWorking(t, a1, b1)
	expectWorking(t, a2, b2)
}

func TestHandshakesThatCrossBothComplete(t *testing.T) {
	p := newPair(t)
	fromAlice, alicePending := p.initiate(t, 1)
	fromBob, bobPending, err := Initiate(p.bob, p.bobToAlice, p.psk, 2, someTime)
	if err != nil {
		t.Fatal(err)
	}
	toAlice, bobAnswered := p.respond(t, fromAlice, 3)
	r, err := Accept(p.alice, fromBob, func(PublicKey) *Remote { return p.aliceToBob })
	if err != nil {
		t.Fatal(err)
	}
	toBob, aliceAnswered, err := r.Respond(p.psk, 4)
	if err != nil {
		t.Fatal(err)
	}
	alice, err := alicePending.Finish(toAlice, p.psk)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := bobPending.Finish(toBob, p.psk)
	if err != nil {
		t.Fatal(err)
	}
	expectWorking(t, alice, bobAnswered)
	expectWorking(t, bob, aliceAnswered)
}

// What a message costs is what an attacker can make us pay.
func TestEachStepCostsNoMoreScalarMultiplicationsThanItMust(t *testing.T) {
	p := newPair(t)
	var initiation, response []byte
	var i *Initiator
	var r *Responder
	expectCost := func(what string, want int, f func()) {
		t.Helper()
		if got := countX25519(t, f); got != want {
			t.Errorf("%s: %d scalar multiplications, want %d", what, got, want)
		}
	}
	expectCost("initiate (ephemeral, es)", 2, func() { initiation, i = p.initiate(t, 1) })
	expectCost("accept an unknown static (es)", 1, func() {
		calls := 0
		_, err := Accept(p.bob, initiation, func(k PublicKey) *Remote {
			calls++
			if k != p.alice.PublicKey() {
				t.Errorf("asked for %v", k)
			}
			return nil
		})
		if err != ErrOpen || calls != 1 {
			t.Errorf("%v after %d look-ups", err, calls)
		}
	})
	expectCost("accept (es)", 1, func() {
		var err error
		if r, err = Accept(p.bob, initiation, p.lookup); err != nil {
			t.Error(err)
		}
	})
	expectCost("respond (ephemeral, ee, se)", 3, func() { response, _, _ = r.Respond(p.psk, 2) })

	lowOrder := bytes.Clone(response)
	clear(lowOrder[responseNoise:][:KeySize])
	expectCost("finish with a point of low order (ee)", 1, func() {
		if _, err := i.Finish(lowOrder, p.psk); err != ErrOpen {
			t.Error(err)
		}
	})
	misdirected := bytes.Clone(response)
	misdirected[responseReceiver]++
	expectCost("finish a response to another index", 0, func() {
		if _, err := i.Finish(misdirected, p.psk); err != ErrOpen {
			t.Error(err)
		}
	})
	expectCost("finish (ee, se)", 2, func() {
		if _, err := i.Finish(response, p.psk); err != nil {
			t.Error(err)
		}
	})
}

func TestForgedResponseDoesNotSpoilAPendingHandshake(t *testing.T) {
	p := newPair(t)
	jar := NewCookieJar(remoteOf(t, p.bob, p.alice.PublicKey())) // whoever knows alice's key can make MAC1
	checker := NewCookieChecker(p.alice)

	forgeries := map[string]func(msg []byte){
		"random ephemeral": func(msg []byte) {
			k := NewPrivateKey().Public()
			copy(msg[responseNoise:], k[:])
		},
		"damaged tag": func(msg []byte) { msg[responseMAC1-1] ^= 1 },
		"random ephemeral and tag": func(msg []byte) {
			k := NewPresharedKey()
			copy(msg[responseNoise:], k[:])
			msg[responseNoise+KeySize] ^= 1
		},
		"high bit of the ephemeral":  func(msg []byte) { msg[responseNoise+KeySize-1] ^= 0x80 },
		"alice's own static":         func(msg []byte) { k := p.alice.PublicKey(); copy(msg[responseNoise:], k[:]) },
		"zeroed but for the indices": func(msg []byte) { clear(msg[responseNoise:]) },
	}
	for n, k := range lowOrderPoints(t) {
		forgeries["low order "+string(rune('A'+n))] = func(msg []byte) { copy(msg[responseNoise:], k[:]) }
	}
	pending, response := p.pending(t)
	for round := range 2 { // each forgery also after each other one
		for name, forge := range forgeries {
			forged := bytes.Clone(response)
			forge(forged)
			jar.Stamp(forged, 0)
			if !checker.CheckMAC1(forged) {
				t.Fatalf("%s: MAC1 of the forgery is wrong, so it would prove nothing", name)
			}
			if k, err := pending.Finish(forged, p.psk); k != nil || err != ErrOpen {
				t.Fatalf("%s, round %d: finished with %v", name, round, err)
			}
		}
	}
	if _, err := pending.Finish(response, p.psk); err != nil {
		t.Fatalf("the true response after %d forged ones: %v", 2*len(forgeries), err)
	}
}

func TestEveryForgedByteOfAResponseIsRefused(t *testing.T) {
	p := newPair(t)
	msg, i := p.initiate(t, 1)
	response, bob := p.respond(t, msg, 2)
	for at := range responseMAC1 {
		if senderAt <= at && at < senderAt+indexSize {
			continue // the sender's index is protected by MAC1 alone
		}
		forged := bytes.Clone(response)
		forged[at] ^= 0x10
		if _, err := i.Finish(forged, p.psk); err != ErrOpen {
			t.Fatalf("byte %d forged: %v", at, err)
		}
	}
	alice, err := i.Finish(response, p.psk)
	if err != nil {
		t.Fatal(err)
	}
	expectWorking(t, alice, bob)
}

func TestEveryForgedByteOfAnInitiationIsRefused(t *testing.T) {
	p := newPair(t)
	msg, _ := p.initiate(t, 1)
	for at := range initiationMAC1 {
		if senderAt <= at && at < senderAt+indexSize {
			continue
		}
		forged := bytes.Clone(msg)
		forged[at] ^= 0x10
		if _, err := Accept(p.bob, forged, p.lookup); err != ErrOpen {
			t.Fatalf("byte %d forged: %v", at, err)
		}
	}
	if _, err := Accept(p.bob, msg, p.lookup); err != nil {
		t.Fatal(err)
	}
}

func TestPointsOfLowOrderAreRefusedEverywhere(t *testing.T) {
	p := newPair(t)
	msg, _ := p.initiate(t, 1)
	for _, k := range lowOrderPoints(t) {
		if r, err := NewRemote(p.alice, k); r != nil || !errors.Is(err, ErrLowOrder) {
			t.Errorf("%x as a remote's static: %v", k[:], err)
		}
		forged := bytes.Clone(msg)
		copy(forged[initiationNoise:], k[:])
		_, err := Accept(p.bob, forged, func(PublicKey) *Remote {
			t.Errorf("%x as an ephemeral got as far as the static", k[:])
			return nil
		})
		if err != ErrOpen {
			t.Errorf("%x as an initiation's ephemeral: %v", k[:], err)
		}
	}
}

func TestAStaticKeyIsNotTakenOnItsWord(t *testing.T) {
	// Mallory writes an initiation in alice's name: all that she lacks is the
	// static-static secret.
	p := newPair(t)
	mallory := identityOf(t, NewPrivateKey())
	inAlicesName := &Identity{private: mallory.private, public: p.alice.public, door: p.alice.door}
	msg, _, err := Initiate(inAlicesName, remoteOf(t, mallory, p.bob.PublicKey()), p.psk, 1, someTime)
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	_, err = Accept(p.bob, msg, func(k PublicKey) *Remote {
		asked = k == p.alice.PublicKey()
		return p.lookup(k)
	})
	if !asked || err != ErrOpen {
		t.Fatalf("alice looked up: %v; %v", asked, err)
	}
}

func TestALookupThatReturnsAnotherRemoteIsNotBelieved(t *testing.T) {
	p := newPair(t)
	msg, _ := p.initiate(t, 1)
	other := remoteOf(t, p.bob, NewPrivateKey().Public())
	if _, err := Accept(p.bob, msg, func(PublicKey) *Remote { return other }); err != ErrOpen {
		t.Fatal(err)
	}
}

func TestAnInitiationIsForOneResponderOnly(t *testing.T) {
	p := newPair(t)
	msg, _ := p.initiate(t, 1)
	carol := identityOf(t, NewPrivateKey())
	_, err := Accept(carol, msg, func(PublicKey) *Remote {
		t.Error("carol could read the static key")
		return nil
	})
	if err != ErrOpen {
		t.Fatal(err)
	}
}

func TestThePresharedKeyInForceWhenTheResponseComesCounts(t *testing.T) {
	p := newPair(t)
	old, fresh := p.psk, NewPresharedKey()
	msg, i := p.initiate(t, 1) // under the old key, which message one does not hold
	p.psk = fresh
	response, bob := p.respond(t, msg, 2)
	for _, wrong := range []PresharedKey{old, {}, NewPresharedKey()} {
		if _, err := i.Finish(response, wrong); err != ErrOpen {
			t.Fatalf("finished under another preshared key: %v", err)
		}
	}
	alice, err := i.Finish(response, fresh)
	if err != nil {
		t.Fatal(err)
	}
	expectWorking(t, alice, bob)
}

func TestAResponderWithAPresharedKeyIsNotReachedWithout(t *testing.T) {
	p := newPair(t)
	msg, i := p.initiate(t, 1)
	response, _ := p.respond(t, msg, 2)
	if _, err := i.Finish(response, PresharedKey{}); err != ErrOpen {
		t.Fatal(err)
	}
}

func TestAHandshakeFinishesOnce(t *testing.T) {
	p := newPair(t)
	msg, i := p.initiate(t, 1)
	r, err := Accept(p.bob, msg, p.lookup)
	if err != nil {
		t.Fatal(err)
	}
	response, _, err := r.Respond(p.psk, 2)
	if err != nil {
		t.Fatal(err)
	}
	if again, k, err := r.Respond(p.psk, 3); err == nil || again != nil || k != nil {
		t.Error("responded twice to one initiation")
	}
	if _, err := i.Finish(response, p.psk); err != nil {
		t.Fatal(err)
	}
	if k, err := i.Finish(response, p.psk); k != nil || err != ErrOpen {
		t.Error("finished twice with one response")
	}
}

func TestASpentHandshakeKeepsNoEphemeralKey(t *testing.T) {
	p := newPair(t)
	msg, i := p.initiate(t, 1)
	r, err := Accept(p.bob, msg, p.lookup)
	if err != nil {
		t.Fatal(err)
	}
	response, _, err := r.Respond(p.psk, 2)
	if err != nil {
		t.Fatal(err)
	}
	if i.agreement.ephemeral == [KeySize]byte{} {
		t.Fatal("a pending handshake has no ephemeral key, so this test proves nothing")
	}
	if _, err := i.Finish(response, p.psk); err != nil {
		t.Fatal(err)
	}
	for who, a := range map[string]*agreement{"initiator": &i.agreement, "responder": &r.agreement} {
		if a.ephemeral != [KeySize]byte{} || a.secret != [KeySize]byte{} {
			t.Errorf("the %s still has its ephemeral key", who)
		}
	}
}

func TestMessagesOfTheWrongShapeDoNotOpen(t *testing.T) {
	p := newPair(t)
	initiation, i := p.initiate(t, 1)
	response, _ := p.respond(t, initiation, 2)
	shapes := map[string]func(msg []byte) []byte{
		"empty":         func([]byte) []byte { return nil },
		"a byte short":  func(msg []byte) []byte { return msg[:len(msg)-1] },
		"a byte longer": func(msg []byte) []byte { return append(bytes.Clone(msg), 0) },
		"without MACs":  func(msg []byte) []byte { return msg[:len(msg)-2*macSize] },
		"reserved byte": func(msg []byte) []byte { msg = bytes.Clone(msg); msg[3] = 1; return msg },
		"another type":  func(msg []byte) []byte { msg = bytes.Clone(msg); msg[0] = 4; return msg },
	}
	for name, shape := range shapes {
		if _, err := Accept(p.bob, shape(initiation), p.lookup); err != ErrOpen {
			t.Errorf("initiation, %s: %v", name, err)
		}
		if _, err := i.Finish(shape(response), p.psk); err != ErrOpen {
			t.Errorf("response, %s: %v", name, err)
		}
	}
	if _, err := i.Finish(response, p.psk); err != nil {
		t.Error(err)
	}
}

func TestAnIdentityNeedsAKey(t *testing.T) {
	if id, err := NewIdentity(PrivateKey{}); id != nil || err == nil {
		t.Fatal("the zero key was taken")
	}
}

func TestAnIdentityOfAnUnclampedKeyIsTheClampedOnes(t *testing.T) {
	k := NewPresharedKey()
	k[0], k[31] = 255, 255
	id := identityOf(t, PrivateKey(k))
	if id.private != PrivateKey(k).clamped() || id.PublicKey() != PrivateKey(k).Public() {
		t.Fatal("an unclamped key gave another identity")
	}
}

func TestTimestampsOnlyGrowAndAreCoarse(t *testing.T) {
	ts := TAI64NFrom(time.Unix(0, 0))
	if want := [12]byte{0x40, 7: 0x0a}; ts != want {
		t.Errorf("the epoch is %x, want %x", ts, want)
	}
	ts = TAI64NFrom(time.Unix(1_700_000_000, 999_999_999))
	if want := unhex(t, "400000006553f10a3b000000"); !bytes.Equal(ts[:], want) {
		t.Errorf("%x, want %x", ts, want)
	}
	if ts.After(ts) || !ts.After(TAI64N{}) || (TAI64N{}).After(ts) {
		t.Error("After is not strict")
	}
	if !TAI64NFrom(time.Unix(-1, 0)).After(TAI64NFrom(time.Unix(-2, 0))) || TAI64NFrom(time.Unix(-1, 0)).After(TAI64NFrom(time.Unix(0, 0))) {
		t.Error("before the epoch the order is wrong")
	}
	for range 200 {
		next := ts.Next()
		if !next.After(ts) {
			t.Fatalf("%x is not after %x", next, ts)
		}
		if next[9]|next[10]|next[11] != 0 {
			t.Fatalf("%x has fine nanoseconds", next)
		}
		if ns := uint32(next[8]) << 24; ns >= 1e9 {
			t.Fatalf("%x has %d ns", next, ns)
		}
		ts = next
	}
	// 200 steps of 16.8 ms, of which 60 make a second.
	if want := TAI64NFrom(time.Unix(1_700_000_003, 0)); want.After(ts) {
		t.Errorf("200 steps led only to %x", ts)
	}
}
