package crypto

import (
	"bytes"
	"testing"
	"time"
)

// Every parser of the package gets what a network may bring: bytes as they are, and
// true messages with bits flipped (blend), which come further in.

// blend flips in msg the bits that are set in flips, and cuts or lengthens it to
// that size. changed reports whether one of msg[from:to] is different now.
func blend(msg, flips []byte, from, to int) (blended []byte, changed bool) {
	blended = make([]byte, len(flips))
	copy(blended, msg)
	for i := range flips {
		blended[i] ^= flips[i]
	}
	return blended, len(blended) != len(msg) || !bytes.Equal(blended[from:to], msg[from:to])
}

func FuzzType(f *testing.F) {
	for _, n := range []int{0, 3, 4, 31, 32, 64, 92, 148, 1500} {
		for typ := range byte(6) {
			msg := make([]byte, n)
			if n > 0 {
				msg[0] = typ
			}
			f.Add(msg)
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		typ, ok := Type(msg)
		if !ok {
			return
		}
		// Whatever has passed Type can be asked for its fields.
		switch typ {
		case TypeInitiation:
			Sender(msg)
		case TypeResponse:
			Sender(msg)
			Receiver(msg)
		case TypeCookieReply:
			Receiver(msg)
		case TypeTransport:
			Receiver(msg)
			MessageCounter(msg)
		default:
			t.Fatalf("type %d", typ)
		}
	})
}

func FuzzAccept(f *testing.F) {
	p := newPair(f)
	msg, _ := p.initiate(f, 1)
	f.Add(make([]byte, InitiationSize), true)
	f.Add(make([]byte, InitiationSize), false)
	f.Add(msg, false)
	f.Add(msg[:80], true)
	f.Add(append([]byte{byte(TypeInitiation ^ TypeTransport)}, make([]byte, InitiationSize-1)...), true)
	for _, at := range []int{0, 3, 4, 8, 39, 40, 87, 88, 115, 116, 147} {
		flips := make([]byte, InitiationSize)
		flips[at] = 1
		f.Add(flips, true)
	}
	for _, k := range lowOrderPoints(f) {
		forged := bytes.Clone(msg)
		copy(forged[initiationNoise:], k[:])
		f.Add(forged, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, flip bool) {
		changed := !bytes.HasPrefix(data, msg[:initiationMAC1])
		if flip {
			data, changed = blend(msg, data, initiationNoise, initiationMAC1)
			if typ, ok := Type(data); !ok || typ != TypeInitiation {
				changed = true
			}
		}
		before := bytes.Clone(data)
		r, err := Accept(p.bob, data, p.lookup)
		if !bytes.Equal(data, before) {
			t.Fatal("the message was changed")
		}
		if err != nil {
			if err != ErrOpen || r != nil {
				t.Fatalf("%v, %v", r, err)
			}
			if !changed && len(data) == InitiationSize {
				t.Fatal("a true initiation was refused")
			}
			return
		}
		if changed {
			t.Fatal("a forged initiation was accepted")
		}
		if r.Timestamp() != someTime || r.Remote() != p.bobToAlice || r.RemoteIndex() != Sender(data) {
			t.Fatal("accepted as something else")
		}
	})
}

func FuzzFinish(f *testing.F) {
	p := newPair(f)
	f.Add(make([]byte, ResponseSize), true)
	f.Add(make([]byte, ResponseSize), false)
	f.Add(make([]byte, 12), true)
	for _, at := range []int{0, 1, 4, 8, 12, 43, 44, 59, 60, 91} {
		flips := make([]byte, ResponseSize)
		flips[at] = 0x80
		f.Add(flips, true)
	}
	pending, response := p.pending(f)
	for _, k := range lowOrderPoints(f) {
		flips := bytes.Clone(response[:ResponseSize])
		clear(flips)
		for i := range k {
			flips[responseNoise+i] = response[responseNoise+i] ^ k[i]
		}
		f.Add(flips, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, flip bool) {
		changed := true
		if flip {
			data, changed = blend(response, data, responseReceiver, responseMAC1)
			if typ, ok := Type(data); !ok || typ != TypeResponse {
				changed = true
			}
		}
		_, err := pending.Finish(data, p.psk)
		if (err == nil) == changed || err != nil && err != ErrOpen {
			t.Fatalf("forged: %v; %v", changed, err)
		}
		if err != nil {
			// It must be as good as before.
			if _, err := pending.Finish(response, p.psk); err != nil {
				t.Fatal("a forged response spoiled the handshake")
			}
		}
		pending, response = p.pending(t)
	})
}

