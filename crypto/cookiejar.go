package crypto

import (
	"sync"
	"time"
)

// cookieAge is how long a cookie is used: the responder's secret lives for 120 s,
// and a message may take five of them to arrive.
const cookieAge = cookieSecretAge - 5*time.Second

// A CookieJar is the sender's side of MACs and cookies, one for each remote. It
// writes the MACs of what we send and keeps the cookie that came back. It is safe
// for concurrent use.
//
// now is a monotonic time that goes on in suspend.
type CookieJar struct {
	opaque
	door *door // the remote's; constant

	mu       sync.Mutex // guards what follows
	cookie   [macSize]byte
	received time.Duration // when cookie was; meaningless while has is false
	has      bool          // there has been a cookie
	mac1     [macSize]byte // of the last message stamped
	awaiting bool          // mac1 may still be answered by a cookie reply
}

// NewCookieJar returns an empty jar for messages to r.
func NewCookieJar(r *Remote) *CookieJar {
	return &CookieJar{door: &r.door}
}

// Stamp writes the MACs of an initiation or a response, in its last 32 bytes: MAC1
// always, and MAC2 while there is a fresh cookie, else zeros. It remembers MAC1 so
// that a cookie reply can be told from a forged one. Anything but an initiation or
// a response panics.
func (j *CookieJar) Stamp(msg []byte, now time.Duration) {
	if !hasMACs(msg) {
		panic("crypto: Stamp of a message without MACs")
	}
	covered, mac1, mac2 := splitMACs(msg)
	sum := mac(j.door.mac1Key[:], covered)
	copy(mac1, sum[:])
	clear(mac2)

	j.mu.Lock()
	defer j.mu.Unlock()
	j.mac1, j.awaiting = sum, true
	if j.has && now-j.received < cookieAge {
		sum = mac(j.cookie[:], msg[:len(msg)-macSize])
		copy(mac2, sum[:])
	}
}

// Consume takes the cookie out of a cookie reply and reports whether it was a true
// answer to the message stamped last. One answer per message: its MAC1 is
// forgotten then. Nothing else may be concluded from a true answer, and the
// remote's address least of all.
func (j *CookieJar) Consume(reply []byte, now time.Duration) bool {
	if t, ok := Type(reply); !ok || t != TypeCookieReply {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.awaiting {
		return false
	}
	var room [macSize + tagSize]byte
	cookie, err := j.door.cookie.Open(room[:0], reply[cookieNonce:cookieSealed], reply[cookieSealed:], j.mac1[:])
	if err != nil {
		return false
	}
	copy(j.cookie[:], cookie)
	j.received, j.has, j.awaiting = now, true, false
	return true
}
