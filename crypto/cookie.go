package crypto

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"
)

// cookieSecretAge is how long one secret makes cookies.
const cookieSecretAge = 120 * time.Second

// A CookieChecker is the receiver's side of MACs and cookies (whitepaper, sections
// 5.3, 5.4.4 and 5.4.7): it tells who may knock, and, under load, who has shown that
// the address it knocks from is its own. It is safe for concurrent use.
//
// now is a monotonic time that goes on in suspend.
type CookieChecker struct {
	opaque
	door   *door // our own; constant
	random io.Reader

	mu     sync.Mutex // guards what follows
	secret [KeySize]byte
	made   time.Duration // when secret was; meaningless while fresh is false
	fresh  bool          // there has been a secret
}

// NewCookieChecker returns a checker for messages to id. It has no secret before the
// first cookie is asked for.
func NewCookieChecker(id *Identity) *CookieChecker {
	return &CookieChecker{door: &id.door, random: rand.Reader}
}

// CheckMAC1 reports whether an initiation or a response was made by somebody who
// knows our public key.
func (c *CookieChecker) CheckMAC1(msg []byte) bool {
	if !hasMACs(msg) {
		return false
	}
	covered, mac1, _ := splitMACs(msg)
	want := mac(c.door.mac1Key[:], covered)
	return equal(mac1, want[:])
}

// CheckMAC2 reports whether the message carries a MAC2 made with the cookie that we
// would give that remote now, so that it has read what we sent to this address.
func (c *CookieChecker) CheckMAC2(msg []byte, remote netip.AddrPort, now time.Duration) bool {
	if !hasMACs(msg) {
		return false
	}
	c.mu.Lock()
	secret, valid := c.secret, c.valid(now)
	c.mu.Unlock()
	if !valid {
		return false
	}
	cookie := makeCookie(&secret, remote)
	_, _, mac2 := splitMACs(msg)
	want := mac(cookie[:], msg[:len(msg)-macSize])
	return equal(mac2, want[:])
}

// Reply makes the cookie reply, of 64 bytes, to a message that has passed
// [CookieChecker.CheckMAC1]: less than was asked, so nobody can be flooded by it. It
// returns nil for anything but an initiation or a response.
func (c *CookieChecker) Reply(msg []byte, remote netip.AddrPort, now time.Duration) []byte {
	if !hasMACs(msg) {
		return nil
	}
	c.mu.Lock()
	if !c.valid(now) {
		c.read(c.secret[:])
		c.made, c.fresh = now, true
	}
	secret := c.secret
	c.mu.Unlock()

	cookie := makeCookie(&secret, remote)
	_, mac1, _ := splitMACs(msg)
	reply := make([]byte, cookieSealed, CookieReplySize)
	putHeader(reply, TypeCookieReply)
	putIndex(reply[cookieReceiver:], Sender(msg))
	nonce := reply[cookieNonce:cookieSealed]
	c.read(nonce)
	return c.door.cookie.Seal(reply, nonce, cookie[:], mac1)
}

// valid reports whether the secret may be used. The caller holds mu.
func (c *CookieChecker) valid(now time.Duration) bool {
	return c.fresh && now-c.made < cookieSecretAge
}

// read fills b with randomness. There is no going on without.
func (c *CookieChecker) read(b []byte) {
	if _, err := io.ReadFull(c.random, b); err != nil {
		panic("crypto: no randomness: " + err.Error())
	}
}

// makeCookie is the cookie of an address: whoever sends from the same address and
// port gets the same one while the secret lives.
func makeCookie(secret *[KeySize]byte, remote netip.AddrPort) [macSize]byte {
	var where [18]byte // at most 16 bytes of address, 2 of port
	at := append(where[:0], remote.Addr().Unmap().AsSlice()...)
	at = binary.BigEndian.AppendUint16(at, remote.Port())
	return mac(secret[:], at)
}

// hasMACs reports whether the message is an initiation or a response.
func hasMACs(msg []byte) bool {
	t, ok := Type(msg)
	return ok && (t == TypeInitiation || t == TypeResponse)
}

// splitMACs returns what MAC1 covers, MAC1 and MAC2. MAC2 covers all before itself.
func splitMACs(msg []byte) (covered, mac1, mac2 []byte) {
	at := len(msg) - 2*macSize
	return msg[:at], msg[at : at+macSize], msg[at+macSize:]
}

// mac is keyed BLAKE2s-128.
func mac(key, data []byte) (sum [macSize]byte) {
	h, err := blake2s.New128(key)
	if err != nil {
		panic(err) // the key has a right size
	}
	h.Write(data)
	h.Sum(sum[:0])
	return sum
}