func FuzzConsume(f *testing.F) {
	p := newPair(f)
	checker := NewCookieChecker(p.bob)
	msg, _ := p.initiate(f, 1)
	f.Add(make([]byte, CookieReplySize), true)
	f.Add(make([]byte, CookieReplySize), false)
	for _, at := range []int{0, 2, 4, 8, 31, 32, 48, 63} {
		flips := make([]byte, CookieReplySize)
		flips[at] = 2
		f.Add(flips, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, flip bool) {
		jar := NewCookieJar(p.aliceToBob)
		mine := bytes.Clone(msg)
		jar.Stamp(mine, 0)
		reply := checker.Reply(mine, aliceAt, 0)
		changed := true
		if flip {
			data, changed = blend(reply, data, cookieNonce, CookieReplySize)
			if typ, ok := Type(data); !ok || typ != TypeCookieReply {
				changed = true
			}
		}
		if jar.Consume(data, 0) == changed {
			t.Fatalf("forged: %v", changed)
		}
		if changed && !jar.Consume(reply, 0) {
			t.Fatal("a forged reply spoiled the jar")
		}
		jar.Stamp(mine, 0)
		if !checker.CheckMAC2(mine, aliceAt, 0) {
			t.Fatal("the cookie does not work")
		}
	})
}

func FuzzCheckMACs(f *testing.F) {
	p := newPair(f)
	jar, checker := NewCookieJar(p.aliceToBob), NewCookieChecker(p.bob)
	msg, _ := p.initiate(f, 1)
	jar.Stamp(msg, 0)
	if !jar.Consume(checker.Reply(msg, aliceAt, 0), 0) {
		f.Fatal("no cookie")
	}
	jar.Stamp(msg, 0)
	f.Add(make([]byte, InitiationSize), uint32(0))
	f.Add(make([]byte, ResponseSize), uint32(1))
	f.Add([]byte{}, uint32(200))
	for _, at := range []int{0, 4, 115, 116, 131, 132, 147} {
		flips := make([]byte, InitiationSize)
		flips[at] = 4
		f.Add(flips, uint32(at))
	}
	f.Fuzz(func(t *testing.T, flips []byte, seconds uint32) {
		data, changed := blend(msg, flips, 0, InitiationSize)
		now := time.Duration(seconds) * time.Second
		_, changedBeforeMAC2 := blend(msg, flips, 0, initiationMAC1+macSize)
		if checker.CheckMAC1(data) == changedBeforeMAC2 {
			t.Fatalf("MAC1, forged: %v", changedBeforeMAC2)
		}
		if good := !changed && seconds < 120; checker.CheckMAC2(data, aliceAt, now) != good {
			t.Fatalf("MAC2 at %v, forged: %v", now, changed)
		}
		_, shaped := Type(data)
		if reply := NewCookieChecker(p.bob).Reply(data, aliceAt, now); reply != nil && (!shaped || len(reply) >= len(data)) {
			t.Fatalf("%d bytes were answered with %d", len(data), len(reply))
		}
	})
}

func FuzzOpen(f *testing.F) {
	key := [KeySize]byte(NewPresharedKey())
	k := newKeypair(1, 1, true, key, key)
	f.Add([]byte{}, []byte{}, uint64(0))
	f.Add([]byte("a packet"), make([]byte, 40), uint64(1))
	f.Add(make([]byte, 1420), make([]byte, 1452), uint64(1)<<60)
	f.Add([]byte("a packet"), make([]byte, 40), ^uint64(0))
	f.Add([]byte("a packet"), append(make([]byte, 39), 1), uint64(7))
	f.Fuzz(func(t *testing.T, packet, flips []byte, counter uint64) {
		good := paperTransport(key[:], 1, counter, packet)
		if counter < uint64(RejectAfterMessages) {
			cut := min(len(packet), 64)
			train := []Plaintext{{First: packet[:cut], Rest: packet[cut:]}}
			if ours := k.Seal(make([]byte, 0, len(good)), Counter(counter), train); !bytes.Equal(ours, good) {
				t.Fatalf("sealed as %x, want %x", ours, good)
			}
		}
		forged, changed := blend(good, flips, transportCounter, len(good))
		junk := bytes.Clone(flips)
		msgs := [][]byte{forged, junk, good}
		plain := make([][]byte, len(msgs))
		k.Open(msgs, plain)
		opens := counter < uint64(RejectAfterMessages)
		if (plain[0] != nil) != (opens && !changed) {
			t.Fatalf("forged: %v, opened: %v", changed, plain[0] != nil)
		}
		if plain[0] == nil && len(forged) > TransportHeaderSize && len(bytes.Trim(forged[TransportHeaderSize:], "\x00")) != 0 {
			t.Fatal("a forged message left bytes behind")
		}
		if plain[1] != nil {
			t.Fatal("junk opened")
		}
		if (plain[2] != nil) != opens || opens && !bytes.Equal(plain[2], packet) {
			t.Fatalf("opened as %x, want %x", plain[2], packet)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	k := NewPrivateKey()
	for _, s := range []string{"", k.Base64(), k.Hex(), k.Base64()[:43], k.Hex() + "0", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=", "AAAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAAAAA="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParsePublicKey(s); err == nil && k.Base64() != s {
			t.Fatalf("%q and %q are the same key", s, k)
		}
		if k, err := ParsePublicKeyHex(s); err == nil && !bytes.EqualFold([]byte(k.Hex()), []byte(s)) {
			t.Fatalf("%q and %q are the same key", s, k.Hex())
		}
		for _, parse := range []func(string) (PrivateKey, error){ParsePrivateKey, ParsePrivateKeyHex} {
			if k, err := parse(s); err == nil && !k.IsZero() && !k.Equal(k.clamped()) {
				t.Fatal("a private key is not clamped")
			}
		}
	})
}
