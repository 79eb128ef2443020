package transport

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// peer is the other end of a tunnel: its key, where it is, its sessions. A
// peer owns no goroutine; lanes, handshake workers and the timer loop call it.
type peer struct {
	tunnel    *Tunnel
	publicKey crypto.PublicKey
	instance  extension.Instance // of us, as it knows us: another one when it was removed and added again

	path                atomic.Pointer[socket.Path] // nil: no endpoint known
	detour              atomic.Pointer[socket.Path] // nil: none; by it packets come that are not answered from there, see Reroute
	carries             atomic.Int32                // most plaintext bytes of a message to it; 0: not known
	persistentKeepalive atomic.Int64                // interval, ns; 0: off
	name                atomic.Pointer[string]
	lastHandshake       atomic.Int64 // Unix ns; 0: never
	txBytes, rxBytes    atomic.Uint64
	drops               drops
	timers              timers
	staging             staging
	sessions            sessions
	echoes              echoes
	probes              pathProbes
	policy              atomic.Uint32 // Extensions
	news                tokenBucket   // lines of the log that the peer can cause
	wholes              openWholes
	port                *port       // the switch's; nil in tun mode
	deaf                atomic.Bool // under the session that there is it takes nothing of what we carry, and what waits does so in vain

	wantsInitiation         atomic.Bool            // is in tunnel.initiations
	wishes                  atomic.Uint32          // for its ways: wishSession and so on
	lastSent                [carriers]atomic.Int64 // when a handshake message was last sent
	transport               atomic.Uint32          // Transport
	endpoints, endpointsTCP atomic.Pointer[[]netip.AddrPort]

	watched watched

	// mover is the serial of the newest session whose packets have said where
	// the peer is; written under mu.
	mover atomic.Uint64

	mu           sync.Mutex // guards what follows, and writes to sessions
	removed      bool
	identity     *crypto.Identity // ours that remote and jar go with
	hellos       hellos
	remote       *crypto.Remote // nil: no local key, or no handshake is possible with this one
	jar          *crypto.CookieJar
	psk          crypto.PresharedKey
	pending      [carriers]pending          // our handshakes that wait for their responses
	streams      map[socket.Stream]*holding // connections, with what holds each; nil: there were none
	guest        socket.Stream              // a connection that is open since messages of a session came by it that lives elsewhere
	ways         ways
	dials        map[netip.AddrPort]*dial // connections that come about; nil: there were none
	made         *socket.Path             // a connection of ours that is there for a handshake; nil: none
	serial       uint64                   // of the newest session
	lastStamp    crypto.TAI64N            // the newest we sent
	newestStamp  crypto.TAI64N            // the newest we accepted
	lastAccepted [carriers]time.Duration  // when one was by each transport
	introduced   bool                     // the log has told of a handshake with it
	asked        time.Duration            // when the first initiation since the last handshake was sent; 0: none
	complained   bool                     // the log has told that it does not answer
}

// pending is a handshake; the zero value is none. It is answered by the way that it went, or not at all.
type pending struct {
	*crypto.Initiator
	stream  *socket.Path // nil: UDP
	message []byte       // by UDP, for other addresses
}

func newPeer(t *Tunnel, key crypto.PublicKey) *peer {
	p := &peer{tunnel: t, publicKey: key}
	for p.instance == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails, by its documentation
		p.instance = extension.Instance(binary.BigEndian.Uint64(b[:]))
	}
	p.news.interval, p.news.burst = clueInterval, newsBurst
	if t.lan != nil {
		p.port = newPort(t, p)
	}
	p.probes.due.Store(int64(never))
	p.timers.place = -1
	p.timers.check.Store(int64(never))
	p.ways = newWays(jitter)
	p.mayInitiate()
	p.lastAccepted = [carriers]time.Duration{-never, -never}
	return p
}

// Format keeps the keys that a peer holds out of whatever is printed.
func (p *peer) Format(f fmt.State, _ rune) { io.WriteString(f, "peer "+p.publicKey.String()) }

// LogValue names the peer as people know it.
func (p *peer) LogValue() slog.Value {
	if name := p.name.Load(); name != nil && *name != "" {
		return slog.StringValue(*name)
	}
	return slog.StringValue(p.publicKey.String())
}

