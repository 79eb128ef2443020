package transport

import (
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// answerProbe tells the peer that a probe which came under s has got through: under
// the same session and back to where it came from, whatever else is in use, since it
// asks about that way. On a connection which is not the session's nothing is said: it may be a
// stranger's, who has copied the probe.
func (s *session) answerProbe(probe extension.Probe, from socket.Path, now time.Duration) {
	if !s.cameBy(&from) {
		s.peer.drops.add(dropOtherWay, 1)
		return
	}
	if !s.mayGet(extension.Probes) {
		s.peer.drops.add(dropNotAnnounced, 1)
		return
	}
	s.sendExactly(extension.AppendProbeReply(nil, probe), s.peer.sticky(from), now)
}

// sendExactly sends a control message as one message of its own size: without padding,
// and not to be cut on the way.
func (s *session) sendExactly(message []byte, path socket.Path, now time.Duration) {
	if !s.acquire() {
		return
	}
	defer s.release()
	l := sealers.Get().(*sealer)
	defer l.putBack()
	counter, ok := s.Reserve(1)
	if !ok {
		return
	}
	l.plain = append(l.plain[:0], crypto.Plaintext{First: message})
	l.out = s.Seal(l.out[:0], counter, l.plain)
	s.peer.transmit(s.peer.tunnel.controlSocket(), l.out, len(l.out), &path, true)
	if s.may(understands) {
		s.peer.sent(s, [][]byte{nil}, now)
	}
}
