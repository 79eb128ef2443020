package crypto

import (
	"crypto/rand"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// An Initiator is a pending handshake of ours: an initiation was made and its
// response has not been accepted. It is not safe for concurrent use.
type Initiator struct {
	opaque
	local     Index
	handshake *noise.HandshakeState // nil when finished
	agreement agreement
}

// Initiate makes an initiation to a remote: 148 bytes, whose last 32 are for
// [CookieJar.Stamp] to fill. local is the index by which the remote shall address
// the session; ts must be later than any sent to this remote before.
func Initiate(id *Identity, r *Remote, psk PresharedKey, local Index, ts TAI64N) ([]byte, *Initiator, error) {
	return initiate(id, r, psk, local, ts, rand.Reader)
}

func initiate(id *Identity, r *Remote, psk PresharedKey, local Index, ts TAI64N, random io.Reader) ([]byte, *Initiator, error) {
	i := &Initiator{local: local}
	handshake, err := newHandshake(&i.agreement, id, r, psk, prologue, random)
	if err != nil {
		return nil, nil, fmt.Errorf("begin a handshake: %w", err)
	}
	msg := make([]byte, initiationNoise, InitiationSize)
	putHeader(msg, TypeInitiation)
	putIndex(msg[senderAt:], local)
	i.agreement.expect(computed, given(r.staticStatic[:])) // es, ss
	msg, _, _, err = handshake.WriteMessage(msg, ts[:])
	if err != nil {
		return nil, nil, fmt.Errorf("write an initiation: %w", err)
	}
	i.handshake = handshake
	return msg[:InitiationSize], i, nil
}

// LocalIndex returns the index given to [Initiate].
func (i *Initiator) LocalIndex() Index { return i.local }

// Finish reads the response and returns the keypair, once. psk is the preshared key
// in force now, which may have changed since the initiation. MACs are not looked
// at.
//
// Whatever the response holds, the Initiator stays as good as it was when Finish
// gives [ErrOpen]: everybody on the path can make a response with a right MAC1.
func (i *Initiator) Finish(msg []byte, psk PresharedKey) (*Keypair, error) {
	if t, ok := Type(msg); !ok || t != TypeResponse || Receiver(msg) != i.local || i.handshake == nil {
		return nil, ErrOpen
	}
	// Noise rolls its state back when a message does not authenticate, but not
	// when a shared secret cannot be had. So that must not happen in there:
	// whoever gives a secret with the ephemeral gives one with the static too,
	// as only a point of low order gives none with either.
	ephemeral := msg[responseNoise:][:KeySize]
	ee, err := x25519(i.agreement.ephemeral[:], ephemeral)
	if err != nil {
		return nil, ErrOpen
	}
	defer clear(ee)
	if err := i.handshake.SetPresharedKey(psk[:]); err != nil {
		return nil, ErrOpen
	}
	i.agreement.expect(given(ee), computed) // ee, se
	_, send, receive, err := i.handshake.ReadMessage(nil, msg[responseNoise:responseMAC1])
	if err != nil {
		return nil, ErrOpen
	}
	i.handshake = nil
	i.agreement.wipe()
	return newKeypair(i.local, Sender(msg), true, send.UnsafeKey(), receive.UnsafeKey()), nil
}
