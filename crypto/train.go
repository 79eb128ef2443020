package crypto

import (
	"encoding/binary"

	"stunnel/crypto/chachapoly"
)

// How many packets the AEAD is given at once; memory for fewer is less to clear.
const batchLength, fewPackets = 32, 2

// A Plaintext is one packet to be sealed: First, then Rest, then Pad zero bytes.
// First holds the packet's first 64 bytes (128 where headers are longer), or all of
// it: package chachapoly, which seals many packets at once, is quickest then.
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
	if len(train) <= fewPackets {
		var few [fewPackets]chachapoly.Packet
		return k.seal(keys, few[:], dst, first, train)
	}
	var batch [batchLength]chachapoly.Packet
	return k.seal(keys, batch[:], dst, first, train)
}

func (k *Keypair) seal(keys *transportKeys, batch []chachapoly.Packet, dst []byte, first Counter, train []Plaintext) []byte {
	for len(train) > 0 {
		packets := batch[:min(len(train), len(batch))]
		for i := range packets {
			p := &train[i]
			msg := dst[len(dst) : len(dst)+p.size()]
			putHeader(msg, TypeTransport)
			putIndex(msg[transportReceiver:], k.remote)
			binary.LittleEndian.PutUint64(msg[transportCounter:], uint64(first))
			// Field by field: a whole Packet would be made aside and then copied.
			to := &packets[i]
			to.Counter, to.First, to.Rest, to.Pad, to.Sealed = uint64(first), p.First, p.Rest, p.Pad, msg[transportSealed:]
			first++
			dst = dst[:len(dst)+len(msg)]
		}
		keys.send.Seal(packets)
		train = train[len(packets):]
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
	if len(msgs) <= fewPackets {
		var few [fewPackets]chachapoly.Packet
		keys.open(few[:], msgs, plain)
		return
	}
	var batch [batchLength]chachapoly.Packet
	keys.open(batch[:], msgs, plain)
}

// open is Open, with nothing to open by after Zero.
func (k *transportKeys) open(batch []chachapoly.Packet, msgs [][]byte, plain [][]byte) {
	var verdicts [batchLength]bool
	var whose [batchLength]int // a packet's message
	n := 0
	for i, msg := range msgs {
		plain[i] = nil
		switch {
		case k != nil && len(msg) >= TransportOverhead && MessageCounter(msg) < RejectAfterMessages:
			sealed := msg[transportSealed:]
			p := &batch[n] // whose other fields are always zero
			p.Counter, p.Rest, p.Sealed = uint64(MessageCounter(msg)), sealed[:len(sealed)-tagSize], sealed
			whose[n] = i
			n++
		case len(msg) > transportSealed:
			clear(msg[transportSealed:])
		}
		if n == 0 || n < len(batch) && i < len(msgs)-1 {
			continue
		}
		k.receive.Open(batch[:n], verdicts[:])
		for j := range batch[:n] {
			p := &batch[j]
			if verdicts[j] {
				plain[whose[j]] = p.Rest
			} else {
				clear(p.Sealed)
			}
		}
		n = 0
	}
}
