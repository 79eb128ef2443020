package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"stunnel/transport"
)

// plain is transport.PeerStatus.Software of a peer that announces nothing.
const plain = "wireguard"

// extensions prints what is spoken with a peer beside WireGuard, and what that brings.
func (b block) extensions(p transport.PeerStatus, now time.Time) {
	if !p.Goodbye.IsZero() {
		b.line("state", "went down "+ago(now.Sub(p.Goodbye)))
	}
	if text := speaksText(p); text != "" {
		b.line("speaks", text)
	}
	if p.RoundTrip > 0 || p.EchoesSent > 0 {
		b.line("round trip", roundTripText(p))
	}
	switch {
	case p.Downgrades == 0:
	case p.Software == plain:
		b.line("warning", "it spoke extensions, and now no more: it is another program now, or somebody on the way stops them")
	default:
		b.line("warning", "it spoke extensions, and then for a while no more ("+count(p.Downgrades, "time")+")")
	}
}

// speaksText says what the peer runs and which extensions it takes, or why none are spoken; "" if nothing is known.
func speaksText(p transport.PeerStatus) string {
	text := cmp.Or(p.Software, "not known yet")
	required := p.Extensions == transport.ExtensionsRequired
	switch {
	case p.Extensions == transport.ExtensionsOff:
		return text + "; extensions are off"
	case p.Refused != "" && p.Software == plain: // in tap mode
		return text + "; " + p.Refused
	case p.Refused != "":
		text += "; its extensions are refused: " + p.Refused
	case p.Software == "" && !required:
		return ""
	case len(p.Announced) > 0:
		return text + " (" + strings.ReplaceAll(strings.Join(p.Announced, ", "), "_", " ") + ")"
	case p.Software != "" && p.Software != plain:
		return text
	}
	if required {
		text += "; extensions are required, so that no packet goes or comes"
	}
	return text
}

func roundTripText(p transport.PeerStatus) string {
	text := "not known"
	switch ms := p.RoundTrip.Seconds() * 1000; {
	case ms >= 100:
		text = fmt.Sprintf("%.0f ms", ms)
	case ms >= 10:
		text = fmt.Sprintf("%.1f ms", ms)
	case ms > 0:
		text = fmt.Sprintf("%.2f ms", ms)
	}
	return text + fmt.Sprintf(", %d of %d echoes lost in the last minute", p.EchoesLost, p.EchoesSent)
}
