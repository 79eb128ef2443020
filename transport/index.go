package transport

import (
	"crypto/rand"
	"encoding/binary"
	"sync"

	"stunnel/crypto"
)

// indexTable finds what a message's receiver index means: a pending handshake
// of a peer, or a session. Indices are random and fresh for each handshake; one
// in use says nothing about any other. Its lock is a leaf.
type indexTable struct {
	mu      sync.RWMutex
	entries map[crypto.Index]indexEntry
}

// indexEntry belongs to a pending handshake while session is nil.
type indexEntry struct {
	peer    *peer
	session *session
}

// reserve returns an unused index that now means a pending handshake of p.
func (t *indexTable) reserve(p *peer) crypto.Index {
	var b [4]byte
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries == nil {
		t.entries = make(map[crypto.Index]indexEntry)
	}
	for {
		rand.Read(b[:]) // never fails, by its documentation
		i := crypto.Index(binary.LittleEndian.Uint32(b[:]))
		if _, taken := t.entries[i]; !taken {
			t.entries[i] = indexEntry{peer: p}
			return i
		}
	}
}

// promote makes the index that was reserved for a handshake mean its session.
func (t *indexTable) promote(s *session) {
	t.mu.Lock()
	t.entries[s.LocalIndex()] = indexEntry{s.peer, s}
	t.mu.Unlock()
}

func (t *indexTable) remove(i crypto.Index) {
	t.mu.Lock()
	delete(t.entries, i)
	t.mu.Unlock()
}

// pending says whether i means a handshake that waits for its response.
func (t *indexTable) pending(i crypto.Index) bool {
	e := t.lookup(i)
	return e.peer != nil && e.session == nil
}

func (t *indexTable) lookup(i crypto.Index) indexEntry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.entries[i]
}