// setIdentity is called when the local key is set, changed or removed (nil).
func (p *peer) setIdentity(id *crypto.Identity) {
	var remote *crypto.Remote
	var jar *crypto.CookieJar
	if id != nil {
		var err error
		if remote, err = crypto.NewRemote(id, p.publicKey); err != nil {
			p.tunnel.log.Warn("no handshake is possible with this peer", "peer", p, "error", err)
		} else {
			jar = crypto.NewCookieJar(remote)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.identity, p.remote, p.jar = id, remote, jar
	p.mayInitiate()
	p.forget()
	if id != nil {
		ours := id.PublicKey()
		p.ways.smaller = bytes.Compare(ours[:], p.publicKey[:]) < 0
	}
}

// mayInitiate lets the next initiations go at once.
func (p *peer) mayInitiate() {
	for i := range p.lastSent {
		p.lastSent[i].Store(int64(-never))
	}
}

// forget drops sessions, pending handshakes and connections. mu is held.
func (p *peer) forget() {
	p.dropPending(TransportUDP)
	p.dropPending(TransportTCP)
	p.cancelDials()
	p.hangUp()
	p.sessions.clear(p.dropSession)
	p.dropGuest()
	p.ways.forget()
	p.plan(0)
}

func (p *peer) dropPending(c Transport) {
	if w := p.pending[c]; w.Initiator != nil {
		p.pending[c] = pending{}
		p.tunnel.indices.remove(w.LocalIndex())
		if w.stream != nil {
			p.letGo(w.stream.Stream)
		}
	}
}

// dropSession takes a session that has just left its slot, if there was one,
// out of the index table and lets its keys go.
func (p *peer) dropSession(s *session) {
	if s != nil {
		p.tunnel.indices.remove(s.LocalIndex())
		s.retire()
		if s.stream != nil {
			p.letGo(s.stream.Stream)
		}
	}
}

func (p *peer) zeroKeys() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
}

// dropExpired lets go of superseded sessions that are too old to open anything.
func (p *peer) dropExpired(now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if oldest := p.sessions.dropExpired(now, p.dropSession); oldest != nil {
		p.armIfIdle(&p.timers.expiry, oldest.created+RejectAfterTime)
	}
}

// stop is for a tunnel that goes down, and for a peer that is removed.
func (p *peer) stop(removed bool) {
	p.mu.Lock()
	p.removed = p.removed || removed
	p.forget()
	p.mayInitiate()
	p.mu.Unlock()
	p.stopTimers()
	p.drops.add(dropDown, p.staging.clear())
	p.flush()
	p.tunnel.schedule.remove(p, removed)
}

// usable returns the current session if it may be sent under.
func (p *peer) usable(now time.Duration) *session {
	s := p.sessions.current.Load()
	if s == nil || s.expired(now) || s.Sent() >= crypto.RejectAfterMessages {
		return nil
	}
	return s
}

// setPath moves the peer's endpoint to where an authenticated message came
// from. It allocates only when that is new.
func (p *peer) setPath(to socket.Path) {
	to = p.sticky(to)
	old := p.path.Load()
	if old != nil && *old == to {
		return
	}
	p.path.Store(&to)
	if old == nil || old.Remote.Addr() != to.Remote.Addr() {
		p.arm(&p.timers.path, p.tunnel.now())
	}
}

// move does so for a transport message that was the newest of its session s.
// A session older than the newest that has been heard may not: else a packet
// that was delayed, or held back, on the old path moves the endpoint back.
// Connections do not move: who copies a datagram onto one of his own would get the traffic.
func (p *peer) move(s *session, to socket.Path) {
	if to.Stream != nil || s.stream != nil {
		return
	}
	to = p.sticky(to)
	if old := p.path.Load(); old != nil && *old == to && p.mover.Load() >= s.serial {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.serial >= p.mover.Load() {
		p.mover.Store(s.serial)
		p.setPath(to)
	}
}

// endpoint is where packets go now; the zero AddrPort: not known.
func (p *peer) endpoint() netip.AddrPort {
	if s := p.sessions.current.Load(); s != nil && s.stream != nil {
		return s.stream.Remote
	}
	if path := p.path.Load(); path != nil {
		return path.Remote
	}
	return netip.AddrPort{}
}

// isNowhere says whether it is not known how to reach the peer.
func (p *peer) isNowhere() bool {
	if p.path.Load() != nil {
		return false
	}
	s := p.sessions.current.Load()
	return (s == nil || s.stream == nil) && len(p.addressesTCP()) == 0
}

// addressesTCP are where connections to the peer can be made.
func (p *peer) addressesTCP() []netip.AddrPort {
	if Transport(p.transport.Load()) == TransportUDP {
		return nil
	}
	if to := p.endpointsTCP.Load(); to != nil && len(*to) > 0 {
		return *to
	}
	if to := p.endpoints.Load(); to != nil {
		return *to
	}
	return nil
}

// setEndpoint is the configuration's word; the source address is the kernel's.
// It says whether there was no endpoint before.
func (p *peer) setEndpoint(remote netip.AddrPort) (first bool) {
	first = p.path.Load() == nil
	p.setPath(socket.Path{Remote: remote})
	return first
}

// begin is for a peer that may now be sent to and could not before: the tunnel
// is up, there is a key, an endpoint.
func (p *peer) begin(now time.Duration) {
	switch {
	case p.persistentKeepalive.Load() > 0:
		p.authenticatedTraversal(now)
		p.sendKeepalive(now)
	case p.staging.n.Load() > 0:
		p.sendStaged(now)
	}
}

// clearLocal forgets the sticky source address: it may be what does not work.
func (p *peer) clearLocal() {
	old := p.path.Load()
	if old != nil && (old.Local.IsValid() || old.Interface != 0) {
		p.path.CompareAndSwap(old, &socket.Path{Remote: old.Remote})
	}
}
