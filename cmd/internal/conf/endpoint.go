package conf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"
)

// Lookup is how a name is asked for, see [net.Resolver.LookupNetIP].
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// ResolveEndpoint turns a peer's Endpoint into its addresses, for which it may ask the resolver, in the order in which that
// gives them. IPv4 comes unmapped; a zone stays.
//
// While the resolver cannot be reached it tries again, as wg(8) does: 15 times or as often as
// WG_ENDPOINT_RESOLUTION_RETRIES says ("infinity" is possible), after 1 s, then 1.2 times as long each, up to 20 s.
// A name that does not exist is an error at once. ctx ends the waiting.
func ResolveEndpoint(ctx context.Context, lookup Lookup, endpoint string) ([]netip.AddrPort, error) {
	r := resolver{
		lookup:  lookup,
		wait:    wait,
		retries: retriesFrom(os.Getenv(retriesVariable)),
	}
	return r.resolve(ctx, endpoint)
}

// resolver is ResolveEndpoint with the world outside replaceable.
type resolver struct {
	lookup  Lookup
	wait    func(context.Context, time.Duration) error
	retries int // < 0: for ever
}

const (
	retriesVariable = "WG_ENDPOINT_RESOLUTION_RETRIES"
	defaultRetries  = 15
	firstWait       = time.Second
	longestWait     = 20 * time.Second
)

func (r *resolver) resolve(ctx context.Context, endpoint string) ([]netip.AddrPort, error) {
	host, port, why := splitEndpoint(endpoint)
	if why != "" {
		return nil, fmt.Errorf("endpoint %s: %s", quote(endpoint), why)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), port)}, nil
	}
	pause := firstWait
	for try := 0; ; try++ {
		addrs, err := r.lookup(ctx, "ip", host)
		if err == nil && len(addrs) > 0 {
			found := make([]netip.AddrPort, len(addrs))
			for i, a := range addrs {
				found[i] = netip.AddrPortFrom(a.Unmap(), port)
			}
			return found, nil
		}
		if err == nil {
			err = errors.New("no address")
		}
		var dns *net.DNSError
		final := !errors.As(err, &dns) || dns.IsNotFound
		if final || r.retries >= 0 && try >= r.retries {
			return nil, fmt.Errorf("cannot resolve the endpoint %s: %w", host, err)
		}
		if waitErr := r.wait(ctx, pause); waitErr != nil {
			return nil, fmt.Errorf("cannot resolve the endpoint %s: %w (%w)", host, err, waitErr)
		}
		pause = min(pause*6/5, longestWait)
	}
}

// ResolutionTime is how long ResolveEndpoint tries at most, beside the time that the resolver itself takes; < 0: for ever.
func ResolutionTime() time.Duration {
	retries := retriesFrom(os.Getenv(retriesVariable))
	if retries < 0 {
		return -1
	}
	total := time.Duration(0)
	for pause := firstWait; retries > 0; retries-- {
		if total > 24*time.Hour {
			return -1 // it might as well be
		}
		total += pause
		pause = min(pause*6/5, longestWait)
	}
	return total
}

func retriesFrom(text string) int {
	if text == "infinity" {
		return -1
	}
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return int(n)
	}
	return defaultRetries
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
