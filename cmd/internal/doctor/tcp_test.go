package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/transport"
)

func TestWhereNothingGetsThroughTheRemediesGoByWhatTCPDid(t *testing.T) {
	to := netip.MustParseAddrPort("198.51.100.7:443")
	for _, c := range []struct {
		name     string
		by       transport.Transport
		door     Door
		evidence string
		remedy   string
	}{
		{"UDP alone", transport.TransportUDP, Door{}, "", "Transport = auto in its [Peer], or EndpointTCP = HOST:PORT, tries TCP too"},
		{"TCP is taken", transport.TransportAuto, Door{To: to, Tried: true}, "it is taken", "the keys are wrong"},
		{"TCP is refused", transport.TransportAuto, Door{To: to, Tried: true, Err: fmt.Errorf("connect: %w", unix.ECONNREFUSED)}, "connection refused", "ListenTCP = PORT; nobody takes"},
		{"TCP is silent", transport.TransportTCP, Door{To: to, Tried: true, Err: context.DeadlineExceeded}, "deadline", "ListenTCP = 443 at the other end"},
	} {
		_, x := healthy()
		p := &x.Peers[0]
		p.Status.Transport, p.Doors = c.by, []Door{c.door}
		var f Finding
		remedies := x.tcpRemedies(&f, p)
		if len(remedies) != 1 || !strings.Contains(remedies[0].Why, c.remedy) {
			t.Errorf("%s: %+v", c.name, remedies)
		}
		if c.evidence == "" && f.Evidence != nil || c.evidence != "" && (len(f.Evidence) != 1 || !strings.Contains(f.Evidence[0].Says, c.evidence)) {
			t.Errorf("%s: seen was %+v", c.name, f.Evidence)
		}
	}
}

func TestTCPIsTriedWhereASilentPeerShouldTakeIt(t *testing.T) {
	m, x := healthy()
	x.Status.Peers[0].Transport = transport.TransportAuto
	x.Peers[0].Configured = append(x.Peers[0].Configured, Named{Key: "EndpointTCP", Endpoint: "a.example:443", Now: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:443")}})
	var mu sync.Mutex
	var dialled []netip.AddrPort
	x.Dial = func(_ context.Context, to netip.AddrPort) error {
		mu.Lock()
		defer mu.Unlock()
		dialled = append(dialled, to)
		return unix.ECONNREFUSED
	}
	x.readDoors(t.Context(), m.Clock.Now)
	if d := x.Peers[0].Doors; dialled != nil || len(d) != 1 || d[0].Tried {
		t.Errorf("a peer that answers: %+v, dialled %v", d, dialled)
	}
	x.Peers[0].Doors = nil
	x.Status.Peers[0].LastHandshake = time.Time{}
	x.readDoors(t.Context(), m.Clock.Now)
	if d := x.Peers[0].Doors; len(dialled) != 1 || len(d) != 1 || !d[0].Tried || !errors.Is(d[0].Err, unix.ECONNREFUSED) {
		t.Errorf("a peer that does not: %+v, dialled %v", d, dialled)
	}
}
