package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"stunnel/crypto"
	"stunnel/device/netconf/statedir"
)

// spokeTCP are the peers of a tunnel whose messages have ever come over TCP: where the file does not say what may carry them,
// TCP is tried too. It outlives a boot as lastGood does. Safe for concurrent use.
type spokeTCP struct {
	path string

	mu    sync.Mutex
	peers map[string]bool // guarded by mu; by their public keys, as files have them
}

// openSpokeTCP reads what an earlier tunnel of that name has kept. What can't be read is as good as nothing.
func openSpokeTCP(dir, name string) *spokeTCP {
	s := &spokeTCP{path: filepath.Join(dir, name+".tcp"), peers: make(map[string]bool)}
	var keys []string
	if text, err := os.ReadFile(s.path); err == nil && statedir.Check(dir) == nil && json.Unmarshal(text, &keys) == nil {
		for _, k := range keys {
			s.peers[k] = true
		}
	}
	return s
}

func (s *spokeTCP) has(peer crypto.PublicKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[peer.String()]
}

// maxSpoken peers are kept, as many as a hub may have.
const maxSpoken = 1 << 16

// add keeps a peer.
func (s *spokeTCP) add(peer crypto.PublicKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[peer.String()] || len(s.peers) >= maxSpoken {
		return nil
	}
	s.peers[peer.String()] = true
	return keepJSON(s.path, slices.Sorted(maps.Keys(s.peers)))
}
