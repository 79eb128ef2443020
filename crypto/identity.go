package crypto

import (
	"crypto/cipher"
	"errors"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

// ErrLowOrder says that a public key is one of the few points whose shared secret
// with anybody is zero.
var ErrLowOrder = errors.New("public key is a point of low order")

var errNoPrivateKey = errors.New("private key is zero")

const (
	labelMAC1   = "mac1----"
	labelCookie = "cookie--"
)

// An Identity is the local static key with what is computed from it once. It is
// immutable and safe for concurrent use.
type Identity struct {
	opaque
	private PrivateKey
	public  PublicKey
	door    door
}

// NewIdentity returns the identity of a private key. It refuses the zero key.
func NewIdentity(k PrivateKey) (*Identity, error) {
	if k.IsZero() {
		return nil, errNoPrivateKey
	}
	k = k.clamped()
	id := &Identity{private: k, public: k.Public()}
	id.door = newDoor(id.public)
	return id, nil
}

// PublicKey returns the identity's public key.
func (id *Identity) PublicKey() PublicKey { return id.public }

// A Remote is a peer's static public key, seen from one Identity, with what is
// computed from the two once: the static-static shared secret above all, which
// would otherwise cost an X25519 in every handshake. It is immutable and safe for
// concurrent use. A new Identity needs new Remotes.
type Remote struct {
	opaque
	public       PublicKey
	staticStatic [KeySize]byte
	door         door
}

// NewRemote returns the remote end of that public key. It gives [ErrLowOrder] for a
// point of low order.
func NewRemote(id *Identity, k PublicKey) (*Remote, error) {
	ss, err := x25519(id.private[:], k[:])
	if err != nil {
		return nil, ErrLowOrder
	}
	return &Remote{public: k, staticStatic: [KeySize]byte(ss), door: newDoor(k)}, nil
}

// PublicKey returns the remote's public key.
func (r *Remote) PublicKey() PublicKey { return r.public }

// A door is what one must know of a public key to knock there (MAC1) and to be
// answered by a cookie (whitepaper, sections 5.4.4 and 5.4.7). It is no secret.
type door struct {
	mac1Key [KeySize]byte
	cookie  cipher.AEAD // XChaCha20-Poly1305
}

func newDoor(k PublicKey) door {
	key := cookieKey(k)
	x, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err) // the key has the right size
	}
	return door{mac1Key: mac1Key(k), cookie: x}
}

func mac1Key(k PublicKey) [KeySize]byte   { return labelled(labelMAC1, k) }
func cookieKey(k PublicKey) [KeySize]byte { return labelled(labelCookie, k) }

func labelled(label string, k PublicKey) [KeySize]byte {
	return blake2s.Sum256(append([]byte(label), k[:]...))
}
