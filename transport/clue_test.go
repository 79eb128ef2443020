package transport

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
)

// logged makes e's log one that the test can read.
func (e *end) logged() *bytes.Buffer {
	var out bytes.Buffer
	e.log = slog.New(slog.NewTextHandler(&out, nil))
	return &out
}

func wantClue(t *testing.T, log *bytes.Buffer, c clue, more string) {
	t.Helper()
	if got := strings.Count(log.String(), clueWords[c]); got != 1 || !strings.Contains(log.String(), more) {
		t.Errorf("the log has %d clues, want 1, with %q:\n%s", got, more, log)
	}
}

func TestWhoKnowsWhyAHandshakeFailsSaysSoOnceAMinute(t *testing.T) {
	t.Run("unknown key", func(t *testing.T) {
		clock := new(time.Duration)
		*clock = time.Hour
		a, b := newEnd(t, clock, "192.0.2.1:51820"), newEnd(t, clock, "192.0.2.2:51820")
		log := b.logged()
		p := a.add(t, b, "10.0.0.2/32")
		for range 3 {
			p.initiate(*clock)
			a.pass(b)
			*clock += RekeyTimeout
		}
		wantClue(t, log, clueUnknownKey, a.key.Public().String())
		*clock += clueInterval
		log.Reset()
		p.initiate(*clock)
		a.pass(b)
		wantClue(t, log, clueUnknownKey, "192.0.2.1:51820")
	})
	t.Run("other key", func(t *testing.T) {
		clock := new(time.Duration)
		*clock = time.Hour
		a, b, c := newEnd(t, clock, "192.0.2.1:1"), newEnd(t, clock, "192.0.2.2:1"), newEnd(t, clock, "192.0.2.3:1")
		log := c.logged()
		a.add(t, b, "10.0.0.2/32").initiate(*clock)
		a.pass(c)
		wantClue(t, log, clueOtherKey, "192.0.2.1:1")
	})
	t.Run("preshared key at one end", func(t *testing.T) {
		clock := new(time.Duration)
		*clock = time.Hour
		a, b := newEnd(t, clock, "192.0.2.1:51820"), newEnd(t, clock, "192.0.2.2:51820")
		log := a.logged()
		p := a.add(t, b, "10.0.0.2/32")
		b.add(t, a, "10.0.0.1/32")
		psk := crypto.NewPresharedKey()
		if err := a.Configure(Config{Peers: []PeerConfig{{PublicKey: p.publicKey, PresharedKey: &psk}}}); err != nil {
			t.Fatal(err)
		}
		p.initiate(*clock)
		a.pass(b)
		b.pass(a)
		wantClue(t, log, clueBadResponse, p.publicKey.String())
	})
	t.Run("address that is not the peer's", func(t *testing.T) {
		a, b, clock := shook(t)
		log := b.logged()
		first, rest, partial := split(packet("10.0.0.9", "10.0.0.2", 100), packet("10.0.0.9", "10.0.0.2", 100))
		a.lanes[0].outbound(first, rest, partial, *clock)
		a.pass(b)
		wantClue(t, log, clueBadSource, "10.0.0.9")
	})
}

func TestAPeerThatComesBackHasItsName(t *testing.T) {
	e := newEnd(t, new(time.Duration), "192.0.2.1:1")
	key, name := crypto.NewPrivateKey().Public(), "laptop"
	for _, c := range []Config{
		{Peers: []PeerConfig{{PublicKey: key, Name: &name}}},
		{ReplacePeers: true},
		{Peers: []PeerConfig{{PublicKey: key}}},
	} {
		if err := e.Configure(c); err != nil {
			t.Fatal(err)
		}
	}
	if got := e.Status().Peers[0].Name; got != name {
		t.Errorf("its name is %q, want %q", got, name)
	}
}

// As wg(8) does it, which knows one endpoint of each peer.
func TestAPeerThatIsSetAnewKeepsItsOtherEndpoints(t *testing.T) {
	e := newEnd(t, new(time.Duration), "192.0.2.1:1")
	key := crypto.NewPrivateKey().Public()
	first, second, other := netip.MustParseAddrPort("192.0.2.7:7"), netip.MustParseAddrPort("192.0.2.8:7"), netip.MustParseAddrPort("192.0.2.9:7")
	both, overTCP, auto := []netip.AddrPort{first, second}, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:443")}, TransportAuto
	for _, step := range []struct {
		what   string
		change Config
		want   []netip.AddrPort
	}{
		{"the file's", Config{Peers: []PeerConfig{{PublicKey: key, Endpoints: &both, EndpointsTCP: &overTCP, Transport: &auto}}}, both},
		{"one of them alone", Config{Peers: []PeerConfig{{PublicKey: key, Endpoint: &second}}}, both},
		{"all peers anew", Config{ReplacePeers: true, Peers: []PeerConfig{{PublicKey: key, Endpoint: &first}}}, both},
		{"another one", Config{Peers: []PeerConfig{{PublicKey: key, Endpoint: &other}}}, []netip.AddrPort{other}},
		{"all peers anew once more", Config{ReplacePeers: true, Peers: []PeerConfig{{PublicKey: key, Endpoint: &first}}}, []netip.AddrPort{first}},
	} {
		if err := e.Configure(step.change); err != nil {
			t.Fatal(err)
		}
		p := e.Status().Peers[0]
		if !slices.Equal(p.Endpoints, step.want) || !slices.Equal(p.EndpointsTCP, overTCP) || p.Transport != auto {
			t.Errorf("%s: it may be at %v, %v over TCP, by %v", step.what, p.Endpoints, p.EndpointsTCP, p.Transport)
		}
		if at := step.change.Peers[0].Endpoint; at != nil && p.Endpoint != *at {
			t.Errorf("%s: packets go to %v", step.what, p.Endpoint)
		}
	}
}

func TestMulticastThatIsNobodysIsCountedApart(t *testing.T) {
	e := newEnd(t, new(time.Duration), "192.0.2.1:1")
	first, rest, partial := split(packet("10.0.0.1", "224.0.0.22", 40), packet("10.0.0.1", "10.9.9.9", 40))
	e.lanes[0].outbound(first, rest, partial, 0)
	if d := e.Status().Drops; d["no_peer"] != 1 || d["no_peer_multicast"] != 1 {
		t.Errorf("drops are %v", d)
	}
}
