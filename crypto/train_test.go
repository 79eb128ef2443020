package crypto

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// packetsOf makes a train of packets of the given sizes, as Plaintexts too.
func packetsOf(lots *rand.ChaCha8, sizes ...int) (packets [][]byte, train []Plaintext, room int) {
	for _, n := range sizes {
		p := make([]byte, n)
		lots.Read(p)
		cut := min(n, 64)
		pad := -n & 15
		train = append(train, Plaintext{First: p[:cut], Rest: p[cut:], Pad: pad})
		packets = append(packets, append(p[:n:n], make([]byte, pad)...))
		room += n + pad + TransportOverhead
	}
	return packets, train, room
}

// cut splits a wire of messages back to back.
func cut(wire []byte, packets [][]byte) (msgs [][]byte) {
	for _, p := range packets {
		n := len(p) + TransportOverhead
		msgs = append(msgs, wire[:n])
		wire = wire[n:]
	}
	return msgs
}

func seal(t testing.TB, k *Keypair, train []Plaintext, room int) []byte {
	t.Helper()
	first, ok := k.Reserve(len(train))
	if !ok {
		t.Fatal("no counters")
	}
	return k.Seal(make([]byte, 0, room), first, train)
}

func TestATrainIsWholeMessagesBackToBack(t *testing.T) {
	alice, bob := newPair(t).keypairs(t)
	packets, train, room := packetsOf(rand.NewChaCha8([32]byte{1}), 1420, 0, 1, 63, 64, 65, 15, 16, 17, 1500, 65000)
	if first, _ := alice.Reserve(7); first != 0 { // so that counters don't start at zero
		t.Fatal(first)
	}
	before := []byte("what was there")
	wire := alice.Seal(append(make([]byte, 0, room+len(before)), before...), 7, train)
	if !bytes.HasPrefix(wire, before) {
		t.Fatal("Seal did not append")
	}
	wire = wire[len(before):]
	if len(wire) != room {
		t.Fatalf("%d bytes on the wire, want %d", len(wire), room)
	}
	msgs := cut(wire, packets)
	for i, msg := range msgs {
		if typ, ok := Type(msg); typ != TypeTransport || !ok || Receiver(msg) != bob.LocalIndex() || MessageCounter(msg) != Counter(7+i) {
			t.Errorf("message %d: type %v, receiver %#x, counter %d", i, typ, Receiver(msg), MessageCounter(msg))
		}
	}
	plain := make([][]byte, len(msgs))
	bob.Open(msgs, plain)
	for i := range msgs {
		if plain[i] == nil || !bytes.Equal(plain[i], packets[i]) {
			t.Errorf("packet %d of %d bytes came as %d bytes", i, len(packets[i]), len(plain[i]))
		}
		if len(plain[i]) > 0 && &plain[i][0] != &msgs[i][TransportHeaderSize] {
			t.Errorf("packet %d was not opened in place", i)
		}
		if Receiver(msgs[i]) != bob.LocalIndex() {
			t.Errorf("the header of message %d came back changed", i)
		}
	}
}

func TestAKeepaliveIs32BytesAndOpensAsAnEmptyPacket(t *testing.T) {
	alice, bob := newPair(t).keypairs(t)
	msg := sealOne(t, alice, nil)
	if len(msg) != KeepaliveSize {
		t.Errorf("%d bytes", len(msg))
	}
	if plain := openOne(bob, msg); plain == nil || len(plain) != 0 {
		t.Errorf("opened as %v", plain)
	}
}

func TestSealLeavesThePlaintextsAlone(t *testing.T) {
	alice, _ := newPair(t).keypairs(t)
	packets, train, room := packetsOf(rand.NewChaCha8([32]byte{2}), 1420, 100, 40)
	seal(t, alice, train, room)
	for i, p := range train {
		if whole := append(append(bytes.Clone(p.First), p.Rest...), make([]byte, p.Pad)...); !bytes.Equal(whole, packets[i]) {
			t.Errorf("plaintext %d was changed", i)
		}
	}
}

