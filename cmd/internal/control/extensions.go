package control

import (
	"errors"
	"strings"
	"time"

	"stunnel/transport"
)

// appendExtensions writes what is spoken with a peer beside WireGuard, as far as there is something to say.
func appendExtensions(b []byte, p *transport.PeerStatus) []byte {
	if p.Extensions != transport.ExtensionsAuto {
		b = appendText(b, "extensions=", p.Extensions.String())
	}
	if p.Software != "" {
		b = appendText(b, "software=", escapeName(p.Software))
	}
	var announced []string
	for _, word := range p.Announced {
		if isWord(word) {
			announced = append(announced, word)
		}
	}
	if len(announced) > 0 {
		b = appendText(b, "announced=", strings.Join(announced, ","))
	}
	if p.Refused != "" {
		b = appendText(b, "refused=", escapeName(p.Refused))
	}
	if p.Downgrades != 0 {
		b = appendNumber(b, "downgrades=", p.Downgrades)
	}
	if sec := p.Goodbye.Unix(); sec >= 0 { // the zero time is long before
		b = appendNumber(b, "goodbye_time_sec=", uint64(sec))
		b = appendNumber(b, "goodbye_time_nsec=", uint64(p.Goodbye.Nanosecond()))
	}
	if p.RoundTrip > 0 {
		b = appendNumber(b, "round_trip_nsec=", uint64(p.RoundTrip))
	}
	if p.EchoesSent > 0 {
		b = appendNumber(b, "echoes_sent=", uint64(p.EchoesSent))
	}
	if p.EchoesLost > 0 {
		b = appendNumber(b, "echoes_lost=", uint64(p.EchoesLost))
	}
	return b
}

// extensionsLine takes a line that appendExtensions has written, and passes over every other one.
func (p *statusParser) extensionsLine(peer *transport.PeerStatus, key, value string) (err error) {
	var n uint64
	switch key {
	case "extensions":
		peer.Extensions, err = parseExtensions(value)
	case "software":
		peer.Software, err = unescapeName(value)
	case "announced":
		peer.Announced, err = parseWords(value)
	case "refused":
		peer.Refused, err = unescapeName(value)
	case "downgrades":
		peer.Downgrades, err = parseNumber(value, 64)
	case "goodbye_time_sec":
		err = p.goodbye.setSec(value)
		peer.Goodbye = p.goodbye.time()
	case "goodbye_time_nsec":
		err = p.goodbye.setNsec(value)
		peer.Goodbye = p.goodbye.time()
	case "round_trip_nsec":
		n, err = parseNumber(value, 63)
		peer.RoundTrip = time.Duration(n)
	case "echoes_sent":
		n, err = parseNumber(value, 31)
		peer.EchoesSent = int(n)
	case "echoes_lost":
		n, err = parseNumber(value, 31)
		peer.EchoesLost = int(n)
	}
	return err
}

// parseExtensions does not repeat a wrong value: it could be anything, a key too.
func parseExtensions(value string) (transport.Extensions, error) {
	e, err := transport.ParseExtensions(value)
	if err != nil {
		return 0, errors.New("none of auto, off and required")
	}
	return e, nil
}

func parseWords(value string) ([]string, error) {
	words := strings.Split(value, ",")
	for _, word := range words {
		if !isWord(word) {
			return nil, errors.New("not words with commas between them")
		}
	}
	return words, nil
}
