package crypto

import (
	"errors"
	"io"

	"github.com/flynn/noise"
	"golang.org/x/crypto/curve25519"
)

// prologue is the whitepaper's Identifier.
const prologue = "WireGuard v1 zx2c4 Jason@zx2c4.com"

// ErrOpen is the error of every message that does not open: forged, damaged, of
// the wrong shape, from an unknown static key, with a point of low order, or out
// of turn.
var ErrOpen = errors.New("message does not open")

// x25519 is every scalar multiplication of this package: a point times a scalar. It
// refuses the all-zero result that points of low order give (RFC 7748, section 6.1).
// Tests replace it to count what a message costs.
var x25519 = curve25519.X25519

// errOutOfTurn means that Noise asked for a shared secret that this message does
// not have. It never leaves the package.
var errOutOfTurn = errors.New("no shared secret is due")

// newHandshake begins Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s. The shared secrets come
// from x, which belongs to this handshake alone. prologue and random are
// parameters for the sake of published vectors.
//
// The preshared key is always given, as 32 bytes: Noise's reading side would
// accept none at all in silence. A responder, who doesn't know it yet, starts with
// zeros and sets it before it answers.
func newHandshake(x *agreement, id *Identity, remote *Remote, psk PresharedKey, prologue string, random io.Reader) (*noise.HandshakeState, error) {
	c := noise.Config{
		CipherSuite:           noise.NewCipherSuite(x, noise.CipherChaChaPoly, noise.HashBLAKE2s),
		Random:                random,
		Pattern:               noise.HandshakeIK,
		Initiator:             remote != nil,
		Prologue:              []byte(prologue),
		PresharedKey:          psk[:],
		PresharedKeyPlacement: 2,
		StaticKeypair:         noise.DHKey{Private: id.private[:], Public: id.public[:]},
	}
	if remote != nil {
		c.PeerStatic = remote.public[:]
	}
	return noise.NewHandshakeState(c)
}

// An agreement is the DHFunc of one handshake. Noise asks it for shared secrets in
// an order that the pattern fixes (es, ss, then ee, se), and steps says how each of
// the next message comes about. So a secret that is known already is not computed
// again, and a responder learns the static key, and can stop, before it pays for
// it.
//
// The ephemeral key and the last secret lie in its own memory, which wipe clears;
// what Noise copies elsewhere is left to the garbage collector.
type agreement struct {
	ephemeral [KeySize]byte // private
	secret    [KeySize]byte // the last one given out
	steps     []step        // of the message that is being written or read
}

// A step gives one shared secret.
type step func(private, public []byte) ([]byte, error)

// computed is the step whose secret must be worked out.
func computed(private, public []byte) ([]byte, error) { return x25519(private, public) }

// given is the step whose secret is known.
func given(secret []byte) step {
	return func(_, _ []byte) ([]byte, error) { return secret, nil }
}

// expect sets the steps of the next message.
func (a *agreement) expect(steps ...step) { a.steps = steps }

// DH gives the next shared secret. It is valid until the next call.
func (a *agreement) DH(private, public []byte) ([]byte, error) {
	if len(a.steps) == 0 {
		return nil, errOutOfTurn
	}
	next := a.steps[0]
	a.steps = a.steps[1:]
	secret, err := next(private, public)
	if err != nil {
		return nil, err
	}
	copy(a.secret[:], secret)
	return a.secret[:], nil
}

// GenerateKeypair makes the handshake's ephemeral key.
func (a *agreement) GenerateKeypair(random io.Reader) (noise.DHKey, error) {
	if _, err := io.ReadFull(random, a.ephemeral[:]); err != nil {
		return noise.DHKey{}, err
	}
	a.ephemeral = PrivateKey(a.ephemeral).clamped()
	public := PrivateKey(a.ephemeral).Public()
	return noise.DHKey{Private: a.ephemeral[:], Public: public[:]}, nil
}

// DHLen is the size of a secret and of a public key.
func (*agreement) DHLen() int { return KeySize }

// DHName is part of the protocol's name, and so of every hash.
func (*agreement) DHName() string { return noise.DH25519.DHName() }

func (a *agreement) wipe() {
	clear(a.ephemeral[:])
	clear(a.secret[:])
	a.steps = nil
}
