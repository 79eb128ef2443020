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

	// ListenTCP is the TCP port on which connections are taken; 0: none are. Streams is how many are open, dialled ones
	// included, and Strangers how many connections were closed since they had not proved anything.
	ListenTCP uint16
	Streams   int
	Strangers uint64

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

	// TrustedChecksums says whether they are on, see Config.
	TrustedChecksums bool

	// Ethernet is what there is in tap mode; nil: the tunnel is in tun mode.
	Ethernet *EthernetStatus

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

	// Endpoints and EndpointsTCP are where it may be, as configured last.
	Endpoints, EndpointsTCP []netip.AddrPort

	// Transport is what may carry the peer's messages, Carrier what does: TransportUDP or TransportTCP. CarrierSince is
	// since when, by the wall clock, and CarrierWhy why, for people: "UDP does not get through". Without a session
	// CarrierSince is the zero time and CarrierWhy "".
	Transport    Transport
	Carrier      Transport
	CarrierSince time.Time
	CarrierWhy   string

	// PathMTU is the largest packet outside, IP header included, that is known to reach the peer, in bytes; 0: nothing is
	// measured, as with a plain WireGuard, or over TCP.
	PathMTU int

	// LastHandshake is when the newest session began, by the wall clock; the
	// zero time: there has been none.
	LastHandshake time.Time

	// UnansweredSince is since when handshakes are tried and nothing has come, by the wall clock; the zero time: none is being
	// tried.
	UnansweredSince time.Time

	// TxBytes and RxBytes count whole UDP payloads, sent and received, of
	// authenticated messages: handshakes and keepalives too.
	TxBytes, RxBytes uint64

	// PersistentKeepalive is the configured interval; 0: off.
	PersistentKeepalive time.Duration

	// AllowedIPs are the prefixes that are this peer's now, masked.
	AllowedIPs []netip.Prefix

	// Extensions is what may be spoken with the peer.
	Extensions Extensions

	// Software is what the peer runs: "stunnel" and a version, as it announced
	// itself (printable ASCII, at most 24 bytes), "wireguard" for what announces
	// nothing; "": no session was old enough yet to tell.
	Software string

	// Announced are the extensions that the peer takes from us, sorted words of
	// lower-case letters and '_': "echo", "fragments", "frames", "probes", "trusted_checksums".
	Announced []string

	// Refused is why extensions that the peer announced are not spoken with it;
	// "": they are, or it announced none.
	Refused string

	// Downgrades is how often the peer spoke extensions and then did no more.
	Downgrades uint64

	// Goodbye is when the peer said that it goes down, by the wall clock; the
	// zero time: it did not, or has come back.
	Goodbye time.Time

	// RoundTrip is the median time from an echo to its reply, of those of the last
	// minute; 0: there was none. EchoesSent and EchoesLost count those of the last
	// minute whose fate is known. Only peers with the extension get echoes, and
	// only while there is traffic.
	RoundTrip              time.Duration
	EchoesSent, EchoesLost int

	// Port is what is known of the Ethernet stations on the peer's side. In tun mode there
	// is nothing in it.
	Port PortStatus

	// Drops counts this peer's dropped packets, as Status.Drops does.
	Drops map[string]uint64
}

// Silent says whether the peer ought to have answered by now and has not: handshakes were tried for 10 s. One that has said that
// it goes down is not.
func (s *PeerStatus) Silent(now time.Time) bool {
	return s.Goodbye.IsZero() && !s.UnansweredSince.IsZero() && now.Sub(s.UnansweredSince) >= complainAfter
}
