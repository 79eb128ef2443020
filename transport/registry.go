package transport

import (
	"slices"
	"sync"

	"stunnel/crypto"
)

// registry finds peers by key. Its lock is a leaf.
type registry struct {
	mu    sync.RWMutex
	byKey map[crypto.PublicKey]*peer
	order []*peer // as they were added; what all has given out is not written to
}

func (r *registry) lookup(key crypto.PublicKey) *peer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byKey[key]
}

// all returns the peers that there are now, for reading only.
func (r *registry) all() []*peer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clip(r.order)
}

func (r *registry) add(p *peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKey == nil {
		r.byKey = make(map[crypto.PublicKey]*peer)
	}
	r.byKey[p.publicKey] = p
	r.order = append(r.order, p)
}

// remove takes out every peer that gone says is; one pass for all of them.
func (r *registry) remove(gone func(*peer) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.order = slices.DeleteFunc(slices.Clone(r.order), func(p *peer) bool {
		if !gone(p) {
			return false
		}
		delete(r.byKey, p.publicKey)
		return true
	})
}
