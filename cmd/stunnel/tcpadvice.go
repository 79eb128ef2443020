package main

import (
	"log/slog"
	"sync"
	"time"

	"stunnel/crypto"
)

// tcpAdvice tells, once of each peer that stays silent over UDP, which line of the file tries TCP; of those only for which the file
// does not say what may carry their messages. Safe for concurrent use.
type tcpAdvice struct {
	log *slog.Logger // which must not hold up whoever writes

	mu    sync.Mutex
	peers map[crypto.PublicKey]*silentPeer // guarded by mu; of whom nothing was told yet
}

type silentPeer struct {
	title string
	times int // handshakes without an answer, one after the other
	last  time.Time
}

// enoughSilence is as many handshakes without an answer as leave little hope, about 15 s.
const enoughSilence = 3

// watch has a peer told of.
func (a *tcpAdvice) watch(peer crypto.PublicKey, title string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.peers == nil {
		a.peers = make(map[crypto.PublicKey]*silentPeer)
	}
	a.peers[peer] = &silentPeer{title: title}
}

// unanswered hears that a handshake with a peer had no answer.
func (a *tcpAdvice) unanswered(peer crypto.PublicKey, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.peers[peer]
	if p == nil {
		return
	}
	if now.Sub(p.last) > missedFor {
		p.times = 0
	}
	p.times, p.last = p.times+1, now
	if p.times < enoughSilence {
		return
	}
	delete(a.peers, peer)
	a.log.Warn("no answer over UDP; if a network on the way blocks it: "+tcpRemedy, "peer", p.title)
}
