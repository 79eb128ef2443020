package conf

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// noResolver fails the test when it is asked.
func noResolver(t *testing.T) resolver {
	return resolver{lookup: func(context.Context, string, string) ([]netip.Addr, error) {
		t.Error("the resolver was asked")
		return nil, errors.New("asked")
	}}
}

func TestAnAddressNeedsNoResolver(t *testing.T) {
	r := noResolver(t)
	for endpoint, want := range map[string]string{
		"192.0.2.1:51820":          "192.0.2.1:51820",
		"[2001:db8::1]:1":          "[2001:db8::1]:1",
		"[fe80::1%eth0]:65535":     "[fe80::1%eth0]:65535",
		"[::ffff:192.0.2.1]:51820": "192.0.2.1:51820",
	} {
		got, err := r.resolve(t.Context(), endpoint)
		if err != nil || len(got) != 1 || got[0] != netip.MustParseAddrPort(want) {
			t.Errorf("%s: %v, %v", endpoint, got, err)
		}
	}
	if _, err := r.resolve(t.Context(), "nothing"); err == nil {
		t.Error("an endpoint without a port was taken")
	}
}

func TestAResolverThatCannotBeReachedIsAskedAgain(t *testing.T) {
	var waits []time.Duration
	asked := 0
	r := resolver{
		retries: defaultRetries,
		lookup: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			asked++
			if asked <= defaultRetries {
				return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
			}
			return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}, nil
		},
		wait: func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil },
	}
	got, err := r.resolve(t.Context(), "vpn.example.net:7")
	if err != nil || len(got) != 1 || got[0] != netip.MustParseAddrPort("192.0.2.1:7") {
		t.Fatal(got, err)
	}
	if len(waits) != defaultRetries || waits[0] != time.Second || waits[1] != 1200*time.Millisecond || waits[14] > longestWait {
		t.Error(waits)
	}
	asked, r.retries = 0, 3
	if _, err := r.resolve(t.Context(), "vpn.example.net:7"); err == nil || asked != 4 || !strings.Contains(err.Error(), "vpn.example.net") {
		t.Error(asked, err)
	}
}

func TestANameThatDoesNotExistIsAnErrorAtOnce(t *testing.T) {
	asked := 0
	r := resolver{
		retries: -1,
		lookup: func(context.Context, string, string) ([]netip.Addr, error) {
			asked++
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		},
	}
	if _, err := r.resolve(t.Context(), "a.example:7"); err == nil || asked != 1 {
		t.Error(asked, err)
	}
}

func TestTheEndOfTheContextEndsTheWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := resolver{
		retries: -1,
		lookup: func(context.Context, string, string) ([]netip.Addr, error) {
			cancel()
			return nil, &net.DNSError{Err: "timeout", IsTimeout: true}
		},
		wait: wait,
	}
	if _, err := r.resolve(ctx, "a.example:7"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTheNumberOfRetriesIsWgs(t *testing.T) {
	for text, want := range map[string]int{"": 15, "infinity": -1, "3": 3, "0": 0, "-1": 15, "x": 15} {
		if got := retriesFrom(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestTheTimeOfTheRetriesIsKnown(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 72 * time.Second, "infinity": -1, "0": 0, "1": time.Second, "2": 2200 * time.Millisecond, "1000000000": -1} {
		t.Setenv(retriesVariable, text)
		if got := ResolutionTime(); got != want && got.Truncate(100*time.Millisecond) != want && got.Round(time.Second) != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestTheNamesOfRoutingTablesAreIproutes(t *testing.T) {
	tables := tableNames{"main": 254}
	tables.read(write(t, t.TempDir()+"/rt_tables", "# reserved\n255\tlocal\n 0x10 vpn # ours\nnonsense\n99999999999 big\n", 0o644))
	if tables["vpn"] != 16 || tables["local"] != 255 || tables["main"] != 254 || len(tables) != 3 {
		t.Error(tables)
	}
	tables.read("/nowhere")
}
