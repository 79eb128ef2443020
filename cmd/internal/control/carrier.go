package control

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"stunnel/transport"
)

// appendListening writes how the device is reached over TCP, if it is.
func appendListening(b []byte, s *transport.Status) []byte {
	if s.ListenTCP != 0 {
		b = appendNumber(b, "listen_tcp=", uint64(s.ListenTCP))
	}
	if s.Streams > 0 {
		b = appendNumber(b, "streams=", uint64(s.Streams))
	}
	if s.Strangers > 0 {
		b = appendNumber(b, "strangers=", s.Strangers)
	}
	return b
}

// listeningLine takes a line that appendListening has written; false: it is none.
func listeningLine(s *transport.Status, key, value string) (known bool, err error) {
	var n uint64
	switch key {
	case "listen_tcp":
		n, err = parseNumber(value, 16)
		s.ListenTCP = uint16(n)
	case "streams":
		n, err = parseNumber(value, 31)
		s.Streams = int(n)
	case "strangers":
		s.Strangers, err = parseNumber(value, 64)
	default:
		return false, nil
	}
	return true, err
}

// appendCarrier writes by which ways a peer may be reached, and how it is.
func appendCarrier(b []byte, p *transport.PeerStatus) []byte {
	if p.Transport != transport.TransportUDP {
		b = appendText(b, "transport=", p.Transport.String())
	}
	if len(p.Endpoints) > 0 {
		b = appendEndpoints(b, "endpoints=", p.Endpoints)
	}
	if len(p.EndpointsTCP) > 0 {
		b = appendEndpoints(b, "endpoints_tcp=", p.EndpointsTCP)
	}
	if p.Carrier != transport.TransportUDP {
		b = appendText(b, "carrier=", p.Carrier.String())
	}
	if sec := p.CarrierSince.Unix(); sec >= 0 { // the zero time is long before
		b = appendNumber(b, "carrier_time_sec=", uint64(sec))
		b = appendNumber(b, "carrier_time_nsec=", uint64(p.CarrierSince.Nanosecond()))
	}
	if p.CarrierWhy != "" {
		b = appendText(b, "carrier_why=", escapeName(p.CarrierWhy))
	}
	if sec := p.UnansweredSince.Unix(); sec >= 0 {
		b = appendNumber(b, "unanswered_time_sec=", uint64(sec))
		b = appendNumber(b, "unanswered_time_nsec=", uint64(p.UnansweredSince.Nanosecond()))
	}
	if p.PathMTU > 0 {
		b = appendNumber(b, "path_mtu=", uint64(p.PathMTU))
	}
	return b
}

// carrierLine takes a line of a peer that appendCarrier has written; false: it is none.
func (p *statusParser) carrierLine(peer *transport.PeerStatus, key, value string) (known bool, err error) {
	var n uint64
	switch key {
	case "transport":
		peer.Transport, err = parseTransport(value)
	case "endpoints":
		peer.Endpoints, err = parseEndpoints(value)
	case "endpoints_tcp":
		peer.EndpointsTCP, err = parseEndpoints(value)
	case "carrier":
		if peer.Carrier, err = parseTransport(value); peer.Carrier == transport.TransportAuto {
			err = errors.New("neither udp nor tcp")
		}
	case "carrier_time_sec":
		err = p.carrier.setSec(value)
		peer.CarrierSince = p.carrier.time()
	case "carrier_time_nsec":
		err = p.carrier.setNsec(value)
		peer.CarrierSince = p.carrier.time()
	case "carrier_why":
		peer.CarrierWhy, err = unescapeName(value)
	case "unanswered_time_sec":
		err = p.unanswered.setSec(value)
		peer.UnansweredSince = p.unanswered.time()
	case "unanswered_time_nsec":
		err = p.unanswered.setNsec(value)
		peer.UnansweredSince = p.unanswered.time()
	case "path_mtu":
		n, err = parseNumber(value, 31)
		peer.PathMTU = int(n)
	default:
		return false, nil
	}
	return true, err
}

// setCarrier takes a line of a set operation about the ways to a peer; false: it is none.
func setCarrier(c *transport.PeerConfig, key, value string) (known bool, err error) {
	var to []netip.AddrPort
	switch key {
	case "transport":
		var t transport.Transport
		t, err = parseTransport(value)
		c.Transport = &t
	case "endpoints":
		to, err = parseEndpoints(value)
		c.Endpoints = &to
	case "endpoints_tcp":
		to, err = parseEndpoints(value)
		c.EndpointsTCP = &to
	default:
		return false, nil
	}
	return true, err
}

// appendCarrierConfig writes what setCarrier takes.
func appendCarrierConfig(b []byte, c *transport.PeerConfig) []byte {
	if c.Transport != nil {
		b = appendText(b, "transport=", c.Transport.String())
	}
	if c.Endpoints != nil {
		b = appendEndpoints(b, "endpoints=", *c.Endpoints)
	}
	if c.EndpointsTCP != nil {
		b = appendEndpoints(b, "endpoints_tcp=", *c.EndpointsTCP)
	}
	return b
}

// maxEndpoints of one line: it must not be longer than maxLine.
const maxEndpoints = 50

// appendEndpoints writes the first of them that fit a line.
func appendEndpoints(b []byte, key string, endpoints []netip.AddrPort) []byte {
	var words []string
	for _, e := range endpoints[:min(len(endpoints), maxEndpoints)] {
		words = append(words, escapeName(e.String()))
	}
	return appendText(b, key, strings.Join(words, ","))
}

// parseEndpoints reads addresses with commas between them; none of an empty value.
func parseEndpoints(value string) ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	if value == "" {
		return all, nil
	}
	for word := range strings.SplitSeq(value, ",") {
		text, err := unescapeName(word)
		if err != nil {
			return nil, err
		}
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		if all = append(all, e); len(all) > maxEndpoints {
			return nil, fmt.Errorf("more than %d", maxEndpoints)
		}
	}
	return all, nil
}

// parseTransport does not repeat a wrong value: it could be anything, a key too.
func parseTransport(value string) (transport.Transport, error) {
	t, err := transport.ParseTransport(value)
	if err != nil {
		return 0, errors.New("none of udp, tcp and auto")
	}
	return t, nil
}
