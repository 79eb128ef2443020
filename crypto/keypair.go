package crypto

import (
	"sync/atomic"

	"stunnel/crypto/chachapoly"
)

// A Keypair is the two transport keys of one session, with the indices of both ends
// and the counter of what was sealed. It is safe for concurrent use: several lanes
// seal and open under it at the same time.
type Keypair struct {
	opaque

	// Constant.
	local, remote Index
	initiator     bool

	// Atomic.
	keys atomic.Pointer[transportKeys] // nil after Zero
	next atomic.Uint64                 // counter to seal under next, at most RejectAfterMessages
}

// transportKeys is ChaCha20-Poly1305 under the key of either direction.
type transportKeys struct{ send, receive *chachapoly.Cipher }

func newKeypair(local, remote Index, initiator bool, send, receive [KeySize]byte) *Keypair {
	k := &Keypair{local: local, remote: remote, initiator: initiator}
	k.keys.Store(&transportKeys{send: chachapoly.New(send), receive: chachapoly.New(receive)})
	return k
}

// LocalIndex returns the index in messages that come.
func (k *Keypair) LocalIndex() Index { return k.local }

// RemoteIndex returns the index in messages that go.
func (k *Keypair) RemoteIndex() Index { return k.remote }

// Initiator reports whether we began the handshake: only then may the keypair be
// renewed because of its age.
func (k *Keypair) Initiator() bool { return k.initiator }

// Reserve takes n counters for a train and returns the first. A counter is given out
// once, whoever calls. ok is false when fewer than n were left, and from then on for
// ever.
func (k *Keypair) Reserve(n int) (first Counter, ok bool) {
	if n < 0 {
		panic("crypto: Reserve of a negative number")
	}
	// An unconditional add would wrap around after 2^13 calls more, and give all
	// counters out again.
	for {
		next := k.next.Load()
		if uint64(n) > uint64(RejectAfterMessages)-next {
			if k.next.CompareAndSwap(next, uint64(RejectAfterMessages)) {
				return 0, false
			}
		} else if k.next.CompareAndSwap(next, next+uint64(n)) {
			return Counter(next), next < uint64(RejectAfterMessages)
		}
	}
}

// Sent returns how many counters are gone, which is the next one.
func (k *Keypair) Sent() Counter { return Counter(k.next.Load()) }

// Zero ends the keypair: it reserves, seals and opens nothing from now on. A train
// that another goroutine is sealing or opening at this moment is completed.
//
// It wipes the keys as well as Go and x/crypto let it: the last references to them
// are dropped. Their memory cannot be reached from here; it is overwritten when the
// garbage collector has given it to somebody else.
func (k *Keypair) Zero() {
	k.next.Store(uint64(RejectAfterMessages))
	k.keys.Store(nil)
}
