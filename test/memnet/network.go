// Package memnet is a lossy in-memory network with hosts, sockets and a fake
// TUN device, made for tests of the tunnel under testing/synctest.
//
// A Network carries datagrams between Hosts. Each direction of each pair of
// hosts has an Impairment (loss, duplication, corruption, delay, jitter,
// reordering) driven by a PRNG of its own, so one seed gives one sequence of
// accidents per direction. Taps see, change, hold back or record everything
// that is sent; Inject forges what nobody sent.
//
//	network := memnet.New(1)
//	a := network.Host("a", netip.MustParseAddr("192.0.2.1"))
//	sockets, err := a.Listen(51820, 1, 0) // they fit the Socket of package transport
//	device := memnet.NewDevice(1)         // its queues fit the Queue of package transport
//
// Everything blocks on channels only, so that a synctest bubble sees a waiting
// reader as durably blocked; mutexes are held for a few instructions and never
// while waiting. Time is the bubble's: a delay costs nothing.
//
// Buffers that a Receive or a Read lends are overwritten with Poison by the
// next call, and so are packets that were given to a device: who keeps what is
// not theirs is found out.
package memnet

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Poison is what buffers are filled with once their borrower's time is over.
const Poison = 0xdb

// Network is the wire between hosts. Its methods are safe for concurrent use.
type Network struct {
	seed uint64

	mu       sync.Mutex // guards all below and every Host, NAT; taken before a socket's
	hosts    []*Host
	links    map[direction]*link
	fallback Impairment
	flights  flights
	sequence uint64
	timer    *time.Timer
	stats    Stats
	streams  []*Stream
	tcp      map[direction]TCPFate

	tapping sync.Mutex // held while taps run, so that they need no lock of their own
	taps    []*tap
}

// Stats counts datagrams. Each sent or injected one, and each copy that the
// network made of one, ends in exactly one of Delivered, Stopped, Lost,
// Unreachable and Overflowed, or is still in flight.
type Stats struct {
	Sent        uint64 // by sockets
	Injected    uint64
	Duplicated  uint64 // extra copies
	Delivered   uint64 // put into a socket's queue
	Stopped     uint64 // by a tap
	Lost        uint64 // by a link's Loss, or longer than its MTU
	Unreachable uint64 // no such address, or nobody listens on the port
	Overflowed  uint64 // the socket's queue was full

	LocalGone uint64 // Sends whose local address was not the host's
}

// Transit is one datagram as it is sent, seen between the sender's NAT and the
// receiver's, or one message on a TCP connection. A tap may change From, To (not a message's) and Data; Data is the tap's to keep.
type Transit struct {
	At       time.Time
	Sender   *Host
	Stream   bool
	From, To netip.AddrPort
	Data     []byte
}

type tap struct{ see func(*Transit) bool }

// New makes an empty network without impairments.
func New(seed uint64) *Network {
	return &Network{seed: seed, links: make(map[direction]*link)}
}

// Tap has see called with every datagram that a socket sends, in the sender's
// goroutine, before the link has its way with it; false stops the datagram.
// One call at a time, taps in the order in which they were added; see must not
// block and must not send, but may Inject. The returned function removes it.
func (n *Network) Tap(see func(*Transit) bool) (remove func()) {
	n.tapping.Lock()
	defer n.tapping.Unlock()
	added := &tap{see}
	n.taps = append(slices.Clip(n.taps), added)
	return func() {
		n.tapping.Lock()
		defer n.tapping.Unlock()
		n.taps = slices.DeleteFunc(slices.Clone(n.taps), func(t *tap) bool { return t == added })
	}
}

// Inject delivers a copy of data at once, as if from had sent it to to: past
// taps and links, but through the receiver's NAT. It says whether a socket
// took it.
func (n *Network) Inject(from, to netip.AddrPort, data []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Injected++
	return n.arrive(flight{from: from, to: to, data: slices.Clone(data)})
}

// Stats returns the counters so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// send takes one datagram from a socket; data becomes the network's.
func (n *Network) send(h *Host, from, to netip.AddrPort, data []byte) {
	n.mu.Lock()
	n.stats.Sent++
	if h.nat != nil && !h.nat.encloses(to.Addr()) {
		from = h.nat.outward(h, from)
	}
	n.mu.Unlock()

	seen := &Transit{At: time.Now(), Sender: h, From: from, To: to, Data: data}
	passed := n.passTaps(seen)

	n.mu.Lock()
	defer n.mu.Unlock()
	if !passed {
		n.stats.Stopped++
		return
	}
	n.dispatch(h, flight{from: seen.From, to: seen.To, data: seen.Data})
}

