package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"

	"stunnel/crypto"
	"stunnel/device/netconf"
)

// What Mode = tap adds to the plan. The order is such that the TAP has its address and its MTU before it becomes a port of the
// bridge: a bridge takes over the lowest of both.

// defaultTapMTU is Ethernet's. What does not fit the way outside goes in parts of ours.
const defaultTapMTU = 1500

// tapMAC is the address of a tunnel's TAP. It is high, so that a bridge does not take it for its own, and made of the public
// key: a machine that was cloned, and has a key of its own since, has another one. Keys that were searched for may begin
// alike, hashes of them do not.
func tapMAC(key crypto.PublicKey) net.HardwareAddr {
	hash := sha256.Sum256(key[:])
	return append(net.HardwareAddr{0xfe}, hash[:5]...)
}

// mac is the TAP's, as far as the file tells; nil: a hook sets the key.
func (p *plan) mac() net.HardwareAddr {
	in := &p.file.Interface
	switch {
	case in.MAC != nil:
		return in.MAC
	case in.PrivateKey != nil:
		return tapMAC(in.PrivateKey.Public())
	}
	return nil
}

// tap gives the TAP its address, and makes the bridge.
func (p *plan) tap() {
	in := &p.file.Interface
	if mac := p.mac(); mac != nil {
		p.tell("mac", "%s", mac)
	} else {
		p.tell("mac", "made from the public key")
	}
	p.do(func(ctx context.Context, u *upward) error {
		if in.MAC == nil && u.tunnel.device.Existed() {
			return nil // who made the interface has chosen one
		}
		mac := p.mac()
		if mac == nil {
			mac = tapMAC(u.tunnel.Status().PublicKey)
		}
		return u.step(ctx, &netconf.MAC{Interface: u.file.Name, Address: mac.String()})
	})
	if in.Bridge == "" {
		return
	}
	p.tell("bridge", "%s, which is made if it is not there", in.Bridge)
	p.do(func(ctx context.Context, u *upward) error {
		return u.change(ctx, &netconf.Bridge{Name: in.Bridge, For: u.file.Name})
	})
}

// bridgePort connects the TAP with the bridge, and says what is known to be in the way of frames.
func (p *plan) bridgePort() {
	bridge := p.file.Interface.Bridge
	if bridge == "" {
		return
	}
	p.tell("port", "%s of %s", p.file.Name, bridge)
	p.do(func(ctx context.Context, u *upward) error {
		if err := u.step(ctx, &netconf.BridgePort{Interface: u.file.Name, Bridge: bridge}); err != nil {
			return err
		}
		if up, err := u.net.IsUp(bridge); err == nil && !up {
			u.log.Warn(fmt.Sprintf("the bridge %s is down, and forwards nothing: ip link set %s up", bridge, bridge))
		}
		for _, w := range bridgeFilterWarnings(bridge, u.file.Name) {
			u.log.Warn(w)
		}
		return nil
	})
}

// addressed is the interface that has the addresses: the bridge has those of all its ports.
func (p *plan) addressed() string {
	if bridge := p.file.Interface.Bridge; bridge != "" {
		return bridge
	}
	return p.file.Name
}

// tapMTU is the file's, or the bridge's, or Ethernet's.
func (u *upward) tapMTU() int {
	in := &u.file.Interface
	bridge := u.net.BridgeMTU(in.Bridge)
	switch {
	case in.MTU != 0 && bridge > in.MTU:
		u.log.Warn(fmt.Sprintf("MTU %d is less than that of %s, %d, which becomes less too unless it was set by hand", in.MTU, in.Bridge, bridge))
		return in.MTU
	case in.MTU != 0:
		return in.MTU
	case bridge != 0:
		return bridge
	}
	return defaultTapMTU
}
