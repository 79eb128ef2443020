package transport

import (
	"slices"
	"time"

	"stunnel/transport/extension"
)

// What a path carries is found by probes, as RFC 8899 has it (packetization layer path
// MTU discovery): nothing that anybody can forge, such as an ICMP message, has a say.
// All sizes are of packets outside, IP header included, in bytes.
const (
	// basePathMTU is taken to pass everywhere: IPv6 promises it. Never less is used.
	basePathMTU = 1280

	// maxProbes that are lost, one after the other, say that their size does not pass.
	maxProbes = 3

	// grain is how near the search comes to what the path carries.
	grain = 8

	// A probe is sent again if there is no reply within thrice the round trip, or
	// firstTimeout where none has been measured.
	firstTimeout = 500 * time.Millisecond
	leastTimeout = 300 * time.Millisecond
	mostTimeout  = 5 * time.Second
	mostPatience = 3

	// While packets larger than the base are sent, the size in use is confirmed so
	// often: a path that has become narrower is left within three seconds (or four, while
	// a larger size is being tried).
	confirmInterval = 2 * time.Second

	// Where less passes than the way of this host would take, a larger size is tried
	// after raiseInterval, then after twice that, and so on up to mostRaiseInterval.
	raiseInterval     = 15 * time.Second
	mostRaiseInterval = 600 * time.Second
)

// usualPathMTUs are what paths carry where something takes its share: WireGuard, mobile networks and other tunnels
// (1400 to 1460), GRE and IP in IP (1476, 1480), PPPoE (1492), Ethernet, and large frames.
var usualPathMTUs = []int{1400, 1420, 1440, 1460, 1476, 1480, 1492, 1500, 9000}

// pathSearch is the search for what one path to one peer carries. It has no clock and
// sends nothing: whoever owns it tells of what happens and does what it asks for.
type pathSearch struct {
	limit  int  // what this host's own way takes: the most
	size   int  // in use: at most limit
	known  bool // a reply has said that size passes
	beyond int  // the least size that does not pass; limit + 1: none is known
	ended  int  // with which size the search has ended; 0: it goes on. An attempt to raise it changes nothing until it does
	narrow bool // not even the base passes, though the peer is heard

	asked struct { // the probe that is outstanding
		token  extension.Token // the same each time that it is sent; 0: none is outstanding
		size   int
		first  time.Duration // when it was sent the first time
		again  time.Duration // when it is lost, and sent again
		lost   int           // how often it was
		silent bool          // the peer has not been heard since
	}
	roundTrip time.Duration // of probes, smoothed; 0: not measured
	patience  int           // how often the timeout is doubled, since replies came after it

	confirm time.Duration // when size is to be confirmed again, if packets of more than the base are sent
	raise   time.Duration // when a larger one is to be tried; never: there is none
	pause   time.Duration // after that, if it does not pass again
}

// begin is for a path of which nothing is known but that this host's own way takes
// limit. That is used until it is known better.
func (s *pathSearch) begin(limit int) {
	*s = pathSearch{limit: limit, size: limit, beyond: limit + 1, raise: never, pause: raiseInterval}
}

// follow is for a path whose near end, or whose whole, may have changed: what is known
// holds on, but is asked anew at once, and so is what was not possible before.
func (s *pathSearch) follow(limit int, now time.Duration) {
	if s.size > limit || s.limit == 0 {
		s.begin(limit)
		return
	}
	s.limit, s.pause, s.confirm = limit, raiseInterval, now
	s.forget()
}

// forget makes all sizes beyond the one in use worth a probe.
func (s *pathSearch) forget() {
	s.beyond, s.raise = s.limit+1, never
	if s.asked.size != s.size {
		s.asked.token = 0
	}
}

// isSettled says whether the search has ended with the size in use.
func (s *pathSearch) isSettled() bool { return s.known && s.ended == s.size }

// isBelow says whether it has with less than this host's own way takes.
func (s *pathSearch) isBelow() bool { return s.isSettled() && s.size < s.limit }

// cut is the size that packets are to be cut to. Where even the base is lost, in whole packets that fit it, parts of half
// that size mostly pass: the search goes no further down, as something else than UDP is what is wanted then.
func (s *pathSearch) cut() int {
	if !s.known && s.size <= basePathMTU && s.asked.lost > 0 {
		return s.size / 2
	}
	return s.size
}

// due is when ask is to be called next. large: packets of more than the base are being
// sent. never: not before something happens.
func (s *pathSearch) due(large bool) time.Duration {
	switch {
	case s.limit == 0:
		return never
	case s.asked.token != 0:
		return s.asked.again
	case !s.known, s.candidate() > 0:
		return 0
	case large && s.size > basePathMTU:
		return min(s.confirm, s.raise)
	}
	return s.raise
}

