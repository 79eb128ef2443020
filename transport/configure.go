package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
)

// Configure applies c as documented there. What can fail, changing the port or
// the mark of open sockets, comes first: then nothing else has changed. The
// error wraps the system's (EADDRINUSE, EPERM).
func (t *Tunnel) Configure(c Config) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.checkNumber(c); err != nil {
		return err
	}
	if err := t.checkEthernet(&c); err != nil {
		return err
	}
	if err := t.configureSockets(c); err != nil {
		return err
	}
	t.configureEthernet(&c)
	if c.PrivateKey != nil {
		if err := t.setPrivateKey(*c.PrivateKey); err != nil {
			return err
		}
	}
	if c.TrustedChecksums != nil && *c.TrustedChecksums != t.trusted.Load() {
		t.setTrusted(*c.TrustedChecksums)
	}
	if c.ReplacePeers {
		t.removePeers(func(*peer) bool { return true })
	}
	for i := range c.Peers {
		t.configurePeer(&c.Peers[i])
	}
	t.allowedIPs.Publish()
	return nil
}

// maxPeers of one tunnel, as in wireguard-go: each costs memory, and a
// public-key operation when the private key is set.
const maxPeers = 1 << 16

// checkNumber refuses, with ENOSPC, what would make too many peers.
func (t *Tunnel) checkNumber(c Config) error {
	var peers []*peer
	if !c.ReplacePeers {
		peers = t.peers.all()
	}
	if len(peers)+len(c.Peers) <= maxPeers {
		return nil
	}
	after := make(map[crypto.PublicKey]bool)
	for _, p := range peers {
		after[p.publicKey] = true
	}
	for _, p := range c.Peers {
		switch {
		case p.Remove:
			delete(after, p.PublicKey)
		case !p.UpdateOnly:
			after[p.PublicKey] = true
		}
	}
	if len(after) > maxPeers {
		return fmt.Errorf("%d peers, and there may be %d: %w", len(after), maxPeers, syscall.ENOSPC)
	}
	return nil
}

func (t *Tunnel) configureSockets(c Config) error {
	mark := t.mark.Load()
	if c.FwMark != nil && *c.FwMark != mark {
		if err := t.setMark(*c.FwMark); err != nil {
			t.setMark(mark)
			return err
		}
	}
	port := t.openPort()
	if c.ListenPort != nil && t.isUp() && (*c.ListenPort == 0 || *c.ListenPort != port) {
		if err := t.bind(*c.ListenPort); err != nil {
			t.setMark(mark)
			return err
		}
	}
	if c.ListenTCP != nil && t.isUp() && *c.ListenTCP != t.portTCP {
		if err := t.listenStreams(*c.ListenTCP); err != nil {
			t.setMark(mark)
			if t.openPort() != port {
				err = errors.Join(err, t.bind(port))
			}
			return err
		}
	}
	if c.ListenPort != nil {
		t.port = *c.ListenPort
	}
	if c.ListenTCP != nil {
		t.portTCP = *c.ListenTCP
	}
	return nil
}

// setMark changes that of all sockets, for as far as it can.
func (t *Tunnel) setMark(mark uint32) error {
	for _, s := range t.binding.Load().sockets {
		if err := s.SetMark(mark); err != nil {
			return err
		}
	}
	if err := t.streams.setMark(mark); err != nil {
		return err
	}
	t.mark.Store(mark)
	return nil
}

// openPort is the port in use, 0 while down.
func (t *Tunnel) openPort() uint16 {
	if s := t.binding.Load().sockets; s != nil {
		return s[0].Port()
	}
	return 0
}

// setPrivateKey ends all sessions: they are of another identity.
func (t *Tunnel) setPrivateKey(key crypto.PrivateKey) error {
	if key.Equal(t.privateKey) {
		return nil
	}
	var id *crypto.Identity
	var local *localIdentity
	if !key.IsZero() {
		var err error
		if id, err = crypto.NewIdentity(key); err != nil {
			return err
		}
		local = &localIdentity{id, crypto.NewCookieChecker(id)}
		t.removePeers(func(p *peer) bool { return p.publicKey == id.PublicKey() })
	}
	t.privateKey = key
	t.local.Store(local)
	for _, p := range t.peers.all() {
		p.setIdentity(id)
		if t.isUp() {
			p.begin(t.now())
		}
	}
	return nil
}

func (t *Tunnel) identity() *crypto.Identity {
	if local := t.local.Load(); local != nil {
		return local.Identity
	}
	return nil
}

