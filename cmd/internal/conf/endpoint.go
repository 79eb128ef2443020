package conf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Lookup is how a name is asked for, see [net.Resolver.LookupNetIP].
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// SplitEndpoint takes an endpoint of a [File] apart: into a name or an address, without brackets, and the port.
func SplitEndpoint(endpoint string) (host string, port uint16) {
	host, port, _ = splitEndpoint(endpoint)
	return host, port
}

// ResolveEndpoint turns a peer's Endpoint into its addresses, for which it may ask the resolver, once, in the order in which
// that gives them. IPv4 comes unmapped; a zone stays.
func ResolveEndpoint(ctx context.Context, lookup Lookup, endpoint string) ([]netip.AddrPort, error) {
	host, port, why := splitEndpoint(endpoint)
	if why != "" {
		return nil, fmt.Errorf("endpoint %s: %s", quote(endpoint), why)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), port)}, nil
	}
	addrs, err := lookup(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot resolve the endpoint %s: %w", host, err)
	}
	found := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		found[i] = netip.AddrPortFrom(a.Unmap(), port)
	}
	return found, nil
}
