package transport

import "time"

// Carry says what one message to each of the peers may have, in bytes of
// plaintext.
func (t *Tunnel) Carry(limit int) {
	for _, p := range t.peers.all() {
		p.carry(limit)
	}
}

// Reassembling is how many bytes wait for the rest of their fragments.
func (t *Tunnel) Reassembling() int {
	t.reassembly.mu.Lock()
	defer t.reassembly.mu.Unlock()
	return t.reassembly.held
}

// Staged is how many packets wait for a session, or for a hello.
func (t *Tunnel) Staged() (n int) {
	for _, p := range t.peers.all() {
		n += int(p.staging.n.Load())
	}
	return n
}

// initiate does what a worker does when somebody wants a session.
func (p *peer) initiate(now time.Duration) {
	p.wishes.Or(wishSession)
	p.proceed(now)
}

// Indices is how many receiver indices are in use.
func (t *Tunnel) Indices() int {
	t.indices.mu.RLock()
	defer t.indices.mu.RUnlock()
	return len(t.indices.entries)
}