func TestOpenGivesOneVerdictPerMessageOfATrain(t *testing.T) {
	const n = 64
	alice, bob := newPair(t).keypairs(t)
	lots := rand.NewChaCha8([32]byte{3})
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = int(lots.Uint64() % 200)
	}
	packets, train, room := packetsOf(lots, sizes...)
	sealed := seal(t, alice, train, room)

	// Which messages are forged: every pattern of eight, repeated; each alone; each
	// but one; and many by lot.
	var masks []uint64
	for m := range uint64(256) {
		masks = append(masks, m*0x0101010101010101)
	}
	for i := range n {
		masks = append(masks, 1<<i, ^uint64(1<<i))
	}
	for range 300 {
		masks = append(masks, lots.Uint64())
	}
	forgeries := []func(msg []byte){
		func(msg []byte) { msg[len(msg)-1] ^= 0x80 },                                        // tag
		func(msg []byte) { msg[TransportHeaderSize] ^= 1 },                                  // ciphertext, or tag
		func(msg []byte) { msg[transportCounter] ^= 0x40 },                                  // counter
		func(msg []byte) { copy(msg[transportCounter:], bytes.Repeat([]byte{255}, 8)) },     // counter out of range
		func(msg []byte) { copy(msg[TransportHeaderSize:], bytes.Repeat([]byte{7}, 3000)) }, // all of it
	}
	plain := make([][]byte, n)
	for _, mask := range masks {
		wire := bytes.Clone(sealed)
		msgs := cut(wire, packets)
		for i := range msgs {
			if mask>>i&1 == 1 {
				forgeries[lots.Uint64()%uint64(len(forgeries))](msgs[i])
			}
		}
		bob.Open(msgs, plain)
		for i := range msgs {
			forged := mask>>i&1 == 1
			if forged && plain[i] != nil {
				t.Fatalf("mask %#x: forged message %d opened", mask, i)
			}
			if forged && len(bytes.Trim(msgs[i][TransportHeaderSize:], "\x00")) != 0 {
				t.Fatalf("mask %#x: forged message %d left bytes behind", mask, i)
			}
			if !forged && (plain[i] == nil || !bytes.Equal(plain[i], packets[i])) {
				t.Fatalf("mask %#x: good message %d came as %x", mask, i, plain[i])
			}
		}
	}
}

func TestOpenRefusesMessagesTooShortToBeAny(t *testing.T) {
	_, bob := newPair(t).keypairs(t)
	for n := range TransportOverhead {
		msg := bytes.Repeat([]byte{0xee}, n)
		if openOne(bob, msg) != nil {
			t.Fatalf("%d bytes opened", n)
		}
		if n > TransportHeaderSize && len(bytes.Trim(msg[TransportHeaderSize:], "\x00")) != 0 {
			t.Fatalf("%d bytes: not zeroed behind the header", n)
		}
	}
	bob.Open([][]byte{nil}, [][]byte{{1}})
}

func TestCountersFromRejectAfterMessagesOnAreNeitherSealedNorOpened(t *testing.T) {
	key := [KeySize]byte(NewPresharedKey())
	k := newKeypair(1, 1, true, key, key)
	for _, c := range []struct {
		counter uint64
		opens   bool
	}{
		{0, true},
		{uint64(RekeyAfterMessages), true},
		{uint64(RejectAfterMessages) - 1, true},
		{uint64(RejectAfterMessages), false},
		{1<<64 - 1, false},
	} {
		msg := paperTransport(key[:], 1, c.counter, []byte("sixteen bytes ok"))
		if got := openOne(k, msg) != nil; got != c.opens {
			t.Errorf("counter %#x opened: %v", c.counter, got)
		}
	}
	last := []Plaintext{{First: []byte("last")}}
	if len(k.Seal(make([]byte, 0, 64), RejectAfterMessages-1, last)) == 0 {
		t.Error("the last counter was not sealed")
	}
	expectPanic(t, "beyond the last counter", func() { k.Seal(make([]byte, 0, 64), RejectAfterMessages, last) })
	expectPanic(t, "a train over the last counter", func() { k.Seal(make([]byte, 0, 128), RejectAfterMessages-1, append(last, last...)) })
	expectPanic(t, "the greatest counter", func() { k.Seal(make([]byte, 0, 128), 1<<64-1, append(last, last...)) })
}

