package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stunnel/cmd/internal/conf"
	"stunnel/crypto"
)

// nameServer answers what it is told to, and writes down when it was asked.
type nameServer struct {
	t     *testing.T
	begin time.Time

	mu     sync.Mutex
	answer map[string][]netip.Addr
	ttl    time.Duration
	takes  time.Duration // to answer
	err    error         // in the place of all answers
	asked  map[string][]time.Duration
	busy   map[string]bool
}

func newNameServer(t *testing.T) *nameServer {
	return &nameServer{t: t, begin: time.Now(), answer: make(map[string][]netip.Addr), ttl: time.Minute,
		asked: make(map[string][]time.Duration), busy: make(map[string]bool)}
}

func (s *nameServer) ask(ctx context.Context, _, host string) ([]netip.Addr, time.Duration, error) {
	s.mu.Lock()
	if s.busy[host] {
		s.t.Errorf("%s is asked for twice at a time", host)
	}
	s.busy[host] = true
	s.asked[host] = append(s.asked[host], time.Since(s.begin))
	takes := s.takes
	s.mu.Unlock()
	var gone error
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		gone = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[host] = false
	if gone != nil {
		return nil, 0, gone
	}
	if s.err != nil {
		return nil, 0, s.err
	}
	if s.answer[host] == nil {
		return nil, 0, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return slices.Clone(s.answer[host]), s.ttl, nil
}

func (s *nameServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// times are the seconds at which a name was asked for.
func (s *nameServer) times(host string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, at := range s.asked[host] {
		all = append(all, fmt.Sprint(at.Seconds()))
	}
	return strings.Join(all, " ")
}

var timedOut = &net.DNSError{Err: "i/o timeout", IsTimeout: true, IsTemporary: true}

// named makes the names of a file whose peers have these endpoints, a line each; dir keeps what was found.
func named(t *testing.T, dir string, s *nameServer, log *bytes.Buffer, peers ...string) *names {
	t.Helper()
	text := "[Interface]\nPreUp = true\n"
	for i, lines := range peers {
		text += fmt.Sprintf("[Peer]\nPublicKey = %s\nAllowedIPs = 10.9.0.%d/32\n%s\n", crypto.PublicKey{byte(i + 1)}, i, lines)
	}
	f, err := conf.Parse("peer.conf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return newNames(f, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})), openLastGood(dir, "peer"), s.ask)
}

// at writes down whereabouts.
func at(w whereabouts) string {
	text := strings.Join(texts(w.udp), " ")
	if len(w.tcp) > 0 {
		text += " tcp " + strings.Join(texts(w.tcp), " ")
	}
	return text
}

func addrs(text ...string) (all []netip.Addr) {
	for _, t := range text {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

// begun is n after its first questions, running; told has what is told later.
func begun(t *testing.T, n *names) (found []whereabouts, told func() []string) {
	t.Helper()
	found, err := n.first(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []string
	n.tell = func(peer int, w whereabouts) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, fmt.Sprintf("%d: %s", peer, at(w)))
	}
	go n.run(t.Context())
	return found, func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

func TestAllAddressesOfAllNamesAreCandidatesInTheirOrder(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newNameServer(t)
		s.answer["a.example"] = addrs("2001:db8::1", "::ffff:192.0.2.1")
		s.answer["b.example"] = addrs("192.0.2.2")
		n := named(t, dir, s, new(bytes.Buffer), "Endpoint = a.example:1, 198.51.100.1:2, b.example:3\nEndpointTCP = a.example:443", "Endpoint = a.example:9", "")
		found, _ := begun(t, n)
		want := []string{"[2001:db8::1]:1 192.0.2.1:1 198.51.100.1:2 192.0.2.2:3 tcp [2001:db8::1]:443 192.0.2.1:443", "[2001:db8::1]:9 192.0.2.1:9", ""}
		for i, w := range found {
			if at(w) != want[i] {
				t.Errorf("peer %d may be at %q, want %q", i, at(w), want[i])
			}
		}
		if got := s.times("a.example"); got != "0" {
			t.Errorf("it was asked for at %s", got)
		}
	})
}

func TestNoNameServerHoldsATunnelUpForLong(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newNameServer(t)
		s.takes = 10 * time.Second
		s.answer["a.example"] = addrs("192.0.2.1")
		var log bytes.Buffer
		found, told := begun(t, named(t, dir, s, &log, "Endpoint = a.example:1"))
		if took := time.Since(s.begin); took != namesPatience || at(found[0]) != "" {
			t.Errorf("after %v it is at %q", took, at(found[0]))
		}
		if !strings.Contains(log.String(), "no answer for the name of an endpoint yet") {
			t.Errorf("the log has %s", log.String())
		}
		time.Sleep(10 * time.Second)
		if got := told(); !slices.Equal(got, []string{"0: 192.0.2.1:1"}) {
			t.Errorf("told was %q", got)
		}
	})
}

func TestADeadNameServerIsAskedAgainUntilItKnows(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newNameServer(t)
		s.err = timedOut
		var log bytes.Buffer
		n := named(t, dir, s, &log, "Endpoint = a.example:1", "Endpoint = a.example:2, 192.0.2.5:2")
		found, told := begun(t, n)
		if at(found[0]) != "" || at(found[1]) != "192.0.2.5:2" {
			t.Errorf("found were %v", found)
		}
		time.Sleep(3*time.Minute + time.Second)
		if got := s.times("a.example"); got != "0 5 15 35 75 135" {
			t.Errorf("it was asked for at %s", got)
		}
		s.set(func() { s.err, s.answer["a.example"] = nil, addrs("192.0.2.1") })
		n.networkChanged()
		if got := told(); !slices.Equal(got, []string{"0: 192.0.2.1:1", "1: 192.0.2.1:2 192.0.2.5:2"}) {
			t.Errorf("told was %q", got)
		}
		time.Sleep(time.Hour)
		if got := s.times("a.example"); got != "0 5 15 35 75 135 181" {
			t.Errorf("it was asked for at %s", got)
		}
		if lines := strings.Count(log.String(), "level=WARN"); lines != 1 {
			t.Errorf("%d warnings in %s", lines, log.String())
		}
	})
}

