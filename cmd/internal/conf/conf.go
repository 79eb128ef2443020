// Package conf reads tunnel configuration files: the format of wg-quick(8), all of its keys, with some of our own
// (`Name`, `PresharedKeyFile`, `EndpointTCP`, `Transport`, `Extensions` and `MACs` in [Peer], `PrivateKeyFile`, `ListenTCP`,
// `ListenAddress`, `BindDevice`, `Offload`, `TrustedChecksums`, `Lanes`,
// `Metric`, `SourceRules`, `KillSwitch`, `KillSwitchAllow`, `Masquerade` and `MSSClamp`, `Mode`, `Bridge` and `MAC` in
// [Interface], and there for how frames are switched `MACAgeing`, `MACLimit`, `StormLimit`, `Forward`, `PortSecurity` and
// `LinkLocalFrames`).
//
// The format is specified by wg(8), "CONFIGURATION FILE FORMAT", and wg-quick(8), "CONFIGURATION". Where it differs
// here: a key that cannot be obeyed yet is an error, never ignored; hooks keep their '#', for the shell to interpret;
// a second PublicKey in one [Peer] is an error, since it is a missing [Peer] line; a second Endpoint is one more, and
// does not replace the first.
//
// The two calls most readers need: [Find] turns what the user typed into a path, [Load] turns the path into a [File],
// or into all errors of the file at once. No error or warning contains a secret.
package conf

import (
	"net"
	"net/netip"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// File is one tunnel as its configuration file describes it, valid as a whole.
type File struct {
	Path      string // as given to Load or Parse
	Name      string // of the interface: the file's name without .conf
	Interface Interface
	Peers     []Peer // in the order of the file
	Warnings  []string
}

// Interface is the [Interface] section.
type Interface struct {
	Line             int                // of its [Interface], the first one if it is repeated
	PrivateKey       *crypto.PrivateKey // nil: a PreUp or PostUp hook sets it
	PrivateKeyFile   string             // where Load has read it from; "" when it stands in the file itself
	ListenPort       *uint16            // nil or 0: the kernel chooses
	ListenTCP        uint16             // 0: no TCP connection is taken
	ListenAddress    netip.Addr         // of this host, to be reached there alone; the zero Addr: at all of them
	BindDevice       string             // by which alone sealed packets come and go; "": any
	FwMark           *uint32            // nil or 0: none
	Address          []netip.Prefix     // with their host bits
	DNS              DNS
	MTU              int // in bytes; 0: automatic
	Table            Table
	Metric           uint32   // of the routes; 0: the kernel chooses
	SourceRules      bool     // what is sent from an Address takes the table that Table names; false if the file does not say
	PreUp            []string // shell commands as written, %i included
	PostUp           []string
	PreDown          []string
	PostDown         []string
	Offload          bool             // let the kernel handle packets in bulk, at the device and at the sockets; true if the file does not say
	TrustedChecksums bool             // let partial checksums travel so between two stunnels; true if the file does not say
	Lanes            int              // pairs of a device queue and a socket, each with a core's work, 1 to 64; 0: as many as fit the machine
	Ethernet         bool             // Mode = tap: the tunnel carries Ethernet frames, not IP packets
	Bridge           string           // that the TAP becomes a port of; "": none
	MAC              net.HardwareAddr // of the TAP; nil: made from the public key
	SaveConfig       bool             // false: not supported yet, and refused
	KillSwitch       bool             // nothing leaves the host but through the tunnel
	KillSwitchAllow  KillSwitchAllow
	Masquerade       Masquerade
	MSSClamp         MSSClamp

	// How frames are switched (Mode = tap).
	MACAgeing       time.Duration // 0: transport.DefaultMACAgeing
	MACLimit        int           // addresses learned behind one peer; 0: transport.DefaultMACLimit
	StormLimit      *int          // flooded frames per second from one peer, 0: any number; nil: transport.DefaultStormLimit
	Forward         bool          // between peers
	PortSecurity    bool
	LinkLocalFrames bool // to 01:80:c2:00:00:0x pass
}

// Table says where the routes of the allowed IPs go. One of the three fields tells; with neither Off nor Auto it
// is Number.
type Table struct {
	Off    bool   // no routes
	Number uint32 // routing table, by number or by its name in iproute2's rt_tables; 0 is the main table
	Auto   bool   // the main table, the default
}

// Peer is a [Peer] section.
type Peer struct {
	Line                int    // of its [Peer]
	Name                string // "" when it has none
	PublicKey           crypto.PublicKey
	PresharedKey        *crypto.PresharedKey // nil: none
	PresharedKeyFile    string               // where Load has read it from
	AllowedIPs          []netip.Prefix       // masked, without repetitions, in the order of the file
	Endpoints           []string             // host:port as written, see ResolveEndpoint, in the order in which they are tried
	EndpointsTCP        []string             // the same for TCP; empty: Endpoints
	Transport           *transport.Transport // nil: the file does not say, see TransportOf
	PersistentKeepalive time.Duration        // 0: off
	Extensions          transport.Extensions // auto if the file does not say
	MACs                []transport.MAC      // from which alone frames may come; empty: from any
}

// TransportOf is what may carry the peer's messages: what the file says, or else UDP, and TCP too where the file names an
// endpoint for it, or the peer has spoken it before.
func (p *Peer) TransportOf(spokeTCP bool) transport.Transport {
	switch {
	case p.Transport != nil:
		return *p.Transport
	case len(p.EndpointsTCP) > 0 || spokeTCP:
		return transport.TransportAuto
	}
	return transport.TransportUDP
}

// Title is how output calls the peer: by its name, or else by its public key.
func (p *Peer) Title() string {
	if p.Name != "" {
		return p.Name
	}
	return p.PublicKey.String()
}