// ask says which probe is to be sent now, with a token that draw makes where it is a new
// one; size 0: none. heard says whether the peer has been heard since the last time that
// ask gave one.
func (s *pathSearch) ask(now time.Duration, large, heard bool, draw func() extension.Token) (token extension.Token, size int) {
	if s.asked.token != 0 && now >= s.asked.again {
		s.asked.silent = s.asked.silent && !heard
		if s.asked.lost++; s.asked.lost >= maxProbes {
			s.fail()
		}
	}
	if now >= s.raise && s.asked.token == 0 {
		s.forget()
	}
	if s.due(large) > now {
		return 0, 0
	}
	if s.asked.token == 0 {
		s.asked.token, s.asked.size, s.asked.lost, s.asked.first, s.asked.silent = draw(), s.size, 0, now, true
		confirm := large && s.size > basePathMTU && now >= s.confirm // first of all: it may have become a black hole
		if candidate := s.candidate(); s.known && candidate > 0 && !confirm {
			s.asked.size = candidate
		}
	}
	s.asked.again = now + s.timeout()
	return s.asked.token, s.asked.size
}

// timeout is how long a reply to the probe that is outstanding is waited for. One of
// the base is in no hurry: nothing else is left, and the path may be slow, or dead.
func (s *pathSearch) timeout() time.Duration {
	t, doubled := firstTimeout, s.patience
	if s.roundTrip > 0 {
		t = max(3*s.roundTrip, leastTimeout)
	}
	if s.asked.size <= basePathMTU {
		doubled += min(s.asked.lost, 6)
	}
	return min(t<<doubled, mostTimeout)
}

// fail draws the conclusion from maxProbes that were lost.
func (s *pathSearch) fail() {
	switch size := s.asked.size; {
	case size > s.size:
		s.beyond = size
		s.searched(s.asked.again)
		s.asked.token = 0
	case size > basePathMTU:
		s.retreat()
	default:
		// The same probe goes on, ever more slowly: nothing is left to go down to.
		s.known = false
		s.narrow = s.narrow || !s.asked.silent
	}
}

// retreat gives up the size in use for the base.
func (s *pathSearch) retreat() {
	s.size, s.known, s.beyond, s.asked.token = basePathMTU, false, s.size, 0
	s.raise, s.ended = never, 0
}

// candidate is the size to try next, 0: the search is at its end.
func (s *pathSearch) candidate() int {
	if s.beyond > s.limit && s.size < s.limit {
		return s.limit
	}
	gap := s.beyond - s.size
	switch {
	case gap <= grain:
		return 0
	case s.size < usualMTU && s.beyond > usualMTU+grain: // from a network with large frames to the Internet
		return usualMTU
	}
	middle := s.size + gap/2
	i, _ := slices.BinarySearch(usualPathMTUs, middle-gap/4)
	if i < len(usualPathMTUs) && usualPathMTUs[i] <= middle+gap/4 {
		return usualPathMTUs[i]
	}
	return middle
}

// searched looks whether the search has come to its end, and sets the time of the next
// attempt if that is below the limit.
func (s *pathSearch) searched(now time.Duration) {
	if s.candidate() > 0 {
		return
	}
	if s.ended = s.size; s.size == s.limit || s.raise != never {
		return
	}
	s.raise = now + s.pause
	s.pause = min(2*s.pause, mostRaiseInterval)
}

// reply takes the answer to a probe; false: it was not the one that is outstanding.
func (s *pathSearch) reply(token extension.Token, size int, now time.Duration) bool {
	if s.asked.token == 0 || token != s.asked.token || size != s.asked.size {
		return false
	}
	if s.asked.lost == 0 {
		s.measure(now - s.asked.first)
		s.patience = 0
	} else {
		s.patience = min(s.patience+1, mostPatience) // which of several was answered is not known (Karn's algorithm)
	}
	if size == s.size && size <= basePathMTU && s.asked.lost > 0 {
		s.forget() // what was lost before may have been the path, not the size
	}
	if s.asked.token = 0; size > s.size {
		s.pause = raiseInterval
	}
	s.size, s.known, s.narrow = size, true, false
	s.confirm = now + confirmInterval
	s.searched(now)
	return true
}

// measure takes a round trip: a longer one at once, a shorter one little by little.
func (s *pathSearch) measure(took time.Duration) {
	if took > s.roundTrip {
		s.roundTrip = took
	} else {
		s.roundTrip -= (s.roundTrip - took) / 4
	}
}

// refuse takes the word of this host's kernel that it does not send packets of size on
// the way, which takes limit now.
func (s *pathSearch) refuse(size, limit int) {
	switch {
	case limit < s.limit:
		s.begin(limit)
	case size > s.size:
		s.beyond, s.asked.token = size, 0
	case s.size > basePathMTU:
		s.retreat()
	}
}
