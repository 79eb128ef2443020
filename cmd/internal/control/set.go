package control

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// request is one set operation, parsed.
type request struct {
	config transport.Config
	stop   bool
}

// readSet reads a set operation, from behind its `set=1` up to and with the empty line.
// Nothing is applied here: a request is whole and valid or it is an error.
//
// refused says what is wrong with a request that was read to its end, with the errno
// that the client gets; the connection is still in step then. err is the connection's
// own error. hold is asked before each line, with its length in bytes, whether there is
// room for it.
func readSet(br *bufio.Reader, hold func(n int) error) (r request, refused, err error) {
	var p setParser
	for number := 2; ; number++ {
		line, err := nextLine(br)
		if err != nil && !errors.Is(err, errLongLine) {
			return request{}, nil, err
		}
		if err == nil && len(line) == 0 {
			break
		}
		if refused != nil {
			continue // read on to the end, else a client that is still writing is hit by SIGPIPE
		}
		if err != nil {
			refused = fmt.Errorf("%w: %w", err, syscall.EINVAL)
		} else if refused = hold(len(line) + 1); refused == nil {
			refused = p.line(line)
		}
		if refused != nil {
			refused = fmt.Errorf("line %d: %w", number, refused)
			p = setParser{}
		}
	}
	if refused != nil {
		return request{}, refused, nil
	}
	return p.request, nil, nil
}

// setParser takes the lines of a set operation one by one.
type setParser struct {
	request
	inPeers bool
}

func (p *setParser) line(line []byte) error {
	key, value, ok := cutLine(line)
	if !ok {
		return fmt.Errorf("not of the form key=value: %w", syscall.EPROTO)
	}
	var err error
	switch {
	case isKey(key) && strings.ContainsAny(value, "ABCDEF"):
		err = errors.New("a key is written in lower-case hex digits")
	case key == "public_key":
		var public crypto.PublicKey
		if public, err = crypto.ParsePublicKeyHex(value); err == nil {
			p.inPeers = true
			p.config.Peers = append(p.config.Peers, transport.PeerConfig{PublicKey: public})
		}
	case p.inPeers:
		err = setPeer(&p.config.Peers[len(p.config.Peers)-1], key, value)
	default:
		err = p.setDevice(key, value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", printable(key), err, syscall.EINVAL)
	}
	return nil
}

func (p *setParser) setDevice(key, value string) error {
	c := &p.config
	switch key {
	case "private_key":
		private, err := parsePrivateKey(value)
		if err != nil {
			return err
		}
		c.PrivateKey = &private
	case "listen_port":
		port, err := parseNumber(value, 16)
		if err != nil {
			return err
		}
		n := uint16(port)
		c.ListenPort = &n
	case "listen_tcp":
		port, err := parseNumber(value, 16)
		if err != nil {
			return err
		}
		n := uint16(port)
		c.ListenTCP = &n
	case "fwmark":
		mark, err := parseNumber(value, 32)
		if err != nil {
			return err
		}
		n := uint32(mark)
		c.FwMark = &n
	case "trusted_checksums":
		on, err := parseSwitch(value)
		if err != nil {
			return err
		}
		c.TrustedChecksums = on
	case "replace_peers":
		return parseTrue(value, &c.ReplacePeers)
	case "stop":
		return parseTrue(value, &p.stop)
	default:
		known, err := setEthernet(c, key, value)
		if !known {
			return errUnknownKey
		}
		return err
	}
	return nil
}

func setPeer(c *transport.PeerConfig, key, value string) error {
	switch key {
	case "remove":
		return parseTrue(value, &c.Remove)
	case "update_only":
		return parseTrue(value, &c.UpdateOnly)
	case "replace_allowed_ips":
		c.AllowedIPs = nil // what stood before it would be replaced too
		return parseTrue(value, &c.ReplaceAllowedIPs)
	case "protocol_version":
		if value != "1" {
			return errors.New("not 1")
		}
	case "preshared_key":
		psk, err := crypto.ParsePresharedKeyHex(value)
		if err != nil {
			return err
		}
		c.PresharedKey = &psk
	case "name":
		name, err := unescapeName(value)
		if err != nil {
			return err
		}
		c.Name = &name
	case "endpoint":
		endpoint, err := parseEndpoint(value)
		if err != nil {
			return err
		}
		c.Endpoint = &endpoint
	case "persistent_keepalive_interval":
		seconds, err := parseNumber(value, 16)
		if err != nil {
			return err
		}
		interval := time.Duration(seconds) * time.Second
		c.PersistentKeepalive = &interval
	case "extensions":
		extensions, err := parseExtensions(value)
		if err != nil {
			return err
		}
		c.Extensions = &extensions
	case "macs":
		if c.MACs == nil {
			c.MACs = new([]transport.MAC)
		}
		macs, err := parseMACs(*c.MACs, value)
		if err != nil {
			return err
		}
		c.MACs = &macs
	case "allowed_ip":
		rest, remove := strings.CutPrefix(value, "-")
		prefix, err := netip.ParsePrefix(rest)
		if err != nil {
			return errors.New("not an address and the length of its prefix")
		}
		c.AllowedIPs = append(c.AllowedIPs, transport.AllowedIPChange{Prefix: prefix.Masked(), Remove: remove})
	default:
		known, err := setCarrier(c, key, value)
		if !known {
			return errUnknownKey
		}
		return err
	}
	return nil
}

// isKey says whether the value of name is a cryptographic key.
func isKey(name string) bool {
	return name == "private_key" || name == "public_key" || name == "preshared_key"
}

var errUnknownKey = errors.New("unknown key")

func parseTrue(value string, to *bool) error {
	if value != "true" {
		return errors.New(`not "true"`)
	}
	*to = true
	return nil
}

// parseNumber takes decimal digits only: no sign, no blanks.
func parseNumber(value string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("not a decimal number of %d bits", bits)
	}
	return n, nil
}

// parsePrivateKey knows that zeros mean no key: they must not be clamped into one.
func parsePrivateKey(value string) (crypto.PrivateKey, error) {
	if len(value) == 64 && strings.Trim(value, "0") == "" {
		return crypto.PrivateKey{}, nil
	}
	return crypto.ParsePrivateKeyHex(value)
}

func parseEndpoint(value string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(value)
	if err != nil {
		return netip.AddrPort{}, errors.New("not an IP address and a port")
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// printable is a client's word, fit for a log. Only what could be a word of the protocol
// is repeated: else a forgotten "private_key=" puts a key there.
func printable(word string) string {
	if len(word) > 40 || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return fmt.Sprintf("a word of %d bytes", len(word))
	}
	return strconv.Quote(word)
}
