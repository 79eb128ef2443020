package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// readStatus reads the reply to a get of any program: keys that are not known are passed
// over. The error wraps the syscall.Errno that the other end answered, if it did.
func readStatus(br *bufio.Reader) (transport.Status, error) {
	p := statusParser{errno: -1}
	for {
		line, err := nextLine(br)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return transport.Status{}, err
		}
		if len(line) == 0 {
			break
		}
		key, value, ok := cutLine(line)
		if !ok {
			return transport.Status{}, fmt.Errorf("the answer has the line %s", printable(string(line)))
		}
		if err := p.line(key, value); err != nil {
			return transport.Status{}, fmt.Errorf("the answer has a faulty %s: %w", printable(key), err)
		}
	}
	switch {
	case p.errno < 0:
		return transport.Status{}, errors.New("the answer has no errno")
	case p.errno > 0:
		return transport.Status{}, syscall.Errno(p.errno)
	}
	if !p.status.PrivateKey.IsZero() {
		p.status.PublicKey = p.status.PrivateKey.Public()
	}
	return p.status, nil
}

// statusParser takes the lines of a get's reply one by one.
type statusParser struct {
	status transport.Status
	errno  int // -1: not seen

	handshake, goodbye, carrier, unanswered moment // of the last peer
}

func (p *statusParser) line(key, value string) (err error) {
	switch {
	case key == "errno":
		p.errno, err = parseErrno(value)
	case key == "public_key":
		var public crypto.PublicKey
		if public, err = crypto.ParsePublicKeyHex(value); err == nil {
			p.status.Peers = append(p.status.Peers, transport.PeerStatus{PublicKey: public})
			p.handshake, p.goodbye, p.carrier, p.unanswered = moment{}, moment{}, moment{}, moment{}
		}
	case len(p.status.Peers) > 0:
		err = p.peerLine(&p.status.Peers[len(p.status.Peers)-1], key, value)
	default:
		err = p.deviceLine(key, value)
	}
	return err
}

func (p *statusParser) deviceLine(key, value string) (err error) {
	s := &p.status
	var n uint64
	switch key {
	case "private_key":
		s.PrivateKey, err = parsePrivateKey(value)
	case "listen_port":
		n, err = parseNumber(value, 16)
		s.ListenPort = uint16(n)
	case "fwmark":
		n, err = parseNumber(value, 32)
		s.FwMark = uint32(n)
	case "up":
		s.Up, err = strconv.ParseBool(value)
	case "mtu":
		n, err = parseNumber(value, 31)
		s.MTU = int(n)
	case "lanes":
		n, err = parseNumber(value, 31)
		s.Lanes = int(n)
	case "trusted_checksums":
		s.TrustedChecksums, err = strconv.ParseBool(value)
	default:
		if known, err := p.ethernetLine(key, value); known {
			return err
		}
		if known, err := listeningLine(s, key, value); known {
			return err
		}
		if name, ok := strings.CutPrefix(key, "offload_"); ok && isWord(name) {
			var off string
			if off, err = parseOffload(value); err == nil {
				s.Offloads = append(s.Offloads, transport.Offload{Name: name, Off: off})
			}
			break
		}
		err = dropLine(&s.Drops, key, value)
	}
	return err
}

// parseOffload reads what offloadText writes: "" for on, else why it is off.
func parseOffload(value string) (off string, err error) {
	switch why, ok := strings.CutPrefix(value, "off, "); {
	case value == "on":
		return "", nil
	case value == "off" || ok && why == "":
		return "no reason told", nil
	case !ok:
		return "", errors.New("it is neither on nor off")
	default:
		return unescapeName(why)
	}
}

func (p *statusParser) peerLine(peer *transport.PeerStatus, key, value string) (err error) {
	var n uint64
	switch key {
	case "name":
		peer.Name, err = unescapeName(value)
	case "preshared_key":
		peer.PresharedKey, err = crypto.ParsePresharedKeyHex(value)
	case "endpoint":
		peer.Endpoint, err = parseEndpoint(value)
	case "last_handshake_time_sec":
		err = p.handshake.setSec(value)
		peer.LastHandshake = p.handshake.time()
	case "last_handshake_time_nsec":
		err = p.handshake.setNsec(value)
		peer.LastHandshake = p.handshake.time()
	case "tx_bytes":
		peer.TxBytes, err = parseNumber(value, 64)
	case "rx_bytes":
		peer.RxBytes, err = parseNumber(value, 64)
	case "persistent_keepalive_interval":
		n, err = parseNumber(value, 16)
		peer.PersistentKeepalive = time.Duration(n) * time.Second
	case "allowed_ip":
		var prefix netip.Prefix
		if prefix, err = netip.ParsePrefix(value); err == nil {
			peer.AllowedIPs = append(peer.AllowedIPs, prefix.Masked())
		}
	default:
		if known, err := portLine(&peer.Port, key, value); known {
			return err
		}
		if known, err := p.carrierLine(peer, key, value); known {
			return err
		}
		if err = p.extensionsLine(peer, key, value); err == nil {
			err = dropLine(&peer.Drops, key, value)
		}
	}
	return err
}

// moment is a time that is told in two lines; zeros are the zero time.
type moment struct{ sec, nsec int64 }

func (m *moment) setSec(value string) error {
	n, err := parseNumber(value, 37) // up to the year 6325: more is no time
	m.sec = int64(n)
	return err
}

func (m *moment) setNsec(value string) error {
	n, err := parseNumber(value, 30)
	m.nsec = int64(n)
	return err
}

func (m moment) time() time.Time {
	if m == (moment{}) {
		return time.Time{}
	}
	return time.Unix(m.sec, m.nsec)
}

// dropLine takes drop_REASON=N, and passes over every key that is none.
func dropLine(drops *map[string]uint64, key, value string) error {
	reason, ok := strings.CutPrefix(key, "drop_")
	if !ok || !isWord(reason) {
		return nil
	}
	n, err := parseNumber(value, 64)
	if err != nil || n == 0 {
		return err
	}
	if *drops == nil {
		*drops = make(map[string]uint64)
	}
	(*drops)[reason] = n
	return nil
}

// parseErrno takes the number with either sign, as programs differ in that.
func parseErrno(value string) (int, error) {
	n, err := parseNumber(strings.TrimPrefix(value, "-"), 31)
	return int(n), err
}