func (t *Tunnel) removePeers(gone func(*peer) bool) {
	var removed []*peer
	t.peers.remove(func(p *peer) bool {
		if gone(p) {
			removed = append(removed, p)
			return true
		}
		return false
	})
	for _, p := range removed {
		p.sayGoodbye(extension.Removed, t.now())
		t.allowedIPs.RemoveAll(p)
		p.stop(true)
		if t.lan != nil {
			t.lan.pin(p.port, nil)
			t.lan.table.Close(&p.port.Port)
		}
	}
}

func (t *Tunnel) configurePeer(c *PeerConfig) {
	id := t.identity()
	if id != nil && id.PublicKey() == c.PublicKey {
		return
	}
	p := t.peers.lookup(c.PublicKey)
	switch {
	case c.Remove:
		if p != nil {
			t.removePeers(func(other *peer) bool { return other == p })
		}
		return
	case p == nil && c.UpdateOnly:
		return
	case p == nil:
		p = newPeer(t, c.PublicKey)
		p.setIdentity(id)
		t.peers.add(p)
		if known, ok := t.ours[c.PublicKey]; ok {
			p.name.Store(&known.name)
			p.policy.Store(uint32(known.extensions))
			p.transport.Store(uint32(known.transport))
			p.endpoints.Store(known.endpoints)
			p.endpointsTCP.Store(known.endpointsTCP)
			if known.macs != nil && t.lan != nil {
				t.lan.pin(p.port, *known.macs)
			}
		}
	}
	if c.Name != nil {
		name := *c.Name
		p.name.Store(&name)
		t.remember(p)
	}
	if c.PresharedKey != nil {
		p.mu.Lock()
		p.psk = *c.PresharedKey
		p.mu.Unlock()
	}
	if c.Extensions != nil {
		p.setExtensions(*c.Extensions, t.now())
		t.remember(p)
	}
	if c.MACs != nil && t.lan != nil {
		t.lan.pin(p.port, *c.MACs)
		t.remember(p)
	}
	if c.Transport != nil {
		p.transport.Store(uint32(*c.Transport))
		t.remember(p)
	}
	if c.EndpointsTCP != nil {
		to := slices.Clone(*c.EndpointsTCP)
		p.endpointsTCP.Store(&to)
		t.remember(p)
	}
	t.configureEndpoints(p, c)
	if c.ReplaceAllowedIPs {
		t.allowedIPs.RemoveAll(p)
	}
	for _, change := range c.AllowedIPs {
		if change.Remove {
			t.allowedIPs.Remove(change.Prefix.Masked(), p)
		} else {
			t.allowedIPs.Insert(change.Prefix.Masked(), p)
		}
	}
	if c.PersistentKeepalive != nil {
		t.setKeepalive(p, *c.PersistentKeepalive)
	}
}

// configureEndpoints sets where the peer may be. A way that works stays, but for Endpoint alone, which says where the peer is.
func (t *Tunnel) configureEndpoints(p *peer, c *PeerConfig) {
	nowhere := p.isNowhere()
	switch {
	case c.Endpoints != nil:
		to := slices.Clone(*c.Endpoints)
		p.endpoints.Store(&to)
		t.remember(p)
		if p.path.Load() == nil && len(to) > 0 {
			p.setEndpoint(to[0])
		}
	case c.Endpoint != nil && !p.isKnownAt(*c.Endpoint): // one of several: the others stay
		p.endpoints.Store(&[]netip.AddrPort{*c.Endpoint})
		t.remember(p)
	}
	if c.Endpoint != nil && (c.Endpoints == nil || p.path.Load() == nil) {
		p.setEndpoint(*c.Endpoint)
	}
	p.configureWays(t.now())
	if nowhere && !p.isNowhere() && t.isUp() {
		p.begin(t.now())
	}
}

// isKnownAt says whether the peer may be at an address by what is configured.
func (p *peer) isKnownAt(e netip.AddrPort) bool {
	to := p.endpoints.Load()
	return to != nil && slices.Contains(*to, e)
}

// setTrusted switches trusted checksums. Peers go on sending such packets until they
// know, and so they are taken until then.
func (t *Tunnel) setTrusted(on bool) {
	peers := t.peers.all()
	taken := extension.TrustedChecksums
	if on {
		taken = 0
	}
	for _, p := range peers {
		p.takeBack(taken)
	}
	t.trusted.Store(on)
	for _, p := range peers {
		p.announce(t.now())
	}
}

