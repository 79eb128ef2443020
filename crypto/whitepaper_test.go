package crypto

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/curve25519"
)

// This file is the handshake once more, for tests alone: the whitepaper's formulas
// (section 5.4) one by one, over x/crypto's primitives. It shares no code with the
// package and none with flynn/noise, so that the two can judge each other. It checks
// nothing and panics at the least surprise.

func paperHash(parts ...[]byte) []byte {
	h, err := blake2s.New256(nil)
	paperMust(err)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func paperMAC(key, data []byte) []byte {
	h, err := blake2s.New128(key)
	paperMust(err)
	h.Write(data)
	return h.Sum(nil)
}

// paperHMAC is RFC 2104 over BLAKE2s, whose block has 64 bytes.
func paperHMAC(key []byte, data ...[]byte) []byte {
	inner, outer := make([]byte, 64), make([]byte, 64)
	copy(inner, key)
	copy(outer, key)
	for i := range 64 {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	return paperHash(outer, paperHash(append([][]byte{inner}, data...)...))
}

// paperKDF returns n outputs of 32 bytes.
func paperKDF(n int, key, input []byte) (out [][]byte) {
	secret := paperHMAC(key, input)
	var last []byte
	for i := range n {
		last = paperHMAC(secret, last, []byte{byte(i + 1)})
		out = append(out, last)
	}
	return out
}

func paperSeal(key []byte, counter uint64, plain, ad []byte) []byte {
	a, err := chacha20poly1305.New(key)
	paperMust(err)
	nonce := binary.LittleEndian.AppendUint64(make([]byte, 4), counter)
	return a.Seal(nil, nonce, plain, ad)
}

func paperDH(private, public []byte) []byte {
	s, err := curve25519.X25519(private, public)
	paperMust(err)
	return s
}

func paperPublic(private []byte) []byte { return paperDH(private, curve25519.Basepoint) }

func paperMust(err error) {
	if err != nil {
		panic(err)
	}
}

// A paperConversation is one handshake of two ends whose secrets are all known. MACs
// are in: MAC2 is zero where no cookie is given.
type paperConversation struct {
	initiatorStatic, responderStatic       []byte // private
	initiatorEphemeral, responderEphemeral []byte // private
	psk                                    []byte
	initiatorIndex, responderIndex         uint32
	timestamp                              []byte
	initiatorCookie, responderCookie       []byte // what each holds of the other, or nil

	initiation, response []byte
	toResponder          []byte // transport keys
	toInitiator          []byte
}

func (p *paperConversation) run() {
	si, sr := paperPublic(p.initiatorStatic), paperPublic(p.responderStatic)
	ei, er := paperPublic(p.initiatorEphemeral), paperPublic(p.responderEphemeral)

	// 5.4.2, first message: initiator to responder.
	c := paperHash([]byte("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"))
	h := paperHash(c, []byte("WireGuard v1 zx2c4 Jason@zx2c4.com"))
	h = paperHash(h, sr)
	c = paperKDF(1, c, ei)[0]
	h = paperHash(h, ei)
	k := paperKDF(2, c, paperDH(p.initiatorEphemeral, sr))
	c = k[0]
	static := paperSeal(k[1], 0, si, h)
	h = paperHash(h, static)
	k = paperKDF(2, c, paperDH(p.initiatorStatic, sr))
	c = k[0]
	timestamp := paperSeal(k[1], 0, p.timestamp, h)
	h = paperHash(h, timestamp)

	m := []byte{1, 0, 0, 0}
	m = binary.LittleEndian.AppendUint32(m, p.initiatorIndex)
	m = append(m, ei...)
	m = append(m, static...)
	m = append(m, timestamp...)
	p.initiation = paperMACs(m, sr, p.responderCookie)

	// 5.4.3, second message: responder to initiator.
	c = paperKDF(1, c, er)[0]
	h = paperHash(h, er)
	c = paperKDF(1, c, paperDH(p.responderEphemeral, ei))[0]
	c = paperKDF(1, c, paperDH(p.responderEphemeral, si))[0]
	k = paperKDF(3, c, p.psk)
	c = k[0]
	h = paperHash(h, k[1])
	empty := paperSeal(k[2], 0, nil, h)

	m = []byte{2, 0, 0, 0}
	m = binary.LittleEndian.AppendUint32(m, p.responderIndex)
	m = binary.LittleEndian.AppendUint32(m, p.initiatorIndex)
	m = append(m, er...)
	m = append(m, empty...)
	p.response = paperMACs(m, si, p.initiatorCookie)

	// 5.4.5, transport keys.
	k = paperKDF(2, c, nil)
	p.toResponder, p.toInitiator = k[0], k[1]
}

// paperMACs appends MAC1 and MAC2 (5.4.4). receiver is a public key.
func paperMACs(m, receiver, cookie []byte) []byte {
	m = append(m, paperMAC(paperHash([]byte("mac1----"), receiver), m)...)
	if cookie == nil {
		return append(m, make([]byte, 16)...)
	}
	return append(m, paperMAC(cookie, m)...)
}

// paperCookie is a cookie of 5.4.7: the address as 4 or 16 bytes, then the port.
func paperCookie(secret []byte, remote netip.AddrPort) []byte {
	where := remote.Addr().AsSlice()
	return paperMAC(secret, append(where, byte(remote.Port()>>8), byte(remote.Port())))
}

// paperCookieReply is the message of 5.4.7 that answers m, by the owner of the
// public key responder.
func paperCookieReply(m, responder, nonce, cookie []byte) []byte {
	a, err := chacha20poly1305.NewX(paperHash([]byte("cookie--"), responder))
	paperMust(err)
	reply := append([]byte{3, 0, 0, 0}, m[4:8]...)
	reply = append(reply, nonce...)
	return append(reply, a.Seal(nil, nonce, cookie, m[len(m)-32:len(m)-16])...)
}

// paperTransport is a message of 5.4.6.
func paperTransport(key []byte, receiver uint32, counter uint64, plain []byte) []byte {
	m := binary.LittleEndian.AppendUint32([]byte{4, 0, 0, 0}, receiver)
	m = binary.LittleEndian.AppendUint64(m, counter)
	return append(m, paperSeal(key, counter, plain, nil)...)
}
