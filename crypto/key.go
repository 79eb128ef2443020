package crypto

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/curve25519"
)

// KeySize is the size in bytes of every key of the protocol.
const KeySize = 32

const (
	base64Size = 44 // characters of a key in base64, the one '=' included
	hexSize    = 2 * KeySize
)

// A PrivateKey is a Curve25519 scalar. Parsed and generated ones are clamped; the
// zero value means "no key" and is never clamped into one.
//
// A PrivateKey hides itself from fmt, log/slog and encoding/json wherever these can
// call its methods. They cannot for an unexported field: a struct that keeps a key
// in one must not be printed, or must hide itself. Nor do they under %p and %w,
// which go vet refuses for keys.
type PrivateKey [KeySize]byte

// A PublicKey is a point on Curve25519, in the 32 bytes of RFC 7748.
type PublicKey [KeySize]byte

// A PresharedKey is mixed into the handshake's second message. The zero value
// means "none": the protocol then mixes these very 32 zero bytes. It hides itself
// as a [PrivateKey] does.
type PresharedKey [KeySize]byte

// NewPrivateKey returns a random key, clamped.
func NewPrivateKey() PrivateKey {
	var k PrivateKey
	rand.Read(k[:])
	return k.clamped()
}

// NewPresharedKey returns 32 random bytes.
func NewPresharedKey() PresharedKey {
	var k PresharedKey
	rand.Read(k[:])
	return k
}

// ParsePrivateKey reads a key of 44 characters of base64, as wg(8) prints it, and
// clamps it. Errors give lengths and positions, never the text.
func ParsePrivateKey(s string) (PrivateKey, error) {
	k, err := parseBase64(s)
	return PrivateKey(k).clamped(), err
}

// ParsePrivateKeyHex reads a key of 64 hexadecimal digits, as the UAPI has it, and
// clamps it. 64 zeros are the zero key. Errors never quote the text.
func ParsePrivateKeyHex(s string) (PrivateKey, error) {
	k, err := parseHex(s)
	return PrivateKey(k).clamped(), err
}

// ParsePublicKey reads a key of 44 characters of base64. Errors never quote the
// text: a private key might have been put in its place.
func ParsePublicKey(s string) (PublicKey, error) {
	k, err := parseBase64(s)
	return PublicKey(k), err
}

// ParsePublicKeyHex reads a key of 64 hexadecimal digits. Errors never quote the
// text.
func ParsePublicKeyHex(s string) (PublicKey, error) {
	k, err := parseHex(s)
	return PublicKey(k), err
}

// ParsePresharedKey reads a key of 44 characters of base64. Errors never quote the
// text.
func ParsePresharedKey(s string) (PresharedKey, error) {
	k, err := parseBase64(s)
	return PresharedKey(k), err
}

// ParsePresharedKeyHex reads a key of 64 hexadecimal digits. Errors never quote
// the text.
func ParsePresharedKeyHex(s string) (PresharedKey, error) {
	k, err := parseHex(s)
	return PresharedKey(k), err
}

// Public returns the public key that belongs to k.
func (k PrivateKey) Public() PublicKey {
	p, err := x25519(k[:], curve25519.Basepoint)
	if err != nil {
		panic("crypto: the base point is of low order") // cannot be
	}
	return PublicKey(p)
}

// Base64 returns the key itself, as wg(8) prints it: 44 characters.
func (k PrivateKey) Base64() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex returns the key itself in 64 lower-case hexadecimal digits.
func (k PrivateKey) Hex() string { return hex.EncodeToString(k[:]) }

// IsZero reports whether there is no key.
func (k PrivateKey) IsZero() bool { return k.Equal(PrivateKey{}) }

// Equal compares in constant time.
func (k PrivateKey) Equal(other PrivateKey) bool { return equal(k[:], other[:]) }

// clamped returns k with the five bits set that RFC 7748 fixes. The zero key stays
// zero, so that "no key" survives being parsed.
func (k PrivateKey) clamped() PrivateKey {
	if k.IsZero() {
		return k
	}
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k
}

// Base64 returns the key as wg(8) prints it: 44 characters.
func (k PublicKey) Base64() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex returns the key in 64 lower-case hexadecimal digits.
func (k PublicKey) Hex() string { return hex.EncodeToString(k[:]) }

// String is Base64.
func (k PublicKey) String() string { return k.Base64() }

// MarshalText is Base64, for encoding/json.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.Base64()), nil }

// IsZero reports whether there is no key.
func (k PublicKey) IsZero() bool { return k.Equal(PublicKey{}) }

// Equal compares in constant time.
func (k PublicKey) Equal(other PublicKey) bool { return equal(k[:], other[:]) }

// Base64 returns the key itself, as wg(8) prints it: 44 characters.
func (k PresharedKey) Base64() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex returns the key itself in 64 lower-case hexadecimal digits.
func (k PresharedKey) Hex() string { return hex.EncodeToString(k[:]) }

// IsZero reports whether there is no preshared key.
func (k PresharedKey) IsZero() bool { return k.Equal(PresharedKey{}) }

// Equal compares in constant time.
func (k PresharedKey) Equal(other PresharedKey) bool { return equal(k[:], other[:]) }

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// parseBase64 is as strict as wg(8): 44 characters of the standard alphabet, the
// last one '=', and no stray bits before it.
func parseBase64(s string) (k [KeySize]byte, err error) {
	if len(s) != base64Size {
		return k, fmt.Errorf("a key has %d characters of base64, not %d", base64Size, len(s))
	}
	for i := range base64Size - 1 {
		c := s[i]
		if !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/') {
			return k, fmt.Errorf("character %d of the key is not base64", i+1)
		}
	}
	if s[base64Size-1] != '=' {
		return k, fmt.Errorf("character %d, the last of the key, is not '='", base64Size)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != KeySize {
		return k, fmt.Errorf("character %d of the key cannot stand there", base64Size-1)
	}
	return [KeySize]byte(b), nil
}

// parseHex takes capital digits too, as wireguard-go does.
func parseHex(s string) (k [KeySize]byte, err error) {
	if len(s) != hexSize {
		return k, fmt.Errorf("a key has %d hexadecimal digits, not %d", hexSize, len(s))
	}
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return k, fmt.Errorf("character %d of the key is not a hexadecimal digit", i+1)
		}
	}
	_, err = hex.Decode(k[:], []byte(s))
	return k, err
}
