package control

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"stunnel/transport"
)

// appendEthernet writes what there is in tap mode, of the device.
func appendEthernet(b []byte, e *transport.EthernetStatus) []byte {
	if e == nil {
		return b
	}
	b = appendText(b, "mode=", "tap")
	b = appendNumber(b, "mac_ageing=", uint64(e.MACAgeing/time.Second))
	b = appendNumber(b, "mac_limit=", uint64(e.MACLimit))
	b = appendNumber(b, "storm_limit=", uint64(e.StormLimit))
	b = appendText(b, "forward=", strconv.FormatBool(e.Forward))
	b = appendText(b, "port_security=", strconv.FormatBool(e.PortSecurity))
	b = appendText(b, "link_local_frames=", strconv.FormatBool(e.LinkLocalFrames))
	return appendPort(b, &e.Local)
}

// appendPort writes what the learning switch knows of the side of the device, or of a peer.
func appendPort(b []byte, p *transport.PortStatus) []byte {
	if len(p.MACs) > 0 {
		b = appendMACs(b, p.MACs)
	}
	if p.Loop {
		b = appendText(b, "loop=", "true")
	}
	if p.Flaps != 0 {
		b = appendNumber(b, "flaps=", p.Flaps)
	}
	if p.Unlearned != 0 {
		b = appendNumber(b, "unlearned=", p.Unlearned)
	}
	for _, s := range p.Stations {
		b = append(append(b, "station="...), s.MAC.String()...)
		b = append(append(append(b, ','), s.VLAN.String()...), ',')
		b = append(strconv.AppendInt(b, int64(max(s.Age, 0)/time.Second), 10), '\n')
	}
	return b
}

// macsOfALine is how many addresses a line has at most: it must not be longer than maxLine.
const macsOfALine = 100

// appendMACs writes addresses, an empty line for none.
func appendMACs(b []byte, macs []transport.MAC) []byte {
	for first := true; first || len(macs) > 0; first = false {
		words := make([]string, min(len(macs), macsOfALine))
		for i := range words {
			words[i] = macs[i].String()
		}
		macs = macs[len(words):]
		b = appendText(b, "macs=", strings.Join(words, ","))
	}
	return b
}

// ethernetLine takes a line of the device that appendEthernet has written; false: it is none.
func (p *statusParser) ethernetLine(key, value string) (known bool, err error) {
	s := &p.status
	if key == "mode" {
		if value != "tap" {
			return true, errors.New("not tap")
		}
		s.Ethernet = new(transport.EthernetStatus)
		return true, nil
	}
	e := s.Ethernet
	if e == nil {
		return false, nil
	}
	var n uint64
	switch key {
	case "mac_ageing":
		n, err = parseNumber(value, 31)
		e.MACAgeing = time.Duration(n) * time.Second
	case "mac_limit":
		n, err = parseNumber(value, 31)
		e.MACLimit = int(n)
	case "storm_limit":
		n, err = parseNumber(value, 31)
		e.StormLimit = int(n)
	case "forward":
		e.Forward, err = strconv.ParseBool(value)
	case "port_security":
		e.PortSecurity, err = strconv.ParseBool(value)
	case "link_local_frames":
		e.LinkLocalFrames, err = strconv.ParseBool(value)
	default:
		return portLine(&e.Local, key, value)
	}
	return true, err
}

// portLine takes a line that appendPort has written; false: it is none.
func portLine(p *transport.PortStatus, key, value string) (known bool, err error) {
	switch key {
	case "macs":
		p.MACs, err = parseMACs(p.MACs, value)
	case "loop":
		p.Loop, err = strconv.ParseBool(value)
	case "flaps":
		p.Flaps, err = parseNumber(value, 64)
	case "unlearned":
		p.Unlearned, err = parseNumber(value, 64)
	case "station":
		var s transport.Station
		if s, err = parseStation(value); err == nil {
			p.Stations = append(p.Stations, s)
		}
	default:
		return false, nil
	}
	return true, err
}

// parseStation reads an address, a VLAN and an age in seconds, with commas between them.
func parseStation(value string) (s transport.Station, err error) {
	words := strings.Split(value, ",")
	if len(words) != 3 {
		return s, errors.New("not three words with commas between them")
	}
	if s.MAC, err = transport.ParseMAC(words[0]); err != nil {
		return s, err
	}
	if s.VLAN, err = transport.ParseVLAN(words[1]); err != nil {
		return s, err
	}
	n, err := parseNumber(words[2], 31)
	s.Age = time.Duration(n) * time.Second
	return s, err
}

// parseMACs reads addresses with commas between them, or none, and appends them.
func parseMACs(macs []transport.MAC, value string) ([]transport.MAC, error) {
	if value == "" {
		return macs, nil
	}
	for word := range strings.SplitSeq(value, ",") {
		m, err := transport.ParseMAC(word)
		if err != nil {
			return nil, err
		}
		macs = append(macs, m)
	}
	return macs, nil
}

// appendEthernetConfig writes what c changes of tap mode, of the device.
func appendEthernetConfig(b []byte, c *transport.Config) []byte {
	if c.MACAgeing != nil {
		b = appendNumber(b, "mac_ageing=", uint64(max(*c.MACAgeing, 0)/time.Second))
	}
	if c.MACLimit != nil {
		b = appendNumber(b, "mac_limit=", uint64(max(*c.MACLimit, 0)))
	}
	if c.StormLimit != nil {
		b = appendNumber(b, "storm_limit=", uint64(max(*c.StormLimit, 0)))
	}
	for _, on := range []struct {
		key string
		is  *bool
	}{{"forward=", c.Forward}, {"port_security=", c.PortSecurity}, {"link_local_frames=", c.LinkLocalFrames}} {
		if on.is != nil {
			b = appendText(b, on.key, strconv.FormatBool(*on.is))
		}
	}
	return b
}

// setEthernet takes a line that appendEthernetConfig writes; false: it is none.
func setEthernet(c *transport.Config, key, value string) (known bool, err error) {
	var n uint64
	switch key {
	case "mac_ageing":
		n, err = parseNumber(value, 31)
		ageing := time.Duration(n) * time.Second
		c.MACAgeing = &ageing
	case "mac_limit":
		n, err = parseNumber(value, 31)
		limit := int(n)
		c.MACLimit = &limit
	case "storm_limit":
		n, err = parseNumber(value, 31)
		limit := int(n)
		c.StormLimit = &limit
	case "forward":
		c.Forward, err = parseSwitch(value)
	case "port_security":
		c.PortSecurity, err = parseSwitch(value)
	case "link_local_frames":
		c.LinkLocalFrames, err = parseSwitch(value)
	default:
		return false, nil
	}
	return true, err
}

func parseSwitch(value string) (*bool, error) {
	if value != "true" && value != "false" {
		return nil, errors.New(`neither "true" nor "false"`)
	}
	on := value == "true"
	return &on, nil
}
