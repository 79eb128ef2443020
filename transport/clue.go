package transport

import "time"

// clue is a reason why a tunnel does not come up or carries nothing that a
// person can only learn from us. Beside being counted it is told in the log,
// each at most once in clueInterval: strangers can cause most of them.
type clue uint8

const (
	clueUnknownKey  clue = iota // a handshake by somebody who is no peer
	clueOtherKey                // a handshake meant for another public key
	clueBadResponse             // a response that does not open: preshared keys differ
	clueBadSource               // a packet from an address that is not the peer's
	clueStorm                   // more is flooded than may be
	clueFlap                    // a station is here and there
	clueMACLimit                // more stations than there may be
	clueClaimed                 // an address that port security gives to another

	clues
)

const clueInterval = time.Minute

// A peer can cause lines of the log too, by what it says: newsBurst at once, and
// one in clueInterval.
const newsBurst = 5

var clueWords = [clues]string{
	clueUnknownKey:  "a handshake came from a public key that is no peer here",
	clueOtherKey:    "a handshake came that is meant for another public key than ours",
	clueBadResponse: "the peer's answer cannot be opened: is the PresharedKey the same at both ends?",
	clueBadSource:   "the peer sends from an address that is not in its AllowedIPs",
	clueStorm:       "more broadcast, multicast and frames to unknown stations come than StormLimit allows: the rest is dropped",
	clueFlap:        "a station comes from two sides in turn and is held on one for a while: is there a loop, or a second one with this address?",
	clueMACLimit:    "more stations than MACLimit allows: what is for the others is flooded",
	clueClaimed:     "frames are dropped that come from an address which is another's, or is none of those that may come from there",
}

// tell logs a clue, if it is time to. args are slog's.
func (t *Tunnel) tell(c clue, now time.Duration, args ...any) {
	if t.clues[c].Allow(now) {
		t.log.Warn(clueWords[c], args...)
	}
}