// remember keeps what is ours of the peer's configuration, should it be removed and
// come back.
func (t *Tunnel) remember(p *peer) {
	o := ours{extensions: Extensions(p.policy.Load()), transport: Transport(p.transport.Load()), endpointsTCP: p.endpointsTCP.Load()}
	if name := p.name.Load(); name != nil {
		o.name = *name
	}
	if to := p.endpoints.Load(); to != nil && len(*to) > 1 {
		o.endpoints = to
	}
	if p.port != nil {
		o.macs = p.port.pinned
	}
	_, known := t.ours[p.publicKey]
	switch {
	case o == ours{}:
		delete(t.ours, p.publicKey)
	case t.ours == nil:
		t.ours = map[crypto.PublicKey]ours{p.publicKey: o}
	case known || len(t.ours) < maxPeers:
		t.ours[p.publicKey] = o
	}
}

// setKeepalive sends one at once when it is switched on.
func (t *Tunnel) setKeepalive(p *peer, interval time.Duration) {
	old := p.persistentKeepalive.Swap(int64(interval))
	switch {
	case interval == 0:
		p.timers.persistent.stop()
	case old == 0 && t.isUp():
		p.sendKeepalive(t.now())
		p.authenticatedTraversal(t.now())
	}
}

// Status is the tunnel's state now.
func (t *Tunnel) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Status{
		PrivateKey: t.privateKey,
		ListenPort: t.port,
		FwMark:     t.mark.Load(),
		Up:         t.isUp(),
		MTU:        int(t.mtu.Load()),
		Lanes:      len(t.lanes),
		Offloads:   t.offloads(),
		Drops:      t.deviceDrops(t.drops.counts()),

		TrustedChecksums: t.trusted.Load(),
	}
	if s.Up {
		s.ListenPort = t.openPort()
	}
	t.streams.status(&s)
	if id := t.identity(); id != nil {
		s.PublicKey = id.PublicKey()
	}
	now := t.now()
	stations := t.lan.stations(now)
	if t.lan != nil {
		s.Ethernet = t.lan.status(stations, now)
	}
	for _, p := range t.peers.all() {
		peer := t.peerStatus(p)
		peer.Port = p.port.status(stations, now)
		s.Peers = append(s.Peers, peer)
	}
	return s
}

func (t *Tunnel) peerStatus(p *peer) PeerStatus {
	s := PeerStatus{
		PublicKey:           p.publicKey,
		Endpoint:            p.endpoint(),
		TxBytes:             p.txBytes.Load(),
		RxBytes:             p.rxBytes.Load(),
		PersistentKeepalive: time.Duration(p.persistentKeepalive.Load()),
		AllowedIPs:          t.allowedIPs.Prefixes(p),
		Drops:               p.drops.counts(),
	}
	if name := p.name.Load(); name != nil {
		s.Name = *name
	}
	s.Transport = Transport(p.transport.Load())
	if to := p.endpointsTCP.Load(); to != nil {
		s.EndpointsTCP = slices.Clone(*to)
	}
	if to := p.endpoints.Load(); to != nil {
		s.Endpoints = slices.Clone(*to)
	}
	if at := p.lastHandshake.Load(); at != 0 {
		s.LastHandshake = time.Unix(0, at)
	}
	if current := p.sessions.current.Load(); current != nil && current.probed() {
		s.PathMTU = int(p.probes.passes.Load())
	}
	s.RoundTrip, s.EchoesSent, s.EchoesLost = p.echoes.summary(t.now())
	p.mu.Lock()
	defer p.mu.Unlock()
	s.PresharedKey = p.psk
	if w := &p.ways; p.sessions.current.Load() != nil && w.linked {
		s.Carrier, s.CarrierWhy = w.on, w.why
		s.CarrierSince = t.wall().Add(w.since - t.now())
	}
	if p.asked != 0 && p.ways.goal != goalNone {
		heard := max(p.watched.heardBy(TransportUDP), p.watched.heardBy(TransportTCP)) // the old session may work all the same
		s.UnansweredSince = t.wall().Add(max(p.asked, heard) - t.now())
	}
	h := &p.hellos
	s.Extensions, s.Refused, s.Downgrades, s.Goodbye = p.extensions(), h.refused, h.lapses, h.goodbye
	switch {
	case h.holds:
		s.Software = softwareOf(&h.heard)
		if h.refused == "" {
			s.Announced = announced(h.heard.Capabilities)
		}
	case h.isPlain:
		s.Software = "wireguard"
		if t.lan != nil {
			s.Refused = "it is a plain WireGuard, which carries no frames"
		}
	}
	return s
}