func TestANameThatOnlyABackupHasWaitsUntilItIsMissed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newNameServer(t)
		s.err = timedOut
		n := named(t, dir, s, new(bytes.Buffer), "Endpoint = 192.0.2.5:2, a.example:1")
		begun(t, n)
		time.Sleep(time.Hour)
		if got := s.times("a.example"); got != "0" {
			t.Errorf("it was asked for at %s", got)
		}
		n.unanswered(crypto.PublicKey{1})
		synctest.Wait()
		if got := s.times("a.example"); got != "0 3600" {
			t.Errorf("it was asked for at %s", got)
		}
	})
}

func TestANameThatDoesNotExistKeepsTheTunnelDown(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newNameServer(t)
		_, err := named(t, dir, s, new(bytes.Buffer), "Endpoint = nowhere.example:1").first(t.Context())
		if dns := (*net.DNSError)(nil); !errors.As(err, &dns) || !strings.HasPrefix(err.Error(), "peer.conf:3: peer ") {
			t.Errorf("the error is %v", err)
		}
		// But not if the peer may be elsewhere.
		if _, err := named(t, dir, s, new(bytes.Buffer), "Endpoint = nowhere.example:1\nEndpointTCP = 192.0.2.1:443").first(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWhereANameWasLastHoldsWhileNobodyKnows(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newNameServer(t)
		s.answer["a.example"] = addrs("192.0.2.1")
		if _, err := named(t, dir, s, new(bytes.Buffer), "Endpoint = a.example:1").first(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, why := range []error{timedOut, nil} { // nil: the name does not exist any more
			s.err, s.answer = why, nil
			var log bytes.Buffer
			found, err := named(t, dir, s, &log, "Endpoint = a.example:7").first(t.Context())
			if err != nil || at(found[0]) != "192.0.2.1:7" || !strings.Contains(log.String(), "where it was last") {
				t.Errorf("%v, %v, and the log has %s", found, err, log.String())
			}
		}
	})
}

func TestANameIsAskedForWhileItsPeerIsSilentAndNotLonger(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		ttl  time.Duration
		want string // for a minute of silence from the hour on
	}{
		{30 * time.Second, "0 3600 3630 3660"},
		{time.Second, "0 3600 3605 3610 3615 3620 3625 3630 3635 3640 3645 3650 3655 3660"},
		{0, "0 3600"},
		{24 * time.Hour, "0 3600"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newNameServer(t)
			s.answer["a.example"], s.answer["b.example"], s.ttl = addrs("192.0.2.1"), addrs("192.0.2.2"), tt.ttl
			n := named(t, dir, s, new(bytes.Buffer), "Endpoint = a.example:1", "Endpoint = b.example:1")
			_, told := begun(t, n)
			time.Sleep(time.Hour)
			for range 13 {
				n.unanswered(crypto.PublicKey{1})
				synctest.Wait()
				time.Sleep(5 * time.Second)
			}
			time.Sleep(time.Hour)
			if got := s.times("a.example"); got != tt.want {
				t.Errorf("with %v it was asked for at %s, want %s", tt.ttl, got, tt.want)
			}
			if got := s.times("b.example"); got != "0" {
				t.Errorf("the other peer's was asked for at %s", got)
			}
			if got := told(); got != nil {
				t.Errorf("nothing is new, and told was %q", got)
			}
		})
	}
}

