// Package control is the control socket of a tunnel: WireGuard's cross-platform
// userspace interface (https://www.wireguard.com/xplatform/), as server and as client.
//
// A running tunnel is Served on the socket that Listen makes at
// /var/run/wireguard/NAME.sock; wg(8) and wgctrl programs find it there. Programs that
// ask a tunnel something Dial it by name; the other end may be any program that speaks
// the interface.
//
// # Ours beyond the interface
//
// A get has further keys, which other readers pass over. None of the values has an '='
// in it, because some readers want exactly one per line.
//
//	up=true|false       of the device: whether the interface is up
//	mtu=N               of the device, in bytes
//	lanes=N             of the device: pairs of a queue and a socket
//	offload_NAME=on|off of the device; behind off there may stand a comma, a space and why
//	trusted_checksums=true|false  of the device: whether they are on
//	listen_tcp=N        of the device: the TCP port on which connections are taken
//	streams=N           of the device: open TCP connections
//	strangers=N         of the device: connections that were closed since they had proved nothing
//	drop_REASON=N       of the device and of a peer: packets dropped for that reason
//	name=NAME           of a peer that has one; '%' and '=' in it are written as %25 and %3d
//
// In tap mode there is of the device mode=tap, and behind it mac_ageing=SECONDS, mac_limit=N,
// storm_limit=N, and forward, port_security and link_local_frames with true or false, as in
// transport.EthernetStatus. Of the device, whose side is Local there, and of a peer:
//
//	macs=MAC,MAC        the addresses that alone may come from there
//	loop=true           nothing is flooded there
//	flaps=N, unlearned=N
//	station=MAC,VLAN,SECONDS  for each station that was heard; the VLAN is 0, N or OUTER.INNER
//
// and of a peer, each only where it says something, what transport.PeerStatus has by the
// same name; texts are escaped as names are:
//
//	transport=tcp|auto            without the line: udp
//	endpoints=ADDRESS,ADDRESS     where it may be; endpoint= is where packets go now
//	endpoints_tcp=ADDRESS,ADDRESS
//	carrier=tcp                   without the line: udp
//	carrier_time_sec=N, carrier_time_nsec=N
//	carrier_why=TEXT
//	unanswered_time_sec=N, unanswered_time_nsec=N
//	path_mtu=N
//	extensions=off|required       without the line: auto
//	software=TEXT                 "wireguard", or "stunnel" and its version
//	announced=WORD,WORD           extensions that it takes
//	refused=TEXT                  why extensions are not spoken with it
//	downgrades=N
//	goodbye_time_sec=N, goodbye_time_nsec=N
//	round_trip_nsec=N, echoes_sent=N, echoes_lost=N
//
// A set takes trusted_checksums=true|false and listen_tcp=N (0: none) of the device, name=NAME of a peer (an empty
// one removes it), extensions=auto|off|required, transport=udp|tcp|auto, endpoints= and endpoints_tcp= of a peer, the settings of tap mode as a get
// has them (an empty macs= lets a peer use any), and stop=true of the device: the program
// ends after it has answered. Other programs answer EINVAL to all of them.
package control

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"stunnel/transport"
)

// Dir is where control sockets are, one NAME.sock for each interface. All WireGuard
// programs use the same.
const Dir = "/var/run/wireguard"

// Errors that callers tell apart; they come wrapped.
var (
	// ErrRunning: another program listens on the socket of that name.
	ErrRunning = errors.New("is running already")
	// ErrNotRunning: there is no socket of that name, or nobody listens on it.
	ErrNotRunning = errors.New("is not running")
	// ErrForeign: the program at the other end is not stunnel.
	ErrForeign = errors.New("is run by another program")
)

// Device is what the server needs of a tunnel. *transport.Tunnel is one. Configure is
// called by one goroutine at a time, Status by several.
type Device interface {
	Configure(transport.Config) error
	Status() transport.Status
}

// The bounds of the server. All requests come from root, so they are there against
// accidents more than against enemies.
const (
	maxLine  = 4096      // bytes of one line, its end included
	maxSet   = 64 << 20  // bytes of one set operation
	maxHeld  = 128 << 20 // bytes of text held for all operations together
	maxConns = 64        // connections open at the same time

	// operationTime is what a client has to finish an operation that it has begun, and
	// then once more to take the answer. Between operations it may rest for ever.
	operationTime = 30 * time.Second
)

// maxReply bounds what the client reads as one reply, in bytes.
const maxReply = 1 << 30

// CheckName says why name cannot be that of an interface, or nil.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the interface name is empty")
	case len(name) > 15:
		return fmt.Errorf("the interface name %q is too long: %d bytes of at most 15", name, len(name))
	case name == "." || name == "..":
		return fmt.Errorf("%q is not a name for an interface", name)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == ':' }); i >= 0 {
		return fmt.Errorf("the interface name %q has %q in it", name, name[i:i+1])
	}
	return nil
}

func socketPath(dir, name string) string { return filepath.Join(dir, name+".sock") }
