package transport

import (
	"net/netip"
	"time"

	"stunnel/crypto"
)

// Status is a Tunnel's state at one moment, a copy that its receiver owns. It
// has what a `get=1` operation of WireGuard's cross-platform interface tells
// (https://www.wireguard.com/xplatform/), and the counters of dropped packets.
// It holds secrets: their types hide them from every fmt verb and from loggers,
// and only Base64 and Hex show them.
type Status struct {
	// PrivateKey and PublicKey are the local static keys; zero: none is set.
	PrivateKey crypto.PrivateKey
	PublicKey  crypto.PublicKey

	// ListenPort is the UDP port in use, the kernel's choice if that was
	// asked for; 0 while the tunnel is down and no port was configured.
	ListenPort uint16

	// FwMark is the mark (SO_MARK) of the tunnel's own packets; 0: none.
	FwMark uint32

	// Up says whether the interface is up and the sockets are open.
	Up bool

	// MTU is the interface's, in bytes.
	MTU int

	// Lanes is how many pairs of a queue and a socket carry the packets; 0: the
	// program does not tell.
	Lanes int

	// Offloads are sorted by name. Of a program that does not tell, and as far
	// as the sockets are concerned while the tunnel is down, there are none.
	Offloads []Offload

	// Drops counts packets dropped before it was known whose they were:
	// reason -> packets; those that the device did not take too. It has only reasons that happened; each is a word of
	// lower-case letters, digits and '_'.
	Drops map[string]uint64

	// Peers are in the order in which they were added.
	Peers []PeerStatus
}

// PeerStatus is one peer's part of a Status.
type PeerStatus struct {
	// Name is what people call the peer; "": no name was given.
	Name string

	PublicKey    crypto.PublicKey
	PresharedKey crypto.PresharedKey // zero: none

	// Endpoint is where packets go now; the zero AddrPort: not known yet.
	Endpoint netip.AddrPort

	// LastHandshake is when the newest session began, by the wall clock; the
	// zero time: there has been none.
	LastHandshake time.Time

	// TxBytes and RxBytes count whole UDP payloads, sent and received, of
	// authenticated messages: handshakes and keepalives too.
	TxBytes, RxBytes uint64

	// PersistentKeepalive is the configured interval; 0: off.
	PersistentKeepalive time.Duration

	// AllowedIPs are the prefixes that are this peer's now, masked.
	AllowedIPs []netip.Prefix

	// Drops counts this peer's dropped packets, as Status.Drops does.
	Drops map[string]uint64
}