func TestANameIsNotAskedForMoreOftenThanEveryFiveSeconds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newNameServer(t)
		s.answer["a.example"], s.takes = addrs("192.0.2.1"), 100*time.Millisecond
		n := named(t, dir, s, new(bytes.Buffer), "Endpoint = a.example:1")
		begun(t, n)
		for range 120 {
			n.unanswered(crypto.PublicKey{1})
			n.unanswered(crypto.PublicKey{9}) // of nobody here
			n.networkChanged()
			time.Sleep(100 * time.Millisecond)
		}
		if got := s.times("a.example"); got != "0 5 10" {
			t.Errorf("it was asked for at %s", got)
		}
	})
}

func TestANameThatMovesIsToldOnceInOneLine(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newNameServer(t)
		s.answer["a.example"], s.ttl = addrs("192.0.2.1", "192.0.2.2"), 5*time.Second
		var log bytes.Buffer
		n := named(t, dir, s, &log, "Endpoint = a.example:1")
		_, told := begun(t, n)
		miss := func(answer ...string) {
			s.set(func() { s.answer["a.example"] = addrs(answer...) })
			time.Sleep(5 * time.Second)
			n.unanswered(crypto.PublicKey{1})
			synctest.Wait()
		}
		miss("192.0.2.2", "192.0.2.1") // in another order, as servers do to spread load
		miss("192.0.2.2")
		if log.Len() != 0 {
			t.Errorf("it has not moved, and the log has %s", log.String())
		}
		miss("203.0.113.1", "2001:db8::1")
		miss("203.0.113.1", "2001:db8::1")
		if want := "level=INFO msg=\"the name of an endpoint has moved\" name=a.example from=192.0.2.2 to=\"203.0.113.1, 2001:db8::1\"\n"; log.String() != want {
			t.Errorf("the log has %s", log.String())
		}
		want := []string{"0: 192.0.2.2:1 192.0.2.1:1", "0: 192.0.2.2:1", "0: 203.0.113.1:1 [2001:db8::1]:1"}
		if got := told(); !slices.Equal(got, want) {
			t.Errorf("told was %q, want %q", got, want)
		}
		if got := openLastGood(dir, "peer").found["a.example"]; !slices.Equal(got, addrs("203.0.113.1", "2001:db8::1")) {
			t.Errorf("kept is %v", got)
		}
	})
}