func (n *Network) passTaps(seen *Transit) bool {
	n.tapping.Lock()
	defer n.tapping.Unlock()
	for _, t := range n.taps {
		if !t.see(seen) {
			return false
		}
	}
	return true
}

// dispatch lets the link decide the datagram's fate. Called with mu held.
func (n *Network) dispatch(sender *Host, f flight) {
	f.sender = sender
	receiver, _ := n.resolve(sender, f.to)
	l := n.link(sender, receiver)
	fate := l.decide()
	if len(fate.delays) == 0 || l.MTU > 0 && len(f.data)+headers(f.to.Addr()) > l.MTU {
		n.stats.Lost++
		return
	}
	n.stats.Duplicated += uint64(len(fate.delays) - 1)
	if fate.corrupt >= 0 && len(f.data) > 0 {
		bit := fate.corrupt % (8 * len(f.data))
		f.data = slices.Clone(f.data) // a tap may have kept the sound one
		f.data[bit/8] ^= 1 << (bit % 8)
	}
	for _, delay := range fate.delays {
		copied := f
		copied.data = slices.Clone(f.data)
		if delay <= 0 {
			n.arrive(copied)
			continue
		}
		n.sequence++
		copied.sequence = n.sequence
		copied.due = time.Now().Add(delay)
		heap.Push(&n.flights, copied)
	}
	n.schedule()
}

// schedule sets the timer to the next arrival. Called with mu held.
func (n *Network) schedule() {
	if len(n.flights) == 0 {
		return
	}
	wait := time.Until(n.flights[0].due)
	if n.timer == nil {
		n.timer = time.AfterFunc(wait, n.land)
		return
	}
	n.timer.Reset(wait)
}

// land delivers what is due, in the order of arrival.
func (n *Network) land() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for len(n.flights) > 0 && !n.flights[0].due.After(now) {
		n.arrive(heap.Pop(&n.flights).(flight))
	}
	n.schedule()
}

// arrive puts the datagram into the socket that has its address now, which is
// not the one that had it when it was sent if a host has moved. Called with mu
// held.
func (n *Network) arrive(f flight) bool {
	host, to := n.resolve(f.sender, f.to)
	if host == nil {
		n.stats.Unreachable++
		return false
	}
	socket := host.socketFor(f.from, to.Port())
	if socket == nil {
		n.stats.Unreachable++
		return false
	}
	if !socket.enqueue(f.from, to.Addr(), f.data) {
		n.stats.Overflowed++
		return false
	}
	n.stats.Delivered++
	return true
}

// resolve finds the host that a datagram for to reaches, and its address
// behind a NAT. sender is nil for what was injected. Called with mu held.
func (n *Network) resolve(sender *Host, to netip.AddrPort) (*Host, netip.AddrPort) {
	for _, h := range n.hosts {
		if h.nat != nil {
			if h.nat.public == to.Addr() {
				if inside, ok := h.nat.inward(to.Port()); ok && inside.host == h {
					return h, inside.address
				}
				continue
			}
			if sender == nil || sender.nat != h.nat {
				continue
			}
		}
		if slices.Contains(h.addresses, to.Addr()) {
			return h, to
		}
	}
	return nil, netip.AddrPort{}
}

// flight is one datagram on its way.
type flight struct {
	due      time.Time
	sequence uint64
	sender   *Host // nil: injected
	from, to netip.AddrPort
	data     []byte
}

// flights is a heap: what arrives first is first, of equals what was sent first.
type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	if !f[i].due.Equal(f[j].due) {
		return f[i].due.Before(f[j].due)
	}
	return f[i].sequence < f[j].sequence
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	(*f)[last] = flight{}
	*f = (*f)[:last]
	return x
}

// link returns the state of one direction. Called with mu held. receiver may
// be nil: what goes nowhere gets lost at its own rate too.
func (n *Network) link(sender, receiver *Host) *link {
	key := direction{sender, receiver}
	l := n.links[key]
	if l == nil {
		from, to := uint64(sender.number), uint64(0)
		if receiver != nil {
			to = uint64(receiver.number)
		}
		l = &link{Impairment: n.fallback, random: rand.New(rand.NewPCG(n.seed, from<<32|to))}
		n.links[key] = l
	}
	return l
}
