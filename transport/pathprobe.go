package transport

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
)

const (
	usualMTU     = 1500 // of a path of which nothing is known
	leastCarried = 64   // on a path for less, nothing is cut

	// largeMessage is the longest UDP payload that the base takes over IPv6.
	largeMessage = basePathMTU - ipv6HeaderSize - udpHeaderSize

	// probesLinger for so long behind the last data, so that a search which has begun
	// comes to its end. An idle tunnel is silent.
	probesLinger = 5 * time.Second
)

// pathProbes is the search for what the path to one peer carries, and what it has found.
type pathProbes struct {
	passes atomic.Int32 // the longest packet outside that is known to pass; 0: none is known
	told   atomic.Int32 // the longest packet inside, if its senders are to be told; 0: they are not
	fits   atomic.Int32 // the longest packet inside that goes as one message; 0: that is not measured yet
	narrow atomic.Bool  // not even the base passes, though the peer is heard
	due    atomic.Int64 // when the search is to be asked for a probe, if there is data; never: not at all
	busy   atomic.Bool  // data came or went since the last probe
	large  atomic.Bool  // and messages that are longer than largeMessage

	mu     sync.Mutex // a leaf; guards what follows
	search pathSearch
	remote netip.Addr    // where the path leads
	anew   bool          // the way to there may be another one
	heard  uint64        // peer.rxBytes at the last probe
	until  time.Duration // when probes stop for want of data
}

// overhead is how much longer a packet outside is than the plaintext in it.
func overhead(remote netip.Addr) int {
	if remote.Unmap().Is4() {
		return ipv4HeaderSize + udpHeaderSize + crypto.TransportOverhead
	}
	return ipv6HeaderSize + udpHeaderSize + crypto.TransportOverhead
}

// measurePath finds out how much a message on the path to remote may carry, as far as
// this host knows; probes tell the rest. It asks the system, so not for each packet:
// handshakes call it.
func (p *peer) measurePath(remote netip.AddrPort) {
	mtu := 0
	if ask := p.tunnel.pathMTU; ask != nil {
		mtu = ask(remote.Addr(), p.tunnel.mark.Load())
	}
	if mtu <= 0 {
		mtu = usualMTU
	}
	limit := min(mtu, maxWhole)
	o := &p.probes
	p.changePath(func() {
		switch {
		case o.remote != remote.Addr():
			o.remote = remote.Addr()
			o.search.begin(limit)
		case o.anew || limit != o.search.limit:
			o.search.follow(limit, p.tunnel.now())
		}
		o.anew = false
	})
	if s := p.sessions.current.Load(); s != nil {
		p.armProbe(s, p.tunnel.now())
	}
}

// measureAnew is for a path that may have changed though it leads to the same address:
// what was too large before is tried again at once.
func (p *peer) measureAnew(now time.Duration) {
	o := &p.probes
	o.mu.Lock()
	o.anew = true
	o.mu.Unlock()
	p.arm(&p.timers.path, now)
}

// changePath lets change have its way with the search, and then makes known what it has
// found.
func (p *peer) changePath(change func()) {
	o := &p.probes
	o.mu.Lock()
	passed, told := o.passes.Load(), o.told.Load()
	change()
	s := &o.search
	carries := s.cut() - overhead(o.remote)
	if carries < leastCarried {
		carries = 0
	}
	p.carries.Store(int32(carries))
	var passes, tell, fits int32
	if s.known {
		passes = int32(s.size)
	}
	if s.isSettled() {
		fits = int32(carries)
	}
	if s.isBelow() {
		tell = fits
	}
	o.passes.Store(passes)
	o.told.Store(tell)
	fitted, narrow := o.fits.Swap(fits), o.narrow.Swap(s.narrow)
	o.due.Store(int64(s.due(o.large.Load())))
	became := s.narrow && !narrow
	o.mu.Unlock()
	if told != tell || became {
		p.tellPath(became, int(passed), int(passes), int(tell))
	}
	if fitted != fits {
		p.tunnel.fit()
	}
}

// tellPath logs what a search has found.
func (p *peer) tellPath(narrow bool, before, now, inside int) {
	if !p.news.Allow(p.tunnel.now()) {
		return
	}
	switch {
	case narrow:
		p.tunnel.log.Warn(fmt.Sprintf("packets of %d bytes do not reach the peer by UDP, and shorter ones do", basePathMTU), "peer", p)
	case inside > 0:
		p.tunnel.log.Info("the path to the peer is narrower than this host's own network", "peer", p, "path_mtu", now, "inside", inside)
	case now > before:
		p.tunnel.log.Info("the path to the peer is as wide as this host's own network again", "peer", p, "path_mtu", now)
	}
}

