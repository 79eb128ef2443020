package crypto

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// errUnknown stops Noise at a static key that nobody knows. Callers see ErrOpen.
var errUnknown = errors.New("unknown static key")

var errResponded = errors.New("the initiation has been answered")

// A Responder is a handshake that a remote began and that we have not answered yet.
// It is not safe for concurrent use.
type Responder struct {
	opaque
	remote      *Remote
	remoteIndex Index
	timestamp   TAI64N
	handshake   *noise.HandshakeState // nil when answered
	agreement   agreement
}

// Accept reads an initiation. lookup is called with the static key found in it,
// before that is proven, and returns the Remote made for it, or nil if it is
// unknown: that costs one scalar multiplication, and a known one costs no more. All
// failures give [ErrOpen]. MACs are not looked at.
//
// An accepted initiation may still be a replay: the caller compares Timestamp with
// the greatest it has seen from this Remote.
func Accept(id *Identity, msg []byte, lookup func(PublicKey) *Remote) (*Responder, error) {
	if t, ok := Type(msg); !ok || t != TypeInitiation {
		return nil, ErrOpen
	}
	return accept(id, msg, lookup, rand.Reader)
}

func accept(id *Identity, msg []byte, lookup func(PublicKey) *Remote, random io.Reader) (*Responder, error) {
	r := &Responder{remoteIndex: Sender(msg)}
	handshake, err := newHandshake(&r.agreement, id, nil, PresharedKey{}, prologue, random)
	if err != nil {
		return nil, fmt.Errorf("begin a handshake: %w", err)
	}
	r.agreement.expect(computed, func(_, static []byte) ([]byte, error) { // es, ss
		r.remote = lookup(PublicKey(static))
		if r.remote == nil {
			return nil, errUnknown
		}
		return r.remote.staticStatic[:], nil
	})
	timestamp, _, _, err := handshake.ReadMessage(nil, msg[initiationNoise:initiationMAC1])
	if err != nil || len(timestamp) != timestampSize {
		return nil, ErrOpen
	}
	r.timestamp = TAI64N(timestamp)
	r.handshake = handshake
	return r, nil
}

// Remote returns what lookup returned: the initiation is proven to be of this key.
func (r *Responder) Remote() *Remote { return r.remote }

// Timestamp returns the timestamp of the initiation.
func (r *Responder) Timestamp() TAI64N { return r.timestamp }

// RemoteIndex returns the index by which the remote wants to be addressed.
func (r *Responder) RemoteIndex() Index { return r.remoteIndex }

// Respond makes the response, once: 92 bytes, whose last 32 are for
// [CookieJar.Stamp] to fill. local is our index for the session. The keypair must
// not send before it has opened a message: only that confirms it.
func (r *Responder) Respond(psk PresharedKey, local Index) ([]byte, *Keypair, error) {
	if r.handshake == nil {
		return nil, nil, errResponded
	}
	handshake := r.handshake
	r.handshake = nil
	if err := handshake.SetPresharedKey(psk[:]); err != nil {
		return nil, nil, fmt.Errorf("write a response: %w", err)
	}
	msg := make([]byte, responseNoise, ResponseSize)
	putHeader(msg, TypeResponse)
	putIndex(msg[senderAt:], local)
	putIndex(msg[responseReceiver:], r.remoteIndex)
	r.agreement.expect(computed, computed) // ee, se
	msg, receive, send, err := handshake.WriteMessage(msg, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("write a response: %w", err)
	}
	r.agreement.wipe()
	return msg[:ResponseSize], newKeypair(local, r.remoteIndex, false, send.UnsafeKey(), receive.UnsafeKey()), nil
}
