package transport

import (
	"fmt"
	"syscall"
	"time"
)

// The most that settings may be: memory, and what a Duration can have.
const (
	maxMACAgeing  = 1_000_000 * time.Second // as in IEEE 802.1Q
	maxMACLimit   = 1 << 20
	maxStormLimit = 10_000_000
)

// checkEthernet refuses, with EINVAL, settings that cannot be, and what a tunnel in tap
// mode cannot have.
func (t *Tunnel) checkEthernet(c *Config) error {
	switch {
	case c.MACAgeing != nil && (*c.MACAgeing < time.Second || *c.MACAgeing > maxMACAgeing):
		return fmt.Errorf("MAC ageing of %v is not from 1s to %v: %w", *c.MACAgeing, maxMACAgeing, syscall.EINVAL)
	case c.MACLimit != nil && (*c.MACLimit < 1 || *c.MACLimit > maxMACLimit):
		return fmt.Errorf("MAC limit of %d is not from 1 to %d: %w", *c.MACLimit, maxMACLimit, syscall.EINVAL)
	case c.StormLimit != nil && (*c.StormLimit < 0 || *c.StormLimit > maxStormLimit):
		return fmt.Errorf("storm limit of %d is not from 0 to %d: %w", *c.StormLimit, maxStormLimit, syscall.EINVAL)
	}
	owners := make(map[MAC]int)
	for i := range c.Peers {
		p := &c.Peers[i]
		if t.lan != nil && p.Extensions != nil && *p.Extensions == ExtensionsOff {
			return fmt.Errorf("extensions are off for a peer, and without them no frame goes or comes (tap mode): %w", syscall.EINVAL)
		}
		if p.MACs == nil {
			continue
		}
		for _, a := range *p.MACs {
			if owner := t.pinnedTo(a, c); owner != nil && owner.publicKey != p.PublicKey {
				return fmt.Errorf("%v is the address of another peer, %v: %w", a, owner.publicKey, syscall.EINVAL)
			}
			if !a.IsStation() {
				return fmt.Errorf("%v is no address that one station can have: %w", a, syscall.EINVAL)
			}
			if first, again := owners[a]; again && c.Peers[first].PublicKey != p.PublicKey {
				return fmt.Errorf("%v is given to two peers: %w", a, syscall.EINVAL)
			}
			owners[a] = i
		}
	}
	return nil
}

// pinnedTo is the peer that has an address among its MACs, and still has when c is applied;
// nil: none.
func (t *Tunnel) pinnedTo(a MAC, c *Config) *peer {
	if t.lan == nil || c.ReplacePeers {
		return nil
	}
	owner := t.lan.table.Pinned(a)
	if owner == nil {
		return nil
	}
	p := owner.Owner.peer
	for i := range c.Peers {
		if change := &c.Peers[i]; change.PublicKey == p.publicKey && (change.Remove || change.MACs != nil) {
			return nil // what it gets instead is looked at there
		}
	}
	return p
}

// configureEthernet applies what is of tap mode; in tun mode there is nothing that it could
// change. mu is held.
func (t *Tunnel) configureEthernet(c *Config) {
	n := t.lan
	if n == nil {
		return
	}
	if c.MACAgeing != nil {
		n.table.SetAgeing(*c.MACAgeing)
		n.sweep.stop()
		n.armSweep(t.now())
	}
	if c.MACLimit != nil {
		n.limit = *c.MACLimit
		n.table.SetLimit(n.limit)
	}
	if c.StormLimit != nil {
		n.setStormLimit(*c.StormLimit)
	}
	if c.Forward != nil {
		n.forward.Store(*c.Forward)
	}
	if c.PortSecurity != nil {
		n.secure.Store(*c.PortSecurity)
		n.table.SetSecure(*c.PortSecurity)
	}
	if c.LinkLocalFrames != nil {
		n.linkLocal.Store(*c.LinkLocalFrames)
	}
}

// EthernetStatus is what there is in tap mode alone.
type EthernetStatus struct {
	// The settings of Config by these names.
	MACAgeing                              time.Duration
	MACLimit, StormLimit                   int
	Forward, PortSecurity, LinkLocalFrames bool

	// Local is what is known of the side of the device.
	Local PortStatus
}

// PortStatus is what the learning switch knows of the side of a peer, or of the device.
type PortStatus struct {
	// Stations are those that were heard there, by VLAN and address.
	Stations []Station

	// MACs are the addresses that alone may come from there; none: any may.
	MACs []MAC

	// Loop says that nothing is flooded there, because what left by the device came
	// back from there.
	Loop bool

	// Flaps counts how often a station was not followed there because it moves too
	// often. Unlearned counts frames of stations for which there was no room.
	Flaps, Unlearned uint64
}

// Station is an address that was heard.
type Station struct {
	MAC  MAC
	VLAN VLAN
	Age  time.Duration // since it was heard last, exact to a second
}

// status is that of the switch but for what is behind peers.
func (n *lan) status(stations map[*port][]Station, now time.Duration) *EthernetStatus {
	return &EthernetStatus{
		MACAgeing: n.table.Ageing(), MACLimit: n.limit, StormLimit: n.storm,
		Forward: n.forward.Load(), PortSecurity: n.secure.Load(), LinkLocalFrames: n.linkLocal.Load(),
		Local: n.local.status(stations, now),
	}
}

// stations are those that are known, by port. In tun mode there are none.
func (n *lan) stations(now time.Duration) map[*port][]Station {
	if n == nil {
		return nil
	}
	all := make(map[*port][]Station)
	for _, e := range n.table.All(now) {
		o := e.Port.Owner
		all[o] = append(all[o], Station{e.MAC, e.VLAN, e.Age})
	}
	return all
}

// status of a port, nil in tun mode. Tunnel.mu is held.
func (o *port) status(stations map[*port][]Station, now time.Duration) PortStatus {
	if o == nil {
		return PortStatus{}
	}
	s := PortStatus{
		Stations: stations[o], Loop: o.loop.stops(now),
		Flaps: o.flaps.Load(), Unlearned: o.unlearned.Load(),
	}
	if o.pinned != nil {
		s.MACs = *o.pinned
	}
	return s
}
