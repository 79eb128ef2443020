package transport

import (
	"slices"
	"testing"
	"time"

	"stunnel/transport/socket"
)

// slowStream is a connection that notes by which call it was given trains.
type slowStream struct {
	socket.Stream
	calls []string
}

func (s *slowStream) Send([]byte, int) error { s.calls = append(s.calls, "Send"); return nil }
func (s *slowStream) Try([]byte, int) error  { s.calls = append(s.calls, "Try"); return nil }

func TestNothingWaitsForAConnectionWhileOtherPeersAreSentTo(t *testing.T) {
	clock := time.Hour
	a := newEnd(t, &clock, "192.0.2.1:51820")
	one := a.add(t, newEnd(t, &clock, "192.0.2.2:51820"), "10.0.0.2/32")
	two := a.add(t, newEnd(t, &clock, "192.0.2.3:51820"), "10.0.0.3/32")
	s := new(slowStream)
	byTCP := &socket.Path{Stream: s}
	send := func() { one.transmit(a.wire, make([]byte, 100), 100, byTCP, false) }
	other := func() { two.transmit(a.wire, make([]byte, 100), 100, two.path.Load(), false) }

	send()
	send()
	other()
	send()
	send()
	clock += sharedFor - 1
	send()
	clock++
	send()
	other()
	other()
	clock += sharedFor
	other()
	send() // it takes turns again
	if want := []string{"Send", "Send", "Try", "Try", "Try", "Send", "Try"}; !slices.Equal(s.calls, want) {
		t.Errorf("%q, want %q", s.calls, want)
	}
}