// probed says whether probes go under s: it runs over UDP, to a peer that answers them.
func (s *session) probed() bool { return s.stream == nil && s.may(extension.Probes) }

// whole says whether messages under s are to pass whole: it is known that they can.
func (s *session) whole() bool { return s.probed() && s.peer.probes.passes.Load() > 0 }

// wantProbe is called while there is data under s.
func (p *peer) wantProbe(s *session, now time.Duration) {
	o := &p.probes
	if !o.busy.Load() {
		o.busy.Store(true)
	}
	p.armProbe(s, now)
}

// armProbe has the timer run when the search wants to be asked, if it does not before.
func (p *peer) armProbe(s *session, now time.Duration) {
	due := time.Duration(p.probes.due.Load())
	if due == never {
		return
	}
	due = max(now, due)
	if armed := p.timers.probe.due.Load(); (armed == 0 || armed > int64(due)) && s.probed() {
		p.arm(&p.timers.probe, due)
	}
}

// sentLarge is called when messages that are longer than largeMessage are sent.
func (p *peer) sentLarge() {
	if o := &p.probes; !o.large.Load() {
		p.changePath(func() { o.large.Store(true) }) // sent, which comes next, arms the timer
	}
}

// sendProbe is the timer's. It runs on as long as there is data, and a little longer.
func (p *peer) sendProbe(now time.Duration) {
	o := &p.probes
	s, path := p.usable(now), p.path.Load()
	if s == nil || path == nil || !s.probed() {
		return
	}
	var token extension.Token
	size, room := 0, overhead(path.Remote.Addr())
	var goesOn, elsewhere, lastSize bool
	trip, _, _ := p.echoes.summary(now)
	p.changePath(func() {
		if o.search.roundTrip == 0 { // echoes are answered as probes are
			o.search.roundTrip = trip
		}
		if o.busy.Swap(false) {
			o.until = now + probesLinger
		}
		elsewhere = o.remote != path.Remote.Addr()
		if goesOn = now <= o.until && !elsewhere; !goesOn {
			return
		}
		heard := p.rxBytes.Load()
		token, size = o.search.ask(now, o.large.Load(), heard != o.heard, drawToken)
		o.heard = heard
		lastSize = size <= basePathMTU && o.search.asked.lost > 0
	})
	if elsewhere { // it has moved since it was measured
		p.measurePath(path.Remote)
	}
	if !goesOn {
		return
	}
	if size > room+extension.MinProbe {
		s.sendExactly(extension.AppendProbe(nil, extension.Probe{Token: token, Size: size - room}), *path, now)
	}
	if lastSize { // if that is answered, the path is narrow; else it is dead
		p.sendEcho(now)
	}
	p.armProbe(s, now)
}

func drawToken() extension.Token { return extension.Token(rand.Uint64() | 1) }

// hearProbeReply takes the reply to a probe of the path.
func (p *peer) hearProbeReply(s *session, probe extension.Probe, now time.Duration) {
	o := &p.probes
	taken := false
	p.changePath(func() {
		if taken = o.search.reply(probe.Token, probe.Size+overhead(o.remote), now); taken {
			o.large.Store(false)
		}
	})
	if taken {
		p.timers.probe.stop() // it waited for this
		p.armProbe(s, now)
	}
}

// tooLong is called when the kernel does not send messages of size bytes to the peer
// whole: it knows its own link best. inUse: others than probes have that size.
func (p *peer) tooLong(size int) (inUse bool) {
	o := &p.probes
	p.changePath(func() {
		size += overhead(o.remote) - crypto.TransportOverhead
		inUse = size <= o.search.size
		o.search.refuse(size, o.search.limit)
	})
	p.arm(&p.timers.path, p.tunnel.now())
	return inUse
}

// isTooNarrow says whether it is known that UDP does not carry to the peer what any path should.
func (p *peer) isTooNarrow() bool { return p.probes.narrow.Load() }

// fitting is what Options.Fits was told last.
type fitting struct {
	mu  sync.Mutex // held while that is called: a leaf but for what the peers have
	mtu int
}

// fit tells the longest packet that goes as one message to some peer, if that is measured
// for all peers there have been sessions with.
func (t *Tunnel) fit() {
	if t.fits == nil {
		return
	}
	t.fitting.mu.Lock()
	defer t.fitting.mu.Unlock()
	most := 0
	for _, p := range t.peers.all() {
		if p.lastHandshake.Load() == 0 {
			continue
		}
		fits := int(p.probes.fits.Load())
		if fits == 0 {
			return
		}
		most = max(most, fits)
	}
	if most > 0 && most != t.fitting.mtu {
		t.fitting.mtu = most
		t.fits(most)
	}
}
