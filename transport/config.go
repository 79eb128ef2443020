package transport

import (
	"fmt"
	"net/netip"
	"time"

	"stunnel/crypto"
)

// Config is a change to a Tunnel: what is nil, false or empty is left alone.
// It has exactly the meaning of one `set=1` operation of WireGuard's
// cross-platform interface (https://www.wireguard.com/xplatform/), with types
// in the place of text. Tunnel.Configure applies it; the fields are applied in
// the order in which they stand here.
type Config struct {
	// PrivateKey is the local static key. The zero key removes it: the tunnel
	// then neither makes nor answers handshakes. A new key ends all sessions.
	PrivateKey *crypto.PrivateKey

	// ListenPort is the local UDP port; 0 lets the kernel choose one.
	ListenPort *uint16

	// ListenTCP is the local TCP port on which connections are taken; 0: none is.
	ListenTCP *uint16

	// FwMark is the mark (SO_MARK) of the tunnel's own packets; 0 is no mark.
	FwMark *uint32

	// TrustedChecksums says whether packets whose checksum a local stack has left
	// to the network card travel so between two stunnels, both ways. A new Tunnel
	// has it on.
	TrustedChecksums *bool

	// What follows is of tap mode (Options.Ethernet) and has no effect in tun mode.

	// MACAgeing is after how long without a word a station is forgotten, from one
	// second up. A new Tunnel has DefaultMACAgeing.
	MACAgeing *time.Duration

	// MACLimit is how many stations are learned behind one peer, or behind the device;
	// frames for others are flooded. A new Tunnel has DefaultMACLimit.
	MACLimit *int

	// StormLimit is how many frames a second that are broadcast, multicast or for an
	// unknown station may come from one peer, or from the device, and at once; 0: any
	// number. A new Tunnel has DefaultStormLimit.
	StormLimit *int

	// Forward sends what comes from one peer to others. That is for a hub whose peers
	// do not know each other: two of them that do make a loop.
	Forward *bool

	// PortSecurity keeps a peer from sending from an address that was heard from
	// another peer, or from the device, within MACAgeing, and from more addresses than
	// MACLimit.
	PortSecurity *bool

	// LinkLocalFrames lets frames pass that are for one link alone, the groups
	// 01:80:C2:00:00:00 to :0F: spanning tree, LACP, 802.1X, LLDP. Bridges do not
	// forward them.
	LinkLocalFrames *bool

	// ReplacePeers removes every peer before Peers are looked at.
	ReplacePeers bool

	// Peers are applied in order; the same public key may occur more than once.
	Peers []PeerConfig
}

// PeerConfig adds a peer, or changes or removes the one with this PublicKey.
// What is nil, false or empty is left alone; a new peer begins with no name, no
// preshared key, no endpoint, no persistent keepalive, no allowed IPs and
// ExtensionsAuto; one that was here before gets back its name, Extensions and MACs.
type PeerConfig struct {
	// PublicKey says which peer is meant. It is the only field that is required.
	// Our own public key is passed over in silence, as WireGuard does.
	PublicKey crypto.PublicKey

	// Remove removes the peer and everything that hangs on it; the other
	// fields do not matter then. It is no error if there is no such peer.
	Remove bool

	// UpdateOnly passes the change over, in silence, if there is no such peer.
	UpdateOnly bool

	// Name is what people call the peer; "" removes the name. It has no meaning
	// in the protocol and never leaves the host.
	Name *string

	// PresharedKey is mixed into each later handshake; the zero key is none.
	PresharedKey *crypto.PresharedKey

	// Endpoint is where the peer's packets are sent to, until an authenticated
	// packet comes from elsewhere. An IPv4 address is not mapped into IPv6; a
	// zone is kept.
	Endpoint *netip.AddrPort

	// Endpoints are all addresses at which the peer may be, in the order in which they are to be tried; Endpoint alone means
	// one. New ones never move a path that works: one of them is used once a handshake has completed there.
	Endpoints *[]netip.AddrPort

	// EndpointsTCP are those to dial with TCP; empty: the same as for UDP.
	EndpointsTCP *[]netip.AddrPort

	// Transport says what may carry the peer's messages.
	Transport *Transport

	// PersistentKeepalive is the interval after which an empty message is sent
	// when nothing else was, in whole seconds from 0 to 65535; 0 is off.
	PersistentKeepalive *time.Duration

	// Extensions says what may be spoken with the peer beside WireGuard. In tap mode
	// they are required, whatever this says, but for ExtensionsOff, which is an error.
	Extensions *Extensions

	// MACs are the only addresses from which frames may come from the peer, in any VLAN,
	// and from nowhere else; empty: it may use any. It has no effect in tun mode.
	MACs *[]MAC

	// ReplaceAllowedIPs removes all allowed IPs before AllowedIPs are applied.
	ReplaceAllowedIPs bool

	// AllowedIPs are applied in order.
	AllowedIPs []AllowedIPChange
}

// AllowedIPChange gives a prefix to a peer, taking it from the peer that had
// it, or, with Remove, takes it away from this peer if it is this peer's.
// Bits of Prefix behind its length do not matter.
type AllowedIPChange struct {
	Prefix netip.Prefix
	Remove bool
}

// Extensions is what may be spoken with a peer beside WireGuard
// (docs/protocol-extensions.md).
type Extensions uint8

const (
	ExtensionsAuto     Extensions = iota // what the peer announces, else plain WireGuard
	ExtensionsOff                        // plain WireGuard
	ExtensionsRequired                   // no packet goes or comes before the peer has announced them
)

var extensionsNames = [...]string{ExtensionsAuto: "auto", ExtensionsOff: "off", ExtensionsRequired: "required"}

// String is the word for e in configuration files: auto, off or required.
func (e Extensions) String() string { return extensionsNames[e] }

// ParseExtensions reads the word that String writes.
func ParseExtensions(word string) (Extensions, error) {
	for e, name := range extensionsNames {
		if word == name {
			return Extensions(e), nil
		}
	}
	return 0, fmt.Errorf("%q is none of auto, off and required", word)
}
