package transport

import (
	"fmt"

	"stunnel/transport/socket"
)

// carriers are UDP and TCP, by their Transport.
const carriers = 2

// Transport is what may carry a peer's messages.
type Transport uint8

const (
	TransportUDP  Transport = iota
	TransportTCP            // nothing but a TCP connection
	TransportAuto           // UDP, and TCP where UDP does not get through
)

var transportNames = [...]string{TransportUDP: "udp", TransportTCP: "tcp", TransportAuto: "auto"}

// String is the word for t in configuration files: udp, tcp or auto.
func (t Transport) String() string { return transportNames[t] }

// protocol is the name of what t is on the wire.
func (t Transport) protocol() string {
	if t == TransportTCP {
		return "TCP"
	}
	return "UDP"
}

// ParseTransport reads the word that String writes.
func ParseTransport(word string) (Transport, error) {
	for t, name := range transportNames {
		if word == name {
			return Transport(t), nil
		}
	}
	return 0, fmt.Errorf("%q is no transport: udp, tcp or auto", word)
}

// carrierOf is what carries messages on a path; nil: UDP.
func carrierOf(path *socket.Path) Transport {
	if path != nil && path.Stream != nil {
		return TransportTCP
	}
	return TransportUDP
}
