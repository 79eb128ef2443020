package crypto

import (
	"encoding/binary"
	"unsafe"
)

// A Plaintext is one packet to be sealed: First, then Rest, then Pad zero bytes.
// First holds the packet's first 64 bytes (128 where headers are longer), or all of
// it: an implementation that seals many packets at once wants them there.
type Plaintext struct {
	First, Rest []byte
	Pad         int
}

// size is that of the sealed message.
func (p *Plaintext) size() int {
	return TransportOverhead + len(p.First) + len(p.Rest) + p.Pad
}

// Seal appends one whole transport message (header, ciphertext, tag) per Plaintext
// to dst, back to back, under the counters first, first+1 and so on, which the
// caller has from [Keypair.Reserve], for this train alone. It does not allocate.
//
// dst must have the room and must not overlap the plaintexts. Seal panics when there
// is no room, and when the counters reach [RejectAfterMessages]. After
// [Keypair.Zero] it returns dst as it was.
func (k *Keypair) Seal(dst []byte, first Counter, train []Plaintext) []byte {
	room := 0
	for i := range train {
		if train[i].Pad < 0 {
			panic("crypto: Seal with negative padding")
		}
		room += train[i].size()
	}
	if room > cap(dst)-len(dst) {
		panic("crypto: Seal without room for the train")
	}
	if first > RejectAfterMessages || Counter(len(train)) > RejectAfterMessages-first {
		panic("crypto: Seal beyond the last counter")
	}
	keys := k.keys.Load()
	if keys == nil {
		return dst
	}
	for i := range train {
		p := &train[i]
		msg := dst[len(dst) : len(dst)+p.size()]
		end := len(msg) - tagSize
		n := transportSealed
		n += copy(msg[n:end], p.First)
		n += copy(msg[n:end], p.Rest)
		clear(msg[n:end])

		// The nonce is four zero bytes and the counter. In the header the counter
		// follows the receiver's index, so the header lends its memory to the
		// nonce (one of our own would be allocated) and gets the index last.
		putHeader(msg, TypeTransport)
		putIndex(msg[transportReceiver:], 0)
		binary.LittleEndian.PutUint64(msg[transportCounter:], uint64(first)+uint64(i))
		sealed := keys.send.Seal(msg[:transportSealed], msg[transportReceiver:transportSealed], msg[transportSealed:end], nil)
		assertInPlace(sealed, msg)
		putIndex(msg[transportReceiver:], k.remote)

		dst = dst[:len(dst)+len(msg)]
	}
	return dst
}

// Open opens transport messages in place, one verdict for each. plain[i] becomes the
// plaintext, which is a part of msgs[i] and not nil even if empty; or nil when the
// message did not open or its counter is [RejectAfterMessages] or beyond, and then
// all bytes of msgs[i] behind the header are zeroed. It does not allocate.
//
// Types, indices and replays are the caller's business. len(plain) must be at least
// len(msgs), the messages must not overlap, and nobody else may read them meanwhile.
func (k *Keypair) Open(msgs [][]byte, plain [][]byte) {
	plain = plain[:len(msgs)]
	keys := k.keys.Load()
	for i, msg := range msgs {
		plain[i] = nil
		if keys != nil && keys.open(msg) {
			plain[i] = msg[transportSealed : len(msg)-tagSize]
		} else if len(msg) > transportSealed {
			clear(msg[transportSealed:])
		}
	}
}

// open opens one message in place.
func (k *transportKeys) open(msg []byte) bool {
	if len(msg) < TransportOverhead || MessageCounter(msg) >= RejectAfterMessages {
		return false
	}
	// As in Seal, the header lends its memory to the nonce.
	index := Receiver(msg)
	putIndex(msg[transportReceiver:], 0)
	opened, err := k.receive.Open(msg[:transportSealed], msg[transportReceiver:transportSealed], msg[transportSealed:], nil)
	putIndex(msg[transportReceiver:], index)
	if err != nil {
		return false
	}
	assertInPlace(opened, msg)
	return true
}

// assertInPlace guards against an AEAD that found the capacity too small and
// allocated in silence: its result would be lost.
func assertInPlace(result, msg []byte) {
	if unsafe.SliceData(result) != unsafe.SliceData(msg) {
		panic("crypto: the AEAD moved its result elsewhere")
	}
}
