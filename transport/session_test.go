package transport

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
)

func TestSupersededSessionsAreGoneAfterRejectAfterTime(t *testing.T) {
	a, b, clock := shook(t)
	toA := b.peers.lookup(a.key.Public())
	toB := a.peers.lookup(b.key.Public())
	// Four more handshakes, 20 s apart, leave b with sessions in each slot.
	var sessions []*session
	for range 4 {
		sessions = append(sessions, toA.sessions.current.Load())
		*clock += 20 * time.Second
		toB.initiate(*clock)
		a.pass(b)
		b.pass(a)
		a.pass(b)
	}
	current := toA.sessions.current.Load()
	*clock = sessions[3].created + RejectAfterTime
	toA.expire(*clock)
	for i, s := range sessions {
		if !s.wiped.Load() {
			t.Errorf("the keys of session %d are still there after %v", i, *clock-s.created)
		}
	}
	if current.wiped.Load() {
		t.Error("the current session's keys are gone")
	}
}

func TestNothingThatIsPrintedHoldsAKey(t *testing.T) {
	a, b, _ := shook(t)
	psk := crypto.NewPresharedKey()
	if err := a.Configure(Config{Peers: []PeerConfig{{PublicKey: b.key.Public(), PresharedKey: &psk}}}); err != nil {
		t.Fatal(err)
	}
	p := a.peers.lookup(b.key.Public())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		out := fmt.Sprintf(verb+" "+verb, a.Tunnel, p)
		for _, key := range [][]byte{a.key[:8], psk[:8]} {
			for _, form := range []string{fmt.Sprintf("%x", key), strings.Trim(fmt.Sprint(key), "[]"), fmt.Sprintf("%#v", key)[7:]} {
				if strings.Contains(out, form) {
					t.Errorf("%s prints a key", verb)
				}
			}
		}
	}
}