func TestSealPanicsWithoutRoomBeforeItWritesAnything(t *testing.T) {
	alice, _ := newPair(t).keypairs(t)
	_, train, room := packetsOf(rand.NewChaCha8([32]byte{4}), 100, 100)
	dst := make([]byte, 0, room-1)
	expectPanic(t, "no room", func() { alice.Seal(dst, 0, train) })
	if len(bytes.Trim(dst[:cap(dst)], "\x00")) != 0 {
		t.Error("something was written")
	}
	expectPanic(t, "negative padding", func() { alice.Seal(make([]byte, 0, 500), 0, []Plaintext{{First: make([]byte, 64), Pad: -1}}) })
	expectPanic(t, "fewer verdicts than messages", func() { alice.Open(make([][]byte, 2), make([][]byte, 1)) })
}

func expectPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}

func TestReserveGivesEachCounterOnce(t *testing.T) {
	alice, _ := newPair(t).keypairs(t)
	const lanes, trains = 8, 500
	taken := make([][]Counter, lanes)
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for n := range trains {
				size := n%46 + 1
				first, ok := alice.Reserve(size)
				if !ok {
					t.Error("refused")
				}
				for i := range size {
					taken[lane] = append(taken[lane], first+Counter(i))
				}
			}
		})
	}
	wg.Wait()
	seen := map[Counter]bool{}
	for _, counters := range taken {
		for _, c := range counters {
			if seen[c] {
				t.Fatalf("counter %d was given twice", c)
			}
			seen[c] = true
		}
	}
	if alice.Sent() != Counter(len(seen)) {
		t.Errorf("Sent is %d after %d counters", alice.Sent(), len(seen))
	}
}

func TestReserveEndsAtRejectAfterMessagesForEver(t *testing.T) {
	alice, _ := newPair(t).keypairs(t)
	alice.next.Store(uint64(RejectAfterMessages) - 10)
	if first, ok := alice.Reserve(9); !ok || first != RejectAfterMessages-10 {
		t.Fatalf("%#x, %v", first, ok)
	}
	if _, ok := alice.Reserve(2); ok {
		t.Fatal("two counters where one is left")
	}
	for n := range 1 << 15 { // an unchecked counter would wrap after 2^13
		if first, ok := alice.Reserve(1); ok {
			t.Fatalf("call %d after the end gave %#x", n, first)
		}
	}
	if alice.Sent() != RejectAfterMessages {
		t.Errorf("Sent is %#x", alice.Sent())
	}
	if _, ok := alice.Reserve(0); ok {
		t.Error("an empty train at the end was let through")
	}
	expectPanic(t, "negative", func() { alice.Reserve(-1) })
}

func TestAZeroedKeypairDoesNothingAnyMore(t *testing.T) {
	alice, bob := newPair(t).keypairs(t)
	msg := sealOne(t, bob, []byte("too late"))
	alice.Zero()
	if _, ok := alice.Reserve(1); ok {
		t.Error("reserves")
	}
	dst := make([]byte, 0, 100)
	if got := alice.Seal(dst, 0, []Plaintext{{First: []byte("secret")}}); len(got) != 0 || len(bytes.Trim(dst[:100], "\x00")) != 0 {
		t.Error("seals")
	}
	if openOne(alice, msg) != nil {
		t.Error("opens")
	}
	if alice.keys.Load() != nil {
		t.Error("keeps its keys")
	}
	alice.Zero()
}

func TestLanesShareAKeypairWhileItIsZeroed(t *testing.T) {
	alice, bob := newPair(t).keypairs(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			packet := make([]byte, 1420)
			dst := make([]byte, 0, 2000)
			for {
				first, ok := alice.Reserve(1)
				if !ok {
					return
				}
				if msg := alice.Seal(dst, first, []Plaintext{{First: packet}}); len(msg) > 0 {
					if got := openOne(bob, msg); !bytes.Equal(got, packet) {
						t.Errorf("counter %d did not come through", first)
						return
					}
				}
				if first == 200 {
					alice.Zero()
				}
			}
		})
	}
	wg.Wait()
}

