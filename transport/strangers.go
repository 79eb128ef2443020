package transport

import (
	"context"

	"stunnel/crypto"
	"stunnel/transport/socket"
)

// welcome says whether the first message of a stranger's connection is good: an initiation that is answered, or a
// message that opens under a session. Anything else goes without a word.
func (t *Tunnel) welcome(s socket.Stream, ended context.Context) bool {
	first, err := s.First()
	if err != nil {
		return false
	}
	switch typ, ok := crypto.Type(first.Data); {
	case !ok:
		t.drops.add(dropMalformed, 1)
		return false
	case typ == crypto.TypeInitiation:
		verdict := make(chan bool, 1)
		if !t.intake(typ, first, t.now(), verdict) {
			return false
		}
		select {
		case ok = <-verdict:
		case <-ended.Done():
			ok = false
		}
		if !ok {
			return false
		}
	case typ == crypto.TypeTransport:
		s1 := t.indices.lookup(crypto.Receiver(first.Data)).session
		if s1 == nil {
			t.drops.add(dropUnknownIndex, 1)
			return false
		}
		if accepted, _ := t.takeIn([]socket.Datagram{first}); accepted == 0 || !s1.peer.setGuest(s) {
			return false
		}
	default:
		return false
	}
	s.Admit()
	return true
}
