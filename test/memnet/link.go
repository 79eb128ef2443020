package memnet

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Impairment is what one direction of a link does to datagrams. Probabilities
// are between 0 and 1 and drawn per datagram, independently of each other.
type Impairment struct {
	Loss      float64
	Duplicate float64 // one extra copy, with a delay of its own
	Corrupt   float64 // one bit of the datagram is flipped
	Reorder   float64 // held back by ReorderBy, so that later ones overtake it

	MTU int // of IP packets; longer ones are lost, and nobody is told; 0: any pass

	Delay     time.Duration // of each datagram
	Jitter    time.Duration // added to Delay, uniform between 0 and Jitter: reorders what is sent closer than that
	ReorderBy time.Duration
}

// direction names one way of a link; receiver is nil for addresses of nobody.
type direction struct{ sender, receiver *Host }

// link is the state of one direction, guarded by the network's mutex.
type link struct {
	Impairment
	random *rand.Rand
}

// fate is what becomes of one datagram: one delay per copy, none when it is
// lost. corrupt is a bit number to take modulo the size, or negative.
type fate struct {
	delays  []time.Duration
	corrupt int
}

// Impair sets what happens on every direction, also those that Link has set.
func (n *Network) Impair(i Impairment) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fallback = i
	for _, l := range n.links {
		l.Impairment = i
	}
}

// Link sets what happens to datagrams from one host to another; the other
// direction stays as it is.
func (n *Network) Link(from, to *Host, i Impairment) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link(from, to).Impairment = i
}

func (l *link) decide() fate {
	// All draws are made for every datagram, so that changing one probability
	// leaves the accidents of the other kinds where they were.
	lost := l.random.Float64() < l.Loss
	twice := l.random.Float64() < l.Duplicate
	corrupt := l.random.Float64() < l.Corrupt
	bit := l.random.IntN(1 << 30)
	first, second := l.delay(), l.delay()
	if lost {
		return fate{corrupt: -1}
	}
	f := fate{delays: []time.Duration{first}, corrupt: -1}
	if twice {
		f.delays = append(f.delays, second)
	}
	if corrupt {
		f.corrupt = bit
	}
	return f
}

// headers is the length of those of IP and UDP in front of a datagram for this address.
func headers(to netip.Addr) int {
	if to.Is4() {
		return 28
	}
	return 48
}

func (l *link) delay() time.Duration {
	d := l.Delay + time.Duration(l.random.Float64()*float64(l.Jitter))
	if l.random.Float64() < l.Reorder {
		d += l.ReorderBy
	}
	return d
}