func TestSealAndOpenDoNotAllocate(t *testing.T) {
	aead, err := chacha20poly1305.New(make([]byte, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	b, nonce := make([]byte, tagSize), make([]byte, chacha20poly1305.NonceSize)
	if testing.AllocsPerRun(10, func() { aead.Seal(b[:0], nonce, nil, nil) }) > 0 {
		t.Skip("x/crypto allocates where it has no assembly: run the test on amd64 without the tag purego")
	}
	alice, bob := newPair(t).keypairs(t)
	for _, n := range []int{1, 46} {
		sizes := make([]int, n)
		for i := range sizes {
			sizes[i] = 1420
		}
		packets, train, room := packetsOf(rand.NewChaCha8([32]byte{5}), sizes...)
		dst := make([]byte, 0, room)
		if got := testing.AllocsPerRun(50, func() {
			first, _ := alice.Reserve(n)
			alice.Seal(dst, first, train)
		}); got != 0 {
			t.Errorf("Seal of a train of %d: %v allocations", n, got)
		}
		sealed := seal(t, alice, train, room)
		wire := bytes.Clone(sealed)
		msgs, plain := cut(wire, packets), make([][]byte, n)
		if got := testing.AllocsPerRun(50, func() {
			copy(wire, sealed)
			bob.Open(msgs, plain)
			if plain[n-1] == nil {
				t.Fatal("did not open")
			}
		}); got != 0 {
			t.Errorf("Open of a train of %d: %v allocations", n, got)
		}
		if got := testing.AllocsPerRun(50, func() {
			msgs[0][20] ^= 1 // zeroed already: forged
			bob.Open(msgs, plain)
		}); got != 0 {
			t.Errorf("Open of forged messages: %v allocations", got)
		}
	}
}

func benchmarkTrain(b *testing.B, work func(b *testing.B, n int)) {
	for _, n := range []int{1, 46} {
		b.Run(fmt.Sprintf("train=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			work(b, n)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/packet")
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	alice, _ := newPair(b).keypairs(b)
	benchmarkTrain(b, func(b *testing.B, n int) {
		sizes := make([]int, n)
		for i := range sizes {
			sizes[i] = 1420
		}
		_, train, room := packetsOf(rand.NewChaCha8([32]byte{6}), sizes...)
		for i := range train {
			train[i].Pad = 0 // as at an MTU of 1420
		}
		dst := make([]byte, 0, room)
		b.SetBytes(int64(n) * 1420)
		for b.Loop() {
			first, _ := alice.Reserve(n)
			alice.Seal(dst, first, train)
		}
	})
}

// BenchmarkOpen includes the copy that brings the ciphertext back.
func BenchmarkOpen(b *testing.B) {
	alice, bob := newPair(b).keypairs(b)
	benchmarkTrain(b, func(b *testing.B, n int) {
		var packets [][]byte
		var train []Plaintext
		for range n {
			p := make([]byte, 1420)
			packets, train = append(packets, p), append(train, Plaintext{First: p[:64], Rest: p[64:]})
		}
		sealed := seal(b, alice, train, n*(1420+TransportOverhead))
		wire := bytes.Clone(sealed)
		msgs, plain := cut(wire, packets), make([][]byte, n)
		b.SetBytes(int64(n) * 1420)
		for b.Loop() {
			copy(wire, sealed)
			bob.Open(msgs, plain)
		}
		if plain[n-1] == nil {
			b.Fatal("did not open")
		}
	})
}

func BenchmarkResponder(b *testing.B) {
	p := newPair(b)
	msg, _ := p.initiate(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		r, err := Accept(p.bob, msg, p.lookup)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := r.Respond(p.psk, 2); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
}

func BenchmarkAcceptOfAnUnknownStatic(b *testing.B) {
	p := newPair(b)
	msg, _ := p.initiate(b, 1)
	nobody := func(PublicKey) *Remote { return nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Accept(p.bob, msg, nobody); err == nil {
			b.Fatal("accepted")
		}
	}
}
